"""Waiting registrations: models that MLflow did not take, kept as notes in the workspace until it answers.

WORKSPACE/waiting/<fingerprint of the model>.<name>.json
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tasks.artifacts import Workspace
from tasks.errors import UserError

FOLDER = "waiting"


@dataclass(frozen=True)
class Waiting:
    """What a registration needs, as folders of artifacts."""

    name: str  # in the registry
    fingerprint: str  # of the model
    config: str  # of the registration, as JSON
    model: str
    memory: str  # "" for none
    decision: str  # whose manifest names what it was made from
    report: str
    address: str  # of the registry
    since: str  # ISO 8601, UTC
    why: str

    @property
    def missing(self) -> list[str]:
        """Folders that are gone, or not whole."""
        return [folder for folder in (self.model, self.memory, self.decision) if folder and not (Path(folder) / "manifest.json").is_file()]


STORED = TypeAdapter(Waiting)


def write_waiting(workspace: Workspace, waiting: Waiting) -> Path:
    """The note, by one rename."""
    path = _path(workspace, waiting)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(STORED.dump_json(waiting, indent=1) + b"\n")
    temporary.rename(path)
    return path


def read_waiting(workspace: Workspace) -> tuple[Waiting, ...]:
    """All notes of the workspace, the oldest first. UserError for one that cannot be read."""
    found: list[Waiting] = []
    for path in sorted((workspace.root / FOLDER).glob("*.json")):
        try:
            found.append(STORED.validate_json(path.read_bytes()))
        except FileNotFoundError:  # another run registered it just now
            continue
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise UserError(
                f"{path}: {place} {fault['msg']}: no note of a waiting registration. Fix: delete it, then run again the recipe that made "
                "the model: nothing is trained twice."
            ) from error
    return tuple(sorted(found, key=lambda one: one.since))


def forget_waiting(workspace: Workspace, waiting: Waiting) -> None:
    """It waits no longer."""
    _path(workspace, waiting).unlink(missing_ok=True)


def _path(workspace: Workspace, waiting: Waiting) -> Path:
    return workspace.root / FOLDER / f"{waiting.fingerprint}.{waiting.name}.json"

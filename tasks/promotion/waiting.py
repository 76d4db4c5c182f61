"""Waiting registrations: models that MLflow did not take, kept as notes in the workspace until it answers.

WORKSPACE/waiting/<fingerprint of the model>-<fingerprint of the stage that asked MLflow>.json
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tasks.artifacts import Workspace

logger = logging.getLogger("wordmill")

FOLDER = "waiting"


@dataclass(frozen=True)
class Waiting:
    """What a registration needs, and its decision where that could not be made either."""

    fingerprint: str  # of the model
    stage: str  # fingerprint of the stage that asked MLflow
    label: str  # of that stage: "register: areas"
    config: str  # of that stage, whole, as JSON
    inputs: Mapping[str, str]  # name -> folder of an artifact: model, memory, scores, examples, decision, report
    address: str  # of the registry
    since: str  # ISO 8601, UTC
    why: str


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
    """All notes of the workspace, the oldest first; one that cannot be read is told and left where it is."""
    found: list[Waiting] = []
    for path in sorted((workspace.root / FOLDER).glob("*.json")):
        try:
            found.append(STORED.validate_json(path.read_bytes()))
        except FileNotFoundError:  # another run registered it just now
            continue
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            logger.warning(
                "%s: no note of a waiting registration (%s %s). Fix: delete it, and run again the recipe that made the model: nothing is "
                "trained twice.",
                path,
                ".".join(map(str, fault["loc"])),
                fault["msg"],
            )
    return tuple(sorted(found, key=lambda one: one.since))


def forget_waiting(workspace: Workspace, waiting: Waiting) -> None:
    """It waits no longer."""
    _path(workspace, waiting).unlink(missing_ok=True)


def _path(workspace: Workspace, waiting: Waiting) -> Path:
    return workspace.root / FOLDER / f"{waiting.fingerprint}-{waiting.stage}.json"

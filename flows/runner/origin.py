"""Origin of a training: the recipe that makes it, noted in the workspace as it begins, so that its fingerprint is enough to go on.

WORKSPACE/recipes/<stage>-<fingerprint>.yaml    the recipe, whole, with all that was changed in it by --set
WORKSPACE/recipes/<stage>-<fingerprint>.json    of which flow it is, what it is called, and where its relative paths begin
"""

from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from flows.recipe import AnyRecipe
from tasks.artifacts import Workspace
from tasks.errors import UserError

FOLDER = "recipes"


@dataclass(frozen=True)
class Origin:
    """A recipe as it was run."""

    flow: str  # Prefect's name of it
    name: str  # of the recipe
    folder: str  # in which the run stood: relative paths begin there
    recipe: str  # YAML


@dataclass(frozen=True)
class Noted:
    """What made a training; the recipe lies beside, at `recipe`."""

    flow: str
    name: str
    folder: str
    label: str  # of the stage: "finetune: areas"
    recipe: Path


STORED = TypeAdapter(Noted)


def origin_of(flow: str, recipe: AnyRecipe) -> Origin:
    """What is to be noted of the trainings of this run: what its recipe sets, without defaults."""
    said = recipe.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return Origin(flow, recipe.name, str(Path.cwd()), yaml.safe_dump(said, sort_keys=False, allow_unicode=True))


def write_origin(workspace: Workspace, origin: Origin, stage: str, fingerprint: str, label: str) -> Noted:
    """Notes it, for the eyes of the workspace's owner alone; the recipe first."""
    folder = workspace.root / FOLDER
    folder.mkdir(exist_ok=True)
    recipe = folder / f"{stage}-{fingerprint}.yaml"
    noted = Noted(origin.flow, origin.name, origin.folder, label, recipe)
    head = f"# The recipe of {stage} {fingerprint}, as it was run: wordmill resume {fingerprint}\n"
    for path, text in (
        (recipe, head + origin.recipe),
        (_note(workspace, stage, fingerprint), STORED.dump_json(noted, indent=1).decode() + "\n"),
    ):
        temporary = path.with_suffix(f"{path.suffix}.tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(path)
    return noted


def read_origin(workspace: Workspace, stage: str, fingerprint: str) -> Noted | None:
    """What was noted of a training, wherever the workspace lies now; None where nothing was. UserError for a note that was altered."""
    path = _note(workspace, stage, fingerprint)
    try:
        noted = STORED.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise UserError(
            f"{path}: not as it was written ({place}: {fault['msg']}). Fix: run the recipe again, which goes on from the same checkpoint."
        ) from error
    return Noted(noted.flow, noted.name, noted.folder, noted.label, path.with_suffix(".yaml"))


def _note(workspace: Workspace, stage: str, fingerprint: str) -> Path:
    return workspace.root / FOLDER / f"{stage}-{fingerprint}.json"

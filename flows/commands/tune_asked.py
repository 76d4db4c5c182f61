"""Request of a search: what `wordmill tune` is given, checked before anything starts."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.commands.tune_fields import spaces_of
from flows.commands.tune_trials import check_ends
from flows.dags import load
from flows.recipe import Recipe
from tasks.errors import UserError
from tasks.settings import given_path
from tasks.tune.spaces import Space


@dataclass(frozen=True)
class Asked:
    """What the command was given."""

    recipe: str
    over: tuple[str, ...]
    changes: tuple[str, ...]  # --set, and --workspace
    trials: int
    minutes: float  # for the trials, all together
    seed: int  # of the draws
    write: str | None


@dataclass(frozen=True)
class Checked:
    """A search that can be made."""

    recipe: Recipe
    spaces: Mapping[str, Space]
    target: Path


def check_asked(asked: Asked) -> Checked:
    """UserError for what cannot be searched, or written."""
    loaded = load(asked.recipe, asked.changes)
    recipe = loaded.recipe
    if not isinstance(recipe, Recipe):
        raise UserError(f"{asked.recipe}: a recipe for the flow {loaded.flow}, which has no pretraining to tune. Fix: give one that has.")
    spaces = spaces_of(asked.over, recipe)
    twice = [change for change in asked.changes if change.partition("=")[0] in spaces]
    if twice:
        raise UserError(f"--set {twice[0]}: the field is tuned, too. Fix: give it in --over alone.")
    target = _target(asked)
    check_ends(spaces, recipe, asked.recipe, asked.changes)
    return Checked(recipe, spaces, target)


def _target(asked: Asked) -> Path:
    """Where the best is written. UserError where it cannot be, and where something stands there that was not meant."""
    source = given_path(asked.recipe)
    target = source.with_name(f"{source.stem}-tuned{source.suffix}") if asked.write is None else given_path(asked.write)
    if asked.write is None and target.exists():
        raise UserError(f"{target} is there already. Fix: --write FILE, the same to replace it, or another one.")
    if target.exists() and target.samefile(source):
        raise UserError(f"--write {target}: it is the recipe itself. Fix: name another file.")
    if target.is_dir() or not target.parent.is_dir():
        raise UserError(f"--write {target}: {'a folder' if target.is_dir() else 'its folder is not there'}. Fix: name a file.")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise UserError(f"{target}: may not be written. Fix: --write FILE, in another folder.")
    return target

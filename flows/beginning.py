"""Beginning of a pretraining at another's checkpoint: which one a recipe means, told and refused before anything runs."""

from dataclasses import replace

from flows.recipe import AnyRecipe, Recipe
from tasks.artifacts import Workspace
from tasks.errors import UserError
from tasks.pretrain.config import Pretraining
from tasks.pretrain.start import KEY, FoundStart, find_start
from tasks.pretrain.start_checks import check_start, told_of


def start_of(recipe: Recipe) -> FoundStart | None:
    """The checkpoint that `pretrain.start` means, in the recipe's workspace or elsewhere. UserError where it cannot be gone on from."""
    if recipe.pretrain.start is None:
        return None
    found = find_start(recipe.pretrain.start, Workspace(recipe.workspace).root)
    check_start(found, beginning_at(recipe, found))
    return found


def beginning_at(recipe: Recipe, found: FoundStart) -> Pretraining:
    """What the recipe's pretraining follows; of one that goes on from a base, with the shape that the checkpoint's run had from its own.

    UserError where one of the two runs has a base and the other none.
    """
    has_base, had_base = recipe.start is not None, found.job.base is not None
    if has_base != had_base:
        what = "went on from a base, and this recipe names none" if had_base else "did not go on from a base, as this recipe does"
        raise UserError(f"{KEY}: {found.name} {what}. Fix: {'name the base' if had_base else 'leave the base out'}, or leave start out.")
    asked = replace(recipe.pretraining, start=found)
    return replace(asked, model=found.job.model) if has_base else asked


def start_notes(recipe: AnyRecipe) -> list[str]:
    """What of another pretraining is reused, in words; nothing for a recipe that begins anew. UserError as `start_of`."""
    found = start_of(recipe) if isinstance(recipe, Recipe) else None
    if found is None:
        return []
    assert isinstance(recipe, Recipe)
    return told_of(found, beginning_at(recipe, found), recipe.shards.context)

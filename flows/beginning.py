"""Beginning of a pretraining at another's checkpoint: which one a recipe means, told and refused before anything runs."""

from flows.recipe import AnyRecipe, Recipe
from tasks.artifacts import Workspace
from tasks.pretrain.pretrain import Pretraining
from tasks.pretrain.start import FoundStart, find_start
from tasks.pretrain.start_checks import check_start, told_of


def start_of(recipe: Recipe) -> FoundStart | None:
    """The checkpoint that `pretrain.start` means, in the recipe's workspace or elsewhere. UserError where it cannot be gone on from."""
    if recipe.pretrain.start is None:
        return None
    found = find_start(recipe.pretrain.start, Workspace(recipe.workspace).root)
    check_start(found, Pretraining(recipe.model, recipe.pretrain, found))
    return found


def start_notes(recipe: AnyRecipe) -> list[str]:
    """What of another pretraining is reused, in words; nothing for a recipe that begins anew. UserError as `start_of`."""
    found = start_of(recipe) if isinstance(recipe, Recipe) else None
    if found is None:
        return []
    assert isinstance(recipe, Recipe)
    return told_of(found, Pretraining(recipe.model, recipe.pretrain, found), recipe.shards.context)

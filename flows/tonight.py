"""Tonight: what a night of a recipe would take, for the plan and for the night itself."""

from collections.abc import Callable
from pathlib import Path

from flows.recipe import AnyRecipe, FinetuneRecipe
from tasks.artifacts import Workspace
from tasks.examples.kinds.table import AnyExamples
from tasks.promotion.gather import GatherConfig, gathering
from tasks.promotion.new_rows import NewRows, SetNews, look_for_new


def used_sets(recipe: FinetuneRecipe) -> list[AnyExamples]:
    """The sets of examples that a fine-tuning learns from."""
    used = {name for tuning in recipe.finetune for name in tuning.sets}
    return [entry for entry in recipe.examples if entry.name in used]


def what_to_gather(recipe: FinetuneRecipe, news: NewRows, list_of: Callable[[SetNews], Path]) -> dict[str, GatherConfig]:
    """By name, what each set of examples is gathered from, the ids being in the file `list_of`; a set without new rows is left out."""
    assert recipe.night is not None
    night = recipe.night
    return {
        entry.name: gathering(entry, found, list_of(found), night.replay, night.drift)
        for entry in used_sets(recipe)
        if (found := news.sets[entry.name]).ids
    }


def night_notes(recipe: AnyRecipe) -> list[str]:
    """What a night would find new now, in words; nothing for a recipe without nights."""
    if not isinstance(recipe, FinetuneRecipe) or recipe.night is None:
        return []
    return [f"night: {look_for_new(Workspace(recipe.workspace).root, recipe.name, used_sets(recipe)).told}"]


def would_gather(recipe: FinetuneRecipe) -> dict[str, GatherConfig]:
    """What a night would take now, for a plan: nothing is written."""
    news = look_for_new(Workspace(recipe.workspace).root, recipe.name, used_sets(recipe))
    return what_to_gather(recipe, news, lambda found: Path(found.digest)) if news.has_news else {}

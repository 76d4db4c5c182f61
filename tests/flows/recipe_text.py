"""Recipes of one kind, for tests."""

from collections.abc import Sequence
from typing import TypeVar

from flows.recipe import CorpusRecipe, FinetuneRecipe, Recipe
from flows.recipe_file import checked, read_recipe

AnyKind = TypeVar("AnyKind", Recipe, CorpusRecipe, FinetuneRecipe)


def load_recipe(kind: type[AnyKind], path: str, overrides: Sequence[str] = ()) -> AnyKind:
    """Read, overridden and checked as that kind."""
    return checked(kind, read_recipe(path, overrides))

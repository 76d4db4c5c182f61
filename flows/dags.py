"""Recipe kinds: a line each, with the flow that runs it and the DAG that it stands for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from flows.corpus import corpus
from flows.finetune import finetune, nightly
from flows.pretrain import pretrain
from flows.recipe import AnyRecipe, CorpusRecipe, FinetuneRecipe, Recipe
from flows.recipe_file import RecipeText, checked, read_recipe
from flows.stages import Builder, Outcome
from flows.tonight import would_gather
from tasks.errors import UserError

AnyKind = TypeVar("AnyKind", Recipe, CorpusRecipe, FinetuneRecipe)


@dataclass(frozen=True)
class Loaded:
    """A recipe that was read and checked."""

    flow: str  # Prefect's name of the flow that runs it
    recipe: AnyRecipe
    dag: Callable[[Builder], Outcome]


@dataclass(frozen=True)
class RecipeKind(Generic[AnyKind]):
    """One kind: what a recipe of it looks like, and what it becomes."""

    flow: str
    recipe: type[AnyKind]
    dag: Callable[[Builder, AnyKind], Outcome]

    def load(self, text: RecipeText) -> Loaded:
        """UserError with every fault, a line each."""
        recipe = checked(self.recipe, text)
        return Loaded(self.flow, recipe, lambda run: self.dag(run, recipe))


def finetuning(run: Builder, recipe: FinetuneRecipe) -> Outcome:
    """All rows of a recipe; with a night those that it would take now."""
    return finetune(run, recipe) if recipe.night is None else nightly(run, recipe, would_gather(recipe))


PRETRAIN = RecipeKind("pretrain", Recipe, pretrain)
CORPUS = RecipeKind("corpus", CorpusRecipe, corpus)
FINETUNE = RecipeKind("finetune", FinetuneRecipe, finetuning)


def load(path: str, overrides: Sequence[str] = (), flow: str | None = None) -> Loaded:
    """Read, override and check a recipe. UserError with file, line and fix for every fault found, and for one of another `flow`."""
    text = read_recipe(path, overrides)
    kind = kind_of(text)
    if flow is not None and kind.flow != flow:
        raise UserError(f"{text.place}: a recipe for the flow {kind.flow}, not for {flow}. Fix: give another recipe.")
    return kind.load(text)


def kind_of(text: RecipeText) -> RecipeKind[Recipe] | RecipeKind[CorpusRecipe] | RecipeKind[FinetuneRecipe]:
    """A recipe that names a source of text pretrains, or `makes: corpus` and stops there; one without starts from a model.

    UserError for one that has neither.
    """
    if not {"ingest", "champion", "base"} & text.values.keys():
        raise UserError(f"{text.place}: found neither ingest (to pretrain) nor champion or base (to fine-tune). Add one of them.")
    if "ingest" not in text.values:
        return FINETUNE
    return CORPUS if text.values.get("makes") == "corpus" else PRETRAIN

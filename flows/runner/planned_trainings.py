"""Planned trainings: what each training of a recipe takes, as far as the recipe and the artifacts that are there tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.recipe import AnyRecipe, CorpusRecipe, Recipe
from flows.runner.plan import Plan
from model.config.model_config import ModelConfig
from model.huggingface.huggingface_config import read_trunk_config
from tasks.errors import UserError
from tasks.examples.kinds.table import KINDS
from tasks.finetune.base_model import BaseConfig, base_folder
from tasks.finetune.config import FinetuneConfig
from tasks.planning.past_training import PastTraining
from tasks.planning.training_work import KnownExamples, TrainingWork, finetuning_work, pretraining_work
from tasks.promotion.champion import ChampionConfig

LABELS = 2  # of a head whose labels are not read yet: how many bears on nothing that is told


@dataclass(frozen=True)
class ModelShape:
    """Of what is trained."""

    config: ModelConfig
    vocabulary: int


@dataclass(frozen=True)
class PlannedTrainings:
    """Of a recipe: those whose model is known, and why it is not of the others."""

    known: tuple[TrainingWork, ...]
    untold: dict[str, str]  # label -> why


def planned_trainings(plan: Plan, recipe: AnyRecipe, past: Sequence[PastTraining]) -> PlannedTrainings:
    """In the order of the recipe; of a plan without rows all that it names, else those among the rows: a night has not always all."""
    if isinstance(recipe, CorpusRecipe):
        return PlannedTrainings((), {})
    labels = [row.label for row in plan.rows if row.stage in ("pretrain", "finetune")]
    shape = _shape(plan, recipe)
    if isinstance(shape, str):
        return PlannedTrainings((), dict.fromkeys(labels, shape))
    works = [_finetuning(plan, recipe, tuning, number, shape, past) for number, tuning in enumerate(recipe.finetune)]
    if isinstance(recipe, Recipe):
        works.insert(0, pretraining_work(recipe.pretraining, shape.config, shape.vocabulary, recipe.shards.context))
    return PlannedTrainings(tuple(work for work in works if work.label in labels or not plan.rows), {})


def _shape(plan: Plan, recipe: AnyRecipe) -> ModelShape | str:
    """Of the model that is trained, or why it is not known."""
    assert not isinstance(recipe, CorpusRecipe)
    if isinstance(recipe, Recipe) and recipe.start is None:
        return ModelShape(recipe.model, recipe.tokenizer.vocab_size)
    assert recipe.start is not None
    folder = _start_folder(plan, recipe.start)
    if folder is None:
        return "the champion was not fetched into this workspace yet: a first run does"
    try:
        found = read_trunk_config(folder)
    except ValueError as error:
        return str(error)
    return ModelShape(found.model, found.vocab_size)


def _start_folder(plan: Plan, start: ChampionConfig | BaseConfig) -> Path | None:
    """The model's folder: in the workspace, of an earlier champion too, which has most likely the same shape; else where the recipe says."""
    stage = "base" if isinstance(start, BaseConfig) else "champion"
    here = [Path(row.folder) for row in plan.rows if row.stage == stage and row.cached]
    if not here and isinstance(start, BaseConfig):
        try:
            return base_folder(start)
        except UserError:
            return None
    earlier = [past.folder for past in sorted(plan.history.of_stage(stage), key=lambda past: past.manifest.finished)]
    found = here or earlier
    return found[-1] / "model" if found else None


def _finetuning(
    plan: Plan, recipe: AnyRecipe, tuning: FinetuneConfig, number: int, shape: ModelShape, past: Sequence[PastTraining]
) -> TrainingWork:
    assert not isinstance(recipe, CorpusRecipe)
    kinds = {entry.name: KINDS[entry.kind] for entry in recipe.examples}
    heads = [kinds[name].head(LABELS) for name in tuning.sets]
    head = next((one for one in heads if one.kind == "language"), heads[0])  # the largest of several decides
    before = next((one for one in reversed(past) if one.stage == "finetune" and one.subject == tuning.name), None)
    rows = [_rows(plan, name) for name in tuning.sets]
    learned = sum(count for count in rows if count is not None) if None not in rows else None
    known = KnownExamples(head, learned, None if before is None else before.mean_tokens)
    return finetuning_work(tuning, number, shape.config, shape.vocabulary, known)


def _rows(plan: Plan, name: str) -> int | None:
    """To learn from, of a set of examples that is there or was there before; None where it was never read."""
    row = next((row for row in plan.rows if row.stage in ("examples", "gather") and row.subject == name), None)
    if row is None:
        return None
    found = plan.history.find(row.fingerprint)
    manifest = plan.nearest.get(row.label) if found is None else found.manifest
    if manifest is None or (found is None and manifest.config != row.asked.config):
        return None
    return next((entry.rows for entry in manifest.files if entry.path == "train.parquet"), None)

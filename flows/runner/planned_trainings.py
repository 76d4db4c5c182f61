"""Planned trainings: what each training of a recipe takes, as far as the recipe and the artifacts that are there tell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flows.beginning import start_of
from flows.recipe import AnyRecipe, CorpusRecipe, Recipe, line_of
from flows.runner.plan import Plan
from model.config.model_config import ModelConfig
from model.huggingface.huggingface_config import read_trunk_config
from tasks.errors import UserError
from tasks.examples.kinds.table import KINDS
from tasks.finetune.base_model import BaseConfig, base_folder
from tasks.finetune.config import FinetuneConfig
from tasks.planning.history import Past
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
        works.insert(0, _pretraining(recipe, shape))
    return PlannedTrainings(tuple(work for work in works if work.label in labels or not plan.rows), {})


def _shape(plan: Plan, recipe: AnyRecipe) -> ModelShape | str:
    """Of the model that is trained, or why it is not known."""
    assert not isinstance(recipe, CorpusRecipe)
    if isinstance(recipe, Recipe) and recipe.start is None:
        return ModelShape(recipe.model, _vocabulary(plan, recipe))
    assert recipe.start is not None
    folder = _start_folder(plan, recipe.start)
    if folder is None:
        return "nothing in this workspace tells the champion's shape; a first run fetches it"
    try:
        found = read_trunk_config(folder)
    except ValueError as error:
        return str(error)
    return ModelShape(found.model, found.vocab_size + (recipe.adapt.add_tokens if isinstance(recipe, Recipe) else 0))


def _vocabulary(plan: Plan, recipe: Recipe) -> int:
    """Of the tokenizer that is there, or was there before, where the recipe takes an existing one; else what the recipe asks for."""
    row = next((row for row in plan.rows if row.stage == "tokenizer"), None)
    found = None if row is None else plan.history.find(row.fingerprint)
    before = plan.nearest.get(row.label) if row is not None and recipe.tokenizer.existing is not None else None
    manifest = before if found is None else found.manifest
    asked = recipe.tokenizer.vocab_size
    return asked if manifest is None else int(manifest.figures.get("vocab_size", asked))


def _start_folder(plan: Plan, start: ChampionConfig | BaseConfig) -> Path | None:
    """In the workspace, that of an earlier champion too, which has most likely the same shape; of a base else where the recipe says."""
    stage = "base" if isinstance(start, BaseConfig) else "champion"
    here = [Path(row.folder) for row in plan.rows if row.stage == stage and row.cached]
    if not here and isinstance(start, BaseConfig):
        try:
            return base_folder(start)
        except UserError:
            return None
    fetched = _newest(plan.history.of_stage(stage))
    folders = here or ([fetched.folder] if fetched is not None else [])
    if not folders and isinstance(start, ChampionConfig):
        folders = _registered(plan, line_of(start))
    return folders[-1] / "model" if folders else None


def _registered(plan: Plan, name: str | None) -> list[Path]:
    """The model that a run in this workspace registered last under a name: most likely of the champion's shape."""
    last = _newest([past for past in plan.history.of_stage("register") if past.manifest.notes.get("name") == name])
    model = None if last is None else plan.history.find(last.manifest.inputs["model"])
    return [] if model is None else [model.folder]


def _newest(known: Sequence[Past]) -> Past | None:
    return max(known, key=lambda past: past.manifest.finished, default=None)


def _pretraining(recipe: Recipe, shape: ModelShape) -> TrainingWork:
    """Without the steps that it takes over from another's checkpoint."""
    work = pretraining_work(recipe.pretraining, shape.config, shape.vocabulary, recipe.shards.context)
    begun = start_of(recipe)
    taken_over = 0 if begun is None or begun.start.counts != "on" else begun.start.step
    return replace(work, steps=max(1, recipe.pretrain.steps - taken_over))


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

"""Evaluation: a model on a suite of tasks, beside baselines on the same items, every figure with interval, n and seed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model.config.objective_config import ObjectiveConfig
from tasks.artifacts import Corpus, Examples, FinetunedModel, PretrainedModel
from tasks.errors import UserError
from tasks.evaluate.inspection import Inside, look_at_prompts, look_at_samples, write_insides
from tasks.evaluate.judged import Judged, Subject, open_subject, score_rows
from tasks.evaluate.label_scores import score_choices, score_classes, score_figures, score_labels
from tasks.evaluate.language_scores import score_documents, score_instructions
from tasks.evaluate.objective_scores import score_objective
from tasks.evaluate.samples import SampleText, draw_samples, write_samples
from tasks.evaluate.suite import TEXT_TASKS, EvaluateConfig, heldout_texts, training_texts
from tasks.evaluate.token_scores import score_token_labels
from tasks.examples.kinds.table import KINDS
from tasks.examples.rows import read_examples
from tasks.inference.objective_file import read_objective
from tasks.items import write_items
from tasks.ledger import Ledger, StageOutcome
from tasks.scores import OWN, write_scores

if TYPE_CHECKING:
    from model.nn.models import Model

Scorer = Callable[[EvaluateConfig, Subject, Path], Judged]
EXAMPLE_SCORERS: dict[str, Scorer] = {  # kind of examples -> what scores a model on them, from the folder of the artifact
    "instruction": score_instructions,
    "classification": score_classes,
    "multi_label": score_labels,
    "regression": score_figures,
    "token_labels": score_token_labels,
    "multiple_choice": score_choices,
}


def look_inside(config: EvaluateConfig, subject: Subject, samples: Sequence[SampleText], is_chat: bool) -> list[Inside]:
    """The model at work on the first sample of each prompt; a masked one on the prompts themselves."""
    from model.nn.models import LanguageModel, MaskedLanguageModel

    if isinstance(subject.model, MaskedLanguageModel):
        return look_at_prompts(subject, subject.model, config.prompts)
    if not isinstance(subject.model, LanguageModel):
        return []
    texts = [(sample.prompt, sample.text) for sample in samples[:: config.samples]]
    return look_at_samples(subject, subject.model, texts, is_chat)


def chosen_tasks(
    config: EvaluateConfig, model: "Model", objective: ObjectiveConfig | None, corpus: Path | None, examples: Path | None
) -> list[str]:
    """The suite's tasks in the order of the table, the examples' first. UserError for one that lacks what it needs."""
    from model.nn.models import LanguageModel

    kind = None if examples is None else read_examples(examples, "heldout").kind.name
    has_text = corpus is not None or config.documents == "python"
    if config.tasks is None:
        suited = [] if kind is None else [kind]
        if isinstance(model, LanguageModel):
            suited.extend(("bits_per_byte", "samples") if has_text else ("samples",))
        if has_text and objective is not None and objective.kind != "causal":
            suited.append("objective_loss")
        return suited
    for task in config.tasks:
        if task == "bits_per_byte" and not isinstance(model, LanguageModel):
            has_objective = objective is not None and objective.kind != "causal"
            instead = (
                "ask for objective_loss" if has_objective else "the recipe that trains it (wordmill run) scores it on held-out examples"
            )
            raise UserError(f"evaluate.tasks: {task} needs a model that writes, found a {type(model).__name__}. Fix: {instead}.")
        if task in ("bits_per_byte", "objective_loss") and not has_text:
            raise UserError(f"evaluate.tasks: {task} needs text. Fix: set evaluate.documents to python, or give a corpus.")
        if task == "objective_loss" and (objective is None or objective.kind == "causal"):
            raise UserError(
                f"evaluate.tasks: a {type(model).__name__} has no objective that objective_loss could measure. "
                "Fix: leave it out; bits_per_byte judges what follows a text."
            )
        if task not in TEXT_TASKS and task != kind:
            found = f"those of {kind}" if kind else "none: a suite by itself has no examples"
            instead = f"name {kind}" if kind else "score the model with the recipe that trains it (wordmill run)"
            raise UserError(f"evaluate.tasks: {task} needs examples of that kind, found {found}. Fix: {instead}.")
    return [task for task in (*KINDS, *TEXT_TASKS) if task in config.tasks]


def judge_task(
    name: str, config: EvaluateConfig, subject: Subject, objective: ObjectiveConfig | None, corpus: Path | None, examples: Path | None
) -> Judged:
    """What one of the `chosen_tasks` finds; samples have no figures."""
    if name == "bits_per_byte":
        return score_documents(subject, heldout_texts(config, corpus), training_texts(config, corpus))
    if name == "objective_loss":
        assert objective is not None
        return score_objective(config, subject, objective, heldout_texts(config, corpus), training_texts(config, corpus))
    assert examples is not None
    return EXAMPLE_SCORERS[name](config, subject, examples)


def score_model(config: EvaluateConfig, folder: Path, out: Path, corpus: Path | None = None, examples: Path | None = None) -> StageOutcome:
    """Score the Hugging Face folder `folder`; `corpus` and `examples` are folders of their artifacts.

    Writes scores.parquet, and items.parquet and figures.parquet, which they follow from; samples.json (empty when the suite draws
    none) and inspection.json.
    """
    import torch

    if config.threads:
        torch.set_num_threads(config.threads)
    subject = open_subject(folder)
    objective = read_objective(folder, subject.model)
    chosen = chosen_tasks(config, subject.model, objective, corpus, examples)
    found = [judge_task(name, config, subject, objective, corpus, examples) for name in chosen if name != "samples"]
    rows = score_rows(config, [one for judged in found for one in judged.figures])
    samples = draw_samples(config, subject, subject.is_chat) if "samples" in chosen else []
    write_items([item for judged in found for item in judged.items], [one for judged in found for one in judged.figures], out)
    write_scores(rows, out)
    write_samples(samples, out)
    write_insides(look_inside(config, subject, samples, subject.is_chat), out / "inspection.json")
    figures: dict[str, float] = {}
    for row in rows:
        if row.model == OWN:
            figures.setdefault(row.metric, row.value)  # of two tasks with one metric, the examples' counts
    return StageOutcome(Ledger(rows_out=len(rows)), (), figures)


def evaluate(
    config: EvaluateConfig, model: PretrainedModel | FinetunedModel, corpus: Corpus | None, examples: Examples | None, out: Path
) -> StageOutcome:
    """See `score_model`. The tokenizer is the one inside the model's folder."""
    return score_model(
        config, model.path / "model", out, None if corpus is None else corpus.path, None if examples is None else examples.path
    )

"""Judging by items: what a model makes of frozen items, item by item, so that it can be compared with another one."""

from pathlib import Path

import numpy as np

from tasks.errors import UserError
from tasks.evaluate.evaluate import EXAMPLE_SCORERS, chosen_tasks, judge_task
from tasks.evaluate.judged import Judged, Subject, open_subject
from tasks.evaluate.language_scores import score_documents
from tasks.evaluate.objective_scores import score_objective
from tasks.evaluate.suite import EvaluateConfig, document_heads
from tasks.examples.rows import read_examples
from tasks.inference.objective_file import read_objective
from tasks.items import Asked, write_items


def score_items(model: Path, asked: Asked, out: Path) -> None:
    """Ask the Hugging Face folder `model` labelled examples or documents; a suite has to be read first: see `score_suite_items`.

    Which items those are follows from their ids alone. UserError for a model that cannot be asked.
    """
    config = EvaluateConfig(max_examples=asked.max_items, max_documents=asked.max_items)
    subject = open_subject(model)
    if asked.examples is not None:
        kind = read_examples(asked.examples, "heldout").kind.name
        _write(model, [EXAMPLE_SCORERS[kind](config, subject, asked.examples)], out)
    else:
        assert asked.documents is not None
        _write(model, judge_documents(config, model, subject, asked.documents), out)


def score_suite_items(config: EvaluateConfig, model: Path, out: Path) -> None:
    """Ask the Hugging Face folder `model` a suite that needs no corpus and no examples. UserError where it measures nothing."""
    subject = open_subject(model)
    objective = read_objective(model, subject.model)
    chosen = [name for name in chosen_tasks(config, subject.model, objective, None, None) if name != "samples"]
    if not chosen:
        raise UserError(
            f"suite {config.suite}: it measures nothing of a {type(subject.model).__name__} without a corpus or examples. "
            "Fix: set documents to python, or name another suite."
        )
    _write(model, [judge_task(name, config, subject, objective, None, None) for name in chosen], out)


def judge_documents(config: EvaluateConfig, model: Path, subject: Subject, documents: Path) -> list[Judged]:
    """What the subject, of the folder `model`, makes of documents.

    In bits per byte where it is a language model, and by its objective where that is another than the next token.
    """
    from model.nn.models import LanguageModel

    objective, texts, found = read_objective(model, subject.model), document_heads(config, documents), list[Judged]()
    if isinstance(subject.model, LanguageModel):
        found.append(score_documents(subject, texts, ()))
    if objective is not None and objective.kind != "causal":
        found.append(score_objective(config, subject, objective, texts, ()))
    if not found:
        raise UserError(
            f"MODEL {model}: a {type(subject.model).__name__} has no figure on text. Fix: ask it examples of its kind, or give a model "
            "that writes or fills in."
        )
    return found


def _write(model: Path, found: list[Judged], out: Path) -> None:
    figures = [one for judged in found for one in judged.figures]
    for one in figures:
        wrong = np.flatnonzero(~np.isfinite(one.columns).all(axis=1))
        if len(wrong):
            value = one.columns[wrong[0]][~np.isfinite(one.columns[wrong[0]])][0]
            raise UserError(
                f"MODEL {model}: its {one.metric} of {one.items[wrong[0]]} is {value}, so its weights are broken. Fix: train it again."
            )
    write_items([item for judged in found for item in judged.items], figures, out)

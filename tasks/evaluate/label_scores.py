"""Classifier scores: a model that labels, rates or chooses on one task of a suite, beside baselines on the same items.

N items, K classes: those of the examples. A model that was tuned on others is held to the names of its own.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.errors import UserError
from tasks.evaluate.judged import Judged, Subject, example_items, figures_of, ratio_columns
from tasks.evaluate.suite import EvaluateConfig, heldout_examples
from tasks.examples.kinds.kind import Kind
from tasks.examples.rows import encode_examples, read_examples
from tasks.items import Floats, Item, ItemFigures
from tasks.scores import OWN

if TYPE_CHECKING:
    from model.nn.models import Model

Classes = NDArray[np.int64]  # numbers of labels; -1: none of the examples' labels


def score_classes(config: EvaluateConfig, subject: Subject, examples: Path) -> Judged:
    """Accuracy and macro F1 on held-out texts, beside the commonest training label for all."""
    from model.nn.models import SequenceClassifier
    from tasks.evaluate.metrics import commonest, predict_rows

    held = heldout_examples(config, examples)
    if not isinstance(subject.model, SequenceClassifier) or subject.model.head.problem != "single":
        raise wrong_head(subject.model, held.kind)
    own = own_labels(subject, subject.model.spec.classes, held.labels)
    encoded = encode_examples(held, subject.tokenizer, subject.model.trunk.config).table
    answers = [[own[int(number)]] for number in predict_rows(subject.model, encoded["ids"].to_pylist()).argmax(axis=1)]
    wanted = [[held.labels[number]] for number in encoded["label"].to_pylist()]
    usual = commonest(read_examples(examples, "train").table["label"].to_pylist())
    items = example_items(held, [name for (name,) in wanted])
    return Judged(
        items,
        (
            *label_figures(OWN, items, answers, wanted, held.labels),
            *label_figures("majority", items, [[usual]] * len(items), wanted, held.labels),
        ),
    )


def score_labels(config: EvaluateConfig, subject: Subject, examples: Path) -> Judged:
    """Micro and macro F1 over the labels of held-out texts, beside the commonest set of labels in training for all."""
    from model.nn.models import SequenceClassifier
    from tasks.evaluate.metrics import commonest, predict_rows

    held = heldout_examples(config, examples)
    if not isinstance(subject.model, SequenceClassifier) or subject.model.head.problem != "multi":
        raise wrong_head(subject.model, held.kind)
    own = own_labels(subject, subject.model.spec.classes, held.labels)
    encoded = encode_examples(held, subject.tokenizer, subject.model.trunk.config).table
    likely = predict_rows(subject.model, encoded["ids"].to_pylist()) > 0  # more likely than not
    answers = [[name for name, holds in zip(own, row, strict=True) if holds] for row in likely]
    sets = commonest(json.dumps(names) for names in read_examples(examples, "train").table["labels"].to_pylist())
    wanted: list[list[str]] = held.table["labels"].to_pylist()
    items = example_items(held, [", ".join(names) for names in wanted])
    return Judged(
        items,
        (
            *_set_figures(OWN, items, answers, wanted, held.labels),
            *_set_figures("majority", items, [json.loads(sets)] * len(items), wanted, held.labels),
        ),
    )


def score_figures(config: EvaluateConfig, subject: Subject, examples: Path) -> Judged:
    """Mean squared error and correlation on held-out texts, beside the mean of the training figures for all."""
    from model.nn.models import SequenceClassifier
    from tasks.evaluate.metrics import predict_rows

    held = heldout_examples(config, examples)
    if not isinstance(subject.model, SequenceClassifier) or subject.model.head.problem != "regression":
        raise wrong_head(subject.model, held.kind)
    encoded = encode_examples(held, subject.tokenizer, subject.model.trunk.config).table
    actual = encoded["value"].to_numpy().astype(np.float64)
    predicted = predict_rows(subject.model, encoded["ids"].to_pylist())[:, 0]
    usual = np.full(len(actual), read_examples(examples, "train").table["value"].to_numpy().mean())
    items, answers = example_items(held, _spelled(actual)), _spelled(predicted)
    return Judged(
        items,
        (
            figures_of(OWN, "mse", "ratio", items, ratio_columns((predicted - actual) ** 2), answers),
            figures_of(OWN, "pearson", "pearson", items, np.stack([predicted, actual], axis=1), answers),
            figures_of("mean", "mse", "ratio", items, ratio_columns((usual - actual) ** 2), _spelled(usual)),
        ),
    )


def score_choices(config: EvaluateConfig, subject: Subject, examples: Path) -> Judged:
    """Accuracy on held-out questions, beside the position that is right most often in training for all."""
    from model.nn.models import MultipleChoice
    from tasks.evaluate.metrics import commonest, predict_choices

    held = heldout_examples(config, examples)
    if not isinstance(subject.model, MultipleChoice):
        raise wrong_head(subject.model, held.kind)
    encoded = encode_examples(held, subject.tokenizer, subject.model.trunk.config).table
    actual = encoded["label"].to_numpy()
    predicted = predict_choices(subject.model, encoded["ids"].to_pylist())
    usual = int(commonest(map(str, read_examples(examples, "train").table["answer"].to_pylist())))
    choices: list[list[str]] = held.table["choices"].to_pylist()
    items = example_items(held, [texts[number] for texts, number in zip(choices, actual, strict=True)])
    return Judged(
        items,
        tuple(
            figures_of(name, "accuracy", "ratio", items, ratio_columns((found == actual).astype(np.float64)), _picked(choices, found))
            for name, found in ((OWN, predicted), ("majority", np.full(len(actual), usual)))
        ),
    )


def label_figures(
    model: str, items: Sequence[Item], answers: Sequence[Sequence[str]], actual: Sequence[Sequence[str]], labels: Sequence[str]
) -> tuple[ItemFigures, ItemFigures]:
    """Accuracy and macro F1 from the label of each of an item's tokens; one that the examples do not have is a wrong one."""
    numbers = {name: number for number, name in enumerate(labels)}
    found, wanted = ([np.array([numbers.get(name, -1) for name in names], np.int64) for names in sets] for sets in (answers, actual))
    right = [truth[guess == truth] for guess, truth in zip(found, wanted, strict=True)]
    hits, guesses, truths = (_counts(part, len(labels)) for part in (right, found, wanted))
    shown = [" ".join(names) for names in answers]
    return (
        figures_of(model, "accuracy", "ratio", items, ratio_columns(hits.sum(1), truths.sum(1)), shown),
        figures_of(model, "macro_f1", "macro_f1", items, np.concatenate([hits, guesses, truths], axis=1), shown),
    )


def own_labels(subject: Subject, classes: int, labels: Sequence[str]) -> Sequence[str]:
    """What the model's outputs are called. UserError where it does not say and they are not as many as the examples' `labels`."""
    if subject.task is not None and len(subject.task.labels) == classes:
        return subject.task.labels
    if classes != len(labels):
        raise UserError(f"evaluate: the model has {classes} classes, the examples {len(labels)}.")
    return labels


def wrong_head(model: "Model", kind: Kind) -> UserError:
    """For a model that was not tuned for the kind of examples it is asked."""
    return UserError(f"evaluate: {kind.name} needs a model that was tuned for it, found a {type(model).__name__}.")


def _set_figures(
    model: str, items: Sequence[Item], answers: Sequence[Sequence[str]], actual: Sequence[Sequence[str]], labels: Sequence[str]
) -> tuple[ItemFigures, ItemFigures]:
    """Micro and macro F1 of sets of labels; one that the examples do not have is found wrongly, and no class of the macro F1."""
    guesses, truths = (np.array([[float(name in item) for name in labels] for item in sets]) for sets in (answers, actual))
    hits = guesses * truths
    counted = np.array([len(found) + len(wanted) for found, wanted in zip(answers, actual, strict=True)], np.float64)
    shown = [", ".join(names) for names in answers]
    return (
        figures_of(model, "micro_f1", "ratio", items, ratio_columns(2 * hits.sum(1), counted), shown),
        figures_of(model, "macro_f1", "macro_f1", items, np.concatenate([hits, guesses, truths], axis=1), shown),
    )


def _counts(items: Sequence[Classes], classes: int) -> Floats:
    """How often each class occurs in each item: [N, K]."""
    return np.stack([np.bincount(item[item >= 0], minlength=classes).astype(np.float64) for item in items])


def _spelled(values: Floats) -> list[str]:
    return [f"{value:.6g}" for value in values]


def _picked(choices: Sequence[Sequence[str]], numbers: NDArray[np.int64]) -> list[str]:
    return [texts[int(number)] for texts, number in zip(choices, numbers, strict=True)]

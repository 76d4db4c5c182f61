"""Classifier scores: a model that labels, rates or chooses on one task of a suite, beside baselines on the same items.

n items, K classes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.bootstrap import Estimate, macro_f1, pearson, ratio
from tasks.errors import UserError
from tasks.evaluate.language_scores import Score, Subject
from tasks.evaluate.suite import EvaluateConfig, heldout_examples
from tasks.examples.kinds.kind import Kind
from tasks.examples.kinds.token_labels import WordRow, word_rows
from tasks.examples.rows import encode_examples, read_examples
from tasks.tokenizer.word_encoding import WordEncoder

if TYPE_CHECKING:
    from model.nn.models import Model, SequenceClassifier, TokenClassifier

Floats = NDArray[np.float64]


def score_classes(config: EvaluateConfig, subject: Subject, examples: Path) -> list[Score]:
    """Accuracy and macro F1 on held-out texts, beside the commonest training label for all."""
    from model.nn.models import SequenceClassifier
    from tasks.evaluate.metrics import commonest, predict_rows

    held = heldout_examples(config, examples)
    if not isinstance(subject.model, SequenceClassifier):
        raise _wrong_head(subject.model, held.kind)
    order = _class_order(subject.model, held.labels)
    encoded = encode_examples(held, subject.tokenizer, subject.model.trunk.config).table
    actual = encoded["label"].to_numpy().astype(np.int64)
    predicted = predict_rows(subject.model, encoded["ids"].to_pylist()).argmax(axis=1)
    usual = order.index(commonest(read_examples(examples, "train").table["label"].to_pylist()))
    one_each = [np.array([number]) for number in actual]
    return [
        *_label_scores(config, "model", held.kind.name, [np.array([n]) for n in predicted], one_each, len(order)),
        *_label_scores(config, "majority", held.kind.name, [np.array([usual])] * len(actual), one_each, len(order)),
    ]


def score_labels(config: EvaluateConfig, subject: Subject, examples: Path) -> list[Score]:
    """Micro and macro F1 over the labels of held-out texts, beside the commonest set of labels in training for all."""
    from model.nn.models import SequenceClassifier
    from tasks.evaluate.metrics import commonest, predict_rows

    held = heldout_examples(config, examples)
    if not isinstance(subject.model, SequenceClassifier) or subject.model.head.problem != "multi":
        raise _wrong_head(subject.model, held.kind)
    order = _class_order(subject.model, held.labels)
    encoded = encode_examples(held, subject.tokenizer, subject.model.trunk.config).table
    actual = np.array(encoded["flags"].to_pylist(), dtype=np.float64)
    predicted = (predict_rows(subject.model, encoded["ids"].to_pylist()) > 0).astype(np.float64)  # more likely than not
    sets = commonest(json.dumps(own) for own in read_examples(examples, "train").table["labels"].to_pylist())
    usual = np.array([[float(name in json.loads(sets)) for name in order]] * len(actual))
    return [
        score
        for name, flags in (("model", predicted), ("majority", usual))
        for score in (
            Score(name, held.kind.name, "micro_f1", _micro_f1(flags, actual, config)),
            Score(name, held.kind.name, "macro_f1", macro_f1(flags * actual, flags, actual, config.resamples, config.seed)),
        )
    ]


def score_figures(config: EvaluateConfig, subject: Subject, examples: Path) -> list[Score]:
    """Mean squared error and correlation on held-out texts, beside the mean of the training figures for all."""
    from model.nn.models import SequenceClassifier
    from tasks.evaluate.metrics import predict_rows

    held = heldout_examples(config, examples)
    if not isinstance(subject.model, SequenceClassifier) or subject.model.head.problem != "regression":
        raise _wrong_head(subject.model, held.kind)
    encoded = encode_examples(held, subject.tokenizer, subject.model.trunk.config).table
    actual = encoded["value"].to_numpy().astype(np.float64)
    predicted = predict_rows(subject.model, encoded["ids"].to_pylist())[:, 0]
    usual = read_examples(examples, "train").table["value"].to_numpy().mean()
    ones = np.ones(len(actual))
    return [
        Score("model", held.kind.name, "mse", ratio((predicted - actual) ** 2, ones, config.resamples, config.seed)),
        Score("model", held.kind.name, "pearson", pearson(predicted, actual, config.resamples, config.seed)),
        Score("mean", held.kind.name, "mse", ratio((usual - actual) ** 2, ones, config.resamples, config.seed)),
    ]


def score_choices(config: EvaluateConfig, subject: Subject, examples: Path) -> list[Score]:
    """Accuracy on held-out questions, beside the position that is right most often in training for all."""
    from model.nn.models import MultipleChoice
    from tasks.evaluate.metrics import commonest, predict_choices

    held = heldout_examples(config, examples)
    if not isinstance(subject.model, MultipleChoice):
        raise _wrong_head(subject.model, held.kind)
    encoded = encode_examples(held, subject.tokenizer, subject.model.trunk.config).table
    actual = encoded["label"].to_numpy()
    predicted = predict_choices(subject.model, encoded["ids"].to_pylist())
    usual = int(commonest(map(str, read_examples(examples, "train").table["answer"].to_pylist())))
    ones = np.ones(len(actual))
    return [
        Score(name, held.kind.name, "accuracy", ratio((answers == actual).astype(np.float64), ones, config.resamples, config.seed))
        for name, answers in (("model", predicted), ("majority", np.full(len(actual), usual)))
    ]


def score_token_labels(config: EvaluateConfig, subject: Subject, examples: Path) -> list[Score]:
    """Accuracy and macro F1 over the tokens of held-out examples, each by its first token; drawn by whole examples.

    A word of which the tokenizer leaves nothing has no prediction, which counts as a wrong one; one whose label is "" is not asked.
    """
    from model.nn.models import TokenClassifier
    from tasks.evaluate.metrics import commonest, predict_tokens

    held = heldout_examples(config, examples)
    if not isinstance(subject.model, TokenClassifier):
        raise _wrong_head(subject.model, held.kind)
    order = _class_order(subject.model, held.labels)
    shape = subject.model.trunk.config
    texts = word_rows(held.table["tokens"].to_pylist(), WordEncoder(subject.tokenizer), shape, "evaluate")
    found = iter(predict_tokens(subject.model, [row.ids for rows in texts for row in rows]))
    classes = [[(row, next(found)) for row in rows] for rows in texts]
    labels = held.table["labels"].to_pylist()
    actual = [np.array([order.index(name) for name in names if name], np.int64) for names in labels]
    predicted = [
        np.array([own.get(word, -1) for word, name in enumerate(names) if name], np.int64)
        for own, names in zip(map(_word_classes, classes), labels, strict=True)
    ]
    train = read_examples(examples, "train").table["labels"].to_pylist()
    usual = order.index(commonest(name for names in train for name in names if name))
    return [
        *_label_scores(config, "model", held.kind.name, predicted, actual, len(order)),
        *_label_scores(config, "majority", held.kind.name, [np.full(len(one), usual) for one in actual], actual, len(order)),
    ]


def _word_classes(rows: Sequence[tuple[WordRow, NDArray[np.int64]]]) -> dict[int, int]:
    """By the number of the word, from the rows of one text and the class of each of their tokens."""
    return {word: int(classes[first]) for row, classes in rows for word, first in row.firsts.items()}


def _label_scores(
    config: EvaluateConfig, name: str, task: str, predicted: Sequence[NDArray[np.int64]], actual: Sequence[NDArray[np.int64]], classes: int
) -> list[Score]:
    """Accuracy and macro F1 from the classes of each item's tokens; a prediction of -1 is none."""

    def counts(item: NDArray[np.int64]) -> Floats:
        return np.bincount(item[item >= 0], minlength=classes).astype(np.float64)

    right = [a[p == a] for p, a in zip(predicted, actual, strict=True)]
    hits, guesses, truths = (np.stack([counts(item) for item in items]) for items in (right, predicted, actual))
    accuracy = ratio(hits.sum(1), truths.sum(1), config.resamples, config.seed)
    return [
        Score(name, task, "accuracy", accuracy),
        Score(name, task, "macro_f1", macro_f1(hits, guesses, truths, config.resamples, config.seed)),
    ]


def _micro_f1(predicted: Floats, actual: Floats, config: EvaluateConfig) -> Estimate:
    """F1 over all labels of all items [n, K] together; 1 where there is none and none was found."""
    hits, counted = 2 * (predicted * actual).sum(1), (predicted + actual).sum(1)
    if not counted.any():
        return Estimate(1.0, 1.0, 1.0, len(actual))
    return ratio(hits, counted, config.resamples, config.seed)


def _class_order(model: "SequenceClassifier | TokenClassifier", labels: tuple[str, ...]) -> list[str]:
    if model.head.score.out_features != len(labels):
        raise UserError(f"evaluate: the model has {model.head.score.out_features} classes, the examples {len(labels)}.")
    return list(labels)


def _wrong_head(model: "Model", kind: Kind) -> UserError:
    return UserError(f"evaluate: {kind.name} needs a model that was tuned for it, found a {type(model).__name__}.")

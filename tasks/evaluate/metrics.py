"""Evaluation metrics: nats of given tokens, classes of given rows; and the baselines to hold them against.

B rows, T tokens, V vocabulary.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.config.heads import IGNORED

if TYPE_CHECKING:
    from torch import Tensor

    from model.nn.models import LanguageModel, Model, MultipleChoice, Seq2SeqModel, SequenceClassifier, TokenClassifier

Floats = NDArray[np.float64]
Rows = Sequence[Sequence[int]]  # of token ids
Number = TypeVar("Number", np.int64, np.float64)

BATCH_TOKENS = 4096  # of one forward pass
LOGITS = 2**24  # held at a time


def windows(ids: Sequence[int], context: int) -> list[tuple[list[int], list[int]]]:
    """(inputs, targets) that score every token but the first once; each window begins with the last token before it."""
    return [
        (list(ids[start : start + context][: len(ids) - 1 - start]), list(ids[start + 1 : start + context + 1]))
        for start in range(0, len(ids) - 1, context)
    ]


def document_nats(model: "LanguageModel", documents: Sequence[Sequence[int]]) -> list[Floats]:
    """Nats of each document's tokens but the first, which is given: [its tokens less one] each."""
    rows = [(number, *window) for number, ids in enumerate(documents) for window in windows(ids, model.trunk.config.context)]
    found: list[list[Floats]] = [[] for _ in documents]
    for (number, _, _), nats in zip(rows, row_nats(model, [row[1] for row in rows], [row[2] for row in rows]), strict=True):
        found[number].append(nats)
    return [np.concatenate(parts) if parts else np.zeros(0) for parts in found]


def row_nats(model: "LanguageModel", inputs: Rows, targets: Rows) -> list[Floats]:
    """Nats of each row's targets: the target at t is what comes after the input at t, IGNORED is not scored. [scored] each."""

    def run(lengths: "Tensor", ids: "Tensor", wanted: "Tensor") -> list[Floats]:
        return _scored_nats(model, model.trunk(ids), wanted)

    return _run_rows(model, run, inputs, targets=targets)


def pair_nats(model: "Seq2SeqModel", sources: Rows, begun: Rows, targets: Rows) -> list[Floats]:
    """Nats of each row's targets, which come after what has `begun`, given its source; IGNORED is not scored. [scored] each."""

    def run(lengths: "Tensor", ids: "Tensor", told: "Tensor", wanted: "Tensor") -> list[Floats]:
        return _scored_nats(model, model.trunk(ids, lengths, told), wanted)

    return _run_rows(model, run, sources, begun, targets=targets)


def _scored_nats(model: "LanguageModel | Seq2SeqModel", hidden: "Tensor", wanted: "Tensor") -> list[Floats]:
    """hidden [B, T, C], wanted [B, T] -> nats of each row's scored targets."""
    import torch
    import torch.nn.functional as F

    is_scored = wanted != IGNORED
    chosen, goals = hidden[is_scored], wanted[is_scored]  # (scored, C), (scored)
    chunk = max(1, LOGITS // model.trunk.vocab_size)
    parts = [
        F.cross_entropy(model.logits(chosen[i : i + chunk]).float(), goals[i : i + chunk], reduction="none")
        for i in range(0, len(goals), chunk)
    ]
    found = torch.cat(parts).double().cpu().numpy() if parts else np.zeros(0)
    return np.split(found, np.cumsum(is_scored.sum(dim=1).cpu().numpy())[:-1])


def predict_rows(model: "SequenceClassifier", rows: Rows) -> Floats:
    """What the head says of each row, before a softmax or sigmoid: [rows, K]."""

    def run(lengths: "Tensor", ids: "Tensor") -> Floats:
        return model(ids, lengths).double().cpu().numpy()

    return np.array(_run_rows(model, run, rows), dtype=np.float64).reshape(len(rows), model.spec.classes)


def predict_choices(model: "MultipleChoice", questions: Sequence[Rows]) -> NDArray[np.int64]:
    """The likeliest choice of each question, whose rows all questions have as many of: [questions]."""

    def run(lengths: "Tensor", ids: "Tensor") -> Floats:
        return model(ids[:, None], lengths[:, None])[:, 0].double().cpu().numpy()

    scores = _run_rows(model, run, [row for rows in questions for row in rows])
    return np.array(scores, dtype=np.float64).reshape(len(questions), -1).argmax(axis=1)


def predict_tokens(model: "TokenClassifier", rows: Rows) -> list[NDArray[np.int64]]:
    """The likeliest class of each token of each row."""

    def run(lengths: "Tensor", ids: "Tensor") -> NDArray[np.int64]:
        return model(ids, lengths).argmax(dim=-1).cpu().numpy()

    return [classes[: len(row)] for classes, row in zip(_run_rows(model, run, rows), rows, strict=True)]


def unigram_nats(counts: NDArray[np.int64]) -> Floats:
    """Nats of each token from its frequency alone, one added to every count: [V]."""
    return np.log(counts.sum() + len(counts)) - np.log(counts + 1.0)


def count_tokens(documents: Iterable[Sequence[int]], vocab_size: int) -> NDArray[np.int64]:
    """How often each token occurs: [V]."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for ids in documents:
        counts += np.bincount(np.asarray(ids, dtype=np.int64), minlength=vocab_size)
    return counts


def commonest(values: Iterable[str]) -> str:
    """The value that occurs most often, of several the first in the alphabet."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def rouge_l(found: Sequence[int], expected: Sequence[int]) -> float:
    """F1 of the longest common subsequence of two token sequences. Source: Lin, ROUGE, 2004, section 3, with beta 1."""
    if not found or not expected:
        return float(list(found) == list(expected))
    row = np.zeros(len(expected) + 1, dtype=np.int64)
    goal = np.asarray(expected)
    for token in found:
        step = np.where(goal == token, row[:-1] + 1, row[1:])
        row[1:] = np.maximum.accumulate(step)
    return 2 * float(row[-1]) / (len(found) + len(expected))


def _run_rows(
    model: "Model", run: "Callable[..., Iterable[NDArray[Number]]]", *read: Rows, targets: Rows | None = None
) -> "list[NDArray[Number]]":
    """What `run` makes of each row, in their order.

    Rows go through it shortest first and as many at a time as BATCH_TOKENS allow. It is given the lengths of the rows of the
    first that is `read` [B], then each that is read [B, T], padded with 0, and the targets [B, T], padded with IGNORED.
    """
    import torch

    lengths = np.array([list(map(len, rows)) for rows in read], dtype=np.int64).sum(axis=0)
    device, found = model.trunk.embedding.weight.device, dict[int, "NDArray[Number]"]()
    columns = [(rows, 0) for rows in read] + ([] if targets is None else [(targets, IGNORED)])
    with torch.inference_mode():
        for numbers in _portions(lengths):
            sizes = torch.tensor([len(read[0][number]) for number in numbers], device=device)
            given = [torch.from_numpy(_padded([rows[n] for n in numbers], fill)).to(device) for rows, fill in columns]
            found.update(zip(numbers, run(sizes, *given), strict=True))
    return [found[number] for number in range(len(found))]


def _portions(lengths: NDArray[np.int64]) -> Iterator[list[int]]:
    portion: list[int] = []
    for number in np.argsort(lengths, kind="stable").tolist():
        if portion and (len(portion) + 1) * lengths[number] > BATCH_TOKENS:
            yield portion
            portion = []
        portion.append(number)
    if portion:
        yield portion


def _padded(rows: Rows, value: int) -> NDArray[np.int64]:
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for wide, row in zip(padded, rows, strict=True):
        wide[: len(row)] = row
    return padded

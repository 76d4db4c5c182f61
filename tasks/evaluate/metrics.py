"""What is measured on a model: nats of given tokens, classes of given rows; and the baselines to hold them against.

B rows, T tokens, V vocabulary.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.config.targets import IGNORED

if TYPE_CHECKING:
    import torch

    from model.nn.models import (
        LanguageModel,
        MultipleChoice,
        Seq2SeqModel,
        SequenceClassifier,
        TokenClassifier,
    )

Floats = NDArray[np.float64]

BATCH_TOKENS = 4096  # of one forward pass
LOGITS = 2**24  # held at a time


def windows(ids: Sequence[int], context: int) -> list[tuple[list[int], list[int]]]:
    """(inputs, targets) that score every token but the first once; each window begins with the last token before it."""
    return [
        (list(ids[start : start + context][: len(ids) - 1 - start]), list(ids[start + 1 : start + context + 1]))
        for start in range(0, len(ids) - 1, context)
    ]


def document_nats(model: "LanguageModel", documents: Sequence[Sequence[int]]) -> Floats:
    """Nats of each document's tokens but the first, which is given: [documents]."""
    rows = [
        (number, *window) for number, ids in enumerate(documents) for window in windows(ids, model.trunk.config.context)
    ]
    nats = row_nats(model, [row[1] for row in rows], [row[2] for row in rows])
    total = np.zeros(len(documents))
    np.add.at(total, np.array([row[0] for row in rows], dtype=np.int64), nats)
    return total


def row_nats(model: "LanguageModel", inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Floats:
    """Nats of each row's targets: the target at t is what comes after the input at t, IGNORED is not scored. [rows]."""
    import torch

    total = np.zeros(len(inputs))
    device = model.trunk.embedding.weight.device
    with torch.inference_mode():
        for numbers in _batches([len(row) for row in inputs]):
            ids = torch.from_numpy(_padded([inputs[i] for i in numbers], 0)).to(device)
            wanted = torch.from_numpy(_padded([targets[i] for i in numbers], IGNORED)).to(device)
            total[numbers] = _scored_nats(model, model.trunk(ids), wanted)
    return total


def pair_nats(
    model: "Seq2SeqModel", sources: Sequence[Sequence[int]], begun: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> Floats:  # fmt: skip
    """Nats of each row's targets, which come after what has `begun`, given its source; IGNORED is not scored. [rows]."""
    import torch

    total = np.zeros(len(sources))
    device = model.trunk.embedding.weight.device
    with torch.inference_mode():
        for numbers in _batches([len(source) + len(row) for source, row in zip(sources, begun, strict=True)]):
            ids = torch.from_numpy(_padded([sources[i] for i in numbers], 0)).to(device)
            lengths = torch.tensor([len(sources[i]) for i in numbers], device=device)
            told = torch.from_numpy(_padded([begun[i] for i in numbers], 0)).to(device)
            wanted = torch.from_numpy(_padded([targets[i] for i in numbers], IGNORED)).to(device)
            total[numbers] = _scored_nats(model, model.trunk(ids, lengths, told), wanted)
    return total


def _scored_nats(model: "LanguageModel | Seq2SeqModel", hidden: "torch.Tensor", wanted: "torch.Tensor") -> Floats:
    """hidden [B, T, C], wanted [B, T] -> nats of each row [B]."""
    import torch
    import torch.nn.functional as F

    is_scored = wanted != IGNORED
    chosen, goals = hidden[is_scored], wanted[is_scored]  # (scored, C), (scored)
    chunk = max(1, LOGITS // model.trunk.vocab_size)
    pieces = [
        F.cross_entropy(model.logits(chosen[i : i + chunk]).float(), goals[i : i + chunk], reduction="none")
        for i in range(0, len(goals), chunk)
    ]
    owners = is_scored.nonzero()[:, 0].cpu().numpy()
    found = torch.cat(pieces).double().cpu().numpy() if pieces else np.zeros(0)
    return np.bincount(owners, weights=found, minlength=len(wanted)).astype(np.float64)


def predict_rows(model: "SequenceClassifier", rows: Sequence[Sequence[int]]) -> Floats:
    """What the head says of each row, before a softmax or sigmoid: [rows, K]."""
    import torch

    found = np.zeros((len(rows), model.head.score.out_features))
    device = model.trunk.embedding.weight.device
    with torch.inference_mode():
        for numbers in _batches([len(row) for row in rows]):
            ids = torch.from_numpy(_padded([rows[i] for i in numbers], 0)).to(device)
            lengths = torch.tensor([len(rows[i]) for i in numbers], device=device)
            found[numbers] = model(ids, lengths).double().cpu().numpy()
    return found


def predict_choices(model: "MultipleChoice", questions: Sequence[Sequence[Sequence[int]]]) -> NDArray[np.int64]:
    """The likeliest choice of each question, whose rows all questions have as many of: [questions]."""
    import torch

    best = np.zeros(len(questions), dtype=np.int64)
    device = model.trunk.embedding.weight.device
    with torch.inference_mode():
        for numbers in _batches([sum(map(len, rows)) for rows in questions]):
            rows = [row for i in numbers for row in questions[i]]
            ids = torch.from_numpy(_padded(rows, 0)).to(device).view(len(numbers), -1, max(map(len, rows)))
            lengths = torch.tensor([len(row) for row in rows], device=device).view(len(numbers), -1)
            best[numbers] = model(ids, lengths).argmax(dim=-1).cpu().numpy()
    return best


def predict_tokens(model: "TokenClassifier", rows: Sequence[Sequence[int]]) -> list[NDArray[np.int64]]:
    """The likeliest class of each token of each row."""
    import torch

    best = [np.zeros(0, dtype=np.int64)] * len(rows)
    device = model.trunk.embedding.weight.device
    with torch.inference_mode():
        for numbers in _batches([len(row) for row in rows]):
            ids = torch.from_numpy(_padded([rows[i] for i in numbers], 0)).to(device)
            lengths = torch.tensor([len(rows[i]) for i in numbers], device=device)
            classes = model(ids, lengths).argmax(dim=-1).cpu().numpy()
            for place, number in enumerate(numbers):
                best[number] = classes[place, : len(rows[number])]
    return best


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


def _batches(lengths: Sequence[int]) -> Iterable[list[int]]:
    """Row numbers, shortest rows first, as many at a time as BATCH_TOKENS allow."""
    batch: list[int] = []
    for number in np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable").tolist():
        if batch and (len(batch) + 1) * lengths[number] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _padded(rows: Sequence[Sequence[int]], value: int) -> NDArray[np.int64]:
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return padded

"""Audit measures: how far shares wander from batch to batch, what comes again, what batches share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.pretrain.audit_sample import LEAST_STEPS, Numbers, Pools, Sample, Shares

if TYPE_CHECKING:
    from model.data.row_stream import RowStream

SIGMAS = 3.0  # of the range in which independent draws would stay


@dataclass(frozen=True)
class Spread:
    """How far a share wanders from batch to batch: a variance over that of independent draws; see `spreads`."""

    ratio: float
    low: float  # where independent draws would stay, with three standard deviations
    high: float


@dataclass(frozen=True)
class Repeats:
    """How often rows came again."""

    delivered_rows: int  # of the whole run
    counted_rows: int  # of its first steps, looked at one by one
    in_epoch: int  # rows that had come in the same epoch already: none, by design
    in_batch: int  # rows that their batch held already: it has more rows than there are, or two epochs meet in it
    epochs: Mapping[str, float]  # by group: how often the run went through its rows


@dataclass(frozen=True)
class SharedDocuments:
    """Two rows of one batch with pieces of one document.

    With as many rows of each pool drawn at random, a pair of rows of one pool shares a document with the chance
    sum of c (c - 1) / (N (N - 1)), over the pool's documents, which lie in c rows each, and its N rows.
    """

    pairs: int  # of different rows in the sampled batches
    shared: int  # of these
    expected: float  # of these, with rows drawn at random


@dataclass(frozen=True)
class Parts:
    """Part of row `rows[i]` of the sample that is of name number `codes[i]`; what is not listed is none."""

    rows: Numbers
    codes: Numbers
    parts: Shares
    names: int


def spreads(parts: Parts, pools: Pools) -> list[Spread | None]:
    """How far the share of each name wanders from batch to batch.

    x is a row's part of the name, X the mean of x over the B rows of a batch, S the number of batches, w the weights of the
    pools at a step, m and q the means of x and of x squared over the sampled rows of each pool. B independent draws by the
    weights would give X a mean of w m and a variance of (w q - (w m)^2) / B. The ratio is

        S / (S - 1) * sum over batches of (X - w m)^2 / sum over batches of (w q - (w m)^2) / B

    About 1: like independent draws. Far above 1: clumped, some batches have much of the name and others little. Below 1:
    more even than chance, as a mixture is in its groups, and any run in which a batch is a good part of all rows, since
    no row comes twice in an epoch. Independent draws have a ratio of standard deviation sqrt(2 / (S - 1) + k / (B S)),
    k being the excess kurtosis of x over all sampled rows.
    """
    steps, batch_rows = pools.of_row.shape
    if steps < LEAST_STEPS:
        return [None] * parts.names
    pool_count = len(pools.rows)
    shares = np.bincount(parts.rows // batch_rows * parts.names + parts.codes, parts.parts, steps * parts.names)
    shares = shares.reshape(steps, parts.names) / batch_rows
    drawn = np.maximum(np.bincount(pools.of_row.ravel(), minlength=pool_count), 1)[:, None]
    keys = pools.of_row.ravel()[parts.rows] * parts.names + parts.codes
    mean, square = (np.bincount(keys, parts.parts**power, pool_count * parts.names).reshape(pool_count, -1) / drawn for power in (1, 2))
    expected = pools.weights @ mean
    variance = np.maximum(pools.weights @ square - expected**2, 0).sum(axis=0) / batch_rows
    wandered = ((shares - expected) ** 2).sum(axis=0) * steps / (steps - 1)
    deviation = np.sqrt(2 / (steps - 1) + np.maximum(_excess_kurtosis(parts, steps * batch_rows), 0) / (batch_rows * steps))
    return [
        Spread(float(wandered[at] / variance[at]), max(0.0, 1 - SIGMAS * float(deviation[at])), 1 + SIGMAS * float(deviation[at]))
        if variance[at] > 1e-12
        else None
        for at in range(parts.names)
    ]


def _excess_kurtosis(parts: Parts, rows: int) -> Shares:
    """Of x over all rows: [names]; 0 where x never changes."""
    first, second, third, fourth = (np.bincount(parts.codes, parts.parts**power, parts.names) / rows for power in (1, 2, 3, 4))
    variance = second - first**2
    central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    return np.where(variance > 1e-12, central / np.maximum(variance, 1e-12) ** 2 - 3, 0.0)


def count_repeats(stream: "RowStream", read: Sequence[tuple[int, int]], counted: int) -> tuple[Repeats, Numbers]:
    """Repeats over the first `counted` of the data steps in the ranges `read`, and how many rows of each group came in them: [groups]."""
    steps = np.concatenate([np.arange(*one) for one in read])[:counted]
    in_batch, numbers = 0, np.empty(counted * stream.batch_rows, np.int64)
    for at, step in enumerate(steps.tolist()):
        batch = stream.rows_at(step)
        numbers[at * stream.batch_rows : (at + 1) * stream.batch_rows] = batch
        in_batch += len(batch) - len(np.unique(batch))
    groups = stream.groups_of(numbers)
    sizes = np.array([rows.rows for rows in stream.token_rows.values()])
    samples = (steps[:, None] * stream.batch_rows + np.arange(stream.batch_rows)).ravel()
    delivered = sum(end - first for first, end in read) * stream.batch_rows
    if stream.mixture is None:
        epoch, epochs = samples // stream.rows, np.full(len(sizes), delivered / stream.rows)
    else:
        pools, ordinals = stream.mixture.draw(samples)
        epoch = ordinals // sizes[pools]
        ends = [[stream.mixture.counts(step * stream.batch_rows) for step in one] for one in read]
        epochs = sum(after - before for before, after in ends) / sizes
    by_group = dict(zip(stream.names, epochs.tolist(), strict=True))
    repeats = Repeats(delivered, len(numbers), again_in_epoch(numbers, epoch, stream.rows), in_batch, by_group)
    return repeats, np.bincount(groups, minlength=len(sizes))


def again_in_epoch(numbers: Numbers, epochs: Numbers, rows: int) -> int:
    """Rows that came before in their epoch: `numbers` over all `rows` rows, and the epoch in which each came."""
    within = np.sort(epochs * rows + numbers)
    return int((np.diff(within) == 0).sum())


def shared_documents(sample: Sample, pools: Pools) -> SharedDocuments:
    """Pairs of different rows of one batch that hold pieces of one document."""
    steps, batch_rows = sample.numbers.shape
    numbers, documents = (np.unique(values, return_inverse=True)[1] for values in (sample.numbers, sample.documents))
    rows = numbers.ravel()[sample.rows]
    in_batch = sample.rows // batch_rows * (documents.max() + 1) + documents
    distinct = np.unique(in_batch * (rows.max() + 1) + rows)  # a row that comes twice in a batch counts once
    together = np.unique(distinct // (rows.max() + 1), return_counts=True)[1]
    pairs, expected = 0, 0.0
    for step in range(steps):
        drawn = pools.of_row[step][np.unique(sample.numbers[step], return_index=True)[1]]
        pairs += len(drawn) * (len(drawn) - 1) // 2
        in_pool = np.bincount(drawn, minlength=len(pools.rows))
        chance = pools.crossings / np.maximum(pools.rows * (pools.rows - 1), 1)
        expected += float((in_pool * (in_pool - 1) / 2 * chance).sum())
    return SharedDocuments(pairs, int((together * (together - 1) // 2).sum()), expected)

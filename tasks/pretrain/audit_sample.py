"""Audit sample: steps of a training looked at closely, their rows, and what the rows are drawn from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.training.left_out import LeftOut, data_step
from tasks.pretrain.audit_documents import Documents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.data.row_stream import RowStream

SAMPLED_STEPS = 256  # spread evenly over the run
SAMPLED_ROWS = 2**17  # of these steps, about; large batches are looked at in fewer steps
LEAST_STEPS = 8

Numbers = NDArray[np.int64]
Shares = NDArray[np.float64]


def sampled_steps(steps: int, batch_rows: int) -> Numbers:
    """Steps, from 0, that are looked at closely: all of a short run, else evenly spread with both ends."""
    most = min(SAMPLED_STEPS, max(LEAST_STEPS, SAMPLED_ROWS // batch_rows))
    return np.arange(steps) if steps <= most else np.linspace(0, steps - 1, most).round().astype(np.int64)


def data_steps(steps: Numbers, left_out: "Sequence[LeftOut]") -> Numbers:
    """The data steps of these batches by the order in which the run took them, both from 0: same shape."""
    return np.array([data_step(int(step), left_out) for step in steps], np.int64)


def read_ranges(steps: int, left_out: "Sequence[LeftOut]", begun_at: int = 0) -> list[tuple[int, int]]:
    """The data steps of the batches that a run took, `begun_at` up to `steps`, in ranges [first, end): all but what was left out."""
    begin = data_step(begun_at, left_out)
    return [(max(first, begin), end) for first, end in _ranges_up_to(steps, left_out) if end > begin]


def _ranges_up_to(steps: int, left_out: "Sequence[LeftOut]") -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    first = 0
    for gap in left_out:
        if steps <= gap.first - first:
            break
        if gap.first > first:
            found.append((first, gap.first))
            steps -= gap.first - first
        first = gap.first + gap.count
    return [*found, (first, first + steps)] if steps else found


@dataclass(frozen=True)
class Sample:
    """The rows of the sampled steps, and the pieces of documents in them."""

    steps: Numbers  # data steps: [S]
    numbers: Numbers  # row number over all groups: [S, B]
    rows: Numbers  # of each piece: which row of the sample, step * B + position
    documents: Numbers  # of each piece
    tokens: Numbers  # of each piece


def read_sample(stream: "RowStream", steps: Numbers) -> Sample:
    """Reads each row of these data steps once, in the order of the files."""
    numbers = np.stack([stream.rows_at(int(step)) for step in steps])
    unique, inverse = np.unique(numbers, return_inverse=True)
    inverse = inverse.ravel()
    ends, documents = _segments(stream, unique)
    counts = np.array([len(one) for one in ends], np.int64)
    lengths = np.concatenate([np.diff(one, prepend=0) for one in ends])
    firsts = np.cumsum(counts) - counts
    of_row = counts[inverse]
    before = np.cumsum(of_row) - of_row
    taken = np.arange(of_row.sum()) + np.repeat(firsts[inverse] - before, of_row)
    return Sample(steps, numbers, np.repeat(np.arange(len(inverse)), of_row), np.concatenate(documents)[taken], lengths[taken])


def _segments(stream: "RowStream", numbers: Numbers) -> tuple[list[Numbers], list[Numbers]]:
    """Ends and documents of rows by ascending number over all groups."""
    ends: list[Numbers] = []
    documents: list[Numbers] = []
    first = 0
    for rows in stream.token_rows.values():
        for found in rows.segments(numbers[(numbers >= first) & (numbers < first + rows.rows)] - first):
            ends.append(found.ends)
            documents.append(found.documents)
        first += rows.rows
    return ends, documents


@dataclass(frozen=True)
class Pools:
    """What rows are drawn from: each group by itself under a mixture, else all rows as one."""

    rows: Numbers  # of each pool: [P]
    of_row: Numbers  # pool of each row of the sample: [S, B]
    weights: Shares  # asked of each pool at each sampled step: [S, P]
    row_tokens: Shares  # tokens that the rows of each pool hold, by source and language: [P, pairs]
    crossings: Shares  # of each pool: sum of c (c - 1) over its documents, which lie in c rows each: [P]

    @classmethod
    def of(cls, stream: "RowStream", sample: Sample, table: Documents) -> "Pools":
        """Which pool a pair of source and language is in, the sampled rows tell: groups go by one of the two."""
        if stream.mixture is None:
            row_tokens = np.array([[pair.row_tokens for pair in table.pairs]])
            crossings = np.array([sum(pair.crossings for pair in table.pairs)])
            ones = np.ones((len(sample.steps), 1))
            return cls(np.array([stream.rows]), np.zeros_like(sample.numbers), ones, row_tokens, crossings)
        of_row = stream.groups_of(sample.numbers)
        weights = np.array([asked_weights(stream, [(int(step), int(step) + 1)]) for step in sample.steps])
        pool_of_pair = _pool_by_name(stream, of_row.ravel()[sample.rows], table.pair_of(sample.documents), table)
        row_tokens = np.zeros((len(stream.names), len(table.pairs)))
        crossings = np.zeros(len(stream.names))
        for at, pair in enumerate(table.pairs):
            if pool_of_pair[at] >= 0:
                row_tokens[pool_of_pair[at], at] = pair.row_tokens
                crossings[pool_of_pair[at]] += pair.crossings
        rows = np.array([found.rows for found in stream.token_rows.values()])
        return cls(rows, of_row, weights, row_tokens, crossings)


def asked_weights(stream: "RowStream", read: "Sequence[tuple[int, int]]") -> Shares:
    """Share of the rows of the data steps in these ranges that is asked of each group: [groups]."""
    if stream.mixture is None:
        counts = np.array([rows.rows for rows in stream.token_rows.values()])
        return counts / stream.rows
    ideal = [[stream.mixture.ideal(step * stream.batch_rows) for step in one] for one in read]
    asked = [float(sum(after[at] - before[at] for before, after in ideal)) for at in range(len(stream.names))]
    return np.array(asked) / (sum(end - first for first, end in read) * stream.batch_rows)


def _pool_by_name(stream: "RowStream", group_of_piece: Numbers, pair_of_piece: Numbers, table: Documents) -> Numbers:
    """The group of each pair of source and language; -1 where no sampled row had any and no group is called so."""
    sources = table.names("source")[1][pair_of_piece]
    groups_by_source = np.unique(np.stack([sources, group_of_piece]), axis=1)[0]
    by_source = len(groups_by_source) == len(np.unique(groups_by_source))  # each source in one group only
    names, codes = table.names("source" if by_source else "language")
    found = np.array([stream.names.index(name) if name in stream.names else -1 for name in names])
    found[codes[pair_of_piece]] = group_of_piece
    return found[codes]

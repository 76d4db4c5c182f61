"""Row stream: which rows each step trains on, a pure function of (shards, seed, step), and invertible.

Samples of a run are numbered g = step * batch_rows + position. A pool is what one order runs over: all rows, or with a mixture
those of one group. Sample number k of a pool of n rows is row k mod n of its epoch k // n, shuffled by the seed.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.config.training_config import ContextPhase, MixturePhase, check_curriculum, check_mixture
from model.data.mixture import Mixture
from model.data.permutation import permute, unpermute
from model.data.shard_reader import RowSegments, TokenRows

BLOCK = 4096  # positions of an epoch that are permuted at a time: 0.2 us a row, against 6 us a row for 64 alone
KEPT_BLOCKS = 8

RowNumbers = NDArray[np.int64]


class RowOrder:
    """The endless order of one pool's rows: every row once an epoch, each epoch another order."""

    def __init__(self, group_rows: NDArray[np.int64], seed: int, pool: int, window_groups: int | None) -> None:
        """`group_rows`: rows of each row group of the files. With `window_groups` = w, row groups are shuffled, then the

        rows within each w of them: rows that are decoded or fetched together are used together.
        """
        self.rows = int(group_rows.sum())
        self._group_rows, self._window = group_rows, window_groups
        self._key = (seed,) if pool == 0 else (seed, pool)
        self._made_of = (group_rows, seed, pool, window_groups)
        self._starts = np.cumsum(group_rows) - group_rows
        self._block = lru_cache(KEPT_BLOCKS)(self._permuted_block)
        self._layout = lru_cache(2)(self._shuffled_groups)

    def __reduce__(self) -> tuple[object, ...]:
        """A copy in another process starts without this one's blocks."""
        return RowOrder, self._made_of

    def numbers(self, ordinals: RowNumbers) -> RowNumbers:
        """Row number of each sample of the pool: `ordinals` [n], ascending, counted from 0 over all epochs."""
        numbers = np.empty_like(ordinals)
        epochs, positions = np.divmod(ordinals, self.rows)
        blocks = positions // BLOCK
        if len(ordinals) and (epochs[0], blocks[0]) == (epochs[-1], blocks[-1]):  # nearly every batch
            return self._block(int(epochs[0]), int(blocks[0]))[positions - blocks[0] * BLOCK]
        for epoch, block in sorted(set(zip(epochs.tolist(), blocks.tolist(), strict=True))):
            here = (epochs == epoch) & (blocks == block)
            numbers[here] = self._block(epoch, block)[positions[here] - block * BLOCK]
        return numbers

    def ordinal_of(self, row: int, epoch: int) -> int:
        """The sample of the pool at which `row` comes in `epoch`: the inverse of `numbers`."""
        if self._window is None:
            return epoch * self.rows + int(unpermute(np.array([row]), self.rows, *self._key, epoch)[0])
        order, ends = self._layout(epoch)
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        at = int(np.flatnonzero(order == group)[0])
        before = int(ends[at - 1]) if at else 0
        window, first, size = self._window_at(before, ends)
        local = before - first + row - int(self._starts[group])
        image = unpermute(np.array([local]), size, *self._key, epoch, window)
        return epoch * self.rows + first + int(image[0])

    def _permuted_block(self, epoch: int, block: int) -> RowNumbers:
        positions = np.arange(block * BLOCK, min((block + 1) * BLOCK, self.rows))
        if self._window is None:
            return permute(positions, self.rows, *self._key, epoch)
        order, ends = self._layout(epoch)
        shuffled = np.empty_like(positions)
        done = 0
        while done < len(positions):
            window, first, size = self._window_at(int(positions[done]), ends)
            here = slice(done, int(np.searchsorted(positions, first + size)))
            shuffled[here] = first + permute(positions[here] - first, size, *self._key, epoch, window)
            done = here.stop
        at = np.searchsorted(ends, shuffled, side="right")
        groups = order[at]
        return self._starts[groups] + shuffled - (ends[at] - self._group_rows[groups])

    def _shuffled_groups(self, epoch: int) -> tuple[RowNumbers, RowNumbers]:
        """The row groups in this epoch's order, and where each of them ends in it."""
        order = permute(np.arange(len(self._group_rows)), len(self._group_rows), *self._key, epoch, -1)
        return order, np.cumsum(self._group_rows[order])

    def _window_at(self, position: int, ends: RowNumbers) -> tuple[int, int, int]:
        """(number, first position, rows) of the window that holds a position."""
        assert self._window is not None
        window = int(np.searchsorted(ends, position, side="right")) // self._window
        last = min((window + 1) * self._window, len(ends)) - 1
        first = int(ends[window * self._window - 1]) if window else 0
        return window, first, int(ends[last]) - first


class RowStream:
    """The rows of every step of a run, from groups of token rows."""

    def __init__(
        self,
        rows: Mapping[str, TokenRows],
        batch_rows: int,
        seed: int,
        mixture: Sequence[MixturePhase] = (),
        curriculum: Sequence[ContextPhase] = (),
        window_groups: int | None = None,
    ) -> None:
        """Without a mixture all groups are one pool. Raises ValueError for groups, weights or lengths that do not fit."""
        if not rows:
            raise ValueError("no token shards were given")
        self.token_rows = dict(sorted(rows.items()))
        self.batch_rows, self.seed = batch_rows, seed
        self.names = tuple(self.token_rows)
        first = self.token_rows[self.names[0]]
        self.header, self.context = first.header, first.context
        for name, found in self.token_rows.items():
            if (found.context, found.tokenizer, found.vocab_size) != (first.context, first.tokenizer, first.vocab_size):
                raise ValueError(f"the rows of {name} are of another context or tokenizer than those of {self.names[0]}")
        counts = [found.rows for found in self.token_rows.values()]
        self.rows = sum(counts)
        self._starts = np.cumsum(counts, dtype=np.int64) - np.array(counts)  # of each group among all rows
        check_mixture(mixture)
        self.mixture = Mixture(self.names, mixture, batch_rows) if mixture else None
        self.curriculum = tuple(curriculum)
        check_curriculum(self.curriculum, self.context)
        pools = [found.group_rows for found in self.token_rows.values()]
        if self.mixture is None:
            self._orders = [RowOrder(np.concatenate(pools), seed, 0, window_groups)]
        else:
            self._orders = [RowOrder(pool, seed, number, window_groups) for number, pool in enumerate(pools)]

    def rows_at(self, step: int, start: int = 0, stop: int | None = None) -> RowNumbers:
        """Row numbers, over all groups, of positions [start, stop) of the global batch of `step` (from 0); default: of all."""
        end = self.batch_rows if stop is None else stop
        samples = np.arange(step * self.batch_rows + start, step * self.batch_rows + end, dtype=np.int64)
        if self.mixture is None:
            return self._orders[0].numbers(samples)
        pools, ordinals = self.mixture.draw(samples)
        numbers = np.empty_like(samples)
        for pool, order in enumerate(self._orders):
            here = pools == pool
            if here.any():
                numbers[here] = self._starts[pool] + order.numbers(ordinals[here])
        return numbers

    def locations(self, step: int) -> list[tuple[str, int]]:
        """(group, row number in the group) of each row of the global batch of `step` (from 0)."""
        numbers = self.rows_at(step)
        groups = self.groups_of(numbers)
        return [(self.names[group], int(row)) for group, row in zip(groups, numbers - self._starts[groups], strict=True)]

    def steps_of(self, group: str, row: int, steps: int) -> list[tuple[int, int]]:
        """(step, position in its batch) of every time that a row comes in the first `steps` steps, in order."""
        pool = self.names.index(group)
        found: list[tuple[int, int]] = []
        epoch = 0
        while self._epoch_begins(pool, epoch) < steps * self.batch_rows:
            if self.mixture is None:
                sample: int | None = self._orders[0].ordinal_of(int(self._starts[pool]) + row, epoch)
            else:
                sample = self.mixture.sample_of(pool, self._orders[pool].ordinal_of(row, epoch))
            if sample is not None and sample < steps * self.batch_rows:
                found.append(divmod(sample, self.batch_rows))
            epoch += 1
        return found

    def _epoch_begins(self, pool: int, epoch: int) -> float:
        """The first sample of an epoch of a group's pool; infinite where it is never reached."""
        if self.mixture is None:
            return epoch * self.rows
        sample = self.mixture.sample_of(pool, epoch * self._orders[pool].rows)
        return float("inf") if sample is None else sample

    def segments(self, step: int) -> list[RowSegments]:
        """What documents lie where in each row of the global batch of `step` (from 0)."""
        found: list[RowSegments | None] = [None] * self.batch_rows
        numbers = self.rows_at(step)
        groups = self.groups_of(numbers)
        for group in np.unique(groups):
            here = np.flatnonzero(groups == group)
            rows = self.token_rows[self.names[group]].segments(numbers[here] - self._starts[group])
            for at, segments in zip(here, rows, strict=True):
                found[at] = segments
        return [segments for segments in found if segments is not None]

    def take(self, numbers: RowNumbers) -> NDArray[np.int64]:
        """The tokens of rows by number over all groups: [n, T + 1]."""
        if len(self.names) == 1:
            return self.token_rows[self.names[0]].take(numbers)
        tokens = np.empty((len(numbers), self.context + 1), np.int64)
        groups = self.groups_of(numbers)
        for group in np.unique(groups):
            here = groups == group
            tokens[here] = self.token_rows[self.names[group]].take(numbers[here] - self._starts[group])
        return tokens

    def context_at(self, step: int) -> int:
        """Tokens of a sequence at `step` (from 0)."""
        return next((phase.tokens for phase in reversed(self.curriculum) if phase.from_step <= step), self.context)

    def groups_of(self, numbers: RowNumbers) -> RowNumbers:
        """Which group, by its index in `names`, rows by number over all groups are of; same shape."""
        return np.searchsorted(self._starts, numbers, side="right") - 1

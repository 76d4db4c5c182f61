"""Slices: which rows and columns of a whole tensor one process holds, and how what it lacks is put together from those of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

Range = tuple[int, int]  # [start, stop)


@dataclass(frozen=True)
class Slice:
    """Rows, and of a matrix columns, of a whole tensor, in the order in which they lie there."""

    rows: tuple[Range, ...]  # of a scalar none
    columns: Range | None = None  # None: all of them

    @property
    def height(self) -> int:
        """Rows in all."""
        return sum(stop - start for start, stop in self.rows)

    def part(self, start: int, stop: int) -> "Slice":
        """Rows [start, stop) of those that it has, counted in its own order."""
        found: list[Range] = []
        for at, (first, last) in zip(self._offsets(), self.rows, strict=True):
            low, high = max(first, first + start - at), min(last, first + stop - at)
            if low < high:
                found.append((low, high))
        return Slice(tuple(found), self.columns)

    def shape_of(self, whole: Sequence[int]) -> tuple[int, ...]:
        """Of what it has of a tensor of the shape `whole`."""
        if not whole:
            return ()
        inner = whole[1:] if self.columns is None else (self.columns[1] - self.columns[0], *whole[2:])
        return (self.height, *inner)

    def of(self, whole: Tensor) -> Tensor:
        """What it has of a whole tensor: a copy, unless that is one range."""
        if whole.dim() == 0:
            return whole
        held = whole if self.columns is None else whole[:, slice(*self.columns)]
        if len(self.rows) == 1:
            return held[slice(*self.rows[0])]
        return torch.cat([held[start:stop] for start, stop in self.rows]) if self.rows else held[:0]

    def put(self, held: Tensor, whole: Tensor) -> None:
        """Writes what it has into its place in a whole tensor."""
        into = whole if self.columns is None else whole[:, slice(*self.columns)]
        for at, (start, stop) in zip(self._offsets(), self.rows, strict=True):
            into[start:stop] = held[at : at + stop - start]

    def overlaps(self, other: "Slice") -> list[tuple[Range, Range, Range | None]]:
        """What both have: rows in the order of this one, the same rows in that of the other, and columns of the whole."""
        columns = _common(self.columns, other.columns)
        if columns is not None and columns[0] >= columns[1]:
            return []
        found: list[tuple[Range, Range, Range | None]] = []
        for own_at, own in zip(self._offsets(), self.rows, strict=True):
            for its_at, its in zip(other._offsets(), other.rows, strict=True):
                low, high = max(own[0], its[0]), min(own[1], its[1])
                if low < high:
                    mine, theirs = own_at - own[0], its_at - its[0]
                    found.append(((low + mine, high + mine), (low + theirs, high + theirs), columns))
        return found

    def _offsets(self) -> list[int]:
        """Where each range begins in its own order."""
        return list(accumulate((stop - start for start, stop in self.rows), initial=0))[:-1]


def whole_slice(shape: Sequence[int]) -> Slice:
    """All of a tensor."""
    return Slice(((0, shape[0]),)) if shape else Slice(())


def chunk(rows: int, number: int, count: int) -> Range:
    """Rows of the `number`-th of `count` processes, as torch.chunk shares them out: FSDP2 does the same."""
    each = -(-rows // count)
    return min(number * each, rows), min((number + 1) * each, rows)


def within(columns: Range | None, held: Range | None) -> slice:
    """Columns of the whole as those of a tensor that has the columns `held`."""
    if columns is None:
        return slice(None)
    start = 0 if held is None else held[0]
    return slice(columns[0] - start, columns[1] - start)


def _common(one: Range | None, other: Range | None) -> Range | None:
    if one is None or other is None:
        return one or other
    return max(one[0], other[0]), min(one[1], other[1])

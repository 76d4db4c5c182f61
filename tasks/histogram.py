"""Histograms over powers of two: how long documents are, how many share a row."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.settings import Json

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Histogram:
    """`counts[i]` values v with edges[i] <= v < edges[i + 1]; edges are powers of two, or 0 first."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: Numbers) -> "Histogram":
        """Of whole numbers from 0."""
        return cls.of_bins(bins_of(values))

    @classmethod
    def of_bins(cls, counts: Numbers) -> "Histogram":
        """From counts by `bins_of`, empty bins at both ends left out."""
        filled = np.flatnonzero(counts)
        if not len(filled):
            return cls((), ())
        edges = [0, *(2**power for power in range(len(counts)))]
        return cls(tuple(edges[filled[0] : filled[-1] + 2]), tuple(int(n) for n in counts[filled[0] : filled[-1] + 1]))

    def to_json(self) -> dict[str, Json]:
        """As plain JSON."""
        return {"edges": [*self.edges], "counts": [*self.counts]}


def bins_of(values: Numbers) -> Numbers:
    """Counts of 0, of 1, of 2 and 3, of 4 to 7, and so on: [64]."""
    return np.bincount(np.frexp(values.astype(np.float64))[1], minlength=64).astype(np.int64)

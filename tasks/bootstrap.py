"""Bootstrap intervals: how sure a score is at 95 %, drawing whole documents or items with replacement.

n items, R resamples, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tasks.items import Floats, Statistic

COVERAGE = (2.5, 97.5)  # percentiles
CHUNK_CELLS = 2**22  # of the R x n matrix of draws, or of R x C sums, held at a time


@dataclass(frozen=True)
class Estimate:
    """A figure over `n` items with its percentile interval, widened where need be to hold the figure."""

    value: float
    low: float
    high: float
    n: int


def estimate(statistic: Statistic, columns: Floats, resamples: int, seed: int) -> Estimate:
    """The figure that the columns of items make, [n, C]: see `tasks.items.ItemFigures`. Items are drawn whole."""
    added = summands(statistic, columns)
    value = figure_of_sums(statistic, added.sum(axis=0, keepdims=True))[0]
    drawn = np.concatenate([figure_of_sums(statistic, sums) for sums in resampled_sums(added, resamples, seed)])
    low, high = np.nanpercentile(drawn, COVERAGE) if np.isfinite(drawn).any() else (value, value)
    return Estimate(float(value), min(float(low), float(value)), max(float(high), float(value)), len(columns))


def _correlation(totals: Floats) -> Floats:
    """Sums of 1, x, y, xx, yy and xy [R, 6] -> [R]."""
    n, x, y, xx, yy, xy = totals.T
    spread = np.sqrt(np.maximum(n * xx - x * x, 0.0) * np.maximum(n * yy - y * y, 0.0))
    return np.divide(n * xy - x * y, spread, out=np.zeros_like(spread), where=spread > 1e-12)


def _mean_f1(hits: Floats, predicted: Floats, actual: Floats) -> Floats:
    """[R, K] each -> [R]; F1 = 2 hits / (predicted + actual)."""
    occurring = predicted + actual
    f1 = np.divide(2 * hits, occurring, out=np.zeros_like(hits), where=occurring > 0)
    return f1.sum(axis=1) / np.maximum((occurring > 0).sum(axis=1), 1)


def summands(statistic: Statistic, columns: Floats) -> Floats:
    """What of each item is summed for a figure: [n, C] of `tasks.items.ItemFigures` -> [n, S]."""
    if statistic != "pearson":
        return columns
    x, y = (columns - columns.mean(axis=0)).T  # the same correlation, smaller sums
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def figure_of_sums(statistic: Statistic, sums: Floats) -> Floats:
    """The figure that sums of `summands` make: [R, S] -> [R].

    ratio: a mean where each second number is 1; 0 to 0 is 1, for nothing was to be found, and nothing was. macro_f1: of the classes that
    occur. pearson: 0 where one of the two does not vary.
    """
    match statistic:
        case "ratio":
            above, below = sums.T
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.where((above == 0) & (below == 0), 1.0, above / below)
        case "macro_f1":
            hits, predicted, actual = np.split(sums, 3, axis=1)
            return _mean_f1(hits, predicted, actual)
        case "pearson":
            return _correlation(sums)


def resampled_sums(values: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Column sums of `resamples` draws of n rows with replacement, some draws at a time: [n, C] -> [r, C], R in all."""
    n = len(values)
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK_CELLS // max(values.shape))
    for start in range(0, resamples, step):
        drawn = generator.integers(0, n, size=(min(step, resamples - start), n))
        rows = np.arange(len(drawn))[:, None] * n
        counts = np.bincount((drawn + rows).ravel(), minlength=len(drawn) * n).reshape(len(drawn), n)
        yield counts.astype(np.float64) @ values

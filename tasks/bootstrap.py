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
    """The figure that the columns of items make, [n, C]: see `tasks.items.ItemFigures`."""
    match statistic:
        case "ratio":
            return ratio(columns[:, 0], columns[:, 1], resamples, seed)
        case "pearson":
            return pearson(columns[:, 0], columns[:, 1], resamples, seed)
        case "macro_f1":
            hits, predicted, actual = np.split(columns, 3, axis=1)
            return macro_f1(hits, predicted, actual, resamples, seed)


def ratio(numerators: Floats, denominators: Floats, resamples: int, seed: int) -> Estimate:
    """sum(numerators) / sum(denominators), each [n]: a mean when the denominators are 1. Items are drawn as pairs.

    1 where both sums are 0: an F1 of answers in which nothing was to be found, and nothing was.
    """
    if not (numerators.any() or denominators.any()):
        return Estimate(1.0, 1.0, 1.0, len(numerators))
    totals = _resampled_totals(np.stack([numerators, denominators], axis=1), resamples, seed)  # (R, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = totals[:, 0] / totals[:, 1]
    return _estimate(float(numerators.sum() / denominators.sum()), drawn, len(numerators))


def macro_f1(hits: Floats, predicted: Floats, actual: Floats, resamples: int, seed: int) -> Estimate:
    """Mean F1 over the classes, from each item's counts per class: [n, K]. Classes that do not occur do not count."""
    classes = hits.shape[1]
    totals = _resampled_totals(np.concatenate([hits, predicted, actual], axis=1), resamples, seed)  # (R, 3K)
    drawn = _mean_f1(totals[:, :classes], totals[:, classes : 2 * classes], totals[:, 2 * classes :])
    value = _mean_f1(hits.sum(0)[None], predicted.sum(0)[None], actual.sum(0)[None])
    return _estimate(float(value[0]), drawn, len(hits))


def pearson(found: Floats, wanted: Floats, resamples: int, seed: int) -> Estimate:
    """Pearson's correlation of two figures of each item, [n] each; 0 where one of them does not vary."""
    x, y = found - found.mean(), wanted - wanted.mean()  # the same correlation, smaller sums
    columns = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    totals = _resampled_totals(columns, resamples, seed)  # (R, 6)
    return _estimate(float(_correlation(columns.sum(0)[None])[0]), _correlation(totals), len(found))


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
    """The figure that sums of `summands` make: [R, S] -> [R]. A ratio of 0 to 0 is 1: nothing was to be found, and nothing was."""
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


def _resampled_totals(values: Floats, resamples: int, seed: int) -> Floats:
    return np.concatenate(list(resampled_sums(values, resamples, seed)))


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


def _estimate(value: float, drawn: Floats, n: int) -> Estimate:
    low, high = np.nanpercentile(drawn, COVERAGE) if np.isfinite(drawn).any() else (value, value)
    return Estimate(value, min(float(low), value), max(float(high), value), n)

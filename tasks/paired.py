"""Paired bootstrap: how surely one model is better than another on the same items, drawing whole documents or groups.

N items, G clusters of them, C columns of a figure, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.bootstrap import figure_of_sums, resampled_sums, summands
from tasks.items import Floats, ItemFigures

SHOWING = 50  # draws beyond a percentile for it to be read off; farther out, the tail is computed


@dataclass(frozen=True)
class Difference:
    """One figure of two models; `gain` is positive where the first is better, whatever the figure."""

    challenger: float
    rival: float
    gain: float
    low: float  # one-sided: the gain is less only with the chance `level`
    high: float
    p: float  # of such a gain or more, were the challenger no better than the margin; never 0
    items: int
    clusters: int
    method: str


def value_of(figures: ItemFigures) -> float:
    """The figure over all its items."""
    sums = summands(figures.statistic, figures.columns).sum(axis=0, keepdims=True)
    return float(figure_of_sums(figures.statistic, sums)[0])


def compare(
    challenger: ItemFigures,
    rival: ItemFigures,
    clusters: Sequence[str],
    *,
    lower_is_better: bool,
    margin: float,
    level: float,
    resamples: int,
    seed: int,
) -> Difference:
    """The difference of a figure over the same items, whose `clusters` are drawn whole, the same for both models.

    By an exact McNemar test where items are right or wrong, no two share a cluster and the margin is 0; else by bootstrap.
    """
    assert challenger.items == rival.items, "two models are compared on the same items"
    assert challenger.statistic == rival.statistic, f"{challenger.statistic} against {rival.statistic}"
    sign = -1.0 if lower_is_better else 1.0
    groups, owners = np.unique(np.asarray(clusters), return_inverse=True)
    is_alone = len(groups) == len(challenger.items)
    if margin == 0 and is_alone and _is_right_or_wrong(challenger) and _is_right_or_wrong(rival):
        return _mcnemar(challenger, rival, sign, level)
    parts = [_sums_of_groups(one, owners, len(groups)) for one in (challenger, rival)]
    first, second = value_of(challenger), value_of(rival)
    width = parts[0].shape[1]
    drawn = np.concatenate(
        [
            sign * (figure_of_sums(challenger.statistic, sums[:, :width]) - figure_of_sums(rival.statistic, sums[:, width:]))
            for sums in resampled_sums(np.concatenate(parts, axis=1), resamples, seed)
        ]
    )
    unlike = len(groups) if parts[0].shape != parts[1].shape else int((parts[0] != parts[1]).any(axis=1).sum())
    tails = Tails(sign * (first - second), drawn, len(groups), unlike)
    what = f"{len(groups):,} items" if is_alone else f"{len(groups):,} groups of {len(owners):,} items"
    low, high = tails.low(level), tails.high(level)
    method = f"paired bootstrap, {resamples:,} draws of {what}"
    return Difference(first, second, tails.gain, low, high, tails.p(margin), len(owners), len(groups), method)


def _sums_of_groups(figures: ItemFigures, owners: NDArray[np.int64], groups: int) -> Floats:
    """What each group of items adds: [G, S]."""
    added = summands(figures.statistic, figures.columns)
    sums = np.zeros((groups, added.shape[1]))
    np.add.at(sums, owners, added)
    return sums


@dataclass(frozen=True)
class Tails:
    """What R draws say of a gain: how far from it the truth may lie, with a given chance of error on either side.

    Of two answers the more careful one holds:
    - percentiles of the draws, expanded for few clusters: the share Phi(-sqrt(G/(G-1)) t) in place of the level of t with G-1
      degrees of freedom (Hesterberg, arXiv 1411.5279, section 3.4), where SHOWING draws or more lie beyond;
    - t of the draws' standard error, by sqrt(G/(G-1)) wider, and the same with their skewness taken out by Hall's cubic
      (Journal of the Royal Statistical Society B 54, 1992), which reaches as far into the tail as any level asks.
    A p is never below a half to the power of the clusters that tell the models apart, which is the least of any sign test.
    """

    gain: float
    drawn: Floats  # [R]
    clusters: int
    unlike: int  # clusters in which the models differ

    @property
    def _widening(self) -> float:
        return math.sqrt(self.clusters / (self.clusters - 1))

    @property
    def _skewness(self) -> float:
        from scipy import stats

        return float(stats.skew(self.drawn))

    @property
    def _error(self) -> float:
        """Standard error; 0 where there is none to be had."""
        found = float(np.std(self.drawn)) if self.clusters > 1 else 0.0
        return found * self._widening if found > 1e-12 * max(1.0, abs(self.gain)) else 0.0

    def p(self, margin: float) -> float:
        """Of a gain as large as the one found, were the true one `margin`."""
        from scipy import stats

        if self.clusters < 2:
            return 1.0
        least = max(0.5**self.unlike, float(np.finfo(np.float64).tiny))
        if self._error == 0:
            return least if self.gain > margin else 1.0
        t = (self.gain - margin) / self._error
        tail = float(stats.t.sf(min(t, _without_skewness(t, self._skewness)), self.clusters - 1))
        count = int((self.drawn <= margin).sum())
        percentile = 0.0
        if count >= SHOWING:
            z = float(stats.norm.isf((count + 1) / (len(self.drawn) + 1)))
            percentile = float(stats.t.sf(z / self._widening, self.clusters - 1))
        return max(least, tail, percentile)

    def low(self, level: float) -> float:
        """Below which the true gain lies with the chance `level` at most."""
        return self._bound(level, 1.0)

    def high(self, level: float) -> float:
        """Above which it lies with that chance at most."""
        return -self._bound(level, -1.0)

    def _bound(self, level: float, sign: float) -> float:
        """The lower bound of `sign` times the gain."""
        from scipy import stats

        gain, skewness = sign * self.gain, sign * self._skewness if self._error else 0.0
        if self._error == 0:
            return gain
        t = float(stats.t.isf(level, self.clusters - 1))
        far = max(t, _with_skewness(t, skewness))
        share = max(float(stats.norm.sf(self._widening * t)), SHOWING / len(self.drawn))
        return min(gain - far * self._error, float(np.quantile(sign * self.drawn, share)))


def _without_skewness(t: float, skewness: float) -> float:
    """Hall's cubic of a t statistic, from the skewness of the estimate that it is of."""
    return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6


def _with_skewness(t: float, skewness: float) -> float:
    """The statistic of which `_without_skewness` makes `t`."""
    if abs(skewness) < 1e-9:
        return t
    return 3 / skewness * (float(np.cbrt(1 + skewness * (t - skewness / 6))) - 1)


def _is_right_or_wrong(figures: ItemFigures) -> bool:
    if figures.statistic != "ratio":
        return False
    above, below = figures.columns.T
    return bool(np.isin(above, (0, 1)).all() and (below == 1).all())


def _mcnemar(challenger: ItemFigures, rival: ItemFigures, sign: float, level: float) -> Difference:
    """The binomial test of the items on which one is right and the other wrong. Source: McNemar, Psychometrika 12, 1947.

    Bounds are those of Clopper and Pearson for the challenger's share of them.
    """
    from scipy import stats

    gains: NDArray[np.float64] = sign * (challenger.columns[:, 0] - rival.columns[:, 0])
    n, won, lost = len(gains), int((gains > 0).sum()), int((gains < 0).sum())
    unlike = won + lost
    least = float(stats.beta.ppf(level, won, lost + 1)) if won else 0.0
    most = float(stats.beta.isf(level, won + 1, lost)) if lost else 1.0
    p = float(stats.binom.sf(won - 1, unlike, 0.5)) if unlike else 1.0
    low, high = (unlike / n * (2 * share - 1) for share in (least, most))
    method = f"exact McNemar, {unlike:,} of {n:,} items differ"
    return Difference(value_of(challenger), value_of(rival), (won - lost) / n, low, high, p, n, n, method)

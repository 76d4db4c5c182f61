"""Scaling law of loss against compute: fitted to a few small trainings, and what it says of a larger one, with an interval.

L(C) = E + A * C^-alpha: Kaplan et al. (arXiv 2001.08361) with E = 0, Hoffmann et al. (arXiv 2203.15556) with an E of its own. Three or
four points do not tell E from alpha, so none is chosen: every pair of a grid counts by how well it fits and by how likely it was before,
and the interval is of all of them together, with the scatter that trainings have. An E below 0 is no loss that could be reached: it
describes the first hundreds of steps, where loss falls about evenly with the logarithm of compute.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.9  # of the interval
FLOORS = np.linspace(-0.5, 0.8, 40)  # E over the lowest loss seen, all equally likely before
EXPONENTS = np.geomspace(0.02, 1.5, 60)  # alpha, equally likely on a logarithmic scale
SCATTER = 0.014  # of a small training's loss, relative: rungs of the demo differ by 0.7 to 2.0 % from seed to seed (docs/results.md)
SCATTER_WEIGHT = 4.0  # trainings that this counts as
QUANTILES = 1001  # points at which the predicted loss is looked at

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A training: what it cost and where it came to."""

    flops: float
    loss: float  # nats per target


@dataclass(frozen=True)
class LossLaw:
    """What the fit says of a training of `flops`, and the single law that fits best, to be drawn."""

    flops: float
    loss: float  # the median
    low: float  # of the interval of LEVEL
    high: float
    floor: float  # E
    scale: float  # A, of flops in units of `unit`
    exponent: float  # alpha
    unit: float

    def at(self, flops: float) -> float:
        """The loss on the drawn law."""
        return self.floor + self.scale * (flops / self.unit) ** -self.exponent


def fit_law(points: Sequence[Point], flops: float) -> LossLaw:
    """Raises ValueError for fewer than three points, equal ones, and losses that are no numbers above 0 or do not fall."""
    costs, losses = np.array([one.flops for one in points]), np.array([one.loss for one in points])
    check_points(costs, losses)
    unit = float(costs.max())
    floors, exponents = (grid.ravel() for grid in np.meshgrid(FLOORS * losses.min(), EXPONENTS, indexing="ij"))
    seen = (costs[:, None] / unit) ** -exponents  # one column a pair of the grid
    squares = (seen**2).sum(0)
    scales = (seen * (losses[:, None] - floors)).sum(0) / squares
    rest = ((losses[:, None] - floors - scales * seen) ** 2).sum(0)
    freedom = SCATTER_WEIGHT + len(points) - 1
    spread = SCATTER_WEIGHT * (SCATTER * losses.min()) ** 2 + rest
    logs = -freedom / 2 * np.log(spread) - np.log(squares) / 2
    weights = np.where(scales > 0, np.exp(logs - logs.max()), 0.0)
    ahead = (flops / unit) ** -exponents
    middles = floors + scales * ahead
    widths = np.sqrt(spread / freedom * (1 + ahead**2 / squares))
    low, median, high = mixture_quantiles(weights, middles, widths, freedom, ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2))
    best = int(weights.argmax())
    return LossLaw(flops, median, low, high, float(floors[best]), float(scales[best]), float(exponents[best]), unit)


def check_points(costs: Numbers, losses: Numbers) -> None:
    """ValueError where no law can be told from them."""
    if len(costs) < 3 or len(set(costs.tolist())) < len(costs):
        raise ValueError(f"{len(costs)} trainings of {len(set(costs.tolist()))} costs; expected at least 3, each of another cost")
    if not (np.isfinite(losses).all() and (losses > 0).all()):
        raise ValueError(f"losses {', '.join(f'{loss:.4g}' for loss in losses)}: expected numbers above 0")
    ranked = losses[np.argsort(costs)]
    if ranked[-1] >= ranked[0]:
        raise ValueError(f"the loss does not fall with compute: {', '.join(f'{loss:.4g}' for loss in ranked)}")


def mixture_quantiles(weights: Numbers, middles: Numbers, widths: Numbers, freedom: float, shares: Sequence[float]) -> tuple[float, ...]:
    """Quantiles of a mixture of Student's t distributions, by its density on a grid of values."""
    kept = weights > 1e-5 * weights.max()
    weights, middles, widths = weights[kept], middles[kept], widths[kept]
    values = np.linspace(max(0.0, float((middles - 8 * widths).min())), float((middles + 8 * widths).max()), QUANTILES)
    density = np.zeros_like(values)
    for weight, middle, width in zip(weights, middles, widths, strict=True):
        density += weight / width * (1 + ((values - middle) / width) ** 2 / freedom) ** (-(freedom + 1) / 2)
    below = np.cumsum(density)
    return tuple(float(np.interp(share, below / below[-1], values)) for share in shares)

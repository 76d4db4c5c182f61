"""Estimate: seconds that something will take, with the bounds between which they most likely lie, and what they are told from.

Bounds are factors: half and twice as long are equally far away. They come from the spread of earlier runs, else they are stated here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, median, stdev

SPREAD_OF_ONE = 1.35  # factor to either side that is taken for a single earlier run: nothing is known of its spread
LEAST_SPREAD = 1.1  # of several that were equal by chance: machines are not that even
QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)  # Student's t, 95 % on both sides, of 1 to 9 degrees of freedom


@dataclass(frozen=True)
class Estimate:
    """Seconds between `low` and `high`."""

    seconds: float
    low: float
    high: float
    told: str  # from what

    def widened(self, factor: float) -> "Estimate":
        """Less sure: each bound by this factor, 1 or more, farther away."""
        return replace(self, low=self.low / factor, high=self.high * factor)

    def plus(self, other: "Estimate") -> "Estimate":
        """One behind the other; told as this one is."""
        return replace(self, seconds=self.seconds + other.seconds, low=self.low + other.low, high=self.high + other.high)


def around(seconds: float, factor: float, told: str) -> Estimate:
    """With bounds at `factor` to either side."""
    return Estimate(seconds, seconds / factor, seconds * factor, told)


def from_runs(seconds: Sequence[float], told: str) -> Estimate:
    """From what earlier runs took, one or more: within 95 % of what a further one takes if logarithms spread normally.

    The bounds go no farther beyond the runs themselves than those of a single run do: two or three say little of how they spread.
    """
    if len(seconds) == 1 or min(seconds) <= 0:
        return around(median(seconds), SPREAD_OF_ONE, told)
    logs = [math.log(one) for one in seconds]
    at = math.exp(mean(logs)) if len(logs) == 2 else median(seconds)
    quantile = QUANTILES[min(len(logs) - 1, len(QUANTILES)) - 1]
    spread = max(LEAST_SPREAD, math.exp(min(5.0, quantile * stdev(logs) * math.sqrt(1 + 1 / len(logs)))))
    low, high = max(at / spread, min(seconds) / SPREAD_OF_ONE), min(at * spread, max(seconds) * SPREAD_OF_ONE)
    return Estimate(at, low, high, told)


def runs(count: int, of: str = "") -> str:
    """`3 earlier runs`, `1 run of another size`."""
    if of:
        return f"{count} {'run' if count == 1 else 'runs'} {of}"
    return f"{count} earlier {'run' if count == 1 else 'runs'}"

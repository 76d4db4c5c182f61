"""Loss spikes: single steps of a training whose loss stands far above what was usual just before."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from model.training.curve import CurvePoint

NEAR = 12  # points before, whose median is the usual
BEFORE = 32  # points before, at most, that say how far from the usual a point may lie
FIRST_POINTS = 24  # of a run, never a spike: too few before them to say what is usual
DEVIATIONS = 10.0  # above the usual; the worst step of a window has a longer tail than a single one, see `find_spikes`
LEAST_NATS = 0.1  # above the usual, however smooth the curve is
NORMAL = 1.4826  # standard deviation of normal noise over the median of its absolute deviations
MOST = 5  # spikes told


@dataclass(frozen=True)
class Spike:
    """One step whose batch was learned with a loss far above the usual."""

    step: int  # optimizer step, counted from 1 as in the curve
    loss: float  # of this step, nats per target
    usual: float  # median of the worst losses of the points just before

    @property
    def excess(self) -> float:
        """Nats above the usual."""
        return self.loss - self.usual


def find_spikes(points: Sequence[CurvePoint]) -> tuple[Spike, ...]:
    """The largest spikes of a curve, largest first; `points` in order, as `read_curve` gives them.

    A point's worst loss is the largest of a single step since the point before. It is held against worst losses, like
    against like: the usual is the median of the 12 points before it, and a spike exceeds that by 0.1 nats and by more
    than ten robust standard deviations (1.4826 times the median absolute deviation) of what the up to 32 points before
    exceeded theirs by. So a loss that falls, or drifts, is no spike. Neighbouring points above the bound are one spike,
    told by its worst step. Measured: none in 1,000 curves of 500 points, each the worst of 10 steps with normal noise.
    """
    points = [point for point in points if point.worst_step]
    losses = [point.worst_loss for point in points]
    usual = [median(losses[max(0, at - NEAR) : at] or losses[:1]) for at in range(len(losses))]
    excess = [loss - middle for loss, middle in zip(losses, usual, strict=True)]
    found: list[Spike] = []
    was_above = False
    for at in range(FIRST_POINTS, len(losses)):
        is_above = excess[at] > _bound(excess[max(NEAR, at - BEFORE) : at])
        spike = Spike(points[at].worst_step, losses[at], usual[at])
        if is_above and not was_above:
            found.append(spike)
        elif is_above and spike.loss > found[-1].loss:
            found[-1] = spike
        was_above = is_above
    return tuple(sorted(found, key=lambda spike: (-spike.excess, spike.step))[:MOST])


def _bound(before: Sequence[float]) -> float:
    """Nats above the usual from which on a step is a spike."""
    middle = median(before)
    spread = NORMAL * median(abs(excess - middle) for excess in before)
    return max(DEVIATIONS * spread, LEAST_NATS)

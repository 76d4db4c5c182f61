"""Data mixtures: which group each sample of a run comes from, in closed form, never off by a whole sample.

The samples of a run are numbered g = 0, 1, 2, … A phase of a mixture has whole-number weights a_j that add up to a cycle of
M samples. Within a cycle the groups take turns by Tijdeman's rule for the chairman assignment problem (Discrete
Mathematics 32, 1980), so that after any number of samples each group has had its share to within less than one sample.
At the end of a cycle every share is exact, so a count needs the whole cycles and one look into a table, whatever g is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from model.config.training_config import MixturePhase

MOST_CYCLE = 10_000  # samples

Samples = NDArray[np.int64]


@dataclass(frozen=True)
class _Cycle:
    """One phase: from sample `begin` on, cycles of len(turns) samples."""

    begin: int
    before: tuple[int, ...]  # samples of each group before `begin`
    ideal_before: tuple[Fraction, ...]
    turns: NDArray[np.int64]  # group of each sample of a cycle: [M]
    counts: NDArray[np.int64]  # of each group among the first m of a cycle: [M + 1, groups]
    positions: tuple[NDArray[np.int64], ...]  # of each group: where its samples stand in a cycle


class Mixture:
    """Weights by step, made a sequence of samples. A phase begins with the first whole cycle at or after its step."""

    def __init__(self, groups: Sequence[str], phases: Sequence[MixturePhase], batch_rows: int) -> None:
        """Raises ValueError for groups that are not there, phases out of order, and weights that give too long a cycle."""
        self.groups = tuple(groups)
        self._cycles: list[_Cycle] = []
        for phase in phases:
            self._add(phase, batch_rows)

    def _add(self, phase: MixturePhase, batch_rows: int) -> None:
        weights = whole_weights(self.groups, phase)
        turns = take_turns(weights)
        counts = np.zeros((len(turns) + 1, len(weights)), np.int64)
        np.cumsum(turns[:, None] == np.arange(len(weights)), axis=0, out=counts[1:])
        begin, before, ideal = 0, (0,) * len(weights), (Fraction(0),) * len(weights)
        if self._cycles:
            last = self._cycles[-1]
            whole = -(-max(0, phase.from_step * batch_rows - last.begin) // len(last.turns))
            begin = last.begin + whole * len(last.turns)
            before = tuple(self.counts(begin).tolist())
            ideal = self.ideal(begin)
        positions = tuple(np.flatnonzero(turns == group) for group in range(len(weights)))
        self._cycles.append(_Cycle(begin, before, ideal, turns, counts, positions))

    def draw(self, samples: Samples) -> tuple[NDArray[np.int64], Samples]:
        """For each of `samples` [n] (ascending): its group, and how many samples of that group came before it."""
        groups, ordinals = np.empty_like(samples), np.empty_like(samples)
        for cycle, end in self._spans():
            here = (samples >= cycle.begin) & (samples < end)
            if here.any():
                whole, at = np.divmod(samples[here] - cycle.begin, len(cycle.turns))
                group = cycle.turns[at]
                groups[here] = group
                ordinals[here] = np.array(cycle.before)[group] + whole * cycle.counts[-1][group] + cycle.counts[at, group]
        return groups, ordinals

    def counts(self, samples: int) -> NDArray[np.int64]:
        """How many of the first `samples` samples come from each group: [groups]."""
        cycle = self._cycle_at(samples)
        whole, at = divmod(samples - cycle.begin, len(cycle.turns))
        return np.array(cycle.before) + whole * cycle.counts[-1] + cycle.counts[at]

    def ideal(self, samples: int) -> tuple[Fraction, ...]:
        """What the weights ask of each group among the first `samples` samples, exactly; `counts` is within one of it."""
        cycle = self._cycle_at(samples)
        done = samples - cycle.begin
        shares = (Fraction(int(count), len(cycle.turns)) for count in cycle.counts[-1])
        return tuple(before + done * share for before, share in zip(cycle.ideal_before, shares, strict=True))

    def sample_of(self, group: int, ordinal: int) -> int | None:
        """The sample that is number `ordinal` (from 0) of `group`; None when there is never so many."""
        for cycle, end in self._spans():
            in_cycle = len(cycle.positions[group])
            if ordinal < cycle.before[group] or not in_cycle:
                continue
            whole, at = divmod(ordinal - cycle.before[group], in_cycle)
            sample = cycle.begin + whole * len(cycle.turns) + int(cycle.positions[group][at])
            if sample < end:
                return sample
        return None

    def _cycle_at(self, samples: int) -> _Cycle:
        return next(cycle for cycle in reversed(self._cycles) if cycle.begin <= samples)

    def _spans(self) -> list[tuple[_Cycle, float]]:
        ends = [*(float(cycle.begin) for cycle in self._cycles[1:]), float("inf")]
        return list(zip(self._cycles, ends, strict=True))


def whole_weights(groups: Sequence[str], phase: MixturePhase) -> list[int]:
    """The weights in the smallest whole numbers, in the order of `groups`; a group that is not named gets none.

    Raises ValueError for a name that is no group, and for weights whose whole numbers add up to more than MOST_CYCLE.
    """
    unknown = sorted(set(phase.weights) - set(groups))
    if unknown:
        raise ValueError(f"mixture: the shards have no group {unknown[0]!r}; their groups: {', '.join(sorted(groups))}")
    fractions = [Fraction(str(phase.weights.get(group, 0))) for group in groups]
    scale = lcm(*(weight.denominator for weight in fractions))
    whole = [int(weight * scale) for weight in fractions]
    smallest = [weight // gcd(*whole) for weight in whole]
    if sum(smallest) > MOST_CYCLE:
        given = ", ".join(f"{group} {phase.weights.get(group, 0):g}" for group in groups)
        raise ValueError(
            f"mixture: the weights {given} repeat only after {sum(smallest):,} samples, at most {MOST_CYCLE:,} fit; "
            "round them to three digits"
        )
    return smallest


def take_turns(weights: Sequence[int]) -> NDArray[np.int64]:
    """Group of each of sum(weights) samples, such that the first m hold m * share of each group to within less than one.

    Tijdeman's rule: of the groups that are owed 1 / (2k - 2) of a sample or more, that one is next whose debt would
    first reach 1 - 1 / (2k - 2); k is the number of groups with a weight.
    """
    cycle, taking = sum(weights), [group for group, weight in enumerate(weights) if weight]
    if len(taking) == 1:
        return np.full(cycle, taking[0], np.int64)
    slack = 2 * len(taking) - 2  # all debts below are counted in units of 1 / (cycle * slack) samples
    taken = dict.fromkeys(taking, 0)
    turns = np.empty(cycle, np.int64)
    for sample in range(cycle):
        debts = {group: slack * (weights[group] * (sample + 1) - cycle * taken[group]) for group in taking}
        due = [group for group in taking if debts[group] >= cycle]
        # steps until the debt passes the bound, as a fraction with the weight below the line
        chosen = min(due, key=lambda group: (Fraction(cycle * (slack - 1) - debts[group], weights[group]), group))
        taken[chosen] += 1
        turns[sample] = chosen
    return turns

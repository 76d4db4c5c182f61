"""Which steps of a curve stand far above what was usual."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.training.curve import CurvePoint
from tasks.pretrain.spikes import FIRST_POINTS, LEAST_NATS, MOST, find_spikes
from tests.curve_points import point

POINTS, EVERY = 120, 10  # of a curve, and steps of each


def curve(seed: int, noise: float = 0.05, spikes: dict[int, float] | None = None) -> list[CurvePoint]:
    """A falling loss with normal noise, the worst of each ten steps told; `spikes` add nats at a step."""
    source, points = random.Random(seed), list[CurvePoint]()
    for first in range(0, POINTS * EVERY, EVERY):
        losses = {
            step: 2.5 + 5 * math.exp(-6 * step / (POINTS * EVERY)) + source.gauss(0, noise) + (spikes or {}).get(step, 0.0)
            for step in range(first + 1, first + EVERY + 1)
        }
        worst = max(losses, key=lambda step: losses[step])
        mean = sum(losses.values()) / EVERY
        points.append(point(first + EVERY, mean, worst=(worst, losses[worst])))
    return points


def test_spike_is_found_at_the_step_whose_batch_it_was() -> None:
    (spike,) = find_spikes(curve(1, spikes={777: 3.0}))
    assert spike.step == 777
    assert 2.0 < spike.excess <= 3.2


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32), st.floats(0, 0.5))
def test_a_falling_loss_with_noise_has_no_spike(seed: int, noise: float) -> None:
    assert find_spikes(curve(seed, noise)) == ()


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(FIRST_POINTS * EVERY, POINTS * EVERY - 1))
def test_a_spike_of_sixty_times_the_noise_is_found_wherever_it_is(seed: int, step: int) -> None:
    late = max(step, POINTS * EVERY // 2)  # where the loss itself no longer falls far
    assert [spike.step for spike in find_spikes(curve(seed, spikes={late: 3.0}))] == [late]


def test_a_high_loss_at_the_start_of_a_run_is_no_spike() -> None:
    assert find_spikes(curve(1, spikes={EVERY * 3: 9.0})) == ()
    assert find_spikes(curve(1)[: FIRST_POINTS - 1]) == ()


def test_neighbouring_points_are_one_spike_told_by_its_worst_step() -> None:
    assert [spike.step for spike in find_spikes(curve(1, spikes={801: 2.0, 813: 4.0, 826: 3.0}))] == [813]


def test_the_largest_come_first_and_no_more_than_five() -> None:
    spikes = {500 + 100 * at: 2.0 + 0.5 * at for at in range(7)}
    found = find_spikes(curve(1, spikes=spikes))
    assert [spike.step for spike in found] == sorted(spikes, reverse=True)[:MOST]


@pytest.mark.parametrize(("above", "steps"), [(0.9 * LEAST_NATS, []), (1.1 * LEAST_NATS, [300])])
def test_a_flat_curve_needs_a_tenth_of_a_nat(above: float, steps: list[int]) -> None:
    points: list[CurvePoint] = [point(step, worst=(step, 2.0 + above * (step == 300))) for step in range(1, 400)]
    assert [spike.step for spike in find_spikes(points)] == steps


def test_points_without_a_worst_step_are_passed_over() -> None:
    points = [point(1), point(2)]
    assert find_spikes([*points, *curve(1, spikes={777: 3.0})])[0].step == 777

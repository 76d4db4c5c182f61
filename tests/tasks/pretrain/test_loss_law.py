"""The law of loss against compute: what a fit to few points says of a larger training, and how often it is right."""

import numpy as np
import pytest

from tasks.pretrain.loss_law import LEVEL, Point, fit_law

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
LAWS = ((0.0, 3.5, 0.12), (1.0, 2.6, 0.2), (1.7, 1.5, 0.3))  # E, A, alpha: losses of 3.5, 3.6 and 3.2 at a compute of 1


def points_of(law: tuple[float, float, float], noise: np.ndarray | float = 0.0) -> list[Point]:
    floor, scale, exponent = law
    shares = np.array(SHARES)
    losses = (floor + scale * shares**-exponent) * (1 + noise)
    return [Point(float(flops), float(loss)) for flops, loss in zip(shares, losses, strict=True)]


@pytest.mark.parametrize("law", LAWS)
def test_fit_to_points_of_a_law_predicts_what_the_law_says(law: tuple[float, float, float]) -> None:
    found = fit_law(points_of(law), 1.0)
    truth = law[0] + law[1]
    assert found.low < truth < found.high
    assert found.loss == pytest.approx(truth, rel=0.04)
    assert [found.at(one.flops) for one in points_of(law)] == pytest.approx([one.loss for one in points_of(law)], rel=0.005)


def test_interval_is_right_as_often_as_it_says() -> None:
    """Laws drawn anew, with the scatter that trainings have."""
    source = np.random.default_rng(1)
    hits, tries = 0, 60
    for _ in range(tries):
        floor, exponent = source.uniform(0, 2.2), source.uniform(0.08, 0.35)
        law = (floor, 3.5 - floor, exponent)
        found = fit_law(points_of(law, source.normal(0, 0.014, len(SHARES))), 1.0)
        hits += found.low <= 3.5 * (1 + source.normal(0, 0.014)) <= found.high
    assert hits >= (LEVEL - 0.1) * tries


def test_interval_grows_with_the_distance_to_the_whole_run() -> None:
    near, far = (fit_law(points_of(LAWS[1]), flops) for flops in (1.0, 64.0))
    assert far.high - far.low > 1.5 * (near.high - near.low)


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([Point(1, 3), Point(2, 2.9)], "expected at least 3"),
        ([Point(1, 3), Point(2, 2.9), Point(2, 2.8)], "each of another cost"),
        ([Point(1, 3), Point(2, 2.9), Point(4, 3.1)], "does not fall with compute: 3, 2.9, 3.1"),
        ([Point(1, 3), Point(2, 2.9), Point(4, float("nan"))], "expected numbers above 0"),
    ],
)
def test_points_that_follow_no_law_are_refused(points: list[Point], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        fit_law(points, 8)

"""Bounds of estimates."""

import pytest

from tasks.planning.estimate import SPREAD_OF_ONE, Estimate, from_runs


def test_single_run_has_the_stated_bounds() -> None:
    assert from_runs([60.0], "1 earlier run") == Estimate(60.0, 60 / SPREAD_OF_ONE, 60 * SPREAD_OF_ONE, "1 earlier run")


def test_even_runs_have_near_bounds_and_uneven_ones_far_bounds() -> None:
    even, uneven = from_runs([60, 61, 60, 59], ""), from_runs([60, 120, 30, 61], "")
    assert even.seconds == pytest.approx(60)
    assert 54 < even.low < even.high < 67
    assert (uneven.low, uneven.high) == (pytest.approx(30 / SPREAD_OF_ONE), pytest.approx(120 * SPREAD_OF_ONE))


def test_median_counts_and_not_the_one_that_stands_out() -> None:
    assert from_runs([10, 11, 500], "").seconds == 11

"""What restarts of a training cost, by its curve and its events."""

from dataclasses import replace

import pytest

from model.training.curve import CurvePoint
from model.training.events import Event
from tasks.lineage.training_cost import by_process, restarts_of, seconds_behind, trained_seconds
from tests.left_trainings import curve_to

FIRST = curve_to(50)  # ten steps a second
SECOND = [replace(one, seconds=one.seconds - 2.5) for one in curve_to(60)[3:]]  # began anew after step 30


@pytest.fixture
def points() -> list[CurvePoint]:
    return [*FIRST, *SECOND]


def started(step: int, seconds: float = 0.5) -> Event:
    return Event("started", step, f"goes on from step {step}", seconds=seconds, processes=2)


def test_points_are_parted_by_process(points: list[CurvePoint]) -> None:
    assert by_process(points) == [FIRST, SECOND]
    assert by_process([]) == []
    assert trained_seconds(points) == 5.0 + 3.5


def test_time_behind_a_step_is_of_the_process_that_trained_last(points: list[CurvePoint]) -> None:
    assert [seconds_behind(points, step) for step in (40, 30, 60)] == [2.0, 3.5, 0.0]
    assert seconds_behind([], 3) == 0.0


def test_restart_lost_what_the_process_before_it_had_done_behind_its_checkpoint(points: list[CurvePoint]) -> None:
    (restart,) = restarts_of(points, [started(0), Event("saved", 30, "30"), started(30)])
    assert (restart.step, restart.processes, restart.seconds) == (30, 2, 0.5)
    assert (restart.lost_steps, restart.lost_seconds) == (20, 2.0)


def test_restart_after_an_orderly_stop_lost_nothing(points: list[CurvePoint]) -> None:
    (restart,) = restarts_of([*FIRST, replace(SECOND[-1], seconds=1.0)], [started(0), started(50)])
    assert (restart.lost_steps, restart.lost_seconds) == (0, 0.0)


def test_what_was_lost_is_not_guessed_where_a_process_left_no_point(points: list[CurvePoint]) -> None:
    found = restarts_of(points, [started(0), started(0), started(30)])
    assert [(one.step, one.lost_steps) for one in found] == [(0, 0), (30, 0)]

"""Batch-size schedules: which batches a step takes, by phases and behind what a run left out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config.model_config import ModelConfig
from model.config.training_config import (
    BatchPhase,
    OptimizerConfig,
    StepBatches,
    TrainingConfig,
    config_to_json,
    settings_digest,
    step_batches,
)
from model.training.batch_steps import ONE, BatchSteps
from model.training.left_out import LeftOut, data_step, data_steps, step_of_data, with_return

phases = st.dictionaries(st.integers(0, 40), st.integers(1, 5), max_size=4).map(
    lambda found: BatchSteps(tuple(StepBatches(step, found[step]) for step in sorted(found)))
)
returns = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=4)


def after(course: list[tuple[int, int]], batches: BatchSteps) -> tuple[LeftOut, ...]:
    """Each: back to this step, after so many more had been done."""
    ranges: tuple[LeftOut, ...] = ()
    for step, more in course:
        ranges = with_return(ranges, step, data_steps(step + more - 1, ranges, batches).stop, batches)
    return ranges


def test_phases_begin_at_their_steps_and_one_batch_a_step_comes_before() -> None:
    batches = BatchSteps((StepBatches(2, 3), StepBatches(4, 1)))
    assert [[*data_steps(step, (), batches)] for step in range(6)] == [[0], [1], [2, 3, 4], [5, 6, 7], [8], [9]]


def test_without_phases_a_step_takes_the_batch_of_its_number() -> None:
    assert [ONE.before(step) for step in range(9)] == [ONE.step_of(batch) for batch in range(9)] == list(range(9))


@given(batches=phases)
def test_every_batch_has_its_step_and_batches_come_in_order(batches: BatchSteps) -> None:
    taken = [(step, batch) for step in range(60) for batch in range(batches.before(step), batches.before(step) + batches.count(step))]
    assert [batch for _, batch in taken] == list(range(len(taken)))
    assert [batches.step_of(batch) for _, batch in taken] == [step for step, _ in taken]


@given(batches=phases, course=returns)
def test_batches_come_once_behind_what_was_left_out_and_lead_back(batches: BatchSteps, course: list[tuple[int, int]]) -> None:
    ranges = after(course, batches)
    taken = [(step, at) for step in range(60) for at in data_steps(step, ranges, batches)]
    places = [at for _, at in taken]
    assert places == sorted(set(places))
    assert [step_of_data(at, ranges, batches) for at in places] == [step for step, _ in taken]
    assert all(step_of_data(at, ranges, batches) is None for at in set(range(places[-1])) - set(places))


@given(batches=phases, course=returns.filter(bool))
def test_what_was_done_since_the_step_gone_back_to_is_left_out(batches: BatchSteps, course: list[tuple[int, int]]) -> None:
    before, now = after(course[:-1], batches), after(course, batches)
    step, more = course[-1]
    spoilt = {at for one in range(step, step + more) for at in data_steps(one, before, batches)}
    assert all(step_of_data(at, now, batches) is None for at in spoilt)
    assert [data_step(one, now, batches) for one in range(step)] == [data_step(one, before, batches) for one in range(step)]


def test_phases_are_counted_in_batches_and_those_that_change_nothing_are_none() -> None:
    found = step_batches([BatchPhase(0, 2048), BatchPhase(200, 8192), BatchPhase(300, 8192), BatchPhase(400, 2048)], 2048)
    assert found == (StepBatches(200, 4), StepBatches(400, 1))


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ([BatchPhase(200, 5000)], "batch_schedule: 5000 tokens from step 200 on are no multiple of batch_tokens 2048.*nearest: 4096, 6144"),
        ([BatchPhase(0, 1000)], "no multiple of batch_tokens 2048.*nearest: 2048$"),
        ([BatchPhase(9, 2048), BatchPhase(9, 4096)], "batch_schedule: from_step goes 9, 9; each phase must begin after the one before"),
    ],
)
def test_schedules_that_mean_nothing_are_refused_with_what_would_do(schedule: list[BatchPhase], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        step_batches(schedule, 2048)


def test_schedule_enters_the_digest_of_the_settings_where_there_is_one() -> None:
    plain = TrainingConfig()
    scheduled = replace(plain, step_batches=(StepBatches(5, 2),))
    digests = {
        settings_digest("LanguageModel", ModelConfig(), 61, one, OptimizerConfig())
        for one in (plain, scheduled, replace(plain, step_batches=(StepBatches(5, 3),)))
    }
    assert len(digests) == 3
    assert "step_batches" in config_to_json(scheduled)
    assert "step_batches" not in config_to_json(plain)

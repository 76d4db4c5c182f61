from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.training.left_out import LEFT_OUT, LeftOut, data_step, read_left_out, step_of_data, with_return, write_left_out

Returns = list[tuple[int, int]]
returns = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=5)


def after(course: Returns) -> tuple[LeftOut, ...]:
    """Each: back to this step, after so many more had been done."""
    ranges: tuple[LeftOut, ...] = ()
    for step, more in course:
        ranges = with_return(ranges, step, data_step(step + more - 1, ranges) + 1)
    return ranges


def test_steps_before_a_return_keep_their_batches_and_later_ones_go_on_behind_it():
    ranges = with_return((), 100, 107)
    assert ranges == (LeftOut(100, 100, 7),)
    assert [data_step(step, ranges) for step in (99, 100, 101)] == [99, 107, 108]


def test_second_return_to_the_same_step_leaves_out_what_came_instead():
    ranges = with_return(with_return((), 100, 107), 100, 110)
    assert data_step(100, ranges) == 110
    assert data_step(99, ranges) == 99


def test_return_to_an_earlier_step_swallows_later_ranges():
    ranges = with_return(with_return((), 100, 107), 50, 110)
    assert ranges == (LeftOut(50, 50, 60),)


@given(course=returns)
def test_batches_come_once_and_in_order_and_lead_back(course: Returns):
    ranges = after(course)
    taken = [data_step(step, ranges) for step in range(120)]
    assert taken == sorted(set(taken))
    assert [step_of_data(one, ranges) for one in taken] == list(range(120))
    left = set(range(taken[-1])) - set(taken)
    assert all(step_of_data(one, ranges) is None for one in left)


@given(course=returns.filter(bool))
def test_what_was_done_since_the_step_gone_back_to_is_left_out(course: Returns):
    before = after(course[:-1])
    step, more = course[-1]
    spoilt = {data_step(one, before) for one in range(step, step + more)}
    now = after(course)
    assert not spoilt & {data_step(one, now) for one in range(200)}
    assert [data_step(one, now) for one in range(step)] == [data_step(one, before) for one in range(step)]


def test_what_was_written_is_read_and_what_was_altered_is_told(tmp_path: Path):
    assert read_left_out(tmp_path) == ()
    write_left_out(tmp_path, after([(3, 4), (9, 1)]))
    assert read_left_out(tmp_path) == after([(3, 4), (9, 1)])
    (tmp_path / LEFT_OUT).write_text("{}")
    with pytest.raises(ValueError, match="left_out.json: not as it was written"):
        read_left_out(tmp_path)

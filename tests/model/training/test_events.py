"""What befell a training: events as they come, and which skips stand."""

from pathlib import Path

import pytest

from model.training.events import EVENTS, Event, EventReader, append_event, read_events, skipped_steps
from model.training.left_out import LeftOut


def skip(step: int, data_step: int | None = None) -> Event:
    return Event("skipped", step, "loss not finite", loss=float("nan"), data_step=step - 1 if data_step is None else data_step)


def test_events_are_read_as_they_were_written_and_once_each(tmp_path: Path) -> None:
    first, second = Event("started", 0, "anew", processes=2), Event("saved", 4, "step 4", seconds=0.5, bytes=12)
    append_event(tmp_path, first)
    reader, late = EventReader(tmp_path), EventReader(tmp_path, skips_old=True)
    assert reader.new_events() == [first]
    with (tmp_path / EVENTS).open("a") as file:
        file.write('{"kind": "saved", "st')
    assert reader.new_events() == []
    append_event(tmp_path, second)  # which ends the line that broke off
    assert reader.new_events() == late.new_events() == [second]
    assert read_events(tmp_path) == [first, second]
    assert EventReader(tmp_path / "nowhere").new_events() == []


def test_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_text('{"step": 1}\n')
    with pytest.raises(ValueError, match=r"events\.jsonl: no event"):
        read_events(tmp_path)


def test_skip_counts_once_however_often_its_step_was_taken_again() -> None:
    found = skipped_steps([skip(5), skip(9), Event("started", 4, "from step 4"), skip(5)])
    assert list(found) == [5]


def test_skip_of_a_batch_that_was_left_out_since_does_not_count() -> None:
    events = [skip(2), skip(5), skip(6), Event("returned", 4, "to step 4"), skip(6, 8)]
    found = skipped_steps(events, [LeftOut(4, 4, 3)])
    assert {step: event.data_step for step, event in found.items()} == {2: 1, 6: 8}

"""Notes of waiting registrations."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.artifacts import Workspace
from tasks.promotion.waiting import Waiting, forget_waiting, read_waiting, write_waiting

NOTE = Waiting(
    "1111", "aaaa", "register: areas", '{"name": "mill"}', {"model": "/model"}, "http://there", "2026-01-02T00:00:00+00:00", "away"
)


def test_what_waits_is_read_as_it_was_written_the_oldest_first_until_it_is_forgotten(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    older = replace(NOTE, fingerprint="2222", since="2026-01-01T00:00:00+00:00")
    other = replace(NOTE, stage="bbbb", since="2026-01-03T00:00:00+00:00")
    for one in (NOTE, older, other, NOTE):
        write_waiting(workspace, one)
    assert read_waiting(workspace) == (older, NOTE, other)
    forget_waiting(workspace, older)
    forget_waiting(workspace, older)
    assert read_waiting(workspace) == (NOTE, other)


def test_note_that_cannot_be_read_is_told_and_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workspace = Workspace(tmp_path)
    torn = write_waiting(workspace, NOTE).with_name("torn.json")
    torn.write_text('{"fingerprint": "3333"}')
    assert read_waiting(workspace) == (NOTE,)
    assert f"{torn}: no note of a waiting registration" in caplog.text
    assert torn.exists()


def test_nothing_waits_in_a_workspace_without_notes(tmp_path: Path) -> None:
    assert read_waiting(Workspace(tmp_path)) == ()

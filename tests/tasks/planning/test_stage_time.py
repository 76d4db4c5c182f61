"""From which earlier run a stage's seconds are told."""

import json
from pathlib import Path

import pytest

from tasks.artifacts import Workspace
from tasks.machine import this_machine
from tasks.planning.history import History
from tasks.planning.stage_time import Asked, stage_estimate
from tests.earlier_runs import leave_stage

HERE = this_machine().kind


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace").open()


def test_stage_that_never_ran_is_not_guessed_at(workspace: Workspace) -> None:
    assert stage_estimate(Asked("report", "", None, None), History(workspace), HERE) is None


def test_same_subject_counts_and_no_other(workspace: Workspace) -> None:
    leave_stage(workspace, "evaluate", "a1", 700.0, "areas")
    leave_stage(workspace, "evaluate", "b1", 20.0, "base")
    found = stage_estimate(Asked("evaluate", "base", None, None), History(workspace), HERE)
    assert found is not None
    assert (found.seconds, found.told) == (20.0, "1 run of unknown size")


def test_other_subject_has_to_do_where_there_is_none_and_is_less_sure(workspace: Workspace) -> None:
    leave_stage(workspace, "gate", "a1", 20.0, "areas")
    own = stage_estimate(Asked("gate", "areas", None, None), History(workspace), HERE)
    other = stage_estimate(Asked("gate", "kinds", None, None), History(workspace), HERE)
    assert own is not None
    assert other is not None
    assert other.told == "1 run of another subject"
    assert other.low < own.low < own.high < other.high


def test_seconds_grow_with_what_is_read(workspace: Workspace) -> None:
    leave_stage(workspace, "ingest", "raw", 1.0, size=1000)
    leave_stage(workspace, "annotate", "clean", 30.0, inputs={"raw": "raw"})
    found = stage_estimate(Asked("annotate", "", None, 4000.0), History(workspace), HERE)
    assert found is not None
    assert (found.seconds, found.told) == (120.0, "1 run of another size")


def test_run_on_another_machine_is_less_sure(workspace: Workspace) -> None:
    leave_stage(workspace, "report", "a1", 3.0)
    here, there = (stage_estimate(Asked("report", "", None, None), History(workspace), kind) for kind in (HERE, {"processor": "another"}))
    assert here is not None
    assert there is not None
    assert "on another machine" in there.told
    assert there.high > here.high


def test_manifest_from_before_machines_were_noted_is_still_read(workspace: Workspace) -> None:
    path = leave_stage(workspace, "finetune", "a1", 3.0, "areas", {"name": "areas"}) / "manifest.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in told.items() if key not in ("machine", "subject")}))
    (past,) = History(workspace).of_stage("finetune")
    assert (past.manifest.machine, past.subject) == ({}, "areas")

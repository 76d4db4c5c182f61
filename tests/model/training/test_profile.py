import gzip
import json
from pathlib import Path

import pytest
import torch

from model.config.training_config import ProfileConfig
from model.training.profile import StepProfile, profiles


def train(profile: StepProfile, first: int, last: int) -> None:
    for step in range(first, last):
        profile.before(step)
        torch.mm(torch.ones(4, 4), torch.ones(4, 4))
        profile.after(step)


def spans(path: Path) -> set[str]:
    with gzip.open(path) as file:
        return {event["name"] for event in json.load(file)["traceEvents"]}


def test_asked_steps_are_recorded_and_no_others(tmp_path: Path) -> None:
    train(StepProfile(ProfileConfig((2, 4)), tmp_path, 0), 0, 6)
    (path,) = profiles(tmp_path)
    assert path.name == "steps-2-3.json.gz"
    found = spans(path)
    assert {"step 2", "step 3", "aten::mm"} <= found
    assert not {"step 1", "step 4"} & found


def test_run_that_is_resumed_in_the_middle_records_what_is_left(tmp_path: Path) -> None:
    ended = StepProfile(ProfileConfig((2, 5)), tmp_path, 0)
    train(ended, 0, 3)
    ended.close()
    ended.close()
    train(StepProfile(ProfileConfig((2, 5)), tmp_path, 0), 3, 8)
    assert [path.name for path in profiles(tmp_path)] == ["steps-2-2.json.gz", "steps-3-4.json.gz"]


@pytest.mark.parametrize(("config", "rank", "first"), [(None, 0, 0), (ProfileConfig((2, 4)), 1, 0), (ProfileConfig((2, 4)), 0, 4)])
def test_without_steps_to_record_nothing_is_written(tmp_path: Path, config: ProfileConfig | None, rank: int, first: int) -> None:
    profile = StepProfile(config, tmp_path, rank)
    train(profile, first, 6)
    profile.close()
    assert list(tmp_path.iterdir()) == []


def test_trace_that_cannot_be_written_ends_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "profile").write_text("a file in the folder's place")
    train(StepProfile(ProfileConfig((0, 1)), tmp_path, 0), 0, 3)
    assert "the trace could not be written" in caplog.text

"""A process is killed while several write a checkpoint: the one before is gone on from."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch.multiprocessing.spawn import ProcessException

from model.training.checkpoint import checkpoints_in, newest_checkpoint
from tests.model.distributed.killed_run import work
from tests.model.processes import run_processes

TIMEOUT_SECONDS = 120  # 15 s on a quiet machine


def on_two(folder: Path, meeting: str, names: Sequence[str], is_killed: bool) -> None:
    run_processes(work, (folder, meeting, names, is_killed), 2, TIMEOUT_SECONDS)


def test_checkpoint_of_which_a_process_was_killed_is_not_gone_on_from(tmp_path: Path):
    with pytest.raises(ProcessException):
        on_two(tmp_path, "first", ["killed"], is_killed=True)
    newest = newest_checkpoint(tmp_path / "killed")
    assert newest is not None
    assert [path.name for path in checkpoints_in(tmp_path / "killed")] == [newest.name] == ["step-00000004"]
    on_two(tmp_path, "second", ["killed", "whole"], is_killed=False)
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert losses["killed"] == losses["whole"][4:]
    assert [path.name for path in (tmp_path / "killed").iterdir() if path.name.startswith(".")] == []

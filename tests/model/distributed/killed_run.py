"""What two processes do for test_killed_save.py: trainings with shared weights, in one of which a process is killed within a save."""

import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.layouts_equal import in_processes
from model.config.layout_config import LayoutConfig
from model.training import checkpoint
from model.training.stored import Place
from tests.model.distributed.layout_runs import trained


def work(rank: int, folder: Path, meeting: str, names: Sequence[str], is_killed: bool) -> None:
    """In one of two processes; the second dies when half of its part of the checkpoint of step 8 is written."""
    torch.set_num_threads(1)
    written = checkpoint.save_tensors

    def save(tensors: Mapping[str, Tensor], path: Path, places: Mapping[str, Place] | None = None) -> None:
        written(tensors, path, places)
        if is_killed and rank == 1 and "step-00000008" in str(path):
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def act() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "save_tensors", save)
            found = {name: trained(folder / name, LayoutConfig(shards=True), steps=10).losses for name in names}
        if rank == 0:
            (folder / "losses.json").write_text(json.dumps(found))

    (folder / meeting).mkdir(exist_ok=True)
    in_processes(rank, 2, folder / meeting, act)

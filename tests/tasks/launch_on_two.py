"""A launcher for tests: the training runs on two processes of this machine, without Ray."""

import gc
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

from model.training.interruption import Signals
from tasks.cluster import Training
from tests.model.processes import run_processes

TIMEOUT_SECONDS = 240  # 15 s on a quiet machine


def _work(rank: int, training: Training, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}/group", rank=rank, world_size=2)
    training.entry(training.job, Signals)
    gc.collect()  # a wrapper is part of a cycle: while it lives, so do the group's threads, which an exit may abort in
    dist.destroy_process_group()


def on_two(training: Training) -> None:
    """Runs it to its end."""
    with tempfile.TemporaryDirectory() as meeting:
        run_processes(_work, (training, str(Path(meeting))), 2, TIMEOUT_SECONDS)

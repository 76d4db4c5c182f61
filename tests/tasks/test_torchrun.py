"""A training under torchrun: the same job on several processes, saved when torchrun is told to end."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig, TrainingConfig
from model.data.batches import Batch
from model.nn.models import LanguageModel
from model.training.checkpoint import newest_checkpoint, read_state
from model.training.curve import read_curve
from model.training.interruption import Signals
from model.training.record import recording
from model.training.training import train
from tasks.settings import Json
from tasks.training_entry import Asking, ChildSpec

ROOT = Path(__file__).parents[2]
STEPS, ROWS = 24, 5  # on two processes shares of 2 and 3 rows


class Noise:
    """Random rows; a step takes a moment."""

    batch_rows = ROWS

    def rows_at(self, step: int) -> NDArray[np.int64]:
        return np.arange(step * ROWS, (step + 1) * ROWS, dtype=np.int64)

    def batch(self, step: int, start: int, stop: int) -> Batch:
        time.sleep(0.1)
        ids = torch.from_numpy(np.random.default_rng(step).integers(0, 50, (ROWS, 9))[start:stop])
        return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.full((len(ids),), 8))

    def evaluation(self, batches: int):
        return (self.batch(step, 0, ROWS) for step in range(batches))


def learn(job: dict[str, Json], asking: Asking = Signals) -> None:
    out = Path(str(job["out"]))
    torch.manual_seed(1)
    model = LanguageModel(ModelConfig(layers=1, width=16, heads=2, context=8), 50)
    training = TrainingConfig(steps=STEPS, batch_rows=ROWS, micro_rows=2, log_every=1, checkpoint_every=100, precision="float32")
    with asking() as asked:
        result = train(model, Noise(), None, training, OptimizerConfig(), out / "checkpoints", "noise", recording(out), asked)
    if not result.finished:
        raise InterruptedError(f"stopped at step {result.step}")


def start(folder: Path) -> subprocess.Popen[bytes]:
    out, spec = folder / "out", folder / "job.json"
    out.mkdir(parents=True, exist_ok=True)
    told = ChildSpec("tests.tasks.test_torchrun:learn", {"out": str(out)}, "out", 0, 0, 0.0, 1, None, 0, 60.0, 0, str(folder))
    spec.write_text(json.dumps(asdict(told)))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tasks.training_process", str(spec)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def await_points(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 90
    while len(read_curve(folder / "out")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.timeout(300)
def test_torchrun_trains_the_job_and_a_stop_of_it_loses_no_step(tmp_path: Path) -> None:
    several, alone = tmp_path / "several", tmp_path / "alone"
    first = start(several)
    try:
        await_points(several, 3)
        first.send_signal(signal.SIGTERM)
        first.wait(60)
    finally:
        if first.poll() is None:
            os.killpg(first.pid, signal.SIGKILL)
    newest = newest_checkpoint(several / "out" / "checkpoints")
    assert newest is not None
    state, points = read_state(newest), read_curve(several / "out")
    assert (state.step, state.world) == (points[-1].step, 2)
    assert state.step < STEPS
    assert start(several).wait(120) == 0
    alone.mkdir()
    learn({"out": str(alone)})
    ours, theirs = read_curve(several / "out"), read_curve(alone)
    assert [point.step for point in ours] == list(range(1, STEPS + 1))
    assert [point.batch_digests for point in ours] == [point.batch_digests for point in theirs]
    assert [point.loss for point in ours] == pytest.approx([point.loss for point in theirs], rel=1e-5)

import gc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from model.config.heads import IGNORED, HeadSpec
from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig, TrainingConfig
from model.data.batches import ExampleBatches
from model.data.task_batches import TaskBatches
from model.nn.models import LanguageModel, MultiTask
from model.training.checkpoint import newest_checkpoint
from model.training.curve import CurvePoint
from model.training.record import Watch, ignore_event
from model.training.training import train
from tests.model.processes import run_processes

TIMEOUT_SECONDS = 120  # of each process; 10 s on a quiet machine
PROCESSES = 3  # for batches of 8 rows: shares of 2, 3 and 3


class Recorded:
    """Batches that note which rows were read."""

    def __init__(self) -> None:
        generator = np.random.default_rng(1)
        ids = [generator.integers(0, 61, size).tolist() for size in generator.integers(2, 17, 40)]
        masked = [[IGNORED if token % 3 == 0 else token for token in row] for row in ids]  # rows score unequal counts
        kind = pa.list_(pa.int32())
        table = pa.table({"ids": pa.array(ids, kind), "targets": pa.array(masked, kind)})
        self.inner = ExampleBatches(table, "next_token", 8, 3, context=16, pad_id=0)
        self.batch_rows = self.inner.batch_rows
        self.rows_at, self.evaluation = self.inner.rows_at, self.inner.evaluation
        self.seen: list[tuple[int, int]] = []

    def batch(self, step: int, start: int, stop: int):
        self.seen.extend((step, int(row)) for row in self.rows_at(step)[start:stop])
        return self.inner.batch(step, start, stop)


def train_small(folder: Path) -> tuple[list[float], list[tuple[int, int]], list[str]]:
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model = LanguageModel(ModelConfig(layers=1, width=32, heads=4, context=16), 61)
    batches = Recorded()
    losses: list[float] = []
    digests: list[str] = []

    def report(point: CurvePoint) -> None:
        losses.append(point.loss)
        digests.extend(point.batch_digests)

    training = TrainingConfig(steps=4, batch_rows=8, micro_rows=2, evaluate_every=2, evaluate_batches=3, log_every=1, precision="float32")
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup_steps=1)
    result = train(model, batches, Recorded(), training, optimizer, folder, "data", Watch(report, ignore_event))
    assert result.validation_loss is not None
    return [*losses, result.validation_loss], batches.seen, digests


def train_heads(folder: Path) -> list[float]:
    torch.manual_seed(5)
    heads = {"say": HeadSpec("language"), "kind": HeadSpec("sequence", 2)}
    model = MultiTask(ModelConfig(layers=1, width=32, heads=4, context=16), 61, heads)
    ids = [[5 + row, 6, 7 + row % 3] for row in range(16)]
    kinds = pa.table({"ids": pa.array(ids, pa.list_(pa.int32())), "label": pa.array([0, 1] * 8, pa.int32())})
    tasks = {"say": Recorded(), "kind": ExampleBatches(kinds, "class", 8, 3, context=16, pad_id=0)}
    batches = TaskBatches(tasks, {"say": 1, "kind": 2})
    losses: list[float] = []
    training = TrainingConfig(steps=6, batch_rows=8, micro_rows=2, log_every=1, evaluate_every=6, precision="float32")
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup_steps=1)
    result = train(
        model, batches, batches, training, optimizer, folder, "data", Watch(lambda figures: losses.append(figures.loss), ignore_event)
    )
    assert result.validation_loss is not None
    return [*losses, result.validation_loss]


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES)
    losses, seen, digests = train_small(folder / "checkpoints")
    heads = train_heads(folder / "heads")
    torch.save({"losses": losses, "seen": seen, "heads": heads, "digests": digests}, folder / f"{rank}.pt")
    gc.collect()  # the wrapper is part of a cycle: while it lives, so do the group's threads, which an exit may abort in
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes left what came of their trainings."""
    folder = tmp_path_factory.mktemp("several")
    run_processes(work, (folder,), PROCESSES, TIMEOUT_SECONDS)
    return folder


def left_by(folder: Path) -> list[Mapping[str, list]]:
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


def test_several_processes_see_the_batches_of_one_and_agree_on_the_loss(several: Path, tmp_path: Path):
    first, *others = left_by(several)
    losses, seen, digests = train_small(tmp_path / "alone")
    assert sorted(row for one in (first, *others) for row in one["seen"]) == sorted(seen)
    assert first["digests"] == digests
    assert len(set(digests)) == 4
    assert first["losses"] == pytest.approx(losses, rel=1e-5)
    assert all(one["losses"] == first["losses"][-1:] for one in others)  # only rank 0 reports; all know the validation loss
    newest = newest_checkpoint(several / "checkpoints")
    assert newest is not None
    assert set(load_file(newest / "random.safetensors")) == {f"{rank}/cpu" for rank in range(PROCESSES)}


def test_several_heads_learn_on_several_processes_as_on_one(several: Path, tmp_path: Path):
    first, *others = left_by(several)
    losses = train_heads(tmp_path)
    assert first["heads"] == pytest.approx(losses, rel=1e-5)
    assert all(one["heads"] == first["heads"][-1:] for one in others)

import gc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from model.config.heads import IGNORED, HeadSpec
from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig, TrainingConfig
from model.data.batches import ExampleBatches
from model.data.task_batches import TaskBatches
from model.distributed.parallel import micro_batch_rows
from model.nn.models import LanguageModel, MultiTask
from model.training.checkpoint import newest_checkpoint
from model.training.training import train

TIMEOUT_SECONDS = 120  # of each process; 10 s on a quiet machine


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


def train_small(folder: Path) -> tuple[list[float], list[tuple[int, int]]]:
    torch.set_num_threads(1)
    torch.manual_seed(5)
    model = LanguageModel(ModelConfig(layers=1, width=32, heads=4, context=16), 61)
    batches = Recorded()
    losses: list[float] = []
    training = TrainingConfig(steps=4, batch_rows=8, micro_rows=2, evaluate_every=2, evaluate_batches=3, log_every=1, precision="float32")
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup_steps=1)
    result = train(model, batches, Recorded(), training, optimizer, folder, "data", lambda figures: losses.append(figures.loss))
    assert result.validation_loss is not None
    return [*losses, result.validation_loss], batches.seen


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
    result = train(model, batches, batches, training, optimizer, folder, "data", lambda figures: losses.append(figures.loss))
    assert result.validation_loss is not None
    return [*losses, result.validation_loss]


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    losses, seen = train_small(folder / "checkpoints")
    heads = train_heads(folder / "heads")
    torch.save({"losses": losses, "seen": seen, "heads": heads}, folder / f"{rank}.pt")
    gc.collect()  # the wrapper is part of a cycle: while it lives, so do the group's threads, which an exit may abort in
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes left what came of their trainings."""
    folder = tmp_path_factory.mktemp("two")
    context = mp.spawn(work, (folder,), nprocs=2, join=False)
    try:
        assert context.join(TIMEOUT_SECONDS) or context.join(TIMEOUT_SECONDS), "the processes hang"
    finally:
        for process in context.processes:
            process.kill()
    return folder


def left_by(folder: Path) -> list[Mapping[str, list]]:
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_two_processes_see_the_batches_of_one_and_agree_on_the_loss(two: Path, tmp_path: Path):
    first, second = left_by(two)
    losses, seen = train_small(tmp_path / "alone")
    assert sorted(first["seen"] + second["seen"]) == sorted(seen)
    assert not set(first["seen"]) & set(second["seen"])
    assert first["losses"] == pytest.approx(losses, rel=1e-5)
    assert second["losses"] == first["losses"][-1:]  # only rank 0 reports; both know the validation loss
    newest = newest_checkpoint(two / "checkpoints")
    assert newest is not None
    assert {path.name for path in newest.glob("random-*")} == {"random-0.safetensors", "random-1.safetensors"}


def test_several_heads_learn_on_two_processes_as_on_one(two: Path, tmp_path: Path):
    first, second = left_by(two)
    losses = train_heads(tmp_path)
    assert first["heads"] == pytest.approx(losses, rel=1e-5)
    assert second["heads"] == first["heads"][-1:]


@pytest.mark.parametrize(("share", "most", "expected"), [(8, 3, 2), (8, 100, 8), (7, 3, 1), (12, 5, 4)])
def test_portion_is_the_largest_divisor_that_fits(share: int, most: int, expected: int):
    assert micro_batch_rows(share, most) == expected

"""micro_rows: auto: as many rows as fit, the same batch, and the same run after a resume."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.config.model_config import ModelConfig
from model.config.training_config import MicroRows, OptimizerConfig, TrainingConfig
from model.data.batches import PretrainBatches
from model.nn.models import LanguageModel
from model.training import micro_rows
from model.training.budget import training_memory
from model.training.checkpoint import checkpoint_path, read_state
from model.training.events import Event
from model.training.micro_rows import free_memory_bytes, largest
from model.training.record import Watch
from model.training.training import train
from tests.model.stop_after import StopAfter

SHAPE = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=16, dropout=0.1)


def losses(folder: Path, batches: PretrainBatches, rows: MicroRows, stop: int = 0) -> tuple[list[float], list[Event]]:
    torch.manual_seed(5)
    found: list[float] = []
    events: list[Event] = []
    training = TrainingConfig(steps=4, batch_rows=8, micro_rows=rows, log_every=1, checkpoint_every=100, precision="float32")
    watch = Watch(lambda point: found.append(point.loss), events.append)
    train(LanguageModel(SHAPE, 61), batches, None, training, OptimizerConfig(warmup_steps=1), folder, "data", watch, StopAfter(stop))
    return found, [event for event in events if event.kind == "started"]


@pytest.fixture
def has_room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes so much memory free as the budget wants for so many rows."""

    def give(rows: int) -> None:
        memory = training_memory(SHAPE, 61, rows, "float32", accumulates=True)
        weights = sum(parameter.nbytes for parameter in LanguageModel(SHAPE, 61).parameters())
        monkeypatch.setattr(micro_rows, "free_memory_bytes", lambda: (memory.peak - weights) / micro_rows.CPU_SHARE + 1)

    return give


def test_whole_share_is_taken_where_it_fits_and_the_trial_leaves_no_trace(tmp_path: Path, pretrain_batches: PretrainBatches):
    found, (started,) = losses(tmp_path / "auto", pretrain_batches, "auto")
    assert started.micro_rows == 8
    assert "as many as fit: 8" in started.told
    assert found == losses(tmp_path / "told", pretrain_batches, 8)[0]


def test_resumed_run_keeps_what_was_chosen(tmp_path: Path, pretrain_batches: PretrainBatches, has_room: Callable[[int], None]):
    whole, _ = losses(tmp_path / "told", pretrain_batches, 3)
    has_room(3)
    first, (started,) = losses(tmp_path / "auto", pretrain_batches, "auto", stop=2)
    assert started.micro_rows == read_state(checkpoint_path(tmp_path / "auto", 2)).micro_rows == 3
    has_room(8)
    second, (again,) = losses(tmp_path / "auto", pretrain_batches, "auto")
    assert again.micro_rows == 3
    assert first + second == whole


def test_no_room_for_a_row_is_told_before_the_first_step(
    tmp_path: Path, pretrain_batches: PretrainBatches, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(micro_rows, "free_memory_bytes", lambda: 2**10)
    with pytest.raises(ValueError, match=r"one row needs about .* MiB .*layout\.activation_checkpointing full, or more processes"):
        losses(tmp_path, pretrain_batches, "auto")


@pytest.mark.parametrize("most", [1, 2, 7, 8])
def test_largest_is_found_between_none_and_all(most: int):
    assert [largest(most, lambda rows, fits=fits: rows <= fits) for fits in range(10)] == [min(fits, most) for fits in range(10)]


def test_container_leaves_less_than_the_machine_has(tmp_path: Path):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 3000 kB\nMemAvailable:  2000 kB\n")
    assert free_memory_bytes(info, tmp_path) == 2000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500\n")
    assert free_memory_bytes(info, tmp_path) == 2000 * 1024
    (tmp_path / "memory.max").write_text("1500\n")
    assert free_memory_bytes(info, tmp_path) == 1000


def test_other_words_than_auto_are_refused():
    with pytest.raises(ValueError, match="micro_rows 0: expected 1 or more"):
        replace(TrainingConfig(), micro_rows=0)

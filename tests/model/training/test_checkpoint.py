import dataclasses
import logging
import sys
from pathlib import Path

import pytest
import torch

from model.config.model_config import ModelConfig
from model.config.training_config import FaultConfig, OptimizerConfig, TrainingConfig
from model.distributed.control import Control
from model.nn.models import LanguageModel
from model.optim.optimizer import build_optimizer
from model.training.checkpoint import (
    TrainingState,
    check_resumable,
    checkpoint_path,
    find_damage,
    load_checkpoint,
    newest_checkpoint,
    read_state,
    remove_unfinished,
)
from model.training.saver import Saver
from model.training.step_guard import StepGuard

STATE = TrainingState(
    step=0,
    tokens=0,
    identity="data-1",
    config="config-1",
    seed=1,
    world=1,
    threads=1,
    torch="2",
    device="cpu",
    precision="float32",
    micro_rows=4,
)


@pytest.fixture
def model(tiny: ModelConfig) -> LanguageModel:
    return LanguageModel(tiny, 61)


@pytest.fixture
def optimizer(model: LanguageModel) -> torch.optim.AdamW:
    optimizer = build_optimizer(model, OptimizerConfig())
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    optimizer.step()
    return optimizer


def save(folder: Path, model: LanguageModel, optimizer: torch.optim.AdamW, step: int, keep: int = 9) -> Path:
    training = TrainingConfig(checkpoint_every=5, keep_checkpoints=keep)
    with Saver(folder, training, Control(), is_writer=True) as saver:
        saver.save(model, optimizer, guard(), dataclasses.replace(STATE, step=step), waits=True)
    return checkpoint_path(folder, step)


def guard() -> StepGuard:
    return StepGuard(FaultConfig(), torch.device("cpu"))


def test_saved_state_comes_back_whole(tmp_path: Path, tiny: ModelConfig, model: LanguageModel, optimizer: torch.optim.AdamW):
    path = save(tmp_path, model, optimizer, 7)
    expected_draws = torch.rand(3)
    other = LanguageModel(tiny, 61)
    other_optimizer = build_optimizer(other, OptimizerConfig())
    load_checkpoint(path, other, other_optimizer, guard())
    assert torch.equal(torch.rand(3), expected_draws)
    assert read_state(path).step == 7
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        for key in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(optimizer.state[ours][key], other_optimizer.state[theirs][key])


@pytest.mark.skipif(sys.platform != "linux", reason="maps are told by /proc")
def test_loaded_checkpoint_can_be_deleted_and_its_room_is_free(
    tmp_path: Path, tiny: ModelConfig, model: LanguageModel, optimizer: torch.optim.AdamW
):
    path = save(tmp_path, model, optimizer, 7)
    other, loaded = LanguageModel(tiny, 61), guard()
    other_optimizer = build_optimizer(other, OptimizerConfig())
    load_checkpoint(path, other, other_optimizer, loaded)
    assert str(path) not in Path("/proc/self/maps").read_text()
    assert other_optimizer.state
    assert loaded.state()


def test_only_the_newest_are_kept(tmp_path: Path, model: LanguageModel, optimizer: torch.optim.AdamW):
    for step in (5, 10, 15):
        save(tmp_path, model, optimizer, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000010", "step-00000015"]


def test_half_written_checkpoint_is_passed_over_and_reported(
    tmp_path: Path, model: LanguageModel, optimizer: torch.optim.AdamW, caplog: pytest.LogCaptureFixture
):
    whole = save(tmp_path, model, optimizer, 5)
    (save(tmp_path, model, optimizer, 10) / "manifest.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path) == whole
    assert "step-00000010: passed over: manifest.json is missing" in caplog.text


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"])
def test_altered_checkpoint_is_passed_over(tmp_path: Path, model: LanguageModel, optimizer: torch.optim.AdamW, name: str):
    whole = save(tmp_path, model, optimizer, 5)
    file = save(tmp_path, model, optimizer, 10) / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert find_damage(file.parent) == f"{name} was altered: its SHA-256 is not the manifest's"
    assert newest_checkpoint(tmp_path) == whole


def test_truncated_and_unlisted_files_are_found(tmp_path: Path, model: LanguageModel, optimizer: torch.optim.AdamW):
    path = save(tmp_path, model, optimizer, 5)
    (path / "model.safetensors").write_bytes(b"short")
    assert "model.safetensors has 5 bytes" in str(find_damage(path))
    (path / "manifest.json").write_text('{"files": {}}')
    assert "the manifest lacks guard.safetensors, model.safetensors" in str(find_damage(path))
    assert newest_checkpoint(tmp_path) is None


def test_checkpoint_of_the_same_step_is_replaced(tmp_path: Path, model: LanguageModel, optimizer: torch.optim.AdamW):
    path = save(tmp_path, model, optimizer, 5)
    (path / "state.json").write_text("broken")
    assert newest_checkpoint(tmp_path) is None
    save(tmp_path, model, optimizer, 5)
    assert newest_checkpoint(tmp_path) == path


def test_leftovers_of_an_interrupted_save_are_removed(tmp_path: Path, model: LanguageModel, optimizer: torch.optim.AdamW):
    whole = save(tmp_path, model, optimizer, 5)
    (tmp_path / ".unfinished-step-00000010").mkdir()
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [whole]


def test_folder_that_does_not_exist_has_no_checkpoint(tmp_path: Path):
    assert newest_checkpoint(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identity": "data-2"}, "written with data data-1, but this run has data-2"),
        ({"config": "config-2"}, "written with config"),
        ({"seed": 2}, "written with seed 1"),
    ],
)
def test_run_with_other_data_or_settings_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        check_resumable(Path("step-1"), STATE, dataclasses.replace(STATE, **changes))


def test_run_on_another_machine_is_warned_of(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        check_resumable(Path("step-1"), STATE, dataclasses.replace(STATE, world=2, threads=8, torch="3"))
    assert [record.message.split()[1] for record in caplog.records] == ["processes", "threads", "torch"]


def test_checkpoint_of_another_model_is_refused(tmp_path: Path, tiny: ModelConfig, model: LanguageModel, optimizer: torch.optim.AdamW):
    path = save(tmp_path, model, optimizer, 5)
    other = LanguageModel(dataclasses.replace(tiny, layers=1), 61)
    with pytest.raises(ValueError, match=r"not this model's: trunk\.stack\.blocks\.1"):
        load_checkpoint(path, other, build_optimizer(other, OptimizerConfig()), guard())

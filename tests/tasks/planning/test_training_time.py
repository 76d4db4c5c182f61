"""From what a training's seconds are told."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.config.model_config import ModelConfig
from tasks.artifacts import Workspace
from tasks.cluster import ClusterConfig
from tasks.machine import Gpu
from tasks.planning.estimate import Estimate
from tasks.planning.hardware import hardware_of
from tasks.planning.history import History
from tasks.planning.past_training import past_trainings
from tasks.planning.probes import Probed, read_probe, write_probe
from tasks.planning.probes import probe_path as path_of
from tasks.planning.shorter import DAY, shorter_settings
from tasks.planning.training_time import training_estimate
from tasks.planning.training_work import TrainingWork
from tests.earlier_runs import SHAPE, finetuning, leave_training, machine, pretraining

HERE = machine()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace").open()


def estimate(workspace: Workspace, work: TrainingWork, probe: Probed | None = None) -> Estimate:
    known = past_trainings(History(workspace))
    found = training_estimate(work, hardware_of(work, ClusterConfig(), HERE), HERE, known, probe, 1e11)
    assert found is not None
    return found


def test_seconds_grow_with_the_steps_and_the_start_does_not(workspace: Workspace) -> None:
    leave_training(workspace, "a1", pretraining(100), step_seconds=0.5, beside=10.0)
    assert estimate(workspace, pretraining(100)).seconds == pytest.approx(60.0)
    assert estimate(workspace, pretraining(400)).seconds == pytest.approx(210.0)
    assert estimate(workspace, pretraining(400)).told == "1 earlier run"


def test_larger_batches_of_later_steps_count_in_tokens_arithmetic_and_seconds(workspace: Workspace) -> None:
    batch, plain = 16 * SHAPE.context, pretraining(100)
    larger = pretraining(100, batch_schedule=[{"from_step": 40, "batch_tokens": 4 * batch}])
    assert larger.tokens == batch * (40 + 4 * 60)
    assert larger.flops == pytest.approx(plain.flops_per_token * batch * 280)
    leave_training(workspace, "a1", plain, step_seconds=0.5, beside=0.0)
    assert estimate(workspace, larger).seconds == pytest.approx(0.5 * 280)
    assert larger.memory("float32", on_gpu=False) == pretraining(100, micro_rows=8).memory("float32", on_gpu=False)
    days = Estimate(2 * DAY, 2 * DAY, 2 * DAY, "")
    (fewer, *_) = shorter_settings(larger, days, is_gpu=False)
    assert fewer.key == "pretrain.steps=65"  # 140 of the 280 batches: 40 steps of one, 25 of four


def test_other_fine_tuning_of_the_recipe_does_not_lend_its_duration(workspace: Workspace) -> None:
    leave_training(workspace, "a1", finetuning("answers", 600, mean_tokens=96.0), step_seconds=1.2)
    leave_training(workspace, "b1", finetuning("areas", 100), step_seconds=0.4, beside=5.0)
    assert estimate(workspace, finetuning("areas", 100)).seconds == pytest.approx(45.0)
    scaled = estimate(workspace, finetuning("kinds", 100, mean_tokens=96.0))
    assert scaled.told == "1 run of another training"
    assert scaled.seconds == pytest.approx(125.0)  # a sixth of the steps of what took 725 s


def test_training_of_another_size_goes_by_its_arithmetic_and_is_less_sure(workspace: Workspace) -> None:
    wide = pretraining(100, ModelConfig(family="llama", layers=4, width=128, heads=4, context=128))
    leave_training(workspace, "a1", pretraining(100), step_seconds=0.5, beside=0.0)
    found, same = estimate(workspace, wide), estimate(workspace, pretraining(100))
    assert found.told == "1 run of another size"
    assert found.seconds == pytest.approx(50 * wide.flops_per_token / pretraining(100).flops_per_token, rel=0.02)
    assert found.high / found.seconds > same.high / same.seconds


def test_rows_that_were_not_read_are_taken_at_their_longest_and_may_be_shorter(workspace: Workspace) -> None:
    leave_training(workspace, "a1", finetuning("areas", 100), step_seconds=0.4)
    found = estimate(workspace, finetuning("kinds", 100, mean_tokens=None))
    assert found.told.endswith("rows at their longest")
    assert found.low < found.seconds / 4


def test_probe_counts_where_this_training_never_ran_and_not_where_it_did(workspace: Workspace) -> None:
    work = pretraining(100)
    probed = Probed(20, work.tokens_per_step / 2.0, 7e8, 6.0)
    assert estimate(workspace, work, probed).told == "by --probe"
    assert estimate(workspace, work, probed).seconds == pytest.approx(206.0)
    leave_training(workspace, "a1", work, step_seconds=0.5)
    assert estimate(workspace, work, probed).told == "1 earlier run"


def test_probe_is_kept_for_its_shape_and_machine(workspace: Workspace) -> None:
    work, probed = pretraining(), Probed(20, 1e4, 7e8, 6.0)
    write_probe(path_of(workspace.root, work, HERE), work, HERE, probed)
    assert read_probe(workspace.root, pretraining(steps=9), HERE) == probed
    assert read_probe(workspace.root, pretraining(shape=replace(SHAPE, layers=3)), HERE) is None
    assert read_probe(workspace.root, work, replace(HERE, cores=HERE.cores + 1)) is None


def test_gpus_that_are_not_here_go_by_a_stated_share_of_their_data_sheet() -> None:
    work = pretraining(1000, workers=8, gpus_per_worker=1)
    hardware = hardware_of(work, ClusterConfig(gpu="H100"), HERE)
    found = training_estimate(work, hardware, HERE, [], None, None)
    assert found is not None
    assert work.flops is not None
    assert found.told == "at 40 % MFU of an H100 (989.5 TFLOP/s)"
    assert found.seconds - 20 == pytest.approx(work.flops / (0.4 * 989.5e12 * 8))


def test_recipe_that_wants_gpus_uses_those_that_are_here() -> None:
    work = pretraining(workers=2, gpus_per_worker=1)
    two = replace(HERE, gpus=(Gpu("NVIDIA A100-SXM4-80GB", 80 * 10**9), Gpu("NVIDIA A100-SXM4-40GB", 40 * 10**9)))
    here, away = hardware_of(work, ClusterConfig(), two), hardware_of(work, ClusterConfig(), HERE)
    assert hardware_of(work, ClusterConfig(gpu="A100"), two).is_here
    assert not hardware_of(work, ClusterConfig(gpu="H100"), two).is_here
    assert (here.is_here, here.memory) == (True, 40 * 10**9)
    assert (away.is_here, away.is_assumed, away.memory) == (False, True, None)


def test_gpus_elsewhere_that_earlier_runs_used_tell_more_than_a_data_sheet(workspace: Workspace) -> None:
    work = pretraining(100, workers=8, gpus_per_worker=1)
    folder = leave_training(workspace, "a1", work, step_seconds=0.5, beside=10.0)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"notes": {}', '"notes": {"device": "cuda:0"}'))
    known = past_trainings(History(workspace))
    found = training_estimate(work, hardware_of(work, ClusterConfig(gpu="H100"), HERE), HERE, known, None, None)
    assert found is not None
    assert (found.seconds, found.told) == (pytest.approx(60.0), "1 earlier run")
    fewer = pretraining(100, workers=2, gpus_per_worker=1)
    other = training_estimate(fewer, hardware_of(fewer, ClusterConfig(gpu="H100"), HERE), HERE, known, None, None)
    assert other is not None
    assert "MFU" in other.told

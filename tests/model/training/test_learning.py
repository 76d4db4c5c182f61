"""What a run learns by: optimizers, loss terms and averaged weights, through the whole loop."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.config.model_config import ModelConfig
from model.config.training_config import AverageConfig, BestConfig, LossConfig, OptimizerConfig, TrainingConfig
from model.data.batches import PretrainBatches
from model.nn.models import LanguageModel
from model.training.checkpoint import AVERAGE, checkpoint_path
from model.training.curve import CurvePoint
from model.training.record import Watch, ignore_event
from model.training.training import train
from tests.model.stop_after import StopAfter

OPTIMIZER = OptimizerConfig(learning_rate=3e-3, final_learning_rate=3e-4, warmup_steps=2)
TRAINING = TrainingConfig(
    steps=8, batch_rows=8, log_every=1, evaluate_every=2, evaluate_batches=1, checkpoint_every=2, keep_checkpoints=9, precision="float32"
)


@dataclasses.dataclass(frozen=True)
class Came:
    """What came of a run."""

    points: list[CurvePoint]
    weights: dict[str, torch.Tensor]

    @property
    def losses(self) -> list[tuple[float, float | None]]:
        return [(point.loss, point.validation_loss) for point in self.points]


def run(
    folder: Path, tiny: ModelConfig, batches: PretrainBatches, training: TrainingConfig, optimizer: OptimizerConfig, stop: int = 0
) -> Came:
    torch.manual_seed(5)
    model = LanguageModel(tiny, 61)
    points: list[CurvePoint] = []
    asked = StopAfter(stop) if stop else None
    train(model, batches, batches, training, optimizer, folder, "data", Watch(points.append, ignore_event), asked)
    return Came(points, {name: weight.detach().clone() for name, weight in model.named_parameters()})


def are_equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(weight, others[name]) for name, weight in some.items())


@pytest.mark.parametrize(
    ("optimizer", "average"),
    [
        (dataclasses.replace(OPTIMIZER, kind="muon"), AverageConfig(ema=0.9)),
        (dataclasses.replace(OPTIMIZER, kind="muon", state_dtype="bfloat16"), AverageConfig(last=2, every=2)),
        (dataclasses.replace(OPTIMIZER, state_dtype="bfloat16"), None),
        (dataclasses.replace(OPTIMIZER, kind="lion"), None),
        (dataclasses.replace(OPTIMIZER, kind="sgd"), None),
        (dataclasses.replace(OPTIMIZER, kind="adafactor"), None),
    ],
    ids=lambda one: str(one.kind) if isinstance(one, OptimizerConfig) else "",
)
def test_stopped_run_goes_on_to_the_last_bit(
    tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches, optimizer: OptimizerConfig, average: AverageConfig | None
):
    training = dataclasses.replace(TRAINING, average=average)
    whole = run(tmp_path / "whole", tiny, pretrain_batches, training, optimizer)
    first = run(tmp_path / "parts", tiny, pretrain_batches, training, optimizer, stop=5)
    second = run(tmp_path / "parts", tiny, pretrain_batches, training, optimizer)
    assert first.losses + second.losses == whole.losses
    assert are_equal(second.weights, whole.weights)


def test_optimizer_of_another_kind_is_refused_by_name(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    run(tmp_path, tiny, pretrain_batches, TRAINING, OPTIMIZER, stop=3)
    with pytest.raises(ValueError, match="written with optimizer.kind adamw .*but this run has muon .*set optimizer.kind to adamw"):
        run(tmp_path, tiny, pretrain_batches, TRAINING, dataclasses.replace(OPTIMIZER, kind="muon"))


def test_terms_of_the_loss_change_what_is_learned_and_not_what_is_told(
    tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches
):
    plain = run(tmp_path / "plain", tiny, pretrain_batches, TRAINING, OPTIMIZER)
    training = dataclasses.replace(TRAINING, loss=LossConfig(z=0.1, label_smoothing=0.3))
    other = run(tmp_path / "terms", tiny, pretrain_batches, training, OPTIMIZER)
    assert other.points[0].loss == plain.points[0].loss
    assert other.points[0].gradient_norm != plain.points[0].gradient_norm
    assert other.points[-1].loss == pytest.approx(plain.points[-1].loss, abs=0.3)  # with the terms it would be above by more
    assert not are_equal(other.weights, plain.weights)


def test_mean_of_the_last_weights_is_validated_and_comes_out(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    training = dataclasses.replace(TRAINING, average=AverageConfig(last=3, every=2))
    averaged = run(tmp_path / "averaged", tiny, pretrain_batches, training, OPTIMIZER)
    lengths = (4, 6, 8)
    states = [load_file(checkpoint_path(tmp_path / "averaged", step) / "model.safetensors") for step in lengths]
    for name, weight in averaged.weights.items():
        assert torch.allclose(weight, sum(state[name] for state in states) / 3, atol=1e-7)
    plain = run(tmp_path / "plain", tiny, pretrain_batches, TRAINING, OPTIMIZER)
    assert [point.loss for point in averaged.points] == [point.loss for point in plain.points]  # the training is the same
    assert averaged.points[-1].validation_loss != plain.points[-1].validation_loss
    assert not (checkpoint_path(tmp_path / "plain", 8) / AVERAGE).exists()


def test_moving_average_is_that_of_its_formula(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    training = dataclasses.replace(TRAINING, steps=6, checkpoint_every=1, average=AverageConfig(ema=0.3))
    averaged = run(tmp_path, tiny, pretrain_batches, training, OPTIMIZER)
    torch.manual_seed(5)
    expected = {name: weight.detach() for name, weight in LanguageModel(tiny, 61).named_parameters()}
    for step in range(6):
        state = load_file(checkpoint_path(tmp_path, step + 1) / "model.safetensors")
        keeps = min(0.3, (1 + step) / (10 + step))
        expected = {name: keeps * weight + (1 - keeps) * state[name] for name, weight in expected.items()}
    for name, weight in averaged.weights.items():
        assert torch.allclose(weight, expected[name], atol=1e-6)


def test_best_checkpoint_comes_out_with_its_own_average(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    best = BestConfig(least_gain=50.0, is_result=True)  # which nothing after the first evaluation gains
    training = dataclasses.replace(TRAINING, average=AverageConfig(ema=0.9), best=best)
    found = run(tmp_path, tiny, pretrain_batches, training, OPTIMIZER)
    held = load_file(checkpoint_path(tmp_path, 2) / AVERAGE)
    assert are_equal(found.weights, held)


def test_average_that_would_hold_nothing_is_refused():
    with pytest.raises(ValueError, match="every 100 is more than the 8 steps there are.*set it to 4 or less"):
        dataclasses.replace(TRAINING, average=AverageConfig(last=2))

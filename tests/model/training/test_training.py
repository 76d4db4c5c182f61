import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from model.config.model_config import ModelConfig
from model.config.training_config import PLAIN, LossConfig, OptimizerConfig, StepBatches, TrainingConfig
from model.data.batches import Batch, ExampleBatches, PretrainBatches
from model.data.row_stream import RowStream
from model.data.shard_reader import TokenRows
from model.nn.loss import LossSum
from model.nn.models import LanguageModel, SequenceClassifier, TokenClassifier
from model.training.curve import CurvePoint
from model.training.interruption import Asked
from model.training.record import Watch, ignore_event
from model.training.training import TrainingResult, train
from tests.model.stop_after import StopAfter

OPTIMIZER = OptimizerConfig(learning_rate=3e-3, final_learning_rate=3e-4, warmup_steps=2)
MakeShard = Callable[[str, int], Path]


IGNORED_ALL = Watch(lambda point: None, ignore_event)


def run_training(
    folder: Path,
    config: ModelConfig,
    batches: PretrainBatches,
    validation: PretrainBatches | None = None,
    identity: str = "data",
    asked: Asked | None = None,
    **changes: object,
) -> tuple[TrainingResult, list[CurvePoint], LanguageModel]:
    torch.manual_seed(5)
    model = LanguageModel(config, 61)
    settings = {"steps": 6, "batch_rows": batches.batch_rows, "log_every": 1, "evaluate_every": 2, "seed": 3} | changes
    figures: list[CurvePoint] = []
    training = TrainingConfig(precision="float32", **settings)
    result = train(model, batches, validation, training, OPTIMIZER, folder, identity, Watch(figures.append, ignore_event), asked)
    return result, figures, model


def start_process(shard: Path, checkpoints: Path, stop_step: int) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("training_run.py")
    command = [sys.executable, str(script), str(shard), str(checkpoints), str(stop_step)]
    settings = {"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | settings)


def lines_of(process: subprocess.Popen[str]) -> list[str]:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output.splitlines()


def test_resumed_training_matches_uninterrupted_training(tmp_path: Path, make_shard: MakeShard):
    shard = make_shard("train.parquet", 50)
    processes = [start_process(shard, tmp_path / "whole", 0), start_process(shard, tmp_path / "parts", 4)]
    whole, first = map(lines_of, processes)
    second = lines_of(start_process(shard, tmp_path / "parts", 0))
    assert first[-1].startswith("4 False 512 ")
    assert second[-1].startswith("8 True 1024 ")
    assert first[:-1] + second == whole


SCHEDULE = (StepBatches(2, 3), StepBatches(4, 2))  # of six steps: batches 0, 1, 2 to 4, 5 to 7, 8 and 9, 10 and 11


def test_larger_batches_are_those_of_a_plain_run_joined(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    _, plain, _ = run_training(tmp_path / "plain", tiny, pretrain_batches, steps=12)
    result, scheduled, _ = run_training(tmp_path / "scheduled", tiny, pretrain_batches, step_batches=SCHEDULE)
    digests = [int(digest, 16) for point in plain for digest in point.batch_digests or ()]
    joined = [sum(digests[first:end]) % 2**64 for first, end in ((0, 1), (1, 2), (2, 5), (5, 8), (8, 10), (10, 12))]
    assert [int(digest, 16) for point in scheduled for digest in point.batch_digests or ()] == joined
    assert result.tokens == 12 * 8 * 16


def test_step_of_several_batches_has_the_loss_and_gradient_of_one_large_batch(tmp_path: Path, tiny: ModelConfig, make_shard: MakeShard):
    rows = TokenRows.open([make_shard("train.parquet", 50)])
    small, large = (PretrainBatches(RowStream({"all": rows}, count, seed=3)) for count in (8, 24))
    _, joined, _ = run_training(tmp_path / "joined", tiny, small, step_batches=(StepBatches(0, 3),))
    _, whole, _ = run_training(tmp_path / "whole", tiny, large)
    assert [point.loss for point in joined] == pytest.approx([point.loss for point in whole], rel=1e-5)
    assert [point.gradient_norm for point in joined] == pytest.approx([point.gradient_norm for point in whole], rel=1e-4)


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_scheduled_run_resumed_anywhere_is_the_whole_one(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches, stop: int):
    noisy = replace(tiny, dropout=0.2)
    _, whole, model = run_training(tmp_path / "whole", noisy, pretrain_batches, step_batches=SCHEDULE)
    _, first, _ = run_training(tmp_path / "parts", noisy, pretrain_batches, step_batches=SCHEDULE, asked=StopAfter(stop))
    _, second, resumed = run_training(tmp_path / "parts", noisy, pretrain_batches, step_batches=SCHEDULE)
    assert [point.loss.hex() for point in (*first, *second)] == [point.loss.hex() for point in whole]
    assert [point.batch_digests for point in (*first, *second)] == [point.batch_digests for point in whole]
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.state_dict().items())


def test_accumulation_does_not_change_the_loss(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    losses = []
    for micro_rows in (8, 3, 1):  # 3: portions of 2, 3 and 3 rows
        _, figures, _ = run_training(tmp_path / str(micro_rows), tiny, pretrain_batches, micro_rows=micro_rows)
        losses.append([figure.loss for figure in figures])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_one_batch_is_learned_by_heart(tmp_path: Path, tiny: ModelConfig, make_shard: MakeShard):
    batches = PretrainBatches(RowStream({"all": TokenRows.open([make_shard("four.parquet", 4)])}, 4, seed=1))
    _, figures, _ = run_training(tmp_path, tiny, batches, steps=200, log_every=50)
    unknowable = math.log(4) / 16  # nats per token: each row begins with <|bos|>, which does not tell which of four it is
    assert figures[-1].loss - unknowable < 0.1


def test_first_loss_is_that_of_guessing(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    _, figures, _ = run_training(tmp_path, tiny, pretrain_batches)
    assert figures[0].loss == pytest.approx(math.log(61), abs=0.1)


def test_finished_run_returns_at_once_with_its_model(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    first, figures, model = run_training(tmp_path, tiny, pretrain_batches, pretrain_batches)
    again, no_figures, loaded = run_training(tmp_path, tiny, pretrain_batches, pretrain_batches)
    assert no_figures == []
    assert (again.step, again.finished, again.tokens) == (6, True, 6 * 8 * 16)
    assert (again.loss, again.validation_loss) == (first.loss, first.validation_loss)
    assert again.validation_loss == figures[-1].validation_loss
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_reports_come_at_log_steps_evaluations_checkpoints_and_the_end(
    tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches
):
    settings = {"steps": 11, "log_every": 4, "evaluate_every": 6, "checkpoint_every": 9}
    _, figures, _ = run_training(tmp_path, tiny, pretrain_batches, pretrain_batches, **settings)
    assert [figure.step for figure in figures] == [4, 6, 8, 9, 11]
    assert [figure.step for figure in figures if figure.validation_loss is not None] == [6, 11]
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000009", "step-00000011"]
    assert figures[-1].seconds_left == 0


def test_evaluation_does_not_change_training(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    _, without, _ = run_training(tmp_path / "without", tiny, pretrain_batches)
    _, with_it, _ = run_training(tmp_path / "with", tiny, pretrain_batches, pretrain_batches, evaluate_every=1)
    assert [figure.loss for figure in with_it] == [figure.loss for figure in without]


def test_stopped_run_leaves_a_checkpoint_to_go_on_from(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    stopped, _, _ = run_training(tmp_path, tiny, pretrain_batches, asked=StopAfter(3), log_every=2)
    assert (stopped.step, stopped.finished, stopped.checkpoint.name) == (3, False, "step-00000003")
    assert stopped.checkpoint.exists()
    finished, figures, _ = run_training(tmp_path, tiny, pretrain_batches, log_every=2)
    assert finished.finished
    assert [figure.step for figure in figures] == [4, 6]


def test_checkpoint_of_other_data_is_refused(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    run_training(tmp_path, tiny, pretrain_batches)
    with pytest.raises(ValueError, match="written with data data, but this run has other"):
        run_training(tmp_path, tiny, pretrain_batches, identity="other")
    with pytest.raises(ValueError, match="written with config"):
        run_training(tmp_path, tiny, pretrain_batches, steps=9)


def test_validation_loss_that_is_not_finite_ends_the_training(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    class Broken(LanguageModel):
        def loss(self, batch: Batch, terms: LossConfig = PLAIN) -> LossSum:
            loss = super().loss(batch, terms)
            return LossSum(loss.nats * (1.0 if self.training else float("nan")), loss.count)

    training = TrainingConfig(steps=2, batch_rows=8, evaluate_every=2, precision="bfloat16")
    with pytest.raises(FloatingPointError, match=r"^after step 2: validation loss nan.*learning_rate.*precision to float32"):
        train(Broken(tiny, 61), pretrain_batches, pretrain_batches, training, OPTIMIZER, tmp_path, "data", IGNORED_ALL)
    assert not list(tmp_path.glob("step-*"))


def test_batches_of_another_size_are_refused(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    with pytest.raises(ValueError, match="the batches have 8 rows, but batch_rows is 4"):
        run_training(tmp_path, tiny, pretrain_batches, batch_rows=4)


def test_classifiers_count_their_targets(tiny: ModelConfig):
    ids, lengths = torch.ones(3, 8, dtype=torch.int64), torch.tensor([8, 3, 5])
    rows = SequenceClassifier(tiny, 61, 4).loss(Batch(ids, torch.tensor([0, 3, 1]), lengths))
    labels = torch.full((3, 8), -100)
    labels[0, :5] = 2
    tokens = TokenClassifier(tiny, 61, 4).loss(Batch(ids, labels, lengths))
    assert (rows.count.item(), tokens.count.item()) == (3, 5)
    assert rows.nats.item() / 3 == pytest.approx(math.log(4), abs=0.2)
    assert tokens.nats.item() / 5 == pytest.approx(math.log(4), abs=0.2)


def test_frozen_trunk_is_not_changed_and_its_run_resumes(tmp_path: Path, tiny: ModelConfig):
    table = pa.table({"ids": pa.array([[1, 2, 3], [4, 5]] * 4, pa.list_(pa.int32())), "label": pa.array([0, 1] * 4)})
    batches = ExampleBatches(table, "class", 4, 1, context=16, pad_id=0)
    training = TrainingConfig(steps=4, batch_rows=4, log_every=2, precision="float32")
    model = SequenceClassifier(tiny, 61, 2)
    model.trunk.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for asked, step in ((StopAfter(2), 2), (None, 4)):
        result = train(model, batches, None, training, OPTIMIZER, tmp_path, "data", IGNORED_ALL, asked)
        assert result.step == step
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.score.weight"}


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_training_has_about_the_losses_of_a_plain_one(tmp_path: Path, tiny: ModelConfig, pretrain_batches: PretrainBatches):
    _, plain, _ = run_training(tmp_path / "plain", tiny, pretrain_batches, steps=4)
    _, compiled, _ = run_training(tmp_path / "compiled", tiny, pretrain_batches, steps=4, compile=True)
    assert [figures.loss for figures in compiled] == pytest.approx([figures.loss for figures in plain], rel=1e-4)

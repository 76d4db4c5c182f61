"""What a training survives: bad batches, requests to stop, full disks; and that nothing of it changes what is learned."""

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.config.model_config import ModelConfig
from model.config.training_config import PLAIN, BestConfig, FaultConfig, LossConfig, OptimizerConfig, StepBatches, TrainingConfig
from model.data.batches import Batch, PretrainBatches
from model.nn.loss import LossSum
from model.nn.models import LanguageModel
from model.training.checkpoint import checkpoints_in, find_damage, newest_checkpoint, step_of
from model.training.curve import CurvePoint
from model.training.events import Event
from model.training.interruption import Asked
from model.training.left_out import read_left_out
from model.training.record import Watch
from model.training.start import Start
from model.training.training import TrainingResult, train

OPTIMIZER = OptimizerConfig(learning_rate=3e-3, final_learning_rate=3e-4, warmup_steps=2)
STEADY = OptimizerConfig(learning_rate=3e-3, final_learning_rate=3e-4, warmup_steps=2, decay="constant")


@dataclass(frozen=True)
class Poisoned:
    """Batches of which some spoil the loss: by data step, what it is multiplied with."""

    inner: PretrainBatches
    factors: Mapping[int, float]

    @property
    def batch_rows(self) -> int:
        return self.inner.batch_rows

    def rows_at(self, step: int):
        return self.inner.rows_at(step)

    def evaluation(self, batches: int):
        return self.inner.evaluation(batches)

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """The first id of a spoiled batch's first row says how."""
        batch = self.inner.batch(step, start, stop)
        return dataclasses.replace(batch, task=str(self.factors.get(step, 1.0)))


class Spoilt(LanguageModel):
    """A language model that multiplies its loss as the batch says."""

    def loss(self, batch: Batch, terms: LossConfig = PLAIN) -> LossSum:
        loss = super().loss(batch, terms)
        return LossSum(loss.nats * float(batch.task or 1.0), loss.count)


@dataclass
class Course:
    """What came of a training."""

    points: list[CurvePoint] = field(default_factory=list[CurvePoint])
    events: list[Event] = field(default_factory=list[Event])
    result: TrainingResult | None = None
    weights: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def told(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    @property
    def losses(self) -> dict[int, str]:
        return {point.step: point.loss.hex() for point in self.points}


@dataclass
class StopAfter:
    """Asks to stop, or to save, after so many steps of this process."""

    stop_step: int = 0
    save_step: int = 0
    done: int = 0

    def stop(self) -> bool:
        self.done += 1
        return self.done == self.stop_step

    def save(self) -> bool:
        return self.done + 1 == self.save_step


def run(
    folder: Path,
    batches: PretrainBatches,
    factors: Mapping[int, float] | None = None,
    asked: Asked | None = None,
    optimizer: OptimizerConfig = OPTIMIZER,
    validation: PretrainBatches | None = None,
    start: Start | None = None,
    dropout: float = 0.2,
    **changes: object,
) -> Course:
    torch.manual_seed(5)
    model = Spoilt(ModelConfig(layers=2, width=32, heads=4, context=16, dropout=dropout), 61)
    settings = {"steps": 12, "batch_rows": 8, "micro_rows": 4, "log_every": 1, "checkpoint_every": 4, "seed": 3, "precision": "float32"}
    course = Course()
    training = TrainingConfig(**{**settings, **changes})
    watch = Watch(course.points.append, course.events.append)
    course.result = train(model, Poisoned(batches, factors or {}), validation, training, optimizer, folder, "data", watch, asked, start)
    course.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return course


def same_weights(one: Course, other: Course) -> bool:
    return all(torch.equal(tensor, other.weights[name]) for name, tensor in one.weights.items())


def test_step_with_a_nan_is_skipped_and_told_and_the_run_goes_on(tmp_path: Path, pretrain_batches: PretrainBatches):
    course = run(tmp_path, pretrain_batches, {4: math.nan, 7: math.inf})
    assert course.result is not None
    assert (course.result.finished, course.result.step, course.result.skipped) == (True, 12, 2)
    assert [(event.step, event.data_step) for event in course.told("skipped")] == [(5, 4), (8, 7)]
    assert "not finite" in course.told("skipped")[0].told
    assert all(tensor.isfinite().all() for tensor in course.weights.values())
    assert math.isfinite(course.points[5].loss)


def test_skipped_step_leaves_weights_and_moments_as_they_were(tmp_path: Path, pretrain_batches: PretrainBatches):
    settings = {"dropout": 0.0, "checkpoint_every": 1, "keep_checkpoints": 9, "steps": 5}
    run(tmp_path, pretrain_batches, {3: math.nan}, **settings)
    before, after = ((tmp_path / f"step-{step:08d}") for step in (3, 4))
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (before / name).read_bytes() == (after / name).read_bytes()
    assert (after / "model.safetensors").read_bytes() != (tmp_path / "step-00000005" / "model.safetensors").read_bytes()


def test_loss_far_above_the_steps_before_is_skipped_with_its_bound(tmp_path: Path, pretrain_batches: PretrainBatches):
    course = run(tmp_path, pretrain_batches, {9: 3.0}, faults=FaultConfig(window=8), steps=12)
    (skipped,) = course.told("skipped")
    assert skipped.step == 10
    assert "is above the bound of" in skipped.told
    assert course.result is not None
    assert course.result.finished


def test_without_deviations_only_what_is_not_finite_is_skipped(tmp_path: Path, pretrain_batches: PretrainBatches):
    course = run(tmp_path, pretrain_batches, {9: 3.0}, faults=FaultConfig(window=8, deviations=0))
    assert course.told("skipped") == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_run_with_skips_that_was_stopped_anywhere_equals_one_that_was_not(
    tmp_path: Path, pretrain_batches: PretrainBatches, precision: str
):
    factors, settings = {2: math.nan, 6: math.nan, 9: 4.0}, {"faults": FaultConfig(window=8), "precision": precision}
    whole = run(tmp_path / "whole", pretrain_batches, factors, **settings)
    for stop in (1, 3, 7, 10):
        first = run(tmp_path / str(stop), pretrain_batches, factors, StopAfter(stop), **settings)
        assert first.result is not None
        assert (first.result.finished, first.result.step) == (False, stop)
        second = run(tmp_path / str(stop), pretrain_batches, factors, **settings)
        assert {**first.losses, **second.losses} == whole.losses
        assert same_weights(second, whole)
        assert second.result is not None
        assert whole.result is not None
        assert second.result.skipped == whole.result.skipped


POISON = dict.fromkeys(range(5, 8), math.nan)  # three in a row
GIVES_UP = {"faults": FaultConfig(in_a_row=3), "steps": 12}


def test_after_too_many_in_a_row_the_run_goes_back_and_leaves_their_batches_out(tmp_path: Path, pretrain_batches: PretrainBatches):
    course = run(tmp_path, pretrain_batches, POISON, **GIVES_UP)
    assert course.result is not None
    assert (course.result.finished, course.result.returns) == (True, 1)
    (left,) = read_left_out(tmp_path)
    assert (left.step, left.first, left.count) == (4, 4, 4)  # to checkpoint 4; data steps 4 to 7 are not taken again
    assert "to step 4: the batches of data steps 4 to 7" in course.told("returned")[0].told
    again = {point.step: point.batch_digests for point in course.points}
    clean = run(tmp_path / "clean", pretrain_batches, steps=16)
    data = {point.step - 1: point.batch_digests for point in clean.points}
    assert [again[step] for step in range(5, 13)] == [data[step] for step in range(8, 16)]


def test_run_that_went_back_and_was_stopped_anywhere_equals_one_that_was_not(tmp_path: Path, pretrain_batches: PretrainBatches):
    whole = run(tmp_path / "whole", pretrain_batches, POISON, **GIVES_UP)
    for stop in (3, 6, 7, 9, 11):
        first = run(tmp_path / str(stop), pretrain_batches, POISON, StopAfter(stop), **GIVES_UP)
        second = run(tmp_path / str(stop), pretrain_batches, POISON, **GIVES_UP)
        assert {**first.losses, **second.losses} == whole.losses
        assert same_weights(second, whole)
        assert read_left_out(tmp_path / str(stop)) == read_left_out(tmp_path / "whole")


LARGER = {"step_batches": (StepBatches(2, 2), StepBatches(9, 1)), **GIVES_UP}
SPOILT = dict.fromkeys((9, 10, 13), math.nan)  # of data steps 8 and 9, 10 and 11, 12 and 13: of three steps in a row


def test_run_with_larger_batches_leaves_all_batches_of_its_bad_steps_out(tmp_path: Path, pretrain_batches: PretrainBatches):
    course = run(tmp_path, pretrain_batches, SPOILT, **LARGER)
    assert [(event.step, event.data_step) for event in course.told("skipped")] == [(6, 8), (7, 10), (8, 12)]
    (left,) = read_left_out(tmp_path)
    assert (left.step, left.first, left.count) == (4, 6, 8)  # data steps 6 to 13, of steps 5 to 8
    again = {point.step: point.batch_digests for point in course.points}
    clean = run(tmp_path / "clean", pretrain_batches, steps=27)
    plain = [int(digest, 16) for point in clean.points for digest in point.batch_digests or ()]
    read = [range(14 + 2 * at, 16 + 2 * at) for at in range(5)] + [range(24 + at, 25 + at) for at in range(3)]  # of steps 5 to 12
    assert [int((again[step] or ("",))[0], 16) for step in range(5, 13)] == [sum(plain[at] for at in one) % 2**64 for one in read]


def test_run_with_larger_batches_that_went_back_equals_one_that_was_stopped(tmp_path: Path, pretrain_batches: PretrainBatches):
    whole = run(tmp_path / "whole", pretrain_batches, SPOILT, **LARGER)
    for stop in (3, 7, 9):
        first = run(tmp_path / str(stop), pretrain_batches, SPOILT, StopAfter(stop), **LARGER)
        second = run(tmp_path / str(stop), pretrain_batches, SPOILT, **LARGER)
        assert {**first.losses, **second.losses} == whole.losses
        assert same_weights(second, whole)


def test_checkpoint_of_a_course_that_was_left_is_not_gone_on_from(tmp_path: Path, pretrain_batches: PretrainBatches):
    """The run is killed between noting where it went back to and deleting what lay behind."""
    whole = run(tmp_path / "whole", pretrain_batches, POISON, **GIVES_UP)
    parts = tmp_path / "parts"
    run(parts, pretrain_batches, POISON, StopAfter(6), **GIVES_UP)  # a checkpoint of step 6, with one step skipped
    shutil.copy(tmp_path / "whole" / "left_out.json", parts)
    second = run(parts, pretrain_batches, POISON, **GIVES_UP)
    assert second.points[0].step == 5
    assert same_weights(second, whole)


def test_run_that_cannot_go_back_any_more_ends_and_says_what_to_change(tmp_path: Path, pretrain_batches: PretrainBatches):
    endless = dict.fromkeys(range(5, 99), math.nan)
    with pytest.raises(
        FloatingPointError, match=r"3 steps in a row were skipped .* it went back 2 times.*Fix: lower optimizer.learning_rate"
    ):
        run(tmp_path, pretrain_batches, endless, faults=FaultConfig(in_a_row=3, most_returns=2), steps=40)
    with pytest.raises(FloatingPointError, match="no good checkpoint to go back to"):
        run(tmp_path / "none", pretrain_batches, dict.fromkeys(range(9), math.nan), **GIVES_UP)


def test_save_that_is_asked_for_is_there_and_changes_nothing(tmp_path: Path, pretrain_batches: PretrainBatches):
    whole = run(tmp_path / "whole", pretrain_batches, checkpoint_every=100)
    saved = run(tmp_path / "saved", pretrain_batches, asked=StopAfter(save_step=7), checkpoint_every=100, keep_checkpoints=3)
    assert [event.step for event in saved.told("saved")] == [7, 12]
    assert same_weights(whole, saved)


def test_permanent_checkpoints_and_the_newest_are_kept(tmp_path: Path, pretrain_batches: PretrainBatches):
    run(tmp_path, pretrain_batches, checkpoint_every=2, keep_checkpoints=1, keep_every=4, steps=11)
    assert sorted(map(step_of, checkpoints_in(tmp_path))) == [4, 8, 10, 11]


def test_best_checkpoint_is_kept_and_its_weights_are_the_result(tmp_path: Path, pretrain_batches: PretrainBatches):
    settings = {"evaluate_every": 2, "checkpoint_every": 100, "steps": 12}
    hot = OptimizerConfig(learning_rate=0.3, final_learning_rate=0.3, warmup_steps=8)  # gets worse once it is warm
    best = BestConfig(is_result=True)
    course = run(tmp_path, pretrain_batches, optimizer=hot, validation=pretrain_batches, best=best, **settings)
    losses = {point.step: point.validation_loss for point in course.points if point.validation_loss is not None}
    least = min(losses, key=lambda step: losses[step] or math.inf)
    assert least != 12
    assert course.result is not None
    assert (course.result.best_step, course.result.best) == (least, losses[least])
    assert course.result.validation_loss == losses[least]
    assert sorted(map(step_of, checkpoints_in(tmp_path))) == [least, 12]
    last = run(tmp_path / "last", pretrain_batches, optimizer=hot, validation=pretrain_batches, **settings)
    assert not same_weights(course, last)


def test_run_ends_early_once_nothing_gets_better_and_stays_ended(tmp_path: Path, pretrain_batches: PretrainBatches):
    hot = OptimizerConfig(learning_rate=0.3, final_learning_rate=0.3, warmup_steps=8)
    settings = {"evaluate_every": 1, "checkpoint_every": 100, "steps": 60, "best": BestConfig(patience=3, is_result=True)}
    course = run(tmp_path, pretrain_batches, optimizer=hot, validation=pretrain_batches, **settings)
    assert course.result is not None
    assert (course.result.finished, course.result.ended_early) == (True, True)
    assert course.result.best_step == course.result.step - 3
    assert "3 evaluations since" in course.told("ended early")[0].told
    again = run(tmp_path, pretrain_batches, optimizer=hot, validation=pretrain_batches, **settings)
    assert again.points == []
    assert same_weights(again, course)


def test_patience_without_validation_is_refused(tmp_path: Path, pretrain_batches: PretrainBatches):
    with pytest.raises(ValueError, match="best: patience 3 waits for validation_loss, but the training measures none.*leave best out"):
        run(tmp_path, pretrain_batches, best=BestConfig(patience=3))


def test_damaged_checkpoint_is_passed_over_by_name(tmp_path: Path, pretrain_batches: PretrainBatches):
    whole = run(tmp_path, pretrain_batches)
    (tmp_path / "step-00000012" / "model.safetensors").write_bytes(b"short")
    again = run(tmp_path, pretrain_batches)
    (passed,) = again.told("passed over")
    assert "step-00000012: model.safetensors has 5 bytes" in passed.told
    assert [point.step for point in again.points] == [9, 10, 11, 12]
    assert same_weights(again, whole)


def test_disk_that_takes_no_checkpoint_ends_the_save_and_not_the_run(tmp_path: Path, pretrain_batches: PretrainBatches):
    """A file where a checkpoint's folder would be made stands for a disk that is full: both are an OSError of the write."""

    class InTheWay(StopAfter):
        def stop(self) -> bool:
            self.done += 1
            if self.done == 6:
                (tmp_path / ".unfinished-step-00000008").write_text("in the way")
            if self.done == 10:
                (tmp_path / ".unfinished-step-00000008").unlink()
            return False

    course = run(tmp_path, pretrain_batches, asked=InTheWay())
    assert course.result is not None
    assert course.result.finished
    assert [event.step for event in course.told("save failed")] == [8]
    assert [event.step for event in course.told("saved")] == [4, 12]
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step-00000012"


def test_lengthened_run_equals_the_longer_one_from_the_branch_on(tmp_path: Path, pretrain_batches: PretrainBatches):
    longer = run(tmp_path / "longer", pretrain_batches, {2: math.nan}, optimizer=STEADY, steps=20)
    run(tmp_path / "first", pretrain_batches, {2: math.nan}, optimizer=STEADY)
    start = Start(tmp_path / "first" / "step-00000008", "on", keeps_moments=True)
    branch = run(tmp_path / "branch", pretrain_batches, {2: math.nan}, optimizer=STEADY, steps=20, start=start)
    assert branch.losses == {step: loss for step, loss in longer.losses.items() if step > 8}
    assert same_weights(branch, longer)


def test_branch_knows_what_its_parent_left_out(tmp_path: Path, pretrain_batches: PretrainBatches):
    longer = run(tmp_path / "longer", pretrain_batches, POISON, optimizer=STEADY, faults=FaultConfig(in_a_row=3), steps=20)
    run(tmp_path / "first", pretrain_batches, POISON, optimizer=STEADY, **GIVES_UP)
    start = Start(tmp_path / "first" / "step-00000012", "on", keeps_moments=True)
    settings = {"optimizer": STEADY, "faults": FaultConfig(in_a_row=3), "steps": 20}
    run(tmp_path / "branch", pretrain_batches, POISON, StopAfter(3), start=start, **settings)
    branch = run(tmp_path / "branch", pretrain_batches, POISON, start=start, **settings)
    assert same_weights(branch, longer)


def test_branch_may_go_back_to_where_it_began(tmp_path: Path, pretrain_batches: PretrainBatches):
    run(tmp_path / "first", pretrain_batches, optimizer=STEADY, checkpoint_every=5, steps=10)
    start = Start(tmp_path / "first" / "step-00000005", "on", keeps_moments=True)
    settings = {"optimizer": STEADY, "faults": FaultConfig(in_a_row=3), "steps": 20, "checkpoint_every": 100}
    whole = run(tmp_path / "whole", pretrain_batches, dict.fromkeys(range(7, 10), math.nan), start=start, **settings)
    assert whole.result is not None
    assert whole.result.returns == 1
    assert [(one.step, one.first, one.count) for one in read_left_out(tmp_path / "whole")] == [(5, 5, 5)]
    for stop in (2, 4):
        run(tmp_path / str(stop), pretrain_batches, dict.fromkeys(range(7, 10), math.nan), StopAfter(stop), start=start, **settings)
        second = run(tmp_path / str(stop), pretrain_batches, dict.fromkeys(range(7, 10), math.nan), start=start, **settings)
        assert same_weights(second, whole)


def test_run_that_counts_anew_begins_with_the_weights_at_step_0(tmp_path: Path, pretrain_batches: PretrainBatches):
    first = run(tmp_path / "first", pretrain_batches)
    start = Start(tmp_path / "first" / "step-00000012", "anew", keeps_moments=False)
    second = run(tmp_path / "second", pretrain_batches, start=start, dropout=0.0)
    assert [point.step for point in second.points] == list(range(1, 13))
    assert second.points[0].loss < first.points[0].loss - 0.1
    assert second.points[0].batch_digests == first.points[0].batch_digests


def test_manifest_names_every_file_with_its_digest(tmp_path: Path, pretrain_batches: PretrainBatches):
    run(tmp_path, pretrain_batches, steps=4)
    folder = tmp_path / "step-00000004"
    names = json.loads((folder / "manifest.json").read_text())["files"]
    assert {*names, "manifest.json"} == {path.name for path in folder.iterdir()}
    assert find_damage(folder) is None

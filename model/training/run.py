"""Run: one call of the training loop: its model, its state, and what it does at a step."""

import dataclasses
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.config.layout_config import check_optimizer
from model.config.training_config import OptimizerConfig, TrainingConfig, settings_digest
from model.data.batches import Batch, Batches
from model.data.digest import joined, split
from model.data.prefetch import Made, Prefetch
from model.distributed.control import Control
from model.distributed.device import agree_on, choose_device, choose_precision
from model.distributed.evaluation import mean_loss
from model.distributed.layout import Layout
from model.nn.document_masks import with_masks
from model.nn.float8 import use_float8
from model.nn.models import Model, set_compute_dtype, set_recomputed
from model.optim.average import Average
from model.optim.optimizer import build_optimizer, set_learning_rate, step_where
from model.optim.schedule import learning_rate
from model.training.batch_steps import BatchSteps
from model.training.best import check_measured, judged
from model.training.checkpoint import (
    TrainingState,
    check_moments,
    check_resumable,
    checkpoint_path,
    load_average,
    load_checkpoint,
    load_optimizer,
    load_weights,
    read_state,
    step_of,
)
from model.training.curve import CurvePoint
from model.training.events import Event
from model.training.interruption import Asked
from model.training.left_out import LeftOut, data_step, data_steps, read_left_out, with_return, write_left_out
from model.training.memory import peak_memory_bytes
from model.training.micro_rows import fitting_micro_rows
from model.training.mirror import Mirror
from model.training.norms import LayerNorms
from model.training.peak import flops_of, measured_peak
from model.training.profile import StepProfile
from model.training.record import Watch
from model.training.resuming import diverged, good_step, leave_course, newest_step
from model.training.saver import Saver
from model.training.start import Start
from model.training.step_guard import StepGuard
from model.training.window import Measured, Window

OF_THIS_RUN = ("identity", "config", "seed", "world", "threads", "torch", "device", "precision", "micro_rows")


@dataclass(frozen=True)
class Wanted:
    """What any process was asked for by the end of a step."""

    save: bool
    stop: bool


class Run:
    """One call of `train`."""

    def __init__(
        self,
        model: Model,
        batches: Batches,
        validation: Batches | None,
        training: TrainingConfig,
        optimizer: OptimizerConfig,
        checkpoints: Path,
        identity: str,
        watch: Watch,
        more_validation: Mapping[str, Batches],
        place: Mirror | None,
    ) -> None:
        self.device = choose_device()
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self.control = Control()
        self.training, self.optimizer_config = training, optimizer
        self.dtype = self._precision(None)  # until a checkpoint tells what the run began with
        is_settled = training.precision != "auto" or self.device.type == "cuda"  # and no checkpoint tells another one
        check_optimizer(training.layout, optimizer.kind)
        self.layout = Layout(training.layout, self.device, self.dtype if is_settled else torch.float32)
        self.rank, self.world = self.layout.mesh.rank, self.layout.mesh.world
        self.micro_rows = training.batch_rows if training.micro_rows == "auto" else training.micro_rows  # auto: chosen by `begin`
        self.slices = self.layout.slices(training.batch_rows, self.micro_rows)
        if batches.batch_rows != training.batch_rows:
            raise ValueError(f"the batches have {batches.batch_rows} rows, but batch_rows is {training.batch_rows}")
        check_measured(training, validation is not None, more_validation)
        set_compute_dtype(model, self.dtype)
        set_recomputed(model, training.layout.activation_checkpointing)
        if training.float8:
            use_float8(model, self.device)
        self.whole = model
        self.placed = self.layout.place(model, self.control, training.compile, training.loss)
        self.model = self.placed.model
        self.batches, self.validation, self.more_validation = batches, validation, more_validation
        self.checkpoints, self.watch = checkpoints, watch
        self.optimizer = build_optimizer(self.model, optimizer)
        self.guard = StepGuard(training.faults, self.device)
        self.place = place
        self.saver = Saver(checkpoints, training, self.control, self.rank == 0, place, self.layout)
        self.profile = StepProfile(training.profile, checkpoints.parent, self.rank)
        self.norms: dict[str, float] | None = None  # since the last report
        self.peak_flops = 0.0  # of all processes
        self.batch_steps = BatchSteps(training.step_batches)
        self.left_out: tuple[LeftOut, ...] = ()
        self.average: Average | None = None
        self.state = self._new_state(identity)
        self.started = time.perf_counter()
        self.trained_seconds, self.first_step = 0.0, 0
        self.window = Window()
        self.is_stopped, self.went_back, self.is_best = False, False, False

    def _precision(self, before: torch.dtype | None) -> torch.dtype:
        """What all processes compute in: float32 where any of them has chosen it."""
        chosen = choose_precision(self.training.precision, self.device, before)
        (exact,) = self.control.sums(float(chosen == torch.float32))
        return torch.float32 if exact else chosen

    # -- Beginning ------------------------------------------------------------------------------------------------------

    def begin(self, start: Start | None) -> None:
        """Loads the newest whole checkpoint, or the start's, or seeds the generators; then wraps the model for its processes."""
        began = time.perf_counter()
        torch.manual_seed((self.training.seed * 1_000_003 + self.layout.mesh.data_rank) % 2**63)
        step = agree_on(newest_step(self.checkpoints, self.place, self.tell) if self.rank == 0 else -1, self.device)
        self.left_out = read_left_out(self.checkpoints)
        told = "anew"
        if start is not None and start.counts == "on":
            self.saver.begun_at = step_of(start.checkpoint)
        if self.training.micro_rows == "auto":
            self._choose_micro_rows(checkpoint_path(self.checkpoints, step) if step >= 0 else None, start)
        if step >= 0:
            path = checkpoint_path(self.checkpoints, step)
            self._resume(path)
            told = f"goes on from {path.name}"
        elif start is not None:
            self._begin_from(start)
            told = f"begins at {start.checkpoint}, and counts {start.counts}"
        if step < 0:
            self.average = self._new_average()
            if start is not None and start.counts == "on":
                load_average(start.checkpoint, self.average)
        self.first_step = self.state.step
        self.model.train()
        self.scored = self.layout.wrap(self.placed)
        seconds = time.perf_counter() - began
        peak = measured_peak(self.device, self.dtype)
        (self.peak_flops,) = self.control.sums(peak.flops)
        told = f"{told}: {self.state.step} of {self.training.steps} steps are done; peak of each process: {peak.told}"
        if self.training.micro_rows == "auto":
            told = f"{told}; rows of one forward pass, as many as fit: {self.micro_rows}"
        self.tell(Event("started", self.state.step, told, seconds=seconds, processes=self.world, micro_rows=self.micro_rows))
        if step < 0 and self.saver.begun_at is not None:
            self.save(waits=False)  # its own, to go back to, and to go on from should the other run be deleted
        self.window = Window()

    def _choose_micro_rows(self, newest: Path | None, start: Start | None) -> None:
        """As many as fit; where the run goes on as many as before, so that it is the same to the last bit."""
        before = start.checkpoint if newest is None and start is not None and start.counts == "on" else newest
        found = None if before is None else read_state(before)
        if found is not None and (found.world, found.device) == (self.world, self.device.type):
            self.micro_rows = found.micro_rows
        else:
            self.micro_rows = fitting_micro_rows(self.model, self.batches, self.training, self.control, self.layout)
        self.slices = self.layout.slices(self.training.batch_rows, self.micro_rows)
        self.state = dataclasses.replace(self.state, micro_rows=self.micro_rows)

    def _resume(self, path: Path) -> None:
        found = read_state(path)
        self._go_on_in(found)
        check_moments(path, self.optimizer)
        check_resumable(path, found, self.state)
        self._load(path)
        self.average = self._new_average()
        load_average(path, self.average)
        self._go_on_with(found)

    def _go_on_in(self, found: TrainingState) -> None:
        before = torch.bfloat16 if found.precision == "bfloat16" else torch.float32
        self.dtype = self._precision(before)
        set_compute_dtype(self.model, self.dtype)
        self.state = dataclasses.replace(self.state, precision=str(self.dtype).removeprefix("torch."))

    def _load(self, path: Path) -> None:
        load_checkpoint(path, self.model, self.optimizer, self.guard, self.layout.held, self.layout.mesh.data_rank)

    def _go_on_with(self, found: TrainingState) -> None:
        """The state as it was saved, on the machine as it is."""
        own = {name: getattr(self.state, name) for name in OF_THIS_RUN}
        self.state = dataclasses.replace(found, **own, returns=len(self.left_out))

    def _begin_from(self, start: Start) -> None:
        """From another run's checkpoint. Its best is not this run's, and of what it left out counts what it knew there."""
        found = read_state(start.checkpoint)
        if start.counts == "on":
            self._go_on_in(found)
            self._load(start.checkpoint)
            self.left_out = read_left_out(start.checkpoint.parent)[: found.returns]
            if self.rank == 0 and self.left_out:
                self.checkpoints.mkdir(parents=True, exist_ok=True)
                write_left_out(self.checkpoints, self.left_out)
            self._go_on_with(dataclasses.replace(found, best=None, best_step=None, waited=0))
            return
        load_weights(start.checkpoint, self.model, self.layout.held)
        if start.keeps_moments:
            load_optimizer(start.checkpoint, self.model, self.optimizer, self.layout.held)

    def _new_average(self) -> Average | None:
        """Of the weights as they are."""
        return None if self.training.average is None else Average(self.training.average, self.model)

    def prefetch(self) -> Prefetch:
        """This process' micro-batches of the steps that are left."""
        self.went_back = False
        steps = (data_steps(step, self.left_out, self.batch_steps) for step in range(self.state.step, self.training.steps))
        return Prefetch(self.batches, self.slices, steps, pins_memory=self.device.type == "cuda")

    # -- A step ---------------------------------------------------------------------------------------------------------

    def take_step(self, ahead: Prefetch, asked: Asked) -> Wanted:
        """One optimizer step on this process' share of the global batch; left out where the guard says so."""
        began = time.perf_counter()
        made = ahead.next()
        self.window.waited += time.perf_counter() - began
        step = self.state.step
        if step in self.training.fresh_steps:
            self.guard.forget()
        seen = (made.targets, made.tokens, *split(made.digest % 2**64)) if self.layout.mesh.counts else (0, 0, 0, 0)
        targets, tokens, high, low, saves, stops = self.control.sums(*seen, asked.save(), asked.stop())
        nats = self._watched_learn(made, targets)
        loss = self.layout.mesh.data_sum(nats.double()) / max(1.0, targets)
        norm = self.layout.clip(self.model, self.optimizer_config.clip_norm)
        verdict = self.guard.judge(loss, norm)
        set_learning_rate(self.optimizer, learning_rate(step, self.training.steps, self.optimizer_config))
        step_where(self.optimizer, verdict.takes)
        if self.average is not None:
            self.average.add(step + 1, verdict.takes)
        self.optimizer.zero_grad(set_to_none=True)
        self.window.sequences += made.sequences
        self.window.own_tokens += made.tokens
        first = data_step(step, self.left_out, self.batch_steps)
        self.window.add(first, loss, norm, verdict, targets, int(tokens), joined(high, low))
        self.state = dataclasses.replace(self.state, step=step + 1)
        return Wanted(bool(saves), bool(stops))

    def _watched_learn(self, made: Made, targets: float) -> Tensor:
        """`_learn`, with norms by layer where they are due."""
        every = self.training.norms_every
        if every is None or (self.state.step + 1) % every:
            return self._learn(made, targets)
        with LayerNorms(self.model, self.layout) as layers:
            nats = self._learn(made, targets)
            self.norms = layers.norms()
        return nats

    def _learn(self, made: Made, targets: float) -> Tensor:
        """Forward and backward over the slices; returns the sum of this process' nats."""
        scale = self.layout.mesh.data / max(1.0, targets)  # the wrapper averages over processes; the loss is per global target
        nats = torch.zeros((), device=self.device)
        for number, batch in enumerate(made.slices):
            with self.layout.gradient_sync(self.scored, is_due=number == len(made.slices) - 1):
                learned, own = self.scored(self._moved(batch))
                (learned * scale).backward()
            nats += own.detach()
        return nats

    def _moved(self, batch: Batch) -> Batch:
        """On the device; where the step is compiled, its documents in shapes that do not change."""
        moved = batch.to(self.device)
        if not self.training.compile or moved.documents is None:
            return moved
        return dataclasses.replace(moved, documents=with_masks(moved.documents, self.model.trunk.config))

    # -- After steps ----------------------------------------------------------------------------------------------------

    def close_window(self, evaluates: bool) -> None:
        """Figures since the last call are told, with a validation loss where `evaluates`; goes back where too much was skipped."""
        measured = self.window.close(self.state.step, self.training.faults.in_a_row)
        self._tell_skipped(measured)
        self.tell_saves()
        if measured.gave_up is not None:
            self._go_back(measured)
            return
        self.trained_seconds += measured.seconds
        self.state = dataclasses.replace(
            self.state,
            tokens=self.state.tokens + measured.tokens,
            loss=self.state.loss if measured.loss is None else measured.loss,
            skipped=self.state.skipped + len(measured.skipped),
            in_a_row=measured.in_a_row,
        )
        validation = self._validate() if evaluates else None
        self._report(measured, validation)
        self.window = Window()

    def _validate(self) -> dict[str, float]:
        """Validation loss under "", and those of further batches by their names; notes whether the deciding one is the best.

        Of the averaged weights, where there are such.
        """
        with nullcontext() if self.average is None else self.average.in_place():
            found = {name: self._loss_on(batches) for name, batches in self.more_validation.items()}
            if self.validation is not None:
                found[""] = self._loss_on(self.validation)
        for name, loss in found.items():
            if not math.isfinite(loss):
                figure = f"validation loss of {name}" if name else "validation loss"
                raise FloatingPointError(self._diverged(f"after step {self.state.step}: {figure} {loss:g}, expected a finite one"))
        self.state = dataclasses.replace(self.state, validation_loss=found.get("", self.state.validation_loss))
        chosen = self.training.best
        if chosen is not None:
            self.state, self.is_best = judged(self.state, chosen, found)
            if self.ends_early:
                told = f"{chosen.figure} {self.state.best:.4f} of step {self.state.best_step} is the best of"
                told = f"{told} {chosen.patience} evaluations since"
                self.tell(Event("ended early", self.state.step, told))
        return found

    def more_losses(self) -> dict[str, float]:
        """Of the further validation batches, by the weights as they are."""
        return {name: self._loss_on(batches) for name, batches in self.more_validation.items()}

    def _report(self, measured: Measured, validation: Mapping[str, float] | None) -> None:
        step, steps = self.state.step, self.training.steps
        done = self.batch_steps.before(step)
        left = self.batch_steps.before(steps) - done
        needed = flops_of(self.whole, measured.row_tokens) * measured.tokens / measured.seconds
        point = CurvePoint(
            step=step,
            steps=steps,
            loss=math.nan if measured.loss is None else measured.loss,
            learning_rate=learning_rate(step - 1, steps, self.optimizer_config),
            gradient_norm=measured.gradient_norm,
            tokens_per_second=measured.tokens / measured.seconds,
            seconds_left=left * self.trained_seconds / max(1, done - self.batch_steps.before(self.first_step)),
            validation_loss=None if validation is None else validation.get(""),
            worst_step=measured.worst_step,
            worst_loss=measured.worst_loss,
            seconds=time.perf_counter() - self.started,
            tokens=self.state.tokens,
            mfu=needed / self.peak_flops,
            memory_bytes=peak_memory_bytes(self.device),
            norms=self.norms,
            data_wait=measured.waited / measured.seconds,
            skipped=self.state.skipped,
            batch_digests=measured.digests,
            validation_losses=None if validation is None else {name: loss for name, loss in validation.items() if name} or None,
        )
        self.norms = None
        if self.rank == 0:
            self.watch.report(point)

    def _go_back(self, measured: Measured) -> None:
        """To the newest whole checkpoint before which nothing was skipped in a row; what lay between is left out from now on."""
        assert measured.gave_up is not None
        faults = self.training.faults
        last = next(one for one in measured.skipped if one.data_step == measured.data_steps[measured.gave_up])
        self.saver.wait()
        self.tell_saves()
        good = good_step(self.checkpoints, self.training.checkpoint_every, self.saver.begun_at) if self.rank == 0 else -1
        target = agree_on(good, self.device)
        if target < 0 or self.state.returns >= faults.most_returns:
            why = f"it went back {self.state.returns} times" if target >= 0 else "there is no good checkpoint to go back to"
            raise FloatingPointError(
                self._diverged(f"step {last.step}: {faults.in_a_row} steps in a row were skipped ({last.told}), and {why}")
            )
        end = data_steps(last.step - 1, self.left_out, self.batch_steps).stop
        self.left_out = with_return(self.left_out, target, end, self.batch_steps)
        if self.rank == 0:
            leave_course(self.checkpoints, self.left_out)
        left = self.left_out[-1]
        told = f"to step {target}: the batches of data steps {left.first} to {left.first + left.count - 1} are left out from now on"
        self.tell(Event("returned", self.state.step, told, seconds=measured.seconds))
        self._resume(checkpoint_path(self.checkpoints, target))
        self.window, self.went_back = Window(), True

    def save(self, waits: bool) -> None:
        """A checkpoint of this step; the window must be closed."""
        self.saver.save(self.model, self.optimizer, self.guard, self.state, waits, self.average)
        self.is_best = False
        self.window.started = time.perf_counter()

    def stop(self) -> None:
        """Tells that the run ends here because it was asked to."""
        self.tell_saves()
        self.is_stopped = True
        self.tell(Event("stopped", self.state.step, f"as asked, after step {self.state.step} of {self.training.steps}"))

    @property
    def is_validated(self) -> bool:
        """Whether there is anything to measure on."""
        return self.validation is not None or bool(self.more_validation)

    @property
    def ends_early(self) -> bool:
        """Whether the deciding figure has not got better for long enough."""
        chosen = self.training.best
        return chosen is not None and 0 < chosen.patience <= self.state.waited

    @property
    def is_over(self) -> bool:
        """Whether no step is to follow in this process."""
        return self.is_stopped or self.ends_early or self.state.step >= self.training.steps

    def tell(self, event: Event) -> None:
        """On rank 0."""
        if self.rank == 0:
            self.watch.tell(event)

    def tell_saves(self) -> None:
        """What became of the saves since the last call."""
        for event in self.saver.events():
            self.tell(event)

    def _tell_skipped(self, measured: Measured) -> None:
        """Up to where the run gives up: what lies behind is not in the range that is left out, and comes again."""
        end = math.inf if measured.gave_up is None else measured.data_steps[measured.gave_up]
        for one in measured.skipped:
            if one.data_step <= end:
                self.tell(Event("skipped", one.step, one.told, loss=one.loss, gradient_norm=one.gradient_norm, data_step=one.data_step))

    def _new_state(self, identity: str) -> TrainingState:
        trunk = self.model.trunk
        return TrainingState(
            step=0,
            tokens=0,
            identity=identity,
            config=settings_digest(type(self.model).__name__, trunk.config, trunk.vocab_size, self.training, self.optimizer_config),
            seed=self.training.seed,
            world=self.world,
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            device=self.device.type,
            precision=str(self.dtype).removeprefix("torch."),
            micro_rows=max(stop - start for start, stop in self.slices),
            layout=self.layout.told,
        )

    def _diverged(self, told: str) -> str:
        return diverged(told, self.optimizer_config, self.dtype)

    def _loss_on(self, batches: Batches) -> float:
        return mean_loss(self.model, batches, self.training.evaluate_batches, self.micro_rows, self.layout)

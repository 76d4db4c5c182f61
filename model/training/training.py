"""Training loop: one process or many, exactly resumable.

The learning rate, the batch and the share of each process are functions of the step, so the state is the step, the
weights, the optimizer's moments and the random generators.
"""

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from model.config.training_config import OptimizerConfig, TrainingConfig, settings_digest
from model.data.batches import Batch, Batches, rank_rows
from model.data.prefetch import Prefetch
from model.distributed.device import agree_on, choose_device, choose_precision, process_rank, sum_over_processes
from model.distributed.parallel import Scored, gradient_sync, mean_loss, micro_batch_rows, wrap
from model.nn.models import Model, set_compute_dtype
from model.optim.optimizer import build_optimizer, set_learning_rate
from model.optim.schedule import learning_rate
from model.training.checkpoint import (
    TrainingState,
    check_resumable,
    checkpoint_path,
    load_checkpoint,
    newest_checkpoint,
    read_state,
    remove_unfinished,
    save_checkpoint,
)
from model.training.curve import CurvePoint

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended; the model holds the weights."""

    step: int  # optimizer steps done
    finished: bool  # False: stopped early, with a checkpoint to go on from
    loss: float | None  # the last reported, nats per target
    validation_loss: float | None  # the last measured, nats per target
    tokens: int  # seen over the whole run, resumed parts included, without padding
    seconds: float  # of this process
    checkpoint: Path  # the newest


def never() -> bool:
    """The default of `train`'s `stop`."""
    return False


def train(
    model: Model,
    batches: Batches,
    validation: Batches | None,
    training: TrainingConfig,
    optimizer: OptimizerConfig,
    checkpoints: Path,
    identity: str,
    report: Callable[[CurvePoint], None],
    stop: Callable[[], bool] = never,
) -> TrainingResult:
    """Trains `model` in place, from the newest whole checkpoint in `checkpoints` if there is one.

    `identity` is a digest of the data: a checkpoint with another one, or with other settings, is refused. `report` is
    called on rank 0 only, every `log_every` steps, at evaluations, at checkpoints and at the end. `stop` is asked every
    `log_every` steps; when it is true on any process, a checkpoint is written and the result says it is not finished.
    Raises ValueError for what cannot be trained or resumed, FloatingPointError when the loss is no longer finite.
    """
    run = _Run(model, batches, validation, training, optimizer, checkpoints, identity)
    run.resume()
    with run.prefetch() as ahead:
        return _train(run, ahead, report, stop)


def _train(run: "_Run[M]", ahead: Prefetch, report: Callable[[CurvePoint], None], stop: Callable[[], bool]) -> TrainingResult:
    training = run.training
    while run.state.step < training.steps:
        run.take_step(ahead.next())
        step = run.state.step
        is_last = step == training.steps
        evaluates = run.validation is not None and (is_last or step % training.evaluate_every == 0)
        logs = is_last or step % training.log_every == 0
        stops = logs and not is_last and run.any_process(stop())
        saves = is_last or stops or step % training.checkpoint_every == 0
        if evaluates or logs or saves:
            figures = run.close_window(evaluates)
            if run.rank == 0:
                report(figures)
        if saves:
            run.save()
        if stops:
            return run.result()
    return run.result()


@dataclass(frozen=True)
class _Measured:
    """What a window came to."""

    loss: float  # nats per target
    gradient_norm: float  # of the last step
    tokens: float
    worst_step: int  # counted from 1
    worst_loss: float
    seconds: float


class _Window:
    """What was measured since the last report. Tensors stay on the device until then, so that no step waits for it."""

    def __init__(self) -> None:
        self.nats: list[Tensor] = []  # each step's, of this process
        self.counts: list[Tensor] = []  # each step's targets, then those below: of all processes
        self.tokens: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.started = time.perf_counter()

    def close(self, last_step: int) -> "_Measured":
        """Every process calls it.

        Raises FloatingPointError naming the first step that went wrong; `last_step` is the number of the last, counted from 0.
        """
        nats = sum_over_processes(torch.stack(self.nats).double()).tolist()
        counts = torch.stack(self.counts).tolist()
        norms = torch.stack(self.norms).tolist()
        first_step = last_step - len(nats) + 1
        losses = [step_nats / max(1.0, count) for step_nats, count in zip(nats, counts, strict=True)]
        for step, (loss, norm) in enumerate(zip(losses, norms, strict=True), start=first_step + 1):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise FloatingPointError(f"step {step}: loss {loss:g}, gradient norm {norm:g}")
        worst = max(range(len(losses)), key=losses.__getitem__)
        return _Measured(
            loss=sum(nats) / max(1.0, sum(counts)),
            gradient_norm=norms[-1],
            tokens=float(torch.stack(self.tokens).sum()),
            worst_step=first_step + worst + 1,
            worst_loss=losses[worst],
            seconds=time.perf_counter() - self.started,
        )


class _Run(Generic[M]):
    """One call of `train`."""

    def __init__(
        self,
        model: M,
        batches: Batches,
        validation: Batches | None,
        training: TrainingConfig,
        optimizer: OptimizerConfig,
        checkpoints: Path,
        identity: str,
    ) -> None:
        self.rank, self.world = process_rank()
        self.start_row, self.stop_row = rank_rows(training.batch_rows, self.rank, self.world)
        if batches.batch_rows != training.batch_rows:
            raise ValueError(f"the batches have {batches.batch_rows} rows, but batch_rows is {training.batch_rows}")
        self.device = choose_device()
        self.dtype = choose_precision(training.precision, self.device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self.model = model.to(self.device)
        set_compute_dtype(model, self.dtype)
        self.batches, self.validation = batches, validation
        self.training, self.optimizer_config = training, optimizer
        self.checkpoints = checkpoints
        self.optimizer = build_optimizer(model, optimizer)
        self.micro_rows = micro_batch_rows(self.stop_row - self.start_row, training.micro_rows)
        self.state = self._new_state(identity)
        self.started = time.perf_counter()
        self.trained_seconds, self.first_step = 0.0, 0
        self.window = _Window()

    def resume(self) -> None:
        """Loads the newest whole checkpoint, or seeds the generators; then wraps the model for its processes."""
        newest = None
        if self.rank == 0:
            remove_unfinished(self.checkpoints)
            newest = newest_checkpoint(self.checkpoints)
        step = agree_on(-1 if newest is None else read_state(newest).step, self.device)
        torch.manual_seed((self.training.seed * 1_000_003 + self.rank) % 2**63)
        if step >= 0:
            path = checkpoint_path(self.checkpoints, step)
            found = read_state(path)
            check_resumable(path, found, self.state)
            load_checkpoint(path, self.model, self.optimizer)
            self.state = dataclasses.replace(
                self.state, step=step, tokens=found.tokens, loss=found.loss, validation_loss=found.validation_loss
            )
            logger.info("%s: resumed at step %d of %d", path, step, self.training.steps)
        self.first_step = step if step >= 0 else 0
        self.model.train()
        scored = Scored(self.model)
        if self.training.compile:
            scored.compile()
        self.scored = wrap(scored)
        self.window = _Window()

    def prefetch(self) -> Prefetch:
        """This process' micro-batches of the steps that are left."""
        slices = [(first, first + self.micro_rows) for first in range(self.start_row, self.stop_row, self.micro_rows)]
        is_cuda = self.device.type == "cuda"
        return Prefetch(self.batches, slices, self.state.step, self.training.steps, pins_memory=is_cuda)

    def take_step(self, micro: list[Batch]) -> None:
        """One optimizer step on this process' share of the global batch."""
        step = self.state.step
        count, tokens = self._global_counts(micro)
        scale = self.world / count.clamp(min=1)  # the wrapper averages over processes; the loss is per global target
        nats = torch.zeros((), device=self.device)
        for number, batch in enumerate(micro):
            with gradient_sync(self.scored, is_due=number == len(micro) - 1):
                loss: Tensor = self.scored(batch.to(self.device))
                (loss * scale).backward()
            nats += loss.detach()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.optimizer_config.clip_norm)
        set_learning_rate(self.optimizer, learning_rate(step, self.training.steps, self.optimizer_config))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.window.nats.append(nats)
        self.window.counts.append(count)
        self.window.tokens.append(tokens)
        self.window.norms.append(norm)
        self.state = dataclasses.replace(self.state, step=step + 1)

    def close_window(self, evaluates: bool) -> CurvePoint:
        """The figures since the last call, with a validation loss where `evaluates`."""
        step, steps = self.state.step, self.training.steps
        try:
            measured = self.window.close(step - 1)
            validation_loss = self._validation_loss() if evaluates and self.validation is not None else None
            if validation_loss is not None and not math.isfinite(validation_loss):
                raise FloatingPointError(f"after step {step}: validation loss {validation_loss:g}")
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, expected finite figures: the training diverged. {self._remedy()}") from error
        self.trained_seconds += measured.seconds
        self.state = dataclasses.replace(
            self.state,
            tokens=self.state.tokens + int(measured.tokens),
            loss=measured.loss,
            validation_loss=self.state.validation_loss if validation_loss is None else validation_loss,
        )
        self.window = _Window()
        return CurvePoint(
            step=step,
            steps=steps,
            loss=measured.loss,
            learning_rate=learning_rate(step - 1, steps, self.optimizer_config),
            gradient_norm=measured.gradient_norm,
            tokens_per_second=measured.tokens / measured.seconds,
            seconds_left=(steps - step) * self.trained_seconds / (step - self.first_step),
            validation_loss=validation_loss,
            worst_step=measured.worst_step,
            worst_loss=measured.worst_loss,
            seconds=time.perf_counter() - self.started,
        )

    def save(self) -> None:
        """A checkpoint of this step; the window must be closed."""
        save_checkpoint(self.checkpoints, self.model, self.optimizer, self.state, self.training.keep_checkpoints)
        self.window.started = time.perf_counter()

    def any_process(self, claim: bool) -> bool:
        """Whether `claim` holds on any process: the same answer for all."""
        return bool(sum_over_processes(torch.tensor(int(claim), device=self.device)).item())

    def result(self) -> TrainingResult:
        """Where the run stands."""
        return TrainingResult(
            step=self.state.step,
            finished=self.state.step == self.training.steps,
            loss=self.state.loss,
            validation_loss=self.state.validation_loss,
            tokens=self.state.tokens,
            seconds=time.perf_counter() - self.started,
            checkpoint=checkpoint_path(self.checkpoints, self.state.step),
        )

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
            micro_rows=self.micro_rows,
        )

    def _global_counts(self, micro: list[Batch]) -> tuple[Tensor, Tensor]:
        """Scored targets and tokens without padding, over all processes: two scalars of float32 and float64."""
        counts = torch.zeros(2, dtype=torch.float64)
        for batch in micro:
            counts += torch.stack((batch.scored(), batch.lengths.sum())).double()
        targets, tokens = sum_over_processes(counts.to(self.device, non_blocking=True)).unbind()
        return targets.float(), tokens

    def _remedy(self) -> str:
        """What to change in a training that diverged: keys that pretraining and fine-tunings have."""
        chosen = self.optimizer_config
        told = (
            f"Fix: lower optimizer.learning_rate ({chosen.learning_rate:g}) or optimizer.clip_norm ({chosen.clip_norm:g}), or raise "
            f"optimizer.warmup_steps ({chosen.warmup_steps})"
        )
        return f"{told}, or set precision to float32." if self.dtype != torch.float32 else f"{told}."

    def _validation_loss(self) -> float:
        assert self.validation is not None
        return mean_loss(self.model, self.validation, self.training.evaluate_batches, self.micro_rows)

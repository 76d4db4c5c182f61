"""Training loop: one process or many, exactly resumable.

The learning rate, the batch and the share of each process are functions of the step, so the state is the step, the
weights, the optimizer's moments, the guard's window and the random generators.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model.config.training_config import OptimizerConfig, TrainingConfig
from model.data.batches import Batches
from model.data.prefetch import Prefetch
from model.nn.models import Model
from model.training.checkpoint import checkpoint_path, find_damage, load_weights
from model.training.events import Event
from model.training.interruption import Asked, Nobody
from model.training.mirror import Mirror
from model.training.record import Watch
from model.training.run import Run
from model.training.start import Start


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended. The model holds the weights; of a layout that divides it once it has finished, and on rank 0 alone."""

    step: int  # optimizer steps done
    finished: bool  # False: asked to stop, with a checkpoint to go on from
    loss: float | None  # the last reported, nats per target
    validation_loss: float | None  # the last measured, nats per target; the best one's, where the best is the result
    tokens: int  # seen over the whole run, resumed parts included, without padding
    seconds: float  # of this process
    checkpoint: Path  # the newest
    best_step: int | None  # whose figure is the best one, where one decides
    best: float | None
    skipped: int  # steps whose update was left out
    returns: int  # how often it went back to a checkpoint
    ended_early: bool  # because nothing got better
    precision: str  # of matrix products
    peak_flops: float  # a second, of all processes: model/training/peak.py
    more_losses: Mapping[str, float]  # of the further validation batches by these weights, nats per target, once it has finished


def train(
    model: Model,
    batches: Batches,
    validation: Batches | None,
    training: TrainingConfig,
    optimizer: OptimizerConfig,
    checkpoints: Path,
    identity: str,
    watch: Watch,
    asked: Asked | None = None,
    start: Start | None = None,
    more_validation: Mapping[str, Batches] | None = None,
    place: Mirror | None = None,
) -> TrainingResult:
    """Trains `model` in place, from the newest whole checkpoint in `checkpoints`, else from `start`, else from its weights.

    `identity` is a digest of the data: a checkpoint with another one, or with other settings, is refused. `watch` is told
    on rank 0 only: figures every `log_every` steps, at evaluations, at checkpoints and at the end. `asked` is looked at after each
    step: what it says on any process holds for all, at the same step; a stop writes a checkpoint of that step, and the
    result says it is not finished. `more_validation`: further batches whose loss is measured beside, by name. `place`: where
    checkpoints are copied.
    Raises ValueError for what cannot be trained or resumed, FloatingPointError when the training diverged.
    """
    run = Run(model, batches, validation, training, optimizer, checkpoints, identity, watch, more_validation or {}, place)
    with run.saver:
        run.begin(start)
        while not _train(run, asked or Nobody()):
            pass
        run.saver.wait()
        run.tell_saves()
        return _result(run)


def _train(run: Run, asked: Asked) -> bool:
    """Steps up to the end, or to a stop; False where the run went back, and other batches are due."""
    with run.prefetch() as ahead:
        while not run.is_over and not run.went_back:
            number = run.state.step
            run.profile.before(number)
            _step(run, ahead, asked)
            run.profile.after(number)
    run.profile.close()
    return not run.went_back


def _step(run: Run, ahead: Prefetch, asked: Asked) -> None:
    """One step, and what is due after it."""
    training = run.training
    wanted = run.take_step(ahead, asked)
    step = run.state.step
    is_last = step == training.steps
    evaluates = run.is_validated and (is_last or step % training.evaluate_every == 0)
    stops = wanted.stop and not is_last
    saves = is_last or stops or wanted.save or step % training.checkpoint_every == 0
    if evaluates or saves or is_last or step % training.log_every == 0:
        run.close_window(evaluates)
        if run.went_back:
            return
        saves = saves or run.is_best
    if saves or run.ends_early:
        run.save(waits=stops)
    if stops:
        run.stop()


def _result(run: Run) -> TrainingResult:
    """Where the run stands; the weights are the best ones, where these are asked for."""
    state, chosen = run.state, run.training.best
    finished, validation_loss = not run.is_stopped, state.validation_loss
    if finished and chosen is not None and chosen.is_result and state.best_step not in (None, state.step):
        assert state.best_step is not None
        path = checkpoint_path(run.checkpoints, state.best_step)
        damage = find_damage(path)
        if run.layout.is_divided and run.control.sums(damage is not None) != [0]:  # all of them take the same weights
            damage = damage or "another process cannot read it"
        if damage is None:
            load_weights(path, run.model, run.layout.held)
            validation_loss = state.best if chosen.figure == "validation_loss" else validation_loss
        else:
            told = f"the best checkpoint, {path.name}, is not whole ({damage}): the last weights are the result"
            run.tell(Event("passed over", state.step, told))
    more_losses = run.more_losses() if finished else {}
    if finished:
        run.layout.gather(run.whole, run.control)
    return TrainingResult(
        step=state.step,
        finished=finished,
        loss=state.loss,
        validation_loss=validation_loss,
        tokens=state.tokens,
        seconds=time.perf_counter() - run.started,
        checkpoint=checkpoint_path(run.checkpoints, state.step),
        best_step=state.best_step,
        best=state.best,
        skipped=state.skipped,
        returns=state.returns,
        ended_early=run.ends_early and state.step < run.training.steps,
        precision=state.precision,
        peak_flops=run.peak_flops,
        more_losses=more_losses,
    )

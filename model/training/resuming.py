"""Resuming: which checkpoint a run goes on from, or goes back to. Rank 0 alone calls what is here, for all processes."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from model.config.training_config import OptimizerConfig
from model.training.checkpoint import (
    checkpoints_in,
    delete_checkpoint,
    find_damage,
    read_state,
    remove_unfinished,
    step_of,
    survey,
)
from model.training.events import Event
from model.training.left_out import LeftOut, read_left_out, write_left_out
from model.training.mirror import Mirror, restore

logger = logging.getLogger(__name__)


def newest_step(checkpoints: Path, place: Mirror | None, tell: Callable[[Event], None]) -> int:
    """Of the newest whole checkpoint that is not of a course that the run went back from; -1: there is none.

    What the second place has that `checkpoints` lacks comes from there. What is passed over is told, what was left is deleted.
    """
    remove_unfinished(checkpoints)
    if place is not None:
        _restore(place, checkpoints)
    ranges = read_left_out(checkpoints)
    whole, damaged = survey(checkpoints)
    for path, damage in damaged.items():
        logger.warning("%s: passed over: %s", path, damage)
        tell(Event("passed over", step_of(path), f"{path.name}: {damage}"))
    while whole is not None:
        returns = read_state(whole).returns
        if all(step_of(whole) <= one.step for one in ranges[returns:]):
            return step_of(whole)
        delete_checkpoint(whole)
        whole, _ = survey(checkpoints)
    return -1


def _restore(place: Mirror, checkpoints: Path) -> None:
    """Raises OSError where the second place does not answer and nothing is here."""
    try:
        fetched = restore(place, checkpoints)
    except OSError as error:
        if not checkpoints_in(checkpoints):
            raise
        logger.warning("%s: it is gone on from what is here", error)
        return
    if fetched is not None:
        logger.info("%s: %s came from there", place.url, fetched.name)


def good_step(checkpoints: Path, every: int, begun_at: int | None) -> int:
    """Of the newest whole checkpoint before which nothing was skipped in a row; -1: there is none.

    Only those at multiples of `every`, and where the run began: so one that was interrupted, and saved then, goes the same way.
    """
    for path in checkpoints_in(checkpoints):
        step = step_of(path)
        if (step % every == 0 or step == begun_at) and find_damage(path) is None and read_state(path).in_a_row == 0:
            return step
    return -1


def leave_course(checkpoints: Path, ranges: Sequence[LeftOut]) -> None:
    """Notes what is left out from now on, then deletes the checkpoints behind the one that the last return went to."""
    write_left_out(checkpoints, ranges)
    for path in checkpoints_in(checkpoints):
        if step_of(path) > ranges[-1].step:
            delete_checkpoint(path)


def diverged(told: str, optimizer: OptimizerConfig, dtype: torch.dtype) -> str:
    """What to change in a training that diverged: keys that pretraining and fine-tunings have."""
    fix = (
        f"Fix: lower optimizer.learning_rate ({optimizer.learning_rate:g}) or optimizer.clip_norm ({optimizer.clip_norm:g}), or raise "
        f"optimizer.warmup_steps ({optimizer.warmup_steps})"
    )
    fix = f"{fix}, or set precision to float32." if dtype != torch.float32 else f"{fix}."
    return f"{told}: the training diverged. {fix}"

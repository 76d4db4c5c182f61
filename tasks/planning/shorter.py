"""Shorter trainings: the nearest settings with which one that takes too long would be through in a day."""

import math
from dataclasses import dataclass, replace

from tasks.planning.estimate import Estimate
from tasks.planning.training_work import TrainingWork

DAY = 86_400.0
LONG = 1.25 * DAY  # seconds above which a training is called long
MOST_WORKERS = 1024
WIDTH_STEPS = 16  # widths that are tried, as sixteenths of the one asked for


@dataclass(frozen=True)
class Shorter:
    """A key to set, and the seconds that the training then takes."""

    key: str  # as after --set
    seconds: float


def shorter_settings(work: TrainingWork, found: Estimate, is_gpu: bool) -> tuple[Shorter, ...]:
    """Fewer steps, more workers, a narrower model, each alone; none for a training that is not long. Seconds go with the arithmetic."""
    if found.seconds <= LONG or work.steps is None or work.flops is None:
        return ()
    batches = work.batch_steps.before(work.steps)
    steps = max(1, work.batch_steps.step_of(math.floor(batches * DAY / found.seconds)))
    settings = [Shorter(f"{work.key}.steps={steps}", found.seconds * work.batch_steps.before(steps) / batches)]
    workers = math.ceil(work.processes * found.seconds / DAY)
    if is_gpu and work.workers.count and workers <= min(MOST_WORKERS, work.batch_rows):
        settings.append(Shorter(f"{work.key}.workers={workers}", found.seconds * work.processes / workers))
    for part in range(WIDTH_STEPS - 1, 0, -1) if work.stage == "pretrain" else ():
        narrower = _narrower(work, work.shape.width * part // WIDTH_STEPS)
        if narrower is not None and narrower.flops is not None and found.seconds * narrower.flops / work.flops <= DAY:
            settings.append(Shorter(f"model.width={narrower.shape.width}", found.seconds * narrower.flops / work.flops))
            break
    return tuple(settings)


def _narrower(work: TrainingWork, width: int) -> TrainingWork | None:
    """None for a width that the heads do not divide into even parts."""
    heads = work.shape.heads
    if not width or width % (2 * heads) or work.shape.head_dim or work.shape.mlp_width:
        return None
    return replace(work, shape=replace(work.shape, width=width))

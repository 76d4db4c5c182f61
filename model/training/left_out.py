"""Ranges of data that a run leaves out, after it went back to a checkpoint: which batches an optimizer step has.

A data step is what a batch is a function of. A step has as many in a row as model/training/batch_steps.py says; ranges end where steps do.

left_out.json beside the checkpoints is the truth: it is written before the run goes back, and never shrinks.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from model.training.batch_steps import ONE, BatchSteps

LEFT_OUT = "left_out.json"


@dataclass(frozen=True)
class LeftOut:
    """One return: the run went back to `step`, and the batches of data steps [first, first + count) were not taken again."""

    step: int  # optimizer steps done at the checkpoint
    first: int  # data step, counted from 0
    count: int


def data_step(step: int, ranges: Sequence[LeftOut], batches: BatchSteps = ONE) -> int:
    """The first data step of optimizer step `step` (from 0): what steps before took, moved behind what is left out."""
    found = batches.before(step)
    for one in ranges:
        if found >= one.first:
            found += one.count
    return found


def data_steps(step: int, ranges: Sequence[LeftOut], batches: BatchSteps = ONE) -> range:
    """All data steps of an optimizer step."""
    first = data_step(step, ranges, batches)
    return range(first, first + batches.count(step))


def step_of_data(found: int, ranges: Sequence[LeftOut], batches: BatchSteps = ONE) -> int | None:
    """The inverse of `data_steps`: the optimizer step that has the batch of this data step; None where it is left out."""
    batch = found
    for one in reversed(ranges):
        if batch >= one.first + one.count:
            batch -= one.count
        elif batch >= one.first:
            return None
    return batches.step_of(batch)


def with_return(ranges: Sequence[LeftOut], step: int, end: int, batches: BatchSteps = ONE) -> tuple[LeftOut, ...]:
    """`ranges` after a return to `step` that leaves out what lay between it and data step `end` (not left out itself).

    Ranges that begin there or behind are in the new one.
    """
    first = data_step(step, ranges, batches)
    kept = tuple(one for one in ranges if one.first < first)
    return (*kept, LeftOut(step, first, end - first))


def read_left_out(folder: Path) -> tuple[LeftOut, ...]:
    """Of the run whose checkpoints lie in `folder`. Raises ValueError naming a file that was altered."""
    path = folder / LEFT_OUT
    try:
        return tuple(LeftOut(**one) for one in json.loads(path.read_text(encoding="utf-8"))["ranges"])
    except FileNotFoundError:
        return ()
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not as it was written ({error})") from error


def write_left_out(folder: Path, ranges: Sequence[LeftOut]) -> None:
    """Whole or not at all."""
    work = folder / f".{LEFT_OUT}"
    with work.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"ranges": [asdict(one) for one in ranges]}, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    work.rename(folder / LEFT_OUT)

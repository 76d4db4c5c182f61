"""Ranges of data that a run leaves out, after it went back to a checkpoint: which batch an optimizer step has.

left_out.json beside the checkpoints is the truth: it is written before the run goes back, and never shrinks.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

LEFT_OUT = "left_out.json"


@dataclass(frozen=True)
class LeftOut:
    """One return: the run went back to `step`, and the batches of data steps [first, first + count) were not taken again."""

    step: int  # optimizer steps done at the checkpoint
    first: int  # data step, counted from 0
    count: int


def data_step(step: int, ranges: Sequence[LeftOut]) -> int:
    """The batch of optimizer step `step` (from 0), a data step: `step`, moved behind what is left out."""
    found = step
    for one in ranges:
        if found >= one.first:
            found += one.count
    return found


def step_of_data(found: int, ranges: Sequence[LeftOut]) -> int | None:
    """The inverse of `data_step`: the optimizer step that has the batch of this data step; None where it is left out."""
    step = found
    for one in reversed(ranges):
        if step >= one.first + one.count:
            step -= one.count
        elif step >= one.first:
            return None
    return step


def with_return(ranges: Sequence[LeftOut], step: int, end: int) -> tuple[LeftOut, ...]:
    """`ranges` after a return to `step` that leaves out what lay between it and data step `end` (not left out itself).

    Ranges that begin there or behind are in the new one.
    """
    first = data_step(step, ranges)
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

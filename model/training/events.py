"""Training events: what befell a training and what it cost, a line of JSON each in events.jsonl, appended as it goes.

Kinds: skipped (a step whose update was left out), returned (to a checkpoint, after too many of these), started (a process began, anew
or from a checkpoint), saved, save failed, passed over (a checkpoint that is not whole), stopped (asked to), ended early (nothing got
better).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from model.training.batch_steps import ONE, BatchSteps
from model.training.json_lines import LineReader, append_line
from model.training.left_out import LeftOut, data_step

EVENTS = "events.jsonl"  # in the folder of what is trained

Kind = Literal["skipped", "returned", "started", "saved", "save failed", "passed over", "stopped", "ended early"]


@dataclass(frozen=True)
class Event:
    """One thing that befell a training."""

    kind: Kind
    step: int  # optimizer steps done; of a skipped step its own number, counted from 1
    told: str  # in words, for people
    time: float = 0.0  # seconds since 1970
    seconds: float = 0.0  # that the training stood still for it
    loss: float | None = None  # of a skipped step, nats per target
    gradient_norm: float | None = None  # of a skipped step, before clipping
    data_step: int | None = None  # of a skipped step, its first, counted from 0: what its batch is a function of
    bytes: int = 0  # of a checkpoint
    total_seconds: float = 0.0  # of a save: with what was done beside the training
    processes: int = 0  # of a start: how many train
    micro_rows: int = 0  # of a start: rows of one forward pass, at most


def append_event(folder: Path, event: Event) -> None:
    """Adds a line; floats that are not finite are written as Python reads them."""
    append_line(folder / EVENTS, json.dumps(asdict(event), ensure_ascii=False))


def read_events(folder: Path) -> list[Event]:
    """All events in the order in which they were written; empty where there are none. A line that broke off is left out.

    Raises ValueError naming the file and the line that is no event.
    """
    return EventReader(folder).new_events()


class EventReader:
    """Reads events as far as they have come; a line that is still being written is left for the next time."""

    def __init__(self, folder: Path, skips_old: bool = False) -> None:
        """`skips_old`: what stands there already, from an earlier process, is not read."""
        self._lines = LineReader(folder / EVENTS, skips_old)

    def new_events(self) -> list[Event]:
        """The events that came since the last call, as they were written. Raises ValueError as `read_events` does."""
        return [self._event(line) for line in self._lines.new_lines()]

    def _event(self, line: bytes) -> Event:
        try:
            values = json.loads(line)
            return Event(**{field.name: values[field.name] for field in fields(Event) if field.name in values})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._lines.path}: no event ({error!r}): {line[:80]!r}") from error


def skipped_steps(events: Sequence[Event], left_out: Sequence[LeftOut] = (), batches: BatchSteps = ONE) -> dict[int, Event]:
    """The steps, from 1, whose update was left out in the run as it stands, in order.

    A skip that a start from an earlier checkpoint undid is told again where it came again; one of a batch that was left out
    after a return is of another batch than that step has now. Neither counts.
    """
    found: dict[int, Event] = {}
    for event in events:
        if event.kind == "started":
            found = {step: skip for step, skip in found.items() if step <= event.step}
        elif event.kind == "skipped":
            found[event.step] = event
    return {step: found[step] for step in sorted(found) if found[step].data_step in (None, data_step(step - 1, left_out, batches))}

"""Training events: what befell a training and what it cost, a line of JSON each in events.jsonl, appended as it goes.

Kinds: skipped (a step whose update was left out), returned (to a checkpoint, after too many of these), started (a process began, anew
or from a checkpoint), saved, save failed, passed over (a checkpoint that is not whole), stopped (asked to), ended early (nothing got
better).
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from model.training.json_lines import append_line, is_broken_off

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
    data_step: int | None = None  # of a skipped step, counted from 0: what its batch is a function of
    bytes: int = 0  # of a checkpoint
    total_seconds: float = 0.0  # of a save: with what was done beside the training
    processes: int = 0  # of a start: how many train


def append_event(folder: Path, event: Event) -> None:
    """Adds a line; floats that are not finite are written as Python reads them."""
    append_line(folder / EVENTS, json.dumps(asdict(event), ensure_ascii=False))


def read_events(folder: Path) -> list[Event]:
    """All events in the order in which they were written; empty where there are none. A line that broke off is left out.

    Raises ValueError naming the file and the line that is no event.
    """
    path = folder / EVENTS
    if not path.exists():
        return []
    data = path.read_bytes()
    known = [field.name for field in fields(Event)]
    found: list[Event] = []
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        if is_broken_off(line):
            continue
        try:
            values = json.loads(line)
            found.append(Event(**{name: values[name] for name in known if name in values}))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no event ({error!r}): {line[:80]!r}") from error
    return found

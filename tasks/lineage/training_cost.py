"""Cost of a training's faults: what each restart lost, by the curve that its processes left, and what it all took."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.training.curve import CurvePoint
from model.training.events import Event


@dataclass(frozen=True)
class Restart:
    """A process that went on with a training that another had begun."""

    step: int  # that it went on from
    processes: int  # that train
    seconds: float  # until its first step
    told: str
    lost_steps: int  # done by the process before it, and done again; as far as the curve tells
    lost_seconds: float  # that these had taken


def by_process(points: Sequence[CurvePoint]) -> list[list[CurvePoint]]:
    """The points of each process in turn; `points` as they were written: a process counts its seconds from 0."""
    parts: list[list[CurvePoint]] = []
    for point in points:
        if not parts or point.seconds < parts[-1][-1].seconds:
            parts.append([])
        parts[-1].append(point)
    return parts


def trained_seconds(points: Sequence[CurvePoint]) -> float:
    """What all processes took together, as far as the curve tells."""
    return sum(part[-1].seconds for part in by_process(points))


def seconds_behind(points: Sequence[CurvePoint], step: int) -> float:
    """Seconds that the last process spent behind `step`: what is lost by going on from there."""
    parts = by_process(points)
    if not parts or parts[-1][-1].step <= step:
        return 0.0
    return parts[-1][-1].seconds - max((point.seconds for point in parts[-1] if point.step <= step), default=0.0)


def restarts_of(points: Sequence[CurvePoint], events: Sequence[Event]) -> tuple[Restart, ...]:
    """Every start but the first. What it lost is told where each process left points, so that it is known whose they are."""
    starts = [event for event in events if event.kind == "started"]
    parts = by_process(points)
    is_known = len(parts) == len(starts)
    found: list[Restart] = []
    for number, event in enumerate(starts[1:], start=1):
        before = parts[number - 1] if is_known else []
        lost = max(0, before[-1].step - event.step) if before else 0
        seconds = seconds_behind(before, event.step) if lost else 0.0
        found.append(Restart(event.step, event.processes, event.seconds, event.told, lost, seconds))
    return tuple(found)

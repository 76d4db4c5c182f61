"""Trainings in sight: what befell each and what that cost, its speed and room, and the steps that it skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from model.training.curve import CurvePoint
from tasks.report.facts import RunStory, SkipStory, TrainingStory
from tasks.report.wording import GAP, bytes_text, count_text, score_text, seconds_text, share_text, short_count

if TYPE_CHECKING:
    from model.training.events import Event, Kind
    from model.training.left_out import LeftOut

NONE = "–"
MFU_FORMULA = (
    "MFU is the model's arithmetic a second over the peak of all processes together: tokens per second, times operations per token, "
    "over the peak. Operations per token, forward and backward: 6 for each weight of a matrix that a token meets, and 12 for each "
    "channel of each key that it attends to (arXiv 2204.02311, appendix B); less where weights are frozen. The peak is measured, or of a "
    "data sheet; the row \u201cstarted\u201d says which."
)


@dataclass(frozen=True)
class Befallen:
    """A row of the table: one kind of thing that befell a training."""

    what: str
    times: str
    still: str  # how long the training stood still for it
    cost: str  # what else it took
    told: tuple[str, ...]


@dataclass(frozen=True)
class TrainingTold:
    """What the page says of a training."""

    name: str
    sentence: str
    rows: tuple[Befallen, ...]
    figures: tuple[tuple[str, str], ...]
    has_mfu: bool
    skips: tuple[SkipStory, ...]
    more_skips: int
    profiles: tuple[tuple[str, str], ...]  # what it is called, and where it lies


def trainings_told(story: RunStory) -> list[TrainingTold]:
    """Each training of which something is known beside its curve."""
    return [_told(one, story.curves.get(one.training, ())) for one in story.trainings]


def _told(story: TrainingStory, points: Sequence[CurvePoint]) -> TrainingTold:
    distinct = {(event.step, event.data_step) for event in _of(story, "skipped")}
    return TrainingTold(
        story.training,
        sentence(story),
        tuple(row for make in ROWS if (row := make(story, points)) is not None),
        tuple(figures(story, points)),
        any(point.mfu is not None for point in points),
        story.skips,
        max(0, len(distinct) - len(story.skips)),
        tuple((path.rpartition("/")[2], path) for path in story.profiles),
    )


def sentence(story: TrainingStory) -> str:
    """What befell it in one or two sentences."""
    restarts, returns = len(story.restarts), len(story.left_out)
    parts = [
        *([f"was started again {_often(restarts)}"] if restarts else []),
        *([f"skipped {_counted(story.skipped, 'step')}"] if story.skipped else []),
        *([f"went back {_often(returns)}"] if returns else []),
        *(["ended early"] if _of(story, "ended early") else []),
    ]
    said = f"It {_listed(parts)}." if parts else "It went through without a fault."
    still = sum(event.seconds for event in _of(story, "saved"))
    if story.seconds and _of(story, "saved"):
        said += f" Saves held it up for {seconds_text(still)}, {share_text(still, story.seconds)} of its time."
    return said


def figures(story: TrainingStory, points: Sequence[CurvePoint]) -> Iterator[tuple[str, str]]:
    """Speed and room, by name; what was not measured is left out."""
    shares = [point.mfu for point in points if point.mfu is not None]
    if shares:
        peak = f" of {short_count(story.peak_flops)}FLOP/s" if story.peak_flops else ""
        yield "MFU", f"{share_text(median(shares), 1)}{peak}, median"
    speeds = [point.tokens_per_second for point in points if point.tokens_per_second]
    if speeds:
        yield "speed", f"{short_count(median(speeds))} tokens per second, median"
    if shares or any(point.data_wait for point in points):
        worst = max(points, key=lambda point: point.data_wait)
        yield "data wait", f"{share_text(median(point.data_wait for point in points), 1)}, {share_text(worst.data_wait, 1)} at most"
    memory = max((point.memory_bytes for point in points), default=0)
    if memory:
        yield "memory", f"{bytes_text(memory)} at most"
    tokens = max((point.tokens for point in points), default=0)
    if tokens:
        yield "tokens", f"{short_count(tokens)}, repetitions counted"
    if story.best is not None:
        kept = ", kept" if story.best.step in story.checkpoints else ""
        yield "best", f"{score_text(story.best.value)} nats per target at step {count_text(story.best.step)}{kept}"
    if story.checkpoints:
        steps = ", ".join(count_text(step) for step in story.checkpoints)
        yield "checkpoints", f"{'step' if len(story.checkpoints) == 1 else 'steps'} {steps}; {bytes_text(story.checkpoint_bytes)}"


def _of(story: TrainingStory, kind: Kind) -> list[Event]:
    return [event for event in story.events if event.kind == kind]


def _step_seconds(points: Sequence[CurvePoint]) -> float:
    """About how long a step took; 0 where that is not known."""
    paces = [(b.seconds - a.seconds) / (b.step - a.step) for a, b in pairwise(points) if b.seconds > a.seconds and b.step > a.step]
    return median(paces) if paces else 0.0


def _taking(steps: int, points: Sequence[CurvePoint]) -> str:
    seconds = steps * _step_seconds(points)
    return f", about {seconds_text(seconds)}" if seconds else ""


def _row(what: str, events: Sequence[Event], cost: str = NONE, told: Sequence[str] | None = None) -> Befallen | None:
    if not events:
        return None
    still = sum(event.seconds for event in events)
    said = [f"step {count_text(event.step)}: {event.told}" for event in events] if told is None else told
    return Befallen(what, count_text(len(events)), seconds_text(still) if still else NONE, cost, _few(said))


def _few(told: Sequence[str], most: int = 3) -> tuple[str, ...]:
    """The first, and how many more."""
    different = list(dict.fromkeys(told))
    rest = len(different) - most
    return (*different[:most], *([f"and {count_text(rest)} more"] if rest > 0 else []))


def _started(story: TrainingStory, points: Sequence[CurvePoint]) -> Befallen | None:
    first = _of(story, "started")[:1]
    return _row("started", first, told=[_on(event.processes, event.told) for event in first])


def _restarted(story: TrainingStory, points: Sequence[CurvePoint]) -> Befallen | None:
    lost = sum(one.lost_steps for one in story.restarts)
    seconds = sum(one.lost_seconds for one in story.restarts)
    cost = f"{_counted(lost, 'step')} taken again, which had taken {seconds_text(seconds)}" if lost else "no step that its curve knows of"
    told = [_on(one.processes, one.told) for one in story.restarts]
    return _row("started again", _of(story, "started")[1:], cost, told)


def _skipped(story: TrainingStory, points: Sequence[CurvePoint]) -> Befallen | None:
    events, count = _of(story, "skipped"), story.skipped
    if not events:
        return None
    gone = {event.data_step for event in events if any(_is_in(event, one) for one in story.left_out)}
    costs = [f"{_counted(count, 'batch', 'batches')} read and not learned from{_taking(count, points)}"] if count else []
    costs += [f"{count_text(len(gone))} more, left out since"] if gone else []
    told = _few([f"step {count_text(event.step)}: {event.told}" for event in events])
    return Befallen("steps skipped", count_text(count), NONE, "; ".join(costs), told)


def _is_in(event: Event, left: LeftOut) -> bool:
    return event.data_step is not None and left.first <= event.data_step < left.first + left.count


def _returned(story: TrainingStory, points: Sequence[CurvePoint]) -> Befallen | None:
    events = _of(story, "returned")
    batches = sum(one.count for one in story.left_out)
    cost = f"{_counted(batches, 'batch', 'batches')} left out{_taking(batches, points)}"
    return _row("went back", events, cost)


def _saved(story: TrainingStory, points: Sequence[CurvePoint]) -> Befallen | None:
    events = _of(story, "saved")
    beside = sum(max(0.0, event.total_seconds - event.seconds) for event in events)
    cost = f"{seconds_text(beside)} of writing beside the training" if beside else NONE
    sizes = [event.bytes for event in events if event.bytes]
    told = [f"{bytes_text(median(sizes))} each"] if sizes else []
    slowest = max(events, key=lambda event: event.seconds, default=None)
    told += [] if slowest is None else [f"the longest stop: {seconds_text(slowest.seconds)} at step {count_text(slowest.step)}"]
    return _row("saves", events, cost, told)


def _plain(what: str, kind: Kind) -> Callable[[TrainingStory, Sequence[CurvePoint]], Befallen | None]:
    return lambda story, points: _row(what, _of(story, kind))


ROWS = (
    _started,
    _restarted,
    _skipped,
    _returned,
    _saved,
    _plain("saves that failed", "save failed"),
    _plain("checkpoints passed over", "passed over"),
    _plain("stopped as asked", "stopped"),
    _plain("ended early", "ended early"),
)


def _on(processes: int, told: str) -> str:
    return f"{_counted(processes, 'process', 'processes')}; {told}" if processes else told


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count_text(count)}{GAP}{one if count == 1 else many or one + 's'}"


def _often(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count_text(count)} times")


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

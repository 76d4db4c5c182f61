"""Schedule: when a run would be through, of stages that wait for one another and for one of so many places (list scheduling)."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """A stage: what it is called, what it takes, and what must be there before."""

    label: str
    seconds: float
    depends: tuple[str, ...]  # labels
    takes_all: bool = False  # of those for which this holds one works at a time: trainings that start a Ray of their own


def wall_seconds(jobs: Sequence[Job], places: int) -> float:
    """Seconds until all are done, in the order in which a run hands them out: what could begin first, does; then as listed.

    A stage that waits for its turn among those that `takes_all` holds its place meanwhile, as it does in a run.
    """
    ends: dict[str, float] = {}
    free = [0.0] * max(1, places)
    all_free = 0.0
    left = list(jobs)
    known = {job.label for job in jobs}
    while left:
        ready = {job.label: _ready(job, ends) for job in left if all(name in ends for name in job.depends if name in known)}
        assert ready, "stages that wait for one another"
        first = min((job for job in left if job.label in ready), key=lambda job: ready[job.label])
        left.remove(first)
        if not first.seconds:
            ends[first.label] = ready[first.label]
            continue
        begins = max(heapq.heappop(free), ready[first.label])
        if first.takes_all:
            begins = max(begins, all_free)
        ends[first.label] = begins + first.seconds
        all_free = ends[first.label] if first.takes_all else all_free
        heapq.heappush(free, ends[first.label])
    return max(ends.values(), default=0.0)


def _ready(job: Job, ends: Mapping[str, float]) -> float:
    return max((ends[name] for name in job.depends if name in ends), default=0.0)

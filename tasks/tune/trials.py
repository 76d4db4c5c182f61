"""Trials of a search: what each is told, how each ended, and which one is the best.

Ends are lines of `trials.jsonl` in the search's folder.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from model.training.json_lines import LineReader, append_line

TRIALS = "trials.jsonl"

Why = Literal["finished", "stopped early", "failed", "unfinished", "lost"]
FINAL: tuple[Why, ...] = ("finished", "stopped early", "failed")  # another try would end the same
Curve = tuple[tuple[int, float], ...]  # step, and the validation loss there, in nats per target


@dataclass(frozen=True)
class TrialJob:
    """What the process of a trial is told."""

    fingerprint: str  # of the pretraining that it is
    job: str  # its PretrainJob, as JSON
    folder: str  # where it trains
    known: Curve  # what an earlier search measured of it, to be told again; empty: it is trained


@dataclass(frozen=True)
class Ended:
    """How a trial ended."""

    fingerprint: str
    why: Why
    curve: Curve
    seconds: float
    told: str = ""  # of a failure, in words

    @property
    def step(self) -> int:
        """Of its last validation loss; 0: it came to none."""
        return self.curve[-1][0] if self.curve else 0

    def loss_at(self, step: int) -> float | None:
        """Validation loss after so many steps; None where it was not measured."""
        return dict(self.curve).get(step)


def append_ended(folder: Path, ended: Ended) -> None:
    """Adds a line."""
    append_line(folder / TRIALS, json.dumps(asdict(ended), ensure_ascii=False))


class EndedReader:
    """Reads ends as they come."""

    def __init__(self, folder: Path, skips_old: bool = False) -> None:
        """`skips_old`: what stands there already is not read."""
        self._lines = LineReader(folder / TRIALS, skips_old)

    def new_ends(self) -> list[Ended]:
        """Those since the last call, as they were written. ValueError naming the file for a line that is none."""
        return [self._ended(line) for line in self._lines.new_lines()]

    def _ended(self, line: bytes) -> Ended:
        try:
            values = json.loads(line)
            curve = tuple((int(step), float(loss)) for step, loss in values.pop("curve"))
            return Ended(curve=curve, **values)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._lines.path}: no end of a trial ({error!r}): {line[:80]!r}") from error


def read_ended(folder: Path) -> dict[str, Ended]:
    """How each trial ended last, by fingerprint."""
    return {ended.fingerprint: ended for ended in EndedReader(folder).new_ends()}


def deciding_step(ends: Sequence[Ended]) -> int:
    """The step at which trials are held against one another: the last, where one finished; else the last that two of them share.

    0: nothing was measured.
    """
    able = [one for one in ends if one.curve and one.why != "failed"]
    done = [one.step for one in able if one.why == "finished"]
    if done:
        return max(done)
    steps = sorted({step for one in able for step, _ in one.curve}, reverse=True)
    shared = [step for step in steps if sum(one.loss_at(step) is not None for one in able) > 1]
    return (shared or steps or [0])[0]


def best_of(ends: Sequence[Ended]) -> Ended | None:
    """The one with the least validation loss: of those that finished, else at `deciding_step`; None where nothing was measured.

    A training may finish before its last step, where nothing got better: its last loss counts.
    """
    done = {one.fingerprint: one.curve[-1][1] for one in ends if one.why == "finished" and one.curve}
    step = deciding_step(ends)
    judged = done or {one.fingerprint: loss for one in ends if one.why != "failed" and (loss := one.loss_at(step)) is not None}
    return min((one for one in ends if one.fingerprint in judged), key=lambda one: judged[one.fingerprint], default=None)

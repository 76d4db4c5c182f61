"""Trials in the journal: each a child run with its parameters, its curve as it grows, and how it ended; a line for people at each end."""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

from flows.runner.summaries import duration
from model.training.curve import CurveReader, curve_figures
from tasks.tracking.journal import Journal
from tasks.tune.trials import Ended, EndedReader

logger = logging.getLogger("wordmill")

LOOK_SECONDS = 0.5
STATUS: Mapping[str, str] = {
    "finished": "FINISHED",
    "stopped early": "FINISHED",
    "failed": "FAILED",
    "lost": "FAILED",
    "unfinished": "KILLED",
}


@dataclass(frozen=True)
class Followed:
    """A trial to be followed."""

    number: int
    fingerprint: str
    told: str  # its values, for people
    params: Mapping[str, str]
    folder: Path  # where it trains
    known: Ended | None  # how it ended in an earlier search


@dataclass
class TrialJournal:
    """Within a `with`, follows the trials of a search in a thread."""

    journal: Journal
    folder: Path  # of the search
    trials: Sequence[Followed]
    ended: dict[str, Ended] = field(default_factory=dict[str, Ended])  # by fingerprint

    def __post_init__(self) -> None:
        self._runs: dict[str, str] = {}  # fingerprint -> key in the journal
        self._curves = {one.fingerprint: CurveReader(one.folder) for one in self.trials if one.known is None}
        self._ends = EndedReader(self.folder, skips_old=True)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._bar: tqdm[NoReturn] = tqdm(total=len(self.trials), desc="tune", unit="trial", disable=None, leave=False)

    def __enter__(self) -> Self:
        for one in self.trials:
            if one.known is not None:
                self._tell_known(one, one.known)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        self._look()
        for one in self.trials:
            if one.fingerprint in self._runs and one.fingerprint not in self.ended:
                self.journal.end(self._runs[one.fingerprint], "KILLED")
        self._bar.close()

    def _follow(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for one in self.trials:
            reader = self._curves.get(one.fingerprint)
            for point in [] if reader is None else reader.new_points():
                self.journal.metrics(self._run(one), curve_figures(point), point.step)
        by_name = {one.fingerprint: one for one in self.trials}
        for ended in self._ends.new_ends():
            if ended.fingerprint in by_name:
                self._tell_end(by_name[ended.fingerprint], ended, "")

    def _run(self, one: Followed) -> str:
        if one.fingerprint not in self._runs:
            tags = {"wordmill.stage": "trial", "wordmill.trial": str(one.number), "wordmill.fingerprint": one.fingerprint}
            self._runs[one.fingerprint] = run = self.journal.child(f"trial {one.number}", tags)
            self.journal.params(run, one.params)
        return self._runs[one.fingerprint]

    def _tell_known(self, one: Followed, ended: Ended) -> None:
        run = self._run(one)
        self.journal.tags(run, {"wordmill.cached": "true"})
        for step, loss in ended.curve:
            self.journal.metrics(run, {"validation_loss": loss}, step)
        self._tell_end(one, ended, ", known")

    def _tell_end(self, one: Followed, ended: Ended, more: str) -> None:
        self.ended[one.fingerprint] = ended
        run = self._run(one)
        # seconds as a tag: figures that all trials have are what MLflow draws first when they are compared, and that is to be the loss
        tags = {"wordmill.ended": ended.why, "wordmill.seconds": f"{ended.seconds:g}"}
        self.journal.tags(run, {**tags, **({"wordmill.told": ended.told} if ended.told else {})})
        self.journal.end(run, STATUS[ended.why])
        loss = f"validation loss {ended.curve[-1][1]:.4f} at step {ended.step:,}" if ended.curve else "no validation loss"
        self._bar.clear()
        logger.info("trial %d: %s: %s; %s, %s%s", one.number, one.told, loss, ended.why, duration(ended.seconds), more)
        if ended.told:
            logger.info("trial %d: %s", one.number, ended.told)
        self._bar.update()

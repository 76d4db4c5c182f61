"""Parts of Ray Tune that are ours: in which order trials begin, and what is noted when one ends. Imported where Ray is started."""

import time
from pathlib import Path
from typing import cast

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from model.training.curve import CURVE
from tasks.tune.search import FAILURE, FIGURE, STEP, STOP, SearchJob
from tasks.tune.trials import Ended, Why, append_ended


class Given(Searcher):
    """The trials of the job in order, until none is left or all are to end."""

    def __init__(self, job: SearchJob) -> None:
        super().__init__(metric=FIGURE, mode="min")
        self._count, self._stop, self._next = len(job.trials), Path(job.folder) / STOP, 0

    def suggest(self, trial_id: str) -> dict[str, int] | str:  # type: ignore[override]  (Searcher.FINISHED is a word)
        """The number of the next one."""
        if self._next >= self._count or self._stop.exists():
            return Searcher.FINISHED
        self._next += 1
        return {"trial": self._next - 1}

    def on_trial_complete(self, trial_id: str, result: dict[str, object] | None = None, error: bool = False) -> None:  # type: ignore[override]
        """The next one does not depend on it."""

    def save(self, checkpoint_path: str) -> None:
        """What is kept of a search is in its own folder."""

    def restore(self, checkpoint_path: str) -> None:
        """The same."""


class Ends(Callback):
    """Notes how each trial ended that was not known before."""

    def __init__(self, job: SearchJob) -> None:
        self._job, self._stop = job, Path(job.folder) / STOP
        self._began: dict[int, float] = {}
        self._curves: dict[int, list[tuple[int, float]]] = {}
        self._finished: set[int] = set()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Notes the time."""
        self._began[_number(trial)] = time.monotonic()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, object], **info: object) -> None:
        """A validation loss."""
        number = _number(trial)
        if STEP in result:
            self._curves.setdefault(number, []).append((cast(int, result[STEP]), cast(float, result[FIGURE])))
        if result.get("ends") == "finished":
            self._finished.add(number)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """It ended by itself, or was ended."""
        number = _number(trial)
        failure = Path(self._job.trials[number].folder) / FAILURE
        if number in self._finished:
            self._note(trial, "finished", "")
        elif failure.exists():
            self._note(trial, "failed", failure.read_text(encoding="utf-8"))
        else:
            self._note(trial, "unfinished" if self._stop.exists() else "stopped early", "")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: object) -> None:
        """Its process is gone, or the fault is ours."""
        told = str(trial.get_error() or "its process was lost").strip().splitlines()[-1]
        self._note(trial, "lost", told[:500])

    def _note(self, trial: Trial, why: Why, told: str) -> None:
        number = _number(trial)
        one = self._job.trials[number]
        if one.known or number not in self._began:
            return
        if why == "unfinished" and not (Path(one.folder) / CURVE).exists():
            return  # it was not even begun
        curve = tuple(dict(self._curves.get(number, [])).items())
        append_ended(Path(self._job.folder), Ended(one.fingerprint, why, curve, round(time.monotonic() - self._began[number], 1), told))


def _number(trial: Trial) -> int:
    return int(trial.config["trial"])

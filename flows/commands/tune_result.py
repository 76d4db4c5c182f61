"""Result of a search: the best, the recipe that is written, and what is kept of the trials."""

import difflib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.commands.tune_search import Search
from flows.commands.tune_trials import RATE, Trial, as_overrides, follows
from flows.dags import load
from flows.recipe_edit import changed_text
from flows.runner.origin import origin_of, write_origin
from flows.stages import PRETRAIN
from tasks.errors import UserError
from tasks.settings import given_path
from tasks.tune.trials import FINAL, Ended, best_of, deciding_step


@dataclass(frozen=True)
class Tuned:
    """What came of a search."""

    trials: tuple[Trial, ...]
    ended: Mapping[str, Ended]  # by fingerprint; a trial that never began is not among them
    best: Trial
    step: int  # at which trials are held against one another
    written: Path | None  # the recipe; None where the one as it stands is the best
    diff: str
    folder: Path
    tracking: str
    notes: tuple[str, ...]

    def loss_of(self, trial: Trial) -> float | None:
        """Its last validation loss; None where it came to none."""
        ended = self.ended.get(trial.fingerprint)
        return None if ended is None or not ended.curve else ended.curve[-1][1]


def conclude(prepared: Search, ended: Mapping[str, Ended]) -> Tuned:
    """Deletes, writes and tells. UserError where no trial measured anything."""
    best = best_of(list(ended.values()))
    if best is None:
        failed = next((one.told for one in ended.values() if one.told), "")
        why = f"the first failure: {failed}" if failed else "Fix: raise --minutes, or lower pretrain.evaluate_every"
        raise UserError(f"tune: no trial came to a validation loss in {prepared.asked.minutes:g} minutes. {why}.")
    trial = next(one for one in prepared.drawn.trials if one.fingerprint == best.fingerprint)
    step = deciding_step(list(ended.values()))
    written, diff, notes = None, "", list(prepared.drawn.notes)
    if trial.changes:
        written, diff, more = _write(prepared, trial)
        notes += more
    if _clear(prepared, ended, trial):
        notes.append("the best trial's training is kept: a run of that recipe takes it over, and does not train again")
    waiting = sum(one.why in ("unfinished", "lost") for one in ended.values()) + len(prepared.drawn.trials) - len(ended)
    if waiting:
        notes.append(
            f"{waiting} trials did not come to an end; the same command goes on with them{'' if written is None else ', with --write'}"
        )
    return Tuned(prepared.drawn.trials, ended, trial, step, written, diff, prepared.folder, prepared.tracking, tuple(notes))


def _write(prepared: Search, trial: Trial) -> tuple[Path, str, list[str]]:
    """The best as a recipe, what changed in it, and what is to be said of that."""
    source, target = given_path(prepared.asked.recipe), prepared.target
    before = source.read_text(encoding="utf-8")
    text = changed_text(before, trial.changes, str(source))
    notes = [f"{target} was there, and is replaced"] if target.exists() else []
    target.write_text(text, encoding="utf-8")
    if RATE in trial.changes and follows(prepared.spaces) and len(trial.changes) > len(trial.values):
        notes.append("final_learning_rate keeps the share of learning_rate that it has in the recipe")
    lines = difflib.unified_diff(before.splitlines(), text.splitlines(), str(source), str(target), n=1, lineterm="")
    return target, "\n".join(lines), notes


def _clear(prepared: Search, ended: Mapping[str, Ended], best: Trial) -> bool:
    """Deletes what trials left that have come to their end; whether the best's training was handed to the run that will make it."""
    is_kept = False
    for trial in prepared.drawn.trials:
        folder, one = prepared.folder / trial.fingerprint, ended.get(trial.fingerprint)
        if not folder.exists() or (one is not None and one.why not in FINAL):
            continue  # nothing to delete; or to go on from
        if trial is best and one is not None and one.why == "finished":
            is_kept = _hand_over(prepared, best, folder)
        shutil.rmtree(folder, ignore_errors=True)
    return is_kept


def _hand_over(prepared: Search, best: Trial, folder: Path) -> bool:
    """Where no run has begun it, its checkpoints become those that a run goes on from; whether they do."""
    place = prepared.workspace.folder(PRETRAIN.name, best.fingerprint)
    begun = place.with_name(f"{best.fingerprint}.partial")
    if place.exists() or begun.exists():
        return False
    place.parent.mkdir(exist_ok=True)
    folder.rename(begun)
    loaded = load(prepared.asked.recipe, [*prepared.asked.changes, *as_overrides(best.changes)])
    write_origin(prepared.workspace, origin_of(loaded.flow, loaded.recipe), PRETRAIN.name, best.fingerprint, PRETRAIN.name)
    return True

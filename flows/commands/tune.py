"""Tune: searches fields of a recipe by trials of its pretraining, each a child run of one run in MLflow; the best becomes a recipe.

WORKSPACE/tune/<fingerprint>/    a search: trials.jsonl, how each trial ended; folders of those that were stopped, to go on from
"""

import difflib
import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from prefect import Flow

from flows.commands.tune_asked import Asked, check_asked
from flows.commands.tune_trials import RATE, Drawn, Trial, as_overrides, draw_trials, follows
from flows.dags import Loaded, load
from flows.recipe import Recipe, check_sources
from flows.recipe_edit import changed_text
from flows.runner.origin import origin_of, write_origin
from flows.runner.report_facts import tell
from flows.runner.session import report_unsent, run_dag, run_tags, sampled
from flows.runner.summaries import flattened
from flows.runner.trial_journal import Followed, TrialJournal
from flows.runner.until_pretraining import PlannedPretraining, plan_pretraining, until_pretraining
from flows.stages import PRETRAIN, Builder, Outcome
from model.training.curve import read_curve
from tasks.artifacts import Workspace, fingerprint, read_manifest
from tasks.cluster import Launcher, Training, Workers
from tasks.errors import UserError
from tasks.pretrain.job import PretrainJob, write_job
from tasks.pretrain.pretrain import pretrain_job
from tasks.pretrain.start import check_tokenizer
from tasks.settings import Json, given_path, identity
from tasks.tracking.address import require_answer, tracking_address
from tasks.tracking.journal import DRAIN_SECONDS, Journal, start_sender
from tasks.tune.search import KEEPS, SearchJob, search
from tasks.tune.spaces import Space
from tasks.tune.trials import FINAL, Curve, Ended, TrialJob, best_of, deciding_step, read_ended

logger = logging.getLogger("wordmill")


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


@dataclass(frozen=True)
class _Search:
    """A search that is ready to begin."""

    asked: Asked
    recipe: Recipe
    workspace: Workspace
    spaces: Mapping[str, Space]
    drawn: Drawn
    target: Path
    tracking: str

    @property
    def own(self) -> Trial:
        """The recipe as it stands."""
        return self.drawn.trials[0]

    @property
    def folder(self) -> Path:
        """Where it is kept: the same for the same recipe, spaces and seed, however many trials and minutes."""
        told: Json = {"spaces": {name: identity(space) for name, space in self.spaces.items()}, "seed": self.asked.seed}
        return self.workspace.folder("tune", fingerprint("tune", told, {"pretrain": self.own.fingerprint}))

    @property
    def first_rung(self) -> int:
        """Steps before a trial may be ended: a measurement at which no learning rate is rising any more."""
        every = self.recipe.pretrain.evaluate_every
        warmup = max(trial.planned.config.pretrain.optimizer.warmup_steps for trial in self.drawn.trials)
        return min(every * max(1, math.ceil(warmup / every)), self.recipe.pretrain.steps)

    @property
    def rungs(self) -> list[int]:
        """Steps at which ASHA ends trials."""
        return [step for power in range(64) if (step := self.first_rung * KEEPS**power) < self.recipe.pretrain.steps]


def tune(asked: Asked) -> Tuned:
    """Search, and write the best as a recipe. UserError, before anything starts, for what cannot be searched."""
    prepared = _prepare(asked)
    planned = prepared.own.planned
    if planned.missing:
        _run_before(asked, prepared)
        planned = _plan(asked, [])
    if planned.config.start is not None:
        check_tokenizer(planned.config.start, planned.tokenizer.fingerprint, planned.tokenizer.path)
    ended = _run_trials(prepared, planned)
    return _conclude(prepared, ended)


def _prepare(asked: Asked) -> _Search:
    checked = check_asked(asked)
    recipe = checked.recipe
    check_sources(recipe)
    workspace = Workspace(recipe.workspace).open()
    tracking = tracking_address(recipe.tracking.uri, workspace)
    require_answer(tracking)
    drawn = draw_trials(checked.spaces, recipe, asked.trials, asked.seed, lambda changes: _plan(asked, changes))
    if len(drawn.trials) < 2:
        raise UserError(f"--over: no other recipe than the one as it stands can be tried. {' '.join(drawn.notes)}")
    return _Search(asked, recipe, workspace, checked.spaces, drawn, checked.target, tracking)


def _plan(asked: Asked, changes: Sequence[str]) -> PlannedPretraining:
    """The pretraining of the recipe with these changes. UserError where they make no recipe."""
    loaded = load(asked.recipe, [*asked.changes, *changes])
    assert isinstance(loaded.recipe, Recipe)
    workspace = Workspace(loaded.recipe.workspace)
    return plan_pretraining(loaded.dag, workspace, tracking_address(loaded.recipe.tracking.uri, workspace))


def _run_before(asked: Asked, prepared: _Search) -> None:
    """Runs the stages before the pretraining, as a run of their own."""
    from flows.deployed import guarded, require_server

    logger.info("Stages before the pretraining are run first; their time is not counted.")
    loaded: Loaded = load(asked.recipe, asked.changes)
    require_server()

    def dag(builder: Builder) -> Outcome:
        until_pretraining(loaded.dag, builder)
        return Outcome((), (), None)

    with guarded():
        Flow(lambda: run_dag("shards", loaded.recipe, dag, partial(tell, recipe=loaded.recipe, flow_name="shards")), name="shards")()


def _run_trials(prepared: _Search, planned: PlannedPretraining) -> dict[str, Ended]:
    """How each trial ended, by fingerprint."""
    workspace, folder, asked = prepared.workspace, prepared.folder, prepared.asked
    folder.mkdir(parents=True, exist_ok=True)
    known = {trial.fingerprint: end for trial in prepared.drawn.trials if (end := _known(workspace, trial, folder)) is not None}
    started = datetime.now(UTC)
    journals = workspace.root / "journal"
    journal = Journal(journals, prepared.recipe.name, f"tune {started:%Y-%m-%d %H:%M:%S}", run_tags("tune"))
    sender = start_sender(journals, prepared.tracking, workspace.root / "mlartifacts")
    launcher = Launcher(prepared.recipe.cluster, workspace.root / "logs")
    params = {**{f"over.{name}": text for name, _, text in (over.partition("=") for over in asked.over)}, "trials": str(asked.trials)}
    journal.params(journal.run, {**params, "minutes": f"{asked.minutes:g}", "seed": str(asked.seed)})
    followed = [_followed(trial, folder, known.get(trial.fingerprint)) for trial in prepared.drawn.trials]
    _tell_beginning(prepared, len(known))
    status = "FAILED"
    try:
        with sampled(journal), TrialJournal(journal, folder, followed) as trials:
            if len(known) < len(followed):
                launcher.launch(_training(prepared, planned, known), lambda point: None)
        ended = trials.ended | {
            one.fingerprint: _unfinished(one) for one in followed if one.fingerprint not in trials.ended and one.folder.exists()
        }
        best = best_of(list(ended.values()))
        if best is not None:
            journal.metrics(journal.run, {"validation_loss": best.curve[-1][1], "trials": len(ended)})
            journal.tags(journal.run, {"wordmill.best": next(one.told for one in followed if one.fingerprint == best.fingerprint)})
        status = "FINISHED"
        return ended
    except BaseException as error:
        status = "KILLED" if isinstance(error, InterruptedError) or not isinstance(error, Exception) else "FAILED"
        if status == "KILLED":
            logger.warning("Stopping the trials; those that have ended are kept.")
        raise
    finally:
        launcher.stop()
        journal.end(journal.run, status)
        journal.close()
        report_unsent(sender, journal, prepared.tracking, DRAIN_SECONDS if status == "FINISHED" else 5.0)


def _known(workspace: Workspace, trial: Trial, folder: Path) -> Ended | None:
    """How it ended in an earlier search, or a run made the same; None where it is to be trained."""
    before = read_ended(folder).get(trial.fingerprint)
    if before is not None and before.why in FINAL:
        return before
    made = workspace.folder(PRETRAIN.name, trial.fingerprint)
    manifest = read_manifest(made)
    curve = _curve(made) if manifest is not None else ()
    return Ended(trial.fingerprint, "finished", curve, manifest.seconds, "made by a run") if manifest is not None and curve else None


def _curve(folder: Path) -> Curve:
    return tuple((point.step, point.validation_loss) for point in read_curve(folder) if point.validation_loss is not None)


def _unfinished(one: Followed) -> Ended:
    """A trial that has begun and said nothing of its end."""
    points = read_curve(one.folder)
    return Ended(one.fingerprint, "unfinished", _curve(one.folder), points[-1].seconds if points else 0.0)


def _followed(trial: Trial, folder: Path, known: Ended | None) -> Followed:
    params = flattened(identity(trial.planned.config))
    return Followed(trial.number, trial.fingerprint, told_values(trial), params, folder / trial.fingerprint, known)


def told_values(trial: Trial) -> str:
    """`layers 4, learning_rate 0.003`, for people."""
    shown = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in trial.values.items())
    return shown if trial.changes else f"the recipe as it stands ({shown})"


def _tell_beginning(prepared: _Search, known: int) -> None:
    count, asked = len(prepared.drawn.trials), prepared.asked
    rungs = ", ".join(f"{step:,}" for step in prepared.rungs)
    ends = f"at steps {rungs} the better third goes on" if rungs else "none is ended early: evaluate_every is too long for that"
    logger.info(
        "tune: %d trials%s of %s steps, %g minutes at most; %s",
        count,
        f" ({known} of them known)" if known else "",
        f"{prepared.recipe.pretrain.steps:,}",
        asked.minutes,
        ends,
    )
    for note in prepared.drawn.notes:
        logger.warning("%s", note)


def _training(prepared: _Search, planned: PlannedPretraining, known: Mapping[str, Ended]) -> Training:
    """The search as a child process."""
    recipe, folder = prepared.recipe, prepared.folder
    jobs: list[TrialJob] = []
    for trial in prepared.drawn.trials:
        out = folder / trial.fingerprint
        before = known.get(trial.fingerprint)
        told = _job(trial, planned, out)
        if before is None:
            out.mkdir(exist_ok=True)
            write_job(told, out)
        jobs.append(TrialJob(trial.fingerprint, json.dumps(told.to_json()), str(out), () if before is None else before.curve))
    job = SearchJob(
        str(folder),
        tuple(jobs),
        recipe.pretrain.steps,
        prepared.first_rung,
        prepared.asked.minutes * 60,
        max(1, recipe.pretrain.threads),
        recipe.pretrain.gpus_per_worker,
        recipe.cluster.address,
        recipe.cluster.object_store_bytes,
    )
    return Training(search, job.to_json(), folder, Workers(0, 0, 0))


def _job(trial: Trial, planned: PlannedPretraining, out: Path) -> PretrainJob:
    """Its pretraining in one process, without what only a whole run needs."""
    config = trial.planned.config
    plain = config.pretrain.model_copy(update={"checkpoint_place": None, "profile": None, "norms_every": None})
    config = replace(config, pretrain=plain).with_base(planned.base)
    return pretrain_job(config, planned.shards, planned.tokenizer, out, planned.base)


# ---------------------------------------------------------------------------------------------------------------------
# What came of it


def _conclude(prepared: _Search, ended: Mapping[str, Ended]) -> Tuned:
    best = best_of(list(ended.values()))
    if best is None:
        failed = next((one.told for one in ended.values() if one.told), "")
        why = f"the first failure: {failed}" if failed else "Fix: raise --minutes, or lower pretrain.evaluate_every"
        raise UserError(f"tune: no trial came to a validation loss in {prepared.asked.minutes:g} minutes. {why}.")
    trial = next(one for one in prepared.drawn.trials if one.fingerprint == best.fingerprint)
    _clear(prepared, ended, trial)
    step = deciding_step(list(ended.values()))
    written, diff, notes = None, "", list(prepared.drawn.notes)
    if trial.changes:
        written, diff, more = _write(prepared, trial)
        notes += more
    waiting = sum(one.why in ("unfinished", "lost") for one in ended.values()) + len(prepared.drawn.trials) - len(ended)
    if waiting:
        notes.append(
            f"{waiting} trials did not come to an end; the same command goes on with them{'' if written is None else ', with --write'}"
        )
    return Tuned(prepared.drawn.trials, ended, trial, step, written, diff, prepared.folder, prepared.tracking, tuple(notes))


def _write(prepared: _Search, trial: Trial) -> tuple[Path, str, list[str]]:
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


def _clear(prepared: _Search, ended: Mapping[str, Ended], best: Trial) -> None:
    """Deletes what trials left that have come to their end; the best's training is handed to the run that will make it."""
    for one in ended.values():
        folder = prepared.folder / one.fingerprint
        if one.why not in FINAL or not folder.exists():
            continue
        if one.fingerprint == best.fingerprint and one.why == "finished":
            _hand_over(prepared, best, folder)
        shutil.rmtree(folder, ignore_errors=True)


def _hand_over(prepared: _Search, best: Trial, folder: Path) -> None:
    """Where no run has begun it: its checkpoints become those that a run goes on from."""
    place = prepared.workspace.folder(PRETRAIN.name, best.fingerprint)
    begun = place.with_name(f"{best.fingerprint}.partial")
    if place.exists() or begun.exists():
        return
    place.parent.mkdir(exist_ok=True)
    folder.rename(begun)
    loaded = load(prepared.asked.recipe, [*prepared.asked.changes, *as_overrides(best.changes)])
    write_origin(prepared.workspace, origin_of(loaded.flow, loaded.recipe), PRETRAIN.name, best.fingerprint, PRETRAIN.name)

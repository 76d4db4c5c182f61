"""Tune: searches fields of a recipe by trials of its pretraining, each a child run of one run in MLflow; the best becomes a recipe.

WORKSPACE/tune/<fingerprint>/    a search: trials.jsonl, how each trial ended; folders of those that were stopped, to go on from
"""

import json
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from prefect import Flow

from flows.commands.tune_asked import Asked
from flows.commands.tune_result import Tuned, conclude
from flows.commands.tune_search import Search, plan, prepare
from flows.commands.tune_trials import Trial, told_values
from flows.dags import load
from flows.runner.report_facts import tell
from flows.runner.session import report_unsent, run_dag, run_tags, sampled
from flows.runner.summaries import flattened
from flows.runner.trial_journal import Followed, TrialJournal
from flows.runner.until_pretraining import PlannedPretraining, until_pretraining
from flows.stages import PRETRAIN, Builder, Outcome
from model.training.curve import CURVE, read_curve
from tasks.artifacts import Workspace, read_manifest
from tasks.cluster import Launcher, Training, Workers
from tasks.pretrain.job import PretrainJob, write_job
from tasks.pretrain.pretrain import pretrain_job
from tasks.pretrain.start import check_tokenizer
from tasks.settings import identity
from tasks.tracking.journal import DRAIN_SECONDS, Journal, start_sender
from tasks.tune.search import SearchJob, search
from tasks.tune.trials import FINAL, Curve, Ended, TrialJob, best_of, read_ended

logger = logging.getLogger("wordmill")


def tune(asked: Asked) -> Tuned:
    """Search, and write the best as a recipe. UserError, before anything starts, for what cannot be searched."""
    prepared = prepare(asked)
    planned = prepared.own.planned
    if planned.missing:
        _run_before(asked, prepared)
        planned = plan(asked, [])
    if planned.config.start is not None:
        check_tokenizer(planned.config.start, planned.tokenizer.fingerprint, planned.tokenizer.path)
    ended = _run_trials(prepared, planned)
    return conclude(prepared, ended)


def _run_before(asked: Asked, prepared: Search) -> None:
    """Runs the stages before the pretraining, as a run of their own."""
    from flows.deployed import guarded, require_server

    logger.info("Stages before the pretraining are run first; their time is not counted.")
    loaded = load(asked.recipe, asked.changes)
    require_server()

    def dag(builder: Builder) -> Outcome:
        until_pretraining(loaded.dag, builder)
        return Outcome((), (), None)

    with guarded():
        Flow(lambda: run_dag("shards", loaded.recipe, dag, partial(tell, recipe=loaded.recipe, flow_name="shards")), name="shards")()


def _run_trials(prepared: Search, planned: PlannedPretraining) -> dict[str, Ended]:
    """How each trial ended, by fingerprint."""
    folder = prepared.folder
    folder.mkdir(parents=True, exist_ok=True)
    known = {trial.fingerprint: end for trial in prepared.drawn.trials if (end := _known(prepared.workspace, trial, folder)) is not None}
    followed = [_followed(trial, folder, known.get(trial.fingerprint)) for trial in prepared.drawn.trials]
    _tell_beginning(prepared, len(known))
    launcher = Launcher(prepared.recipe.cluster, prepared.workspace.root / "logs")
    with _tracked(prepared) as journal:
        try:
            with TrialJournal(journal, folder, followed) as trials:
                if len(known) < len(followed):
                    launcher.launch(_training(prepared, planned, known), lambda point: None)
        finally:
            launcher.stop()
        begun = [one for one in followed if one.fingerprint not in trials.ended and (one.folder / CURVE).exists()]
        ended = trials.ended | {one.fingerprint: _unfinished(one) for one in begun}
        best = best_of(list(ended.values()))
        if best is not None:
            journal.metrics(journal.run, {"validation_loss": best.curve[-1][1], "trials": len(ended)})
            journal.tags(journal.run, {"wordmill.best": next(one.told for one in followed if one.fingerprint == best.fingerprint)})
        return ended


@contextmanager
def _tracked(prepared: Search) -> Generator[Journal]:
    """While open, the search is a run in MLflow."""
    asked, journals = prepared.asked, prepared.workspace.root / "journal"
    journal = Journal(journals, prepared.recipe.name, f"tune {datetime.now(UTC):%Y-%m-%d %H:%M:%S}", run_tags("tune"))
    sender = start_sender(journals, prepared.tracking, prepared.workspace.root / "mlartifacts")
    over = {f"over.{name}": text for name, _, text in (given.partition("=") for given in asked.over)}
    journal.params(journal.run, {**over, "trials": str(asked.trials), "minutes": f"{asked.minutes:g}", "seed": str(asked.seed)})
    status = "FAILED"
    try:
        with sampled(journal):
            yield journal
        status = "FINISHED"
    except BaseException as error:
        if isinstance(error, InterruptedError) or not isinstance(error, Exception):
            status = "KILLED"
        raise
    finally:
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


def _tell_beginning(prepared: Search, known: int) -> None:
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


def _training(prepared: Search, planned: PlannedPretraining, known: Mapping[str, Ended]) -> Training:
    """The search as a child process."""
    recipe, folder = prepared.recipe, prepared.folder
    jobs: list[TrialJob] = []
    for trial in prepared.drawn.trials:
        out = folder / trial.fingerprint
        before = known.get(trial.fingerprint)
        if before is not None and before.why == "failed":
            continue  # no measure of others
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
    layout = replace(config.pretrain.layout, shards=False, tensor=1)
    plain = config.pretrain.model_copy(update={"checkpoint_place": None, "profile": None, "norms_every": None, "layout": layout})
    config = replace(config, pretrain=plain).with_base(planned.base)
    return pretrain_job(config, planned.shards, planned.tokenizer, out, planned.base)

"""Session: one run of a flow; workspace, journal, launcher and DAG opened together, and closed in order whatever happens."""

import logging
import platform
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

import psutil
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from flows.recipe import AnyRecipe, CorpusRecipe, FinetuneRecipe
from flows.runner.execution import Execution, Record
from flows.runner.interruption import ALONE_SECONDS, SERVER_SECONDS, leave_soon, saving
from flows.runner.last_scores import keep_scores
from flows.runner.origin import origin_of
from flows.runner.summaries import AWAITS, duration, flattened, reasons
from flows.runner.waiting import register_waiting
from flows.stages import REGISTER, Outcome
from tasks.artifacts import Workspace
from tasks.cluster import Launcher
from tasks.corpus.select import DEFAULT_RULES
from tasks.executor.filetasks import FilesConfig, FileTasks
from tasks.ledger import Ledger
from tasks.promotion.champion import Registry
from tasks.report.facts import RunStory
from tasks.scores import OWN, ScoreRow
from tasks.settings import Json, identity
from tasks.tracking.address import require_answer, tracking_address
from tasks.tracking.journal import DRAIN_SECONDS, Journal, Sender, mlflow_run, read_bookmark, start_sender
from tasks.tracking.patience import WAIT_SECONDS, Patience, RegistryAway

logger = logging.getLogger("wordmill")

METRICS_SECONDS = 5.0


def run_dag(
    flow_name: str,
    recipe: AnyRecipe,
    dag: Callable[[Execution], Outcome],
    story: Callable[[Execution, float], RunStory],
    close: "Callable[[Execution, RunSummary], None] | None" = None,
) -> "RunSummary":
    """Run `dag` in the recipe's workspace, with figures to MLflow and artifacts to Prefect; returns what became of it.

    `close` is called when all is done, while what it has to tell can still go to MLflow.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    workspace = Workspace(recipe.workspace).open()
    uri = tracking_address(recipe.tracking.uri, workspace)
    require_answer(uri)
    journals = workspace.root / "journal"
    journal = Journal(journals, recipe.name, f"{flow_name} {started:%Y-%m-%d %H:%M:%S}", run_tags(flow_name))
    sender = start_sender(journals, uri, workspace.root / "mlartifacts")
    launcher = Launcher(recipe.cluster, workspace.root / "logs")
    files = FileTasks(workspace.root / "parts", files_config(recipe), recipe.cluster.address, recipe.cluster.object_store_bytes)
    lock = Lock()

    seconds = WAIT_SECONDS if isinstance(recipe, CorpusRecipe) else recipe.register_.wait_seconds
    patience = Patience(uri, seconds, "registry")

    def registry() -> Registry:
        nonlocal patience
        patience.require()
        found = mlflow_run(journal.path, journal.run, seconds=patience.left())
        if found is None:
            raise RegistryAway(
                f"MLflow at {uri} has not taken this run within {seconds:g} s (see {journals / 'sender.log'}); what was made is kept. "
                "Fix: see that it answers, then run again",
                uri,
            )
        patience = Patience(uri, seconds, "registry")  # it answered: another silence is waited for anew
        return Registry(uri, found, run_tags(flow_name), lock)

    execution = Execution(
        workspace,
        journal,
        launcher,
        files,
        recipe.concurrency,
        registry,
        uri,
        lambda: story(execution, time.monotonic() - clock),
        origin_of(flow_name, recipe),
    )
    journal.params(journal.run, flattened(identity(recipe)))
    status = "FAILED"
    try:
        with sampled(journal), saving(launcher.save):
            register_waiting(workspace, uri, registry)
            outcome = dag(execution)
            execution.finish()
        summary = close_run(execution, outcome, recipe, uri, time.monotonic() - clock)
        if close is not None:
            close(execution, summary)
        status = "FINISHED"
        return summary
    except BaseException as error:
        # Ctrl-C, Prefect's TerminationSignal, or a training that was stopped by itself
        status = "KILLED" if isinstance(error, InterruptedError) or not isinstance(error, Exception) else "FAILED"
        if status == "KILLED":
            logger.warning("Stopping what is at work.")
        raise
    finally:
        launcher.stop()
        files.close()
        for record in execution.records:
            if record.mlflow_run is not None and record.status != "ran":
                journal.end(record.mlflow_run, status if status != "FINISHED" else "FAILED")
        journal.end(journal.run, status)
        journal.close()
        report_unsent(sender, journal, uri, DRAIN_SECONDS if status == "FINISHED" else 5.0)
        if status == "KILLED":
            leave_soon(SERVER_SECONDS if PREFECT_API_URL.value() else ALONE_SECONDS)


def files_config(recipe: AnyRecipe) -> FilesConfig:
    """Where the corpus is worked on; a recipe without one needs nothing."""
    return FilesConfig(workers=0) if isinstance(recipe, FinetuneRecipe) else recipe.files


@dataclass(frozen=True)
class RunSummary:
    """What `wordmill run` prints; docs/architecture.md describes the JSON form."""

    stages: tuple[Record, ...]
    report: Path | None  # None where there was nothing to tell
    model: str
    registered: tuple[Mapping[str, str], ...]
    scores: tuple[ScoreRow, ...]
    tracking: str
    seconds: float
    notes: tuple[str, ...] = ()  # on what was dropped or left aside without having been asked for

    def as_json(self) -> dict[str, Json]:
        """The documented form."""
        stages = [stage_json(record) for record in self.stages if record.artifact is not None or record.status == AWAITS]
        return {
            "stages": [*stages],
            "report": "" if self.report is None else str(self.report),
            "model": self.model,
            "registered": [dict(entry) for entry in self.registered],
            "scores": [row.to_json() for row in self.scores],
            "tracking": self.tracking,
            "seconds": round(self.seconds, 1),
            "notes": [*self.notes],
        }


def stage_json(record: Record) -> dict[str, Json]:
    """A stage in the documented form; one that waits for the registry has no rows yet."""
    ledger = Ledger() if record.artifact is None else record.artifact.ledger
    return {
        "stage": record.label,
        "status": record.status,
        "fingerprint": "" if record.identity is None else record.identity.fingerprint,
        "rows_in": ledger.rows_in,
        "rows_out": ledger.rows_out,
        "dropped": dict(ledger.dropped),
        "seconds": round(record.seconds, 3),
    }


def close_run(execution: Execution, outcome: Outcome, recipe: AnyRecipe, uri: str, seconds: float) -> RunSummary:
    """Scores and report to MLflow and Prefect, and the record of this run for the next one's comparison."""
    scores = execution.scores()
    report = None if outcome.report is None else outcome.report.artifact().path / "report.html"
    registered = tuple(
        dict(record.artifact.notes) for record in execution.records if record.stage == REGISTER.name and record.artifact is not None
    )
    journal = execution.journal
    journal.metrics(journal.run, {f"{row.subject}.{row.metric}": row.value for row in scores if row.model == OWN})
    if report is not None:
        journal.artifact(journal.run, report)
        for page in sorted((report.parent / "steps").glob("*.html")):
            journal.artifact(journal.run, page, "steps")
        create_link_artifact(link=report.as_uri(), link_text="report", key="report", description=f"Report of {recipe.name}")
        keep_scores(scores, execution.workspace, recipe.name)
    found = [record.artifact.notes for record in execution.records if record.artifact is not None]
    notes = (*(told[DEFAULT_RULES] for told in found if DEFAULT_RULES in told), *execution.waiting())
    for note in notes:
        logger.warning("%s", note)
    create_markdown_artifact(key="summary", markdown=summary_markdown(execution.records, report, scores, notes))
    return RunSummary(tuple(execution.records), report, registered[0]["uri"] if registered else "", registered, scores, uri, seconds, notes)


def summary_markdown(records: list[Record], report: Path | None, scores: tuple[ScoreRow, ...], notes: tuple[str, ...] = ()) -> str:
    """Stages and scores as one page for the Prefect UI."""
    lines = ["| stage | status | time | rows in | rows out | dropped |", "|---|---|---:|---:|---:|---|"]
    for record in records:
        if record.artifact is not None:
            ledger = record.artifact.ledger
            lines.append(
                f"| {record.label} | {record.status} | {duration(record.seconds)} | {ledger.rows_in:,} | {ledger.rows_out:,} "
                f"| {reasons(ledger.dropped)} |"
            )
    lines += ["", "| model | task | metric | value | 95 % interval | n |", "|---|---|---|---:|---|---:|"]
    lines += [
        f"| {row.model} | {row.task} | {row.metric} | {row.value:.4f} | {row.ci_low:.4f} to {row.ci_high:.4f} | {row.n:,} |"
        for row in scores
    ]
    return "\n".join([*lines, "", *(f"Note: {note}" for note in notes), *([] if report is None else [f"Report: `{report}`"])])


def run_tags(flow_name: str) -> dict[str, str]:
    """What leads from an MLflow run back to Prefect and the machine."""
    return {
        "wordmill.flow": flow_name,
        "wordmill.machine": platform.node(),
        "prefect.flow_run_id": flow_run.id or "",
        "prefect.flow_run_name": flow_run.name or "",
        "prefect.url": flow_run.ui_url or "",
    }


def report_unsent(sender: Sender, journal: Journal, uri: str, seconds: float) -> None:
    """Say so when MLflow did not take everything."""
    left = sender.drain(journal.path, seconds)
    if journal.refused.exists():
        why = read_bookmark(journal.path).refused.get(journal.run)
        told = "" if why is None else f": {why.rstrip('.')}"
        logger.warning("MLflow at %s refused figures of this run%s. They are kept with its words in %s", uri, told, journal.refused)
    if left:
        logger.warning("MLflow at %s has not taken %d entries yet; they wait in %s and the next run sends them", uri, left, sender.folder)


@contextmanager
def sampled(journal: Journal) -> Generator[None]:
    """While open, the machine's load goes to the journal every few seconds, under MLflow's names for system metrics.

    Should MLflow refuse the run, that is told now and not at its end.
    """
    done = threading.Event()

    def sample() -> None:
        step = 0
        is_told = False
        psutil.cpu_percent()
        while not done.wait(METRICS_SECONDS):
            refusal = read_bookmark(journal.path).refused.get(journal.run)
            if refusal is not None and not is_told:
                logger.warning("MLflow does not take this run: %s The run goes on; its figures stay in %s.", refusal, journal.refused)
                is_told = True
            memory = psutil.virtual_memory()
            figures = {
                "system/cpu_utilization_percentage": psutil.cpu_percent(),
                "system/system_memory_usage_megabytes": (memory.total - memory.available) / 1e6,
                "system/system_memory_usage_percentage": memory.percent,
                "system/disk_usage_percentage": psutil.disk_usage("/").percent,
            }
            journal.metrics(journal.run, figures, step)
            step += 1

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()

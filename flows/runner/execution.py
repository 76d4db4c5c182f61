"""Execution of a DAG with Prefect: each stage a task, its fingerprint the cache key, its result and lock in the workspace."""

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Generic, cast

from prefect import Task, allow_failure
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.transactions import IsolationLevel
from pydantic import TypeAdapter
from tqdm import tqdm

from flows.runner.locks import ArtifactLocks
from flows.runner.origin import Origin, write_origin
from flows.runner.progress import TRAINING_BAR, Progress
from flows.runner.summaries import AWAITS, flattened, ledger_columns, ledger_figures, ledger_table, slug, summary_line
from flows.stages import Config, Given, Handle, Identity, Inputs, Stage, Tools, identify, label_of, outside
from tasks.artifacts import AnyArtifact, Artifact, Workspace, as_artifact, describe, fault, read_manifest
from tasks.cluster import Launcher, LostWorkers, Training
from tasks.contracts import ContractName, check_table
from tasks.corpus.forgotten import read_forgotten
from tasks.errors import UserError, machine_fault
from tasks.executor.filetasks import FileTasks
from tasks.ledger import Receipt
from tasks.promotion.champion import Registry
from tasks.promotion.history import now
from tasks.promotion.waiting import Waiting, write_waiting
from tasks.report.facts import RunStory
from tasks.scores import ScoreRow, read_scores
from tasks.tracking.journal import Journal
from tasks.tracking.patience import RegistryAway

logger = logging.getLogger("wordmill")

RETRY_SECONDS = [2.0, 10.0, 60.0]  # a stage is tried again after these, where trying again can help
SLICE_SECONDS = 0.5  # of waiting
FREE_BYTES = 200 * 2**20  # what a stage needs at the least to begin


@dataclass
class Record:
    """What became of one node in this run."""

    stage: str
    subject: str  # what it is about, where there are several of the stage: base, areas
    depends: tuple[str, ...]  # labels
    status: str = "waiting"  # ran, cached, failed, waiting; AWAITS
    problem: str = ""  # where it is AWAITS: what MLflow did
    seconds: float = 0.0
    mlflow_run: str | None = None  # key in the journal
    identity: Identity | None = None
    artifact: Artifact | None = None

    @property
    def label(self) -> str:
        """What the node is called."""
        return label_of(self.stage, self.subject)


@dataclass(frozen=True)
class Node(Generic[AnyArtifact]):
    """A node handed to Prefect."""

    record: Record
    future: PrefectFuture[AnyArtifact]
    registers: bool

    def artifact(self) -> AnyArtifact:
        """Wait for the artifact; raises what its stage raised."""
        return self.future.result()


@dataclass
class Execution:
    """One run of one DAG."""

    workspace: Workspace
    journal: Journal
    launcher: Launcher
    files: FileTasks
    concurrency: int
    registry: Callable[[], Registry]  # made when a stage asks for it: it waits for the tracking run
    address: str  # of the registry, for fingerprints
    story: Callable[[], RunStory]
    origin: Origin  # noted of every training
    records: list[Record] = field(default_factory=list[Record])

    def __post_init__(self) -> None:
        self._nodes: list[Node[Artifact]] = []
        self._slots = threading.Semaphore(self.concurrency)
        self._locks = ArtifactLocks(self.workspace.root / "locks")
        self.results = self.workspace.root / "results"

    def stage(
        self,
        stage: Stage[Config, AnyArtifact],
        config: Config,
        subject: str = "",
        /,
        **inputs: Handle[Artifact] | tuple[Handle[Artifact], ...] | None,
    ) -> Node[AnyArtifact]:
        """Submit a node; it starts when its inputs are there."""
        nodes = [node for value in inputs.values() for node in _nodes(value)]
        record = Record(stage.name, subject, tuple(node.record.label for node in nodes))
        self.records.append(record)
        futures = {name: _despite(_futures(value)) if name in stage.despite else _futures(value) for name, value in inputs.items()}
        task = Task(
            fn=self._maker(stage, config, record),
            name=stage.name,
            task_run_name=record.label.replace("{", "(").replace("}", ")"),
            cache_policy=CacheKeyFnPolicy(
                cache_key_fn=partial(self._cache_key, stage, config, record),
                isolation_level=IsolationLevel.SERIALIZABLE,
                lock_manager=self._locks,
            ),
            result_storage=self.results,
            result_serializer="json",
            persist_result=True,
            retries=len(RETRY_SECONDS),
            retry_delay_seconds=RETRY_SECONDS,
            retry_condition_fn=may_retry,
        )
        node = Node(record, task.submit(futures), stage.registers)
        self._nodes.append(cast("Node[Artifact]", node))
        return node

    def finish(self) -> None:
        """Wait for every node. Raises the fault of the first one that failed by itself; a registration may wait for its registry."""
        for node in self._nodes:
            await_end(node.future)
        for node in self._nodes:
            state = node.future.state
            if state.is_completed():
                node.record.artifact = node.future.result()
                node.record.status = "ran" if node.record.status == "ran" else "cached"
            elif state.is_failed() or state.is_crashed():
                node.record.status = "failed"
                found: object = state.result(raise_on_failure=False)
                if isinstance(found, RegistryAway) and node.registers:
                    node.record.status, node.record.problem = AWAITS, str(found)
        for node in self._nodes:
            if node.record.status == "failed":
                node.future.result()
        for record in self.records:
            if record.status == "cached":
                self._tell_cached(record)

    def waiting(self) -> tuple[str, ...]:
        """For each registration that waits, why, and what to do."""
        records = [record for record in self.records if record.status == AWAITS and record.identity is not None]
        return tuple(
            f"registration waits: {record.problem}, or: wordmill register {record.identity.inputs['model']}"
            for record in records
            if record.identity is not None
        )

    def scores(self) -> tuple[ScoreRow, ...]:
        """What the run's evaluations measured, each row with its subject."""
        done = [record for record in self.records if record.stage == "evaluate" and record.artifact is not None]
        return tuple(row for record in done if record.artifact for row in read_scores(record.artifact.path, record.subject))

    def _cache_key(
        self, stage: Stage[Config, AnyArtifact], config: Config, record: Record, context: TaskRunContext, parameters: Mapping[str, Inputs]
    ) -> str:
        """The fingerprint; a stored result whose files are gone or altered is forgotten first, and said so."""
        record.identity = found = self._identify(stage, config, parameters["inputs"])
        key = f"{stage.name}-{found.fingerprint}"
        folder = self.workspace.folder(stage.name, found.fingerprint)
        manifest = read_manifest(folder)
        wrong = f"{folder} is missing" if manifest is None else fault(folder, manifest)
        if wrong is None and manifest is not None:
            record.artifact = as_artifact(stage.artifact, folder, manifest)
            if written_elsewhere(self.results / key):
                (self.results / key).unlink(missing_ok=True)  # the workspace was moved or copied: `_make` adopts the artifact
        elif (self.results / key).exists() or manifest is not None:
            logger.warning("%s: %s; it is built again", record.label, wrong)
            (self.results / key).unlink(missing_ok=True)
            self.workspace.discard(stage.name, found.fingerprint)
        return key

    def _identify(self, stage: Stage[Config, AnyArtifact], config: Config, inputs: Inputs) -> Identity:
        return identify(stage, config, inputs, self.address, self.workspace)

    def _maker(self, stage: Stage[Config, AnyArtifact], config: Config, record: Record) -> Callable[[Mapping[str, object]], AnyArtifact]:
        """The task's function; Prefect has put artifacts where the futures were."""

        def make(inputs: Mapping[str, object]) -> AnyArtifact:
            return self._make(stage, config, record, cast(Inputs, inputs))

        return make

    def _make(self, stage: Stage[Config, AnyArtifact], config: Config, record: Record, inputs: Inputs) -> AnyArtifact:
        """The task: runs only where Prefect found no result. Adopts an artifact whose result record was lost."""
        found = record.identity = record.identity or self._identify(stage, config, inputs)
        whole = self.workspace.find(stage.artifact, stage.name, found.fingerprint)
        if whole is not None:
            record.artifact = whole
            return whole
        with self._slots:
            return self._build(stage, config, record, inputs, found)

    def _build(self, stage: Stage[Config, AnyArtifact], config: Config, record: Record, inputs: Inputs, found: Identity) -> AnyArtifact:
        started = time.monotonic()
        record.mlflow_run = self.journal.child(record.label, {"wordmill.stage": stage.name, "wordmill.fingerprint": found.fingerprint})
        self.journal.params(record.mlflow_run, flattened(found.config))
        for name, digest in found.inputs.items():
            self.journal.dataset(record.mlflow_run, name[:200], digest[:36], str(self.workspace.root), {})
        partial_folder = self.workspace.begin(stage.name, found.fingerprint, stage.continues)
        try:
            self._check_space()
            if stage.continues:
                write_origin(self.workspace, self.origin, stage.name, found.fingerprint, record.label)
            outcome = stage.build(config, Given(inputs), partial_folder, self._tools(record))
        except RegistryAway as error:
            if stage.registers:
                write_waiting(self.workspace, waiting_for(config, record, inputs, found, error))
            raise
        except LostWorkers as error:
            raise LostWorkers(f"{record.label}: {error}") from error  # whose keys its advice speaks of
        except Exception as error:
            told = None if isinstance(error, UserError) else machine_fault(error)
            if told is None:
                raise
            raise UserError(f"{record.label}: {told}") from error
        check_unchanged(stage, config, found, self.workspace)
        outcome = replace(outcome, receipts=outcome.receipts + receipts(stage.contracts, partial_folder))
        record.seconds = time.monotonic() - started
        manifest = describe(
            stage.name, found.fingerprint, found.config, found.inputs, partial_folder, outcome, record.seconds, record.subject
        )
        folder = self.workspace.publish(manifest)
        record.artifact = artifact = as_artifact(stage.artifact, folder, manifest)
        record.status = "ran"
        self._tell(record, artifact)
        return artifact

    def _tools(self, record: Record) -> Tools:
        root = self.workspace.root
        return Tools(self.files, partial(self._launch, record), self.registry, self.story, partial(read_forgotten, root))

    def _launch(self, record: Record, training: Training) -> None:
        """Run a training in its own process or on Ray; its figures go to the progress bar and the journal."""
        assert record.mlflow_run is not None
        with tqdm(desc=record.label, bar_format=TRAINING_BAR, disable=None, leave=False) as bar:
            progress = Progress(record.label, training.out, self.journal, record.mlflow_run, bar)
            try:
                self.launcher.launch(training, progress.follow)
            finally:
                progress.close()

    def _tell(self, record: Record, artifact: Artifact) -> None:
        """One line for people, figures for MLflow, a table for the Prefect UI."""
        logger.info("%s: %s", record.label, summary_line(artifact.ledger, record.seconds))
        assert record.mlflow_run is not None
        self.journal.metrics(record.mlflow_run, {**ledger_figures(artifact.ledger), **artifact.figures, "seconds": record.seconds})
        self.journal.tags(record.mlflow_run, dict(artifact.notes))
        self.journal.artifact(record.mlflow_run, artifact.path / "manifest.json")
        if artifact.ledger.rows_in:
            self.journal.table(record.mlflow_run, "ledger", ledger_columns(artifact.ledger))
        self.journal.end(record.mlflow_run, "FINISHED")
        create_table_artifact(table=ledger_table(artifact), key=f"ledger-{slug(record.label)}", description=f"Ledger of {record.label}")

    def _tell_cached(self, record: Record) -> None:
        assert record.artifact is not None
        run = self.journal.child(
            record.label, {"wordmill.stage": record.stage, "wordmill.cached": "true", "wordmill.fingerprint": record.artifact.fingerprint}
        )
        self.journal.metrics(run, {**ledger_figures(record.artifact.ledger), **record.artifact.figures})
        self.journal.end(run, "FINISHED")

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.workspace.root).free
        if free < FREE_BYTES:
            raise UserError(
                f"no space left on the disk of {self.workspace.root} ({free / 2**20:,.0f} MB free). Free some, or choose "
                "another disk with --workspace DIR; finished stages are kept."
            )


def waiting_for(config: object, record: Record, inputs: Inputs, found: Identity, error: RegistryAway) -> Waiting:
    """The note of a model that waits for its registry, or for the decision on it: the champion is known there alone."""
    told = TypeAdapter(type(config)).dump_json(config).decode()
    folders = {name: artifact.folder for name, artifact in inputs.items() if isinstance(artifact, Artifact)}
    return Waiting(found.inputs["model"], found.fingerprint, record.label, told, folders, error.address, now(), str(error))


def await_end(future: PrefectFuture[Artifact]) -> None:
    """Wait in slices: polars' handler of SIGINT restarts a wait without end, so that Ctrl-C would not be heard."""
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    while not ended.wait(SLICE_SECONDS):
        continue
    future.wait()


def _despite(value: "PrefectFuture[Artifact] | tuple[PrefectFuture[Artifact], ...] | None") -> object:
    """What Prefect waits for, and goes on from should it have failed."""
    return tuple(allow_failure(one) for one in value) if isinstance(value, tuple) else allow_failure(value)


def check_unchanged(stage: Stage[Config, AnyArtifact], config: Config, found: Identity, workspace: Workspace) -> None:
    """UserError when a file from outside is not what it was when the stage was identified: its output would be kept wrongly."""
    now = outside(stage, config, workspace)
    before = {name: digest for name, digest in found.inputs.items() if name.startswith("file ")}
    for name in sorted({*now, *before}):
        if before.get(name) != now.get(name):
            raise UserError(
                f"{stage.name}: {name.removeprefix('file ')} changed while the stage was at work. Fix: run again when it is complete; "
                "what was read before is not read again."
            )


def written_elsewhere(result: Path) -> bool:
    """Whether a stored result is torn, or was stored at another path and so names another folder."""
    try:
        return json.loads(result.read_text())["metadata"]["storage_key"] != str(result)
    except FileNotFoundError:
        return False
    except (json.JSONDecodeError, KeyError):
        return True


def _nodes(value: Handle[Artifact] | tuple[Handle[Artifact], ...] | None) -> tuple[Node[Artifact], ...]:
    group = value if isinstance(value, tuple) else (value,)
    return tuple(node for node in group if isinstance(node, Node))


def _futures(
    value: Handle[Artifact] | tuple[Handle[Artifact], ...] | None,
) -> PrefectFuture[Artifact] | tuple[PrefectFuture[Artifact], ...] | None:
    """What Prefect waits for and hands to the task as artifacts."""
    futures = tuple(node.future for node in _nodes(value))
    return futures if isinstance(value, tuple) else (futures[0] if futures else None)


def may_retry(task: object, run: object, state: State[object]) -> bool:
    """Trying again can help against lost workers and broken connections; never against a bug, a bad input or a full disk.

    Nor against a registry that was waited for in vain.
    """
    try:
        state.result(raise_on_failure=True)
    except (UserError, RegistryAway, InterruptedError, FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
        return False
    except (LostWorkers, OSError) as error:
        if not isinstance(error, LostWorkers) and machine_fault(error) is not None:
            return False
        told = next(iter(str(error).splitlines()), type(error).__name__)[:500]
        logger.warning("%s, which may pass: tried again, after %s seconds at most", told, ", ".join(f"{wait:g}" for wait in RETRY_SECONDS))
        return True
    except Exception:  # noqa: BLE001 - whatever else it was, it is reported by the task itself; here the answer is no
        return False
    return False


def receipts(contracts: Mapping[str, ContractName], folder: Path) -> tuple[Receipt, ...]:
    """Every table held to a contract, checked: values, not only types."""
    return tuple(check_table(contract, path) for pattern, contract in contracts.items() for path in sorted(folder.glob(pattern)))

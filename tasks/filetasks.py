"""One task per file: the corpus stages hand files to a place (this process, a pool of processes, Ray) and get outcomes back.

Whatever the place and the number of workers, the bytes written are the same. Each finished task is a part: a folder in the
workspace under its fingerprint, which a later run, or another stage over the same file, takes as it is. So a killed stage
goes on where it was, and a source that grew by a file costs that file. Text never passes between processes: only names do.

WORKSPACE/parts/<stage>/<fingerprint>/     files and, written last, part.json
"""

import json
import logging
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Generic, Literal, NoReturn, Protocol, TypeVar

from pydantic import Field

from tasks.artifacts import file_digest, fingerprint
from tasks.errors import UserError
from tasks.ledger import Ledger, Receipt, StageOutcome
from tasks.settings import Json, Placement, Section

if TYPE_CHECKING:
    from tqdm import tqdm

ATTEMPTS = 2  # of a file whose worker died
AHEAD = 4  # tasks a worker has waiting
WATCH_SECONDS = 1.0
LEFT_SECONDS = 24 * 3600  # after which an unfinished part belongs to a run that was killed, here or on another machine


class FilesConfig(Section):
    """Where the corpus is worked on. Nothing here bears on a result."""

    place: Annotated[Literal["processes", "ray"], Placement()] = Field(
        default="processes", description="a pool on this machine, or Ray (cluster.address, else one started here)"
    )
    workers: Annotated[int | None, Placement()] = Field(
        default=None, ge=0, description="processes; null: one a core; 0: this process alone, one file after another"
    )


class Work(Protocol):
    """What a file task is called with. Frozen, small, picklable; it names files and never holds text."""

    @property
    def label(self) -> str:
        """The file, as people know it."""
        ...

    @property
    def size(self) -> int:
        """Bytes to read, for the progress bar."""
        ...

    def identity(self) -> dict[str, Json]:
        """What the outcome is a function of, beside the stage's own revision."""
        ...


AnyWork = TypeVar("AnyWork", bound=Work)


@dataclass(frozen=True)
class Part:
    """What one task left: its files and its outcome. `lost` says why a file was set aside."""

    folder: Path
    outcome: StageOutcome
    lost: str | None = None

    def files(self, pattern: str) -> list[Path]:
        """The part's files of a kind, by name."""
        return sorted(self.folder.glob(pattern))


@dataclass(frozen=True)
class Task(Generic[AnyWork]):
    """One file's work: `function(work, folder)` writes into the folder; `stage` names the parts' kind."""

    stage: str
    function: Callable[[AnyWork, Path], StageOutcome]
    work: AnyWork
    folder: Path  # where the part will lie


def perform(task: Task[AnyWork]) -> None:
    """Do the work in a folder of its own, list what was written, and give the folder its name. Runs in a worker."""
    temporary = task.folder.with_name(f"{task.folder.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        outcome = task.function(task.work, temporary)
        entries: list[Json] = []
        for path in sorted(temporary.iterdir()):
            stat = path.stat()
            entries.append([path.name, stat.st_size, stat.st_mtime_ns, file_digest(path)])
        noted: dict[str, Json] = {"files": entries, "outcome": json.loads(json.dumps(asdict(outcome)))}
        (temporary / "part.json").write_text(json.dumps(noted, ensure_ascii=False) + "\n")
        if read_part(task.folder) is None:
            shutil.rmtree(task.folder, ignore_errors=True)
            temporary.rename(task.folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_left(folder: Path) -> None:
    """Removes what killed runs were writing. Another run may be at work, so only what nobody has touched for a day."""
    for temporary in folder.glob("*.tmp"):
        with suppress(FileNotFoundError):
            touched = max(path.stat().st_mtime for path in (temporary, *temporary.iterdir()))
            if touched < time.time() - LEFT_SECONDS:
                shutil.rmtree(temporary, ignore_errors=True)


def read_part(folder: Path) -> Part | None:
    """A finished part whose files are as they were written; None where there is none."""
    try:
        noted = json.loads((folder / "part.json").read_text())
        for name, size, modified, digest in noted["files"]:
            stat = (folder / name).stat()
            if stat.st_size != size or (stat.st_mtime_ns != modified and file_digest(folder / name) != digest):
                return None
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError, ValueError):
        return None
    return Part(folder, _outcome(noted["outcome"]))


def _outcome(raw: dict[str, Json]) -> StageOutcome:
    ledger, receipts, figures, notes = raw["ledger"], raw["receipts"], raw["figures"], raw["notes"]
    assert isinstance(ledger, dict)
    assert isinstance(receipts, list)
    assert isinstance(figures, dict)
    assert isinstance(notes, dict)
    return StageOutcome(
        Ledger(**ledger),  # type: ignore[arg-type]
        tuple(Receipt(**entry) for entry in receipts),  # type: ignore[arg-type]
        {name: float(str(value)) for name, value in figures.items()},
        {name: str(value) for name, value in notes.items()},
    )


class Lost(Exception):
    """The worker of a file died each time. Caught here, where the file is set aside by name."""


class Place(Protocol):
    """Where tasks are performed; a future ends with None, with the task's own exception, or with Lost."""

    width: int

    def submit(self, task: Task[AnyWork]) -> "Future[None]":
        """Start a task, or queue it."""
        ...

    def close(self) -> None:
        """Stop at once."""
        ...


class Here:
    """This process: one file after another."""

    width = 1

    def submit(self, task: Task[AnyWork]) -> "Future[None]":
        done: Future[None] = Future()
        perform(task)
        done.set_result(None)
        return done

    def close(self) -> None:
        return


class Processes:
    """A pool of processes on this machine; they end with it."""

    def __init__(self, workers: int) -> None:
        from pebble import ProcessPool

        self.width = workers
        context = multiprocessing.get_context("spawn")
        self._pool: ProcessPool = ProcessPool(workers, context=context, initializer=_end_with, initargs=[os.getpid()])

    def submit(self, task: Task[AnyWork]) -> "Future[None]":
        return self._pool.schedule(perform, args=[task])

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()


def _end_with(parent: int) -> None:
    """A worker's first act: from now on it dies when its run does, also by `kill -9`."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to answer; it stops the pool

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class OnRay:
    """Ray tasks, here or on a cluster that shares the workspace."""

    def __init__(self, workers: int, address: str | None, object_store_bytes: int) -> None:
        import ray

        if not ray.is_initialized():
            try:
                if address is None:
                    ray.init(
                        num_cpus=workers, include_dashboard=False, object_store_memory=object_store_bytes,
                        log_to_driver=False, logging_level=logging.ERROR,
                    )  # fmt: skip
                else:
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except ConnectionError as error:
                raise UserError(
                    f"cluster.address {address}: no Ray answers there. Start one (ray start --head) or leave it out."
                ) from error
        self.width = int(ray.cluster_resources().get("CPU", workers))
        self._remote = ray.remote(max_retries=0)(perform)

    def submit(self, task: Task[AnyWork]) -> "Future[None]":
        return self._remote.remote(task).future()

    def close(self) -> None:
        import ray

        ray.shutdown()


class FileTasks:
    """Performs file tasks for the stages of one run; the pool or Ray is started when it is first needed."""

    def __init__(
        self, parts: Path, config: FilesConfig, address: str | None = None, object_store_bytes: int = 128 * 2**20
    ) -> None:
        self.parts, self.config = parts, config
        self._address, self._object_store_bytes = address, object_store_bytes
        self._place: Place | None = None
        self._lock = threading.Lock()

    def run(
        self,
        stage: str,
        revision: Json,
        function: Callable[[AnyWork, Path], StageOutcome],
        works: Sequence[AnyWork],
        give_up: Callable[[AnyWork, Path], StageOutcome],
    ) -> list[Part]:
        """The parts of all works, in their order. `revision` is what the outcome is a function of beside the work itself.

        A work whose worker died twice is set aside: `give_up(work, folder)` writes what stands for it. What a task
        raises is raised here, once the others have been stopped.
        """
        tasks = [
            Task(
                stage,
                function,
                work,
                self.parts / stage / fingerprint(stage, revision, {"work": _text(work.identity())}),
            )
            for work in works
        ]
        remove_left(self.parts / stage)
        parts: list[Part | None] = [read_part(task.folder) for task in tasks]
        with self._progress(stage, works, parts) as bar:
            for index, part in self._perform(
                tasks, [index for index, part in enumerate(parts) if part is None], give_up
            ):
                parts[index] = part
                bar.update(works[index].size)
                bar.set_postfix_str(
                    f"{sum(p.outcome.ledger.rows_out for p in parts if p is not None):,} documents", False
                )
        return [part for part in parts if part is not None]

    def close(self) -> None:
        """Stop all work at once."""
        with self._lock:
            place, self._place = self._place, None
        if place is not None:
            place.close()

    @contextmanager
    def _progress(self, stage: str, works: Sequence[Work], parts: Sequence[Part | None]) -> "Generator[tqdm[NoReturn]]":
        from tqdm import tqdm

        total = sum(work.size for work in works)
        done = sum(work.size for work, part in zip(works, parts, strict=True) if part is not None)
        with tqdm(desc=stage, total=total, initial=done, unit="B", unit_scale=True, disable=None, leave=False) as bar:
            yield bar

    def _perform(
        self, tasks: Sequence[Task[AnyWork]], missing: Sequence[int], give_up: Callable[[AnyWork, Path], StageOutcome]
    ) -> Iterator[tuple[int, Part]]:
        if not missing:
            return
        place = self._started()
        waiting = iter(missing)
        attempts: dict[int, int] = {}
        running: dict[Future[None], int] = {}
        try:
            while True:
                while len(running) < place.width * AHEAD and (index := next(waiting, None)) is not None:
                    running[place.submit(tasks[index])] = index
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(future)
                    cause = _cause_of_loss(future)
                    attempts[index] = attempts.get(index, 0) + 1
                    if cause is not None and attempts[index] < ATTEMPTS:
                        running[place.submit(tasks[index])] = index
                    else:
                        yield index, _finished(tasks[index], cause, give_up)
        except BaseException:
            self.close()
            raise

    def _started(self) -> Place:
        with self._lock:
            if self._place is None:
                workers = os.cpu_count() or 1 if self.config.workers is None else self.config.workers
                if self.config.place == "ray":
                    self._place = OnRay(max(1, workers), self._address, self._object_store_bytes)
                else:
                    self._place = Processes(workers) if workers else Here()
            return self._place


def _finished(task: Task[AnyWork], cause: str | None, give_up: Callable[[AnyWork, Path], StageOutcome]) -> Part:
    """The part that a task left; for a lost file what stands for it, which is never taken again by another run."""
    if cause is None:
        part = read_part(task.folder)
        if part is None:
            raise UserError(
                f"{task.work.label}: its part {task.folder} is not there or was altered while the run went on. "
                "Fix: on several machines the workspace must be a folder that all of them share."
            )
        return part
    folder = task.folder.with_name(task.folder.name + ".lost")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Part(folder, give_up(task.work, folder), cause)


def _cause_of_loss(future: "Future[None]") -> str | None:
    """Why a worker died, None when the task was done; the task's own exception is raised."""
    from pebble import ProcessExpired

    error = future.exception()
    if error is None:
        return None
    if isinstance(error, ProcessExpired):
        return f"its worker ended with exit code {error.exitcode}"
    if type(error).__module__.startswith("ray."):
        return _ray_loss(error)
    raise error


def _ray_loss(error: BaseException) -> str:
    """Ray wraps a task's own exception; only lost workers and nodes are losses."""
    import ray.exceptions

    if isinstance(error, ray.exceptions.RayTaskError):
        raise error.as_instanceof_cause()
    if isinstance(
        error, ray.exceptions.WorkerCrashedError | ray.exceptions.OutOfMemoryError | ray.exceptions.NodeDiedError
    ):
        return f"its worker died ({type(error).__name__})"
    raise error


def _text(value: dict[str, Json]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def combined(parts: Sequence[Part]) -> StageOutcome:
    """Ledgers and figures of all parts added up; receipts of all, file names made those of the stage."""
    total: dict[str, int] = dict.fromkeys(("rows_in", "rows_out", "bytes_in", "bytes_out", "repaired_bytes"), 0)
    dropped: dict[str, int] = {}
    dropped_bytes: dict[str, int] = {}
    figures: dict[str, float] = {}
    receipts: list[Receipt] = []
    for number, part in enumerate(parts):
        ledger = part.outcome.ledger
        for name in total:
            total[name] += getattr(ledger, name)
        for target, counts in ((dropped, ledger.dropped), (dropped_bytes, ledger.dropped_bytes)):
            for reason, count in counts.items():
                target[reason] = target.get(reason, 0) + count
        for name, value in part.outcome.figures.items():
            figures[name] = figures.get(name, 0.0) + value
        receipts += [
            Receipt(entry.contract, numbered(number, entry.file), entry.rows, entry.checks)
            for entry in part.outcome.receipts
        ]
    ledger = Ledger(**total, dropped=dict(sorted(dropped.items())), dropped_bytes=dict(sorted(dropped_bytes.items())))
    return StageOutcome(ledger, tuple(receipts), figures)


def numbered(number: int, name: str) -> str:
    """`documents-000.parquet` of part 7 as the stage's file `documents-00007-000.parquet`."""
    kind, _, rest = name.partition("-")
    return f"{kind}-{number:05d}-{rest}"


def gather(parts: Sequence[Part], patterns: Sequence[str], out: Path) -> None:
    """Puts the parts' files into the stage's folder: as hard links, so that nothing is written twice; else as copies."""
    for number, part in enumerate(parts):
        for path in [path for pattern in patterns for path in part.files(pattern)]:
            link_or_copy(path, out / numbered(number, path.name))


def link_or_copy(path: Path, target: Path) -> None:
    """A hard link where the file system has them, else a copy."""
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)


@dataclass(frozen=True)
class TableFile:
    """A table of an earlier stage, by place and content."""

    path: str
    digest: str
    size: int
    rows: int
    facts: dict[str, str] = field(default_factory=dict[str, str])

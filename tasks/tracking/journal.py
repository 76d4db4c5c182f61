"""Tracking journal: every figure of a run goes to a local append-only file first, and from there to MLflow, behind.

A training step pays one short write, never a network call. `tasks/tracking/sender.py` reads the journal in a process of
its own; what it could not send stays in the file and is sent by the next run. Entries carry their own time, so sending
one twice changes nothing.
"""

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from filelock import FileLock

from tasks.errors import UserError

DRAIN_SECONDS = 20.0  # how long the end of a run waits for the sender before it leaves the rest to the next run
OTHERS_SECONDS = 3.0  # of that, for journals of other runs


class Journal:
    """One run's figures as JSON lines in `folder/<run>.jsonl`; safe to call from several threads."""

    def __init__(self, folder: Path, experiment: str, name: str, tags: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.run = uuid.uuid4().hex
        self.path = folder / f"{self.run}.jsonl"
        self._writer = writer_lock(self.path)
        self._writer.acquire()  # before the file is there: who finds it unlocked takes its writer for dead
        self._file: TextIO = self.path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._write("start", self.run, experiment=experiment, parent=None, name=name, tags=dict(tags))

    @property
    def refused(self) -> Path:
        """Where the sender keeps what MLflow refused; absent where it took everything."""
        return self.path.with_suffix(".refused")

    def child(self, name: str, tags: Mapping[str, str]) -> str:
        """Open a child run; its key is passed to the other calls."""
        key = uuid.uuid4().hex
        self._write("start", key, experiment="", parent=self.run, name=name, tags=dict(tags))
        return key

    def params(self, run: str, values: Mapping[str, str]) -> None:
        """Parameters, already flattened to text."""
        self._write("params", run, values=dict(values))

    def metrics(self, run: str, values: Mapping[str, float], step: int = 0) -> None:
        """Figures at a step; values that are not finite are left out (MLflow's SQL store refuses them)."""
        finite = {key: value for key, value in values.items() if value == value and abs(value) != float("inf")}
        if finite:
            self._write("metrics", run, values=finite, step=step)

    def tags(self, run: str, values: Mapping[str, str]) -> None:
        """Tags, replacing earlier ones of the same name."""
        self._write("tags", run, values=dict(values))

    def dataset(self, run: str, name: str, digest: str, source: str, profile: Mapping[str, float]) -> None:
        """A dataset the run read, by name and content digest."""
        self._write("dataset", run, name=name, digest=digest, source=source, profile=dict(profile))

    def artifact(self, run: str, path: Path, folder: str = "") -> None:
        """A file to be copied to the run's artifacts."""
        self._write("artifact", run, path=str(path), folder=folder)

    def table(self, run: str, name: str, columns: Mapping[str, Sequence[str | int]]) -> None:
        """A table by columns, stored as MLflow stores its own, so that its page shows it as one."""
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        text = json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False)
        self._write("table", run, name=f"{name}.json", text=text)

    def end(self, run: str, status: str) -> None:
        """Close a run: FINISHED, FAILED or KILLED."""
        self._write("end", run, status=status)

    def close(self) -> None:
        """No more entries will come."""
        self._write("close", self.run)
        with self._lock:
            self._file.close()
        self._writer.release()

    def _write(self, kind: str, run: str, **fields: object) -> None:
        entry = {"kind": kind, "run": run, "time": time.time_ns() // 1_000_000, **fields}
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        with self._lock:
            if self._file.closed:  # a stage that outlives a cancelled run has nobody left to tell
                return
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.path)) from error  # an open file's own fault names none


def writer_lock(journal: Path) -> FileLock:
    """Held by the journal's writer; the operating system frees it when that process ends, however it ends."""
    return FileLock(journal.with_suffix(".lock"), thread_local=False)


@dataclass(frozen=True)
class Entry:
    """One line of a journal; which fields are set depends on `kind`. `time` is in milliseconds since 1970."""

    kind: Literal["start", "params", "metrics", "tags", "dataset", "artifact", "table", "end", "close"]
    run: str
    time: int
    experiment: str = ""
    parent: str | None = None
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    values: Mapping[str, float] | Mapping[str, str] = field(default_factory=dict[str, str])
    step: int = 0
    digest: str = ""
    source: str = ""
    profile: Mapping[str, float] = field(default_factory=dict[str, float])
    path: str = ""
    folder: str = ""
    text: str = ""
    status: str = ""


@dataclass(frozen=True)
class Sender:
    """The process that sends journals to MLflow behind the run."""

    process: subprocess.Popen[bytes]
    folder: Path

    def drain(self, own: Path, seconds: float = DRAIN_SECONDS) -> int:
        """Wait until the journal `own` is sent, at most `seconds`, and then for the others, at most OTHERS_SECONDS.

        Returns how many entries of all of them are still unsent. The sender ends when its journals are closed, or with this
        process: another run may still need it until then.
        """
        deadline, is_sent = time.monotonic() + seconds, False
        while unsent_entries(self.folder) and self.process.poll() is None:
            if not is_sent and not pending(own):
                deadline, is_sent = min(deadline, time.monotonic() + OTHERS_SECONDS), True
            if time.monotonic() >= deadline:
                self.process.terminate()
                break
            time.sleep(0.1)
        return unsent_entries(self.folder)


def start_sender(folder: Path, uri: str, artifacts: Path) -> Sender:
    """Start sending the folder's journals to the MLflow at `uri`; `artifacts` is used where there is no server."""
    folder.mkdir(parents=True, exist_ok=True)
    log = (folder / "sender.log").open("ab")
    command = [sys.executable, "-m", "tasks.tracking.sender", str(folder), uri, str(artifacts)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=root, start_new_session=True)
    log.close()
    return Sender(process, folder)


def unsent_entries(folder: Path) -> int:
    """Entries in the folder's journals that MLflow has not taken yet."""
    return sum(1 for journal in folder.glob("*.jsonl") for _ in pending(journal))


def pending(journal: Path) -> list[bytes]:
    """The whole lines of a journal beyond its bookmark; a torn last line is not one."""
    with journal.open("rb") as file:
        file.seek(read_bookmark(journal).offset)
        return file.read().split(b"\n")[:-1]


@dataclass(frozen=True)
class Bookmark:
    """How far a journal was sent (bytes), which MLflow run each of its runs became, and why MLflow would not have others."""

    offset: int
    runs: Mapping[str, str]
    refused: Mapping[str, str] = field(default_factory=dict[str, str])


def read_bookmark(journal: Path) -> Bookmark:
    """The journal's bookmark; zero where nothing was sent, or where it cannot be read: what is sent again changes nothing."""
    try:
        return Bookmark(**json.loads(journal.with_suffix(".sent").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return Bookmark(0, {})


def write_bookmark(journal: Path, bookmark: Bookmark) -> None:
    """Record the bookmark, replacing the former by one rename."""
    temporary = journal.with_suffix(".sent.tmp")
    temporary.write_text(json.dumps(asdict(bookmark)))
    temporary.rename(journal.with_suffix(".sent"))


def mlflow_run(journal: Path, run: str, seconds: float) -> str | None:
    """The MLflow run id that `run` became, waiting at most `seconds` for the sender to create it.

    UserError when MLflow would not have the run.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        bookmark = read_bookmark(journal)
        if run in bookmark.runs:
            return bookmark.runs[run]
        if run in bookmark.refused:
            raise UserError(
                f"MLflow refused this run: {bookmark.refused[run].rstrip('.')}. Then run again: what was made is kept, and the figures of "
                f"this run are in {journal.with_suffix('.refused')}."
            )
        time.sleep(0.1)
    return None

"""Parts: what file tasks leave. A folder in the workspace under its fingerprint, taken as it is by whoever needs it next.

WORKSPACE/parts/<stage>/<fingerprint>/     files and, written last, part.json
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from tasks.artifacts import file_digest
from tasks.ledger import Ledger, Receipt, StageOutcome
from tasks.settings import Json

LEFT_SECONDS = 24 * 3600  # after which an unfinished part belongs to a run that was killed, here or on another machine


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
    """What one task left: its files and its outcome."""

    folder: Path
    outcome: StageOutcome

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
        receipts += [Receipt(entry.contract, numbered(number, entry.file), entry.rows, entry.checks) for entry in part.outcome.receipts]
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

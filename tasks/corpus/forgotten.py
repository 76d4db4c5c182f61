"""Right to be forgotten: WORKSPACE/forgotten.jsonl names documents, one line each, which every later ingest leaves out.

An id is a place: source, file and record, or what the source's id_field says. So that a document does not come back when
the records of its file move, its text is known by digest, and left out of that file wherever it stands. To undo one, delete
its line.
"""

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from tasks.errors import UserError

FILE = "forgotten.jsonl"
REASON = "forgotten"  # what ingest drops such a document for


@dataclass(frozen=True)
class Forgotten:
    """One line of the file: a document, where it came from, why and since when."""

    id: str
    source: str  # the source's name in the recipe
    path: str  # file and record
    reason: str
    time: str  # ISO 8601, UTC
    digest: str = ""  # SHA-256 of its text as it was read; empty where that was no longer there

    @property
    def known_by(self) -> tuple[str, ...]:
        """What it is known by: its id, and the digest of its text."""
        return (self.id, self.digest) if self.digest else (self.id,)


def text_digest(text: str) -> str:
    """What a text is known by once it is forgotten."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_forgotten(root: Path) -> tuple[Forgotten, ...]:
    """The forgotten documents of a workspace, each once, in the order added. UserError for a line that cannot be read.

    A damaged line is never passed over: the document it names would come back.
    """
    path = root / FILE
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}. Fix: repair the file; runs wait, for they would bring documents back.") from error
    found: dict[str, Forgotten] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            entry = _parsed(f"{path}:{number}", line)
            found.setdefault(entry.id, entry)
    return tuple(found.values())


def _parsed(place: str, line: str) -> Forgotten:
    try:
        raw = json.loads(line)
    except json.JSONDecodeError:
        raw = None
    expected = ("id", "source", "path", "reason", "time")
    if not isinstance(raw, dict) or any(not isinstance(raw.get(name), str) for name in expected) or not raw["id"]:
        raise UserError(
            f"{place}: found {line[:80]!r}, expected a JSON object with {', '.join(expected)} as strings. "
            "Fix: correct the line, or delete it to keep the document."
        )
    return Forgotten(**{name: str(raw[name]) for name in expected}, digest=str(raw.get("digest", "")))


def add_forgotten(root: Path, document_id: str, source: str, path: str, reason: str, digest: str = "") -> Forgotten | None:
    """Adds a document's line, on the disk when this returns; returns the earlier line, and adds none, where there is one.

    Writers wait for one another, and the file is replaced as a whole: who reads it meanwhile sees no half line.
    """
    try:
        with FileLock(root / f"{FILE}.lock"):
            known = next((entry for entry in read_forgotten(root) if entry.id == document_id), None)
            if known is None:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                _append(root / FILE, Forgotten(document_id, source, path, reason, now, digest))
            return known
    except OSError as error:
        raise UserError(f"{root / FILE}: {error.strerror}. Fix: make the workspace writable.") from error


def _append(path: Path, entry: Forgotten) -> None:
    before = path.read_bytes() if path.exists() else b""
    if before and not before.endswith(b"\n"):  # edited by hand
        before += b"\n"
    written = path.with_name(f"{path.name}.new")
    with written.open("wb") as file:
        file.write(before + (json.dumps(asdict(entry), ensure_ascii=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)


def bearing_on(entries: Collection[Forgotten], source: str, files: Collection[str] | None) -> tuple[str, ...]:
    """Ids and digests of those that were read from these files of a source, sorted; `files` is None for a source that is read whole.

    A document's path is its file's name, or that with `:` and its place in the file.
    """
    found = {
        known
        for entry in entries
        if entry.source == source and (files is None or entry.path in files or entry.path.rpartition(":")[0] in files)
        for known in entry.known_by
    }
    return tuple(sorted(found))

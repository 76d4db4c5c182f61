"""Ingest: every source of a recipe read into document tables, each with an id that stays the same from run to run.

A file is a task of its own. A run that was killed goes on with the files that are left, and a file that is new to a
source is read alone.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, field_validator

from tasks.artifacts import canonical, fingerprint
from tasks.corpus.forgotten import REASON, Forgotten, bearing_on, text_digest
from tasks.corpus.writers import DropWriter, RollingWriter, outcome_of, split_batch
from tasks.documents import DOCUMENTS, stable_id
from tasks.errors import UserError
from tasks.executor.filetasks import FileTasks
from tasks.executor.parts import Part, combined, gather
from tasks.ledger import StageOutcome
from tasks.reading.account import Account
from tasks.reading.documents import MAX_SHOWN_CHARS, WRONG_FIELD, Found, Refused, refuse_field
from tasks.reading.faults import UNREADABLE, Fault, shown_text
from tasks.reading.files import SourceFile, digest_of
from tasks.reading.read import digests_of, list_files, read_file
from tasks.reading.sources import AnySource, FileSource, HubSource, RowSource, place_of
from tasks.settings import Json, Section, identity

BATCH_BYTES = 8 * 2**20  # of text written at once
BATCH_DOCUMENTS = 1_000
MANY_FILES = 512  # in a source; from here on small ones are read in groups, for each task costs some milliseconds
SMALL_BYTES = 256 * 2**10
GROUP_FILES = 64  # in a group, on average


class IngestConfig(Section):
    """Where the text comes from."""

    stage: ClassVar[str] = "ingest"
    revision: Literal[5] = 5
    sources: list[Annotated[AnySource, Field(discriminator="kind")]] = Field(min_length=1)

    @field_validator("sources")
    @classmethod
    def _names_differ(cls, sources: list[AnySource]) -> list[AnySource]:
        twice = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
        if twice:
            raise ValueError(f"two sources are called {twice[0]!r}; give each its own name")
        return sources


def source_digests(config: IngestConfig) -> dict[str, str]:
    """What the sources hold, by source and file name."""
    digests: dict[str, str] = {}
    for source in config.sources:
        digests |= digests_of(source)
    return digests


def source_bytes(config: IngestConfig) -> int:
    """Of all local files of the sources, as stored: by it one run's seconds are scaled to another's."""
    local = [source for source in config.sources if isinstance(source, FileSource) and not any("://" in path for path in source.paths)]
    return sum(file.bytes for source in local for file in list_files(source))


def forgotten_digests(config: IngestConfig, forgotten: Collection[Forgotten]) -> dict[str, str]:
    """The forgotten documents that lie in the sources' files; empty where there is none, as if nothing had been forgotten.

    A name that a row gives itself (id_field) is left out of whatever file has it.
    """
    known: list[str] = []
    for source in config.sources:
        if any(entry.source == source.name for entry in forgotten):
            names = _names(source, list_files(source)) if id_field_of(source) is None else None
            known += bearing_on(forgotten, source.name, names)
    return {"forgotten documents": hashlib.sha256(canonical([*sorted(known)]).encode()).hexdigest()} if known else {}


def _names(source: AnySource, files: Sequence[SourceFile]) -> set[str] | None:
    return {file.name for file in files} if isinstance(source, FileSource) else None


@dataclass(frozen=True)
class IngestWork:
    """One file of a source, or a group of small ones; `forgotten` are ids and text digests of what is left out."""

    source: AnySource
    files: tuple[SourceFile, ...]
    digests: Mapping[str, str]
    forgotten: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.files[0].url + (f" and {len(self.files) - 1} more" if len(self.files) > 1 else "")

    @property
    def size(self) -> int:
        return sum(file.bytes for file in self.files)

    def identity(self) -> dict[str, Json]:
        said: dict[str, Json] = {
            "source": identity(self.source),
            "files": [file.name for file in self.files],
            "digests": identity(self.digests),
        }
        return {**said, "forgotten": [*self.forgotten]} if self.forgotten else said


def works_of(source: AnySource, forgotten: Collection[Forgotten] = ()) -> list[IngestWork]:
    """The tasks of a source, in the order of its files."""
    if not isinstance(source, FileSource):
        left_out = bearing_on(forgotten, source.name, None)
        return [IngestWork(source, tuple(list_files(source)), digests_of(source), left_out)]
    return [
        IngestWork(
            source, tuple(group), {file.name: digest_of(file) for file in group}, bearing_on(forgotten, source.name, _names(source, group))
        )
        for group in grouped(list_files(source))
    ]


def grouped(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
    """Each file alone; among many, runs of small ones together.

    A group ends behind a file whose name says so by its hash, so that a new file changes no group but its own.
    """
    group: list[SourceFile] = []
    for file in files:
        is_small = len(files) >= MANY_FILES and file.bytes < SMALL_BYTES
        if not is_small:
            if group:
                yield group
            yield [file]
            group = []
            continue
        group.append(file)
        if int(stable_id(file.name), 16) % GROUP_FILES == 0:
            yield group
            group = []
    if group:
        yield group


def document_batch(found: Sequence[Found]) -> pa.RecordBatch:
    """Documents as a batch of the contract."""
    texts = pa.array([one.text for one in found], pa.large_string())
    sizes = np.diff(np.frombuffer(texts.buffers()[1], np.int64)[: len(found) + 1]) if found else np.zeros(0, np.int64)
    columns: list[list[object]] = [
        [one.id for one in found],
        [one.source for one in found],
        [one.path for one in found],
        [one.language for one in found],
        [sorted(one.meta.items()) for one in found],
    ]
    named = dict(zip(("id", "source", "path", "language", "meta"), columns, strict=True))
    arrays = [
        texts if kind.name == "text" else pa.array(sizes if kind.name == "bytes" else named[kind.name], kind.type) for kind in DOCUMENTS
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENTS)


def ingest_files(work: IngestWork, out: Path) -> StageOutcome:
    """One task: documents-000.parquet, -001, … and rejects-000.parquet, those of them that hold something."""
    has_names = id_field_of(work.source) is not None and len(work.files) > 1
    left_out = frozenset(work.forgotten)
    total = Account()
    read = _Once(work.source, left_out).read if has_names else partial(read_file, work.source)
    held: list[Found] = []
    held_bytes = 0
    with RollingWriter(out, "documents") as documents, DropWriter(out, "ingest", "rejects") as rejects:
        for file in work.files:
            for record in read(file, total):
                found = _without_text(record) if _is_among(record, left_out) else record
                if isinstance(found, Refused):
                    _refuse(found, rejects)
                    continue
                held.append(found)
                held_bytes += len(found.text)
                if held_bytes >= BATCH_BYTES or len(held) == BATCH_DOCUMENTS:
                    documents.write(document_batch(held))
                    held, held_bytes = [], 0
        documents.write(document_batch(held))
    return outcome_of([documents], rejects, figures=total.figures())


def _is_among(found: Found | Refused, left_out: frozenset[str]) -> bool:
    if not left_out:
        return False
    return found.id in left_out or (isinstance(found, Found) and text_digest(found.text) in left_out)


def _without_text(found: Found | Refused) -> Refused:
    """What stands for a document, or a refused record, that is to be forgotten: its size is all that is kept of it."""
    size = len(found.text.encode()) if isinstance(found, Found) else found.fault.bytes
    return Refused(found.id, found.source, found.path, Fault(REASON, size, ""))


class _Once:
    """Reads the files of a group whose rows name themselves: a name that an earlier file of it gave is refused."""

    def __init__(self, source: AnySource, forgotten: frozenset[str]) -> None:
        self.source, self.forgotten = source, forgotten
        self._seen: set[str] = set()

    def read(self, file: SourceFile, total: Account) -> Iterator[Found | Refused]:
        for found in read_file(self.source, file, total):
            if isinstance(found, Found) and found.id in self._seen:
                evidence = "" if found.id in self.forgotten else shown_text(found.text)
                fault = Fault("duplicate_id", len(found.text.encode()), evidence)
                yield Refused(stable_id(self.source.name, found.path, "again"), found.source, found.path, fault)
                continue
            self._seen.add(found.id)
            yield found


def _refuse(refused: Refused, rejects: DropWriter) -> None:
    """Keeps the start of a record as evidence; `value` is its size in bytes as stored."""
    evidence = Found(refused.id, refused.fault.evidence, refused.source, refused.path, "und")
    rejects.write(document_batch([evidence]), [refused.fault.reason], [float(refused.fault.bytes)])


def ingest(config: IngestConfig, out: Path, files: FileTasks, forgotten: Collection[Forgotten] = ()) -> StageOutcome:
    """Reads all sources into `documents-*.parquet`; what is no document goes to `rejects-*.parquet` with a reason.

    A forgotten document becomes a reject without text; only the file that it lies in is read again for that.
    """
    works = [work for source in config.sources for work in works_of(source, forgotten)]
    parts = files.run("ingest", config.revision, ingest_files, works)
    for source in config.sources:
        mine = [part for part, work in zip(parts, works, strict=True) if work.source is source]
        _check_readable(source, mine)
        _check_field(source, mine)
    parts = _with_ids_once(config, works, parts, files, forgotten)
    gather(parts, ["documents-*.parquet", "rejects-*.parquet"], out)
    added = combined(parts)
    outcome = replace(added, figures={**added.figures, "source_bytes": float(source_bytes(config))})
    if outcome.ledger.rows_out == 0:
        reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(outcome.ledger.dropped).most_common())
        raise UserError(
            f"ingest: found no document ({reasons or 'the sources are empty'}){_first_reject(parts)}, expected one at least. "
            "Fix: check paths, kind and text_field of the sources."
        )
    return outcome


def _first_reject(parts: Sequence[Part]) -> str:
    """Where the first reject lies and how it begins, for a message."""
    path = next((path for part in parts for path in part.files("rejects-*.parquet")), None)
    if path is None:
        return ""
    first = pq.read_table(path, columns=["path", "reason", "text"]).slice(0, 1).to_pylist()[0]
    start = " ".join(str(first["text"]).split())[:60]
    return f"; first {first['path']}: {first['reason']}" + (f", {start!r}" if start else "")


def _check_readable(source: AnySource, parts: Sequence[Part]) -> None:
    """UserError when not one file of a source could be read: then it is the recipe that is wrong."""
    if not parts or any(part.outcome.ledger.rows_out or UNREADABLE not in part.outcome.ledger.dropped for part in parts):
        return
    first = pq.read_table(parts[0].files("rejects-*.parquet")[0]).filter(pc.field("reason") == UNREADABLE)
    others = f" (and {len(parts) - 1} more like it)" if len(parts) > 1 else ""
    cause = first["text"][0].as_py().rstrip(". ")
    fix = "" if "Fix: " in cause else f" Fix: fetch the file again, or set the kind ({source.kind}) to what it holds."
    raise UserError(f"{place_of(source)}: {first['path'][0].as_py()}{others}: {cause}.{fix}")


def _check_field(source: AnySource, parts: Sequence[Part]) -> None:
    """UserError when most rows of a source lack its text field, or hold something else in it."""
    if not isinstance(source, RowSource | HubSource):
        return
    wrong = [part for part in parts if any(part.outcome.ledger.dropped.get(reason) for reason in WRONG_FIELD)]
    count = sum(part.outcome.ledger.dropped.get(reason, 0) for part in wrong for reason in WRONG_FIELD)
    rows = sum(part.outcome.ledger.rows_in for part in parts)
    if count * 2 > rows:
        rejects = pq.read_table(wrong[0].files("rejects-*.parquet")[0], columns=["path", "reason", "text"])
        first = rejects.filter(pc.field("reason").isin(list(WRONG_FIELD))).slice(0, 1).to_pylist()[0]
        row = " ".join(str(first["text"]).split())
        found = f"this row is {row[:MAX_SHOWN_CHARS]}" + (" …" if len(row) > MAX_SHOWN_CHARS else "")
        refuse_field(source, str(first["path"]), source.text_field, count, rows, found)


def _with_ids_once(
    config: IngestConfig, works: Sequence[IngestWork], parts: Sequence[Part], files: FileTasks, forgotten: Collection[Forgotten]
) -> list[Part]:
    """The parts, those of rows that name themselves (id_field) without a name that an earlier file gave already.

    A forgotten name is left out of every file, for a later one would come in place of the first.
    """
    named = {source.name for source in config.sources if id_field_of(source) is not None}
    unique: list[Part] = []
    for source in config.sources:
        mine = [part for part, work in zip(parts, works, strict=True) if work.source is source]
        left_out = frozenset(bearing_on(forgotten, source.name, None))
        unique += _first_only(mine, left_out, files) if source.name in named else mine
    return unique


def id_field_of(source: AnySource) -> str | None:
    """The field that names a source's rows, of those kinds that have one."""
    return source.id_field if isinstance(source, RowSource) else None


def _first_only(parts: Sequence[Part], forgotten: frozenset[str], files: FileTasks) -> list[Part]:
    """Rewrites the parts that repeat an id of an earlier one, or hold a forgotten one; memory: eight bytes an id."""
    seen = np.zeros(0, np.uint64)
    unique: list[Part] = []
    for part in parts:
        ids: list[str] = [
            id_ for path in part.files("documents-*.parquet") for id_ in pq.read_table(path, columns=["id"])["id"].to_pylist()
        ]
        hashes = np.array([int(id_[:16], 16) for id_ in ids], np.uint64)
        again = np.isin(hashes, seen)
        gone = np.array([id_ in forgotten for id_ in ids], np.bool_)
        seen = np.concatenate([seen, hashes[~again]])
        unique.append(_without_rows(part, again, gone, files) if (again | gone).any() else part)
    return unique


def _without_rows(part: Part, again: npt.NDArray[np.bool_], gone: npt.NDArray[np.bool_], files: FileTasks) -> Part:
    """A part of its own without some documents, which become rejects: of those `gone` no text is kept."""
    left_out = {"rows": again.tobytes().hex()} | ({"forgotten": gone.tobytes().hex()} if gone.any() else {})
    folder = files.parts / "ingest" / fingerprint("ingest ids", part.folder.name, left_out)
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    with RollingWriter(folder, "documents") as documents, DropWriter(folder, "ingest", "rejects") as rejects:
        for path in part.files("rejects-*.parquet"):
            for batch in pq.ParquetFile(path).iter_batches():
                plain = batch.select(DOCUMENTS.names).cast(DOCUMENTS)
                rejects.write(plain, batch.column("reason").to_pylist(), batch.column("value").to_pylist())
        for path in part.files("documents-*.parquet"):
            for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH_DOCUMENTS):
                here = slice(start, start + batch.num_rows)
                start += batch.num_rows
                for found in batch.filter(pa.array(gone[here])).to_pylist():
                    size = int(found["bytes"])
                    _refuse(Refused(found["id"], found["source"], found["path"], Fault(REASON, size, "")), rejects)
                left = batch.filter(pa.array(~gone[here]))
                split_batch(
                    left,
                    ["duplicate_id" if twice else None for twice in again[here][~gone[here]].tolist()],
                    [float(size) for size in left.column("bytes").to_pylist()],
                    documents,
                    rejects,
                )
    return Part(folder, outcome_of([documents], rejects, figures=part.outcome.figures))

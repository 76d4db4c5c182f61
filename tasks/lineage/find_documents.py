"""Document search in a workspace: by id, or the start of it, and by what stands in the text."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import UserError
from tasks.lineage.artifact_graph import Graph, Node
from tasks.lineage.table_rows import BATCH_ROWS, Cells, numbered_rows

TABLES = {  # of a stage: those that hold documents, or what is left of refused ones
    "ingest": ("documents-*.parquet", "rejects-*.parquet"),
    "annotate": ("documents-*.parquet", "dropped-*.parquet"),
    "decontaminate": ("train-*.parquet", "validation.parquet", "test.parquet", "dropped-*.parquet"),
}
CORPUS_TABLES = {"decontaminate": ("train-*.parquet", "validation.parquet")}  # what a pretraining reads
LISTED = 20  # documents that are listed of those that hold a text
AMBIGUOUS = 5  # ids that are named when a prefix fits several
AROUND = 60  # characters shown on either side of a text that was found
TEXT_ROWS = 1_000


@dataclass(frozen=True)
class Document:
    """Who a document is."""

    id: str
    source: str
    path: str
    url: str | None
    language: str
    bytes: int  # UTF-8 bytes of its text in the table it was found in


@dataclass(frozen=True)
class TextHit:
    """A document whose text holds what was looked for, and how it reads there."""

    document: Document
    before: str
    text: str
    after: str


@dataclass
class TextFound:
    """How many documents hold a text, in each artifact and together, and the first of them."""

    text: str
    documents: int = 0
    artifacts: dict[str, int] = field(default_factory=dict[str, int])  # "stage/fingerprint" -> documents
    hits: list[TextHit] = field(default_factory=list[TextHit])


def tables(nodes: Collection[Node], kinds: dict[str, tuple[str, ...]]) -> Iterator[tuple[Node, Path]]:
    """The artifacts' tables of these kinds, the last stage's first: it knows most of a document.

    A table that lies in several artifacts, as hard links, comes with each of them.
    """
    for node in reversed([*nodes]):
        for path in sorted(path for pattern in kinds.get(node.stage, ()) for path in node.folder.glob(pattern)):
            yield node, path


def find_document(graph: Graph, prefix: str) -> Document:
    """The document whose id is `prefix`, or the only one whose id begins so. UserError for none and for several."""
    if not prefix.strip():
        raise UserError("the id is empty. Fix: give a document's id, or the start of it.")
    found: dict[str, tuple[Path, int]] = {}
    for path in _once(path for _, path in tables(graph.of(*TABLES), TABLES)):
        for id_, row in _ids_that_begin(path, prefix):
            found.setdefault(id_, (path, row))
        if prefix in found:
            return read_document(*found[prefix])
    if len(found) == 1:
        return read_document(*next(iter(found.values())))
    if not found:
        raise UserError(
            f"no document with id {prefix} in this workspace. Fix: look its text up with wordmill trace --text, or name "
            "the workspace with --workspace DIR."
        )
    named = [read_document(*found[id_]) for id_ in sorted(found)[:AMBIGUOUS]]
    told = ", ".join(f"{document.id} ({document.source} {document.path})" for document in named)
    more = f" and {len(found) - len(named)} more" if len(found) > len(named) else ""
    raise UserError(f"{len(found)} documents have an id that begins with {prefix}: {told}{more}. Fix: give more of it.")


def _once(paths: Iterator[Path]) -> Iterator[Path]:
    """Each file once, however many folders it lies in."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        stat = path.stat()
        if (stat.st_dev, stat.st_ino) not in seen:
            seen.add((stat.st_dev, stat.st_ino))
            yield path


def _ids_that_begin(path: Path, prefix: str) -> Iterator[tuple[str, int]]:
    start = 0
    options = pc.MatchSubstringOptions(prefix)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=["id"]):
            mask = pc.call_function("starts_with", [batch.column(0)], options)
            for row in _true(mask):
                yield batch.column(0)[row].as_py(), start + row
            start += batch.num_rows


def _true(mask: pa.Array) -> list[int]:
    flags: npt.NDArray[np.bool_] = mask.to_numpy(zero_copy_only=False)
    return np.flatnonzero(flags).tolist()


def read_document(path: Path, row: int) -> Document:
    """A row of a document table, without its text."""
    return _document(numbered_rows([path], [row], ["id", "source", "path", "language", "bytes", "meta"])[row])


def _document(cells: Cells) -> Document:
    meta: list[tuple[str, str]] = cells["meta"] or []  # type: ignore[assignment]
    return Document(
        str(cells["id"]), str(cells["source"]), str(cells["path"]), dict(meta).get("url"), str(cells["language"]), int(str(cells["bytes"]))
    )


def find_text(nodes: Collection[Node], text: str, kinds: dict[str, tuple[str, ...]]) -> TextFound:
    """Documents that hold `text` exactly, letter for letter. Memory: a thousand documents, and eight bytes for each found.

    UserError for an empty text.
    """
    if not text.strip():
        raise UserError("--text is empty. Fix: give some words of the document.")
    import polars as pl

    found = TextFound(text)
    hashes: list[npt.NDArray[np.uint64]] = []
    listed: set[str] = set()
    counted: dict[tuple[int, int], int] = {}
    for node, path in tables(nodes, kinds):
        stat = path.stat()
        key = (stat.st_dev, stat.st_ino)
        if key not in counted:
            counted[key] = 0
            for batch in _that_hold(path, text):
                counted[key] += batch.num_rows
                hashes.append(pl.Series(batch.column("id")).cast(pl.String).hash().to_numpy())
                for row in range(batch.num_rows if len(found.hits) < LISTED else 0):
                    hit = _hit(batch.slice(row, 1), text)
                    if hit.document.id not in listed and len(found.hits) < LISTED:
                        listed.add(hit.document.id)
                        found.hits.append(hit)
        if counted[key]:
            name = f"{node.stage}/{node.fingerprint}"
            found.artifacts[name] = found.artifacts.get(name, 0) + counted[key]
    found.documents = len(np.unique(np.concatenate(hashes))) if hashes else 0
    return found


def _that_hold(path: Path, text: str) -> Iterator[pa.RecordBatch]:
    options = pc.MatchSubstringOptions(text)
    columns = ["id", "text", "source", "path", "language", "bytes", "meta"]
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=TEXT_ROWS, columns=columns):
            mask = pc.call_function("match_substring", [batch.column("text")], options)
            if _true(mask):
                yield batch.filter(mask)


def _hit(row: pa.RecordBatch, text: str) -> TextHit:
    (cells,) = row.to_pylist()
    whole = str(cells["text"])
    start = whole.index(text)
    end = start + len(text)
    return TextHit(_document(cells), whole[max(0, start - AROUND) : start], text, whole[end : end + AROUND])

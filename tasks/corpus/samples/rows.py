"""Row sampling by ids and reasons alone; then the text of those few is read: row groups, never the corpus."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.corpus.samples.excerpts import Document
from tasks.documents import DOCUMENTS
from tasks.sampling import unit_hash

CANDIDATES = 1_000  # rows of a table and reason that are hashed: those with the smallest ids
READ_ROWS = 64  # decoded at once on the way to a row
SEED = 0  # of the choice
LEAST_IDS = pc.SelectKOptions(CANDIDATES, [("id", "ascending")])


@dataclass(frozen=True)
class Row:
    """A row of a table of verdicts or of dropped documents; its text is row `number` of the table at `path`."""

    path: Path
    number: int
    id: str
    reason: str
    value: float | None = None
    cluster: str | None = None


class Lowest:
    """For each reason the `count` rows whose ids have the smallest hashes, so that every call shows the same ones."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._rows: dict[str, list[tuple[float, Row]]] = {}

    def add(self, path: Path, table: pa.Table, reasons: npt.NDArray[np.object_]) -> None:
        """Rows of a table with columns id, value and cluster, the latter two if it has them; a reason of None is none."""
        for reason in sorted({reason for reason in reasons.tolist() if reason is not None}):
            numbers = np.flatnonzero(np.equal(reasons, reason))
            ids = table["id"].take(pa.array(numbers))
            if len(numbers) > CANDIDATES:
                least = pc.call_function("select_k_unstable", [pa.table({"id": ids})], LEAST_IDS)
                numbers, ids = numbers[least.to_numpy()], ids.take(least)
            hashed = sorted(zip(map(_hash, ids.to_pylist()), numbers.tolist(), ids.to_pylist(), strict=True))
            found = [(hashed_id, _row(path, table, number, id_, reason)) for hashed_id, number, id_ in hashed[: self.count]]
            merged = sorted([*self._rows.get(reason, []), *found], key=lambda entry: (entry[0], entry[1].id))
            self._rows[reason] = merged[: self.count]

    def rows(self, reason: str) -> list[Row]:
        """The rows of a reason, smallest hash first."""
        return [row for _, row in self._rows.get(reason, [])]

    def reasons(self) -> list[str]:
        """All reasons that occurred."""
        return sorted(self._rows)


def _hash(document_id: str) -> float:
    return unit_hash(document_id, SEED)


def _row(path: Path, table: pa.Table, number: int, document_id: str, reason: str) -> Row:
    value = table["value"][number].as_py() if "value" in table.column_names else None
    cluster = table["cluster"][number].as_py() if "cluster" in table.column_names else None
    return Row(path, number, document_id, reason, value, cluster)


def objects(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """A column of strings as Python objects, None where there is none."""
    return np.array(column.to_pylist(), dtype=object)


def lowest_dropped(paths: Sequence[Path], only: str | None, count: int) -> Lowest:
    """Rows of `dropped-*` or `rejects-*` tables."""
    lowest = Lowest(count)
    for path in paths:
        table = pq.read_table(path, columns=["id", "reason", "value"])
        lowest.add(path, table, wanted(objects(table["reason"]), only))
    return lowest


def wanted(reasons: npt.NDArray[np.object_], only: str | None) -> npt.NDArray[np.object_]:
    """The reasons, those other than `only` left out where it is given."""
    return reasons if only is None else named_where(np.equal(reasons, only), only)


def named_where(mask: npt.NDArray[np.bool_], reason: str) -> npt.NDArray[np.object_]:
    """`reason` where the mask holds, None elsewhere."""
    reasons = np.full(len(mask), None, dtype=object)
    reasons[mask] = reason
    return reasons


def read_documents(rows: Iterable[Row]) -> dict[Row, Document]:
    """The documents of these rows: of each table the row groups that hold one, each as far as the last of them."""
    by_path: dict[Path, list[Row]] = {}
    for row in rows:
        by_path.setdefault(row.path, []).append(row)
    return {row: document for path, chosen in by_path.items() for row, document in _read_table(path, chosen)}


def _read_table(path: Path, rows: list[Row]) -> Iterator[tuple[Row, Document]]:
    if not path.exists():  # the earlier artifact was removed
        return
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        groups = (np.searchsorted(starts, [row.number for row in rows], "right") - 1).tolist()
        for group in sorted(set(groups)):
            here = {row: row.number - int(starts[group]) for row, its_group in zip(rows, groups, strict=True) if its_group == group}
            yield from _read_group(file, group, here)


def _read_group(file: pq.ParquetFile, group: int, rows: dict[Row, int]) -> Iterator[tuple[Row, Document]]:
    start = 0
    for batch in file.iter_batches(batch_size=READ_ROWS, row_groups=[group], columns=DOCUMENTS.names):
        for row, number in rows.items():
            if start <= number < start + batch.num_rows:
                yield row, as_document(batch.slice(number - start, 1).to_pylist()[0])
        start += batch.num_rows
        if start > max(rows.values()):
            return


def as_document(row: dict[str, object]) -> Document:
    """A row of a document table."""
    meta: Iterable[tuple[str, str]] = row["meta"] or ()  # type: ignore[assignment]
    document_id, source, path, language = (str(row[name]) for name in ("id", "source", "path", "language"))
    return Document(document_id, source, path, language, int(str(row["bytes"])), str(row["text"]), dict(meta))


def find_ids(ids: Iterable[str], tables: Iterable[tuple[Path, Path]]) -> dict[str, Row]:
    """Rows by id: `tables` are pairs of the table that has the ids and that which has the text, row for row."""
    missing = set(ids)
    found: dict[str, Row] = {}
    for listing, texts in tables:
        if not missing:
            break
        if not listing.exists():
            continue
        sought = pa.array(sorted(missing), pa.string())
        numbers = positions(sought, pq.read_table(listing, columns=["id"])["id"].combine_chunks())
        for document_id, number in zip(sought.to_pylist(), numbers.to_pylist(), strict=True):
            if number is not None:
                found[document_id] = Row(texts, number, document_id, "")
        missing -= found.keys()
    return found


def positions(ids: pa.Array, among: pa.Array) -> pa.Array:
    """Where each of `ids` stands in `among`, null for those that do not."""
    return pc.call_function("index_in", [ids], pc.SetLookupOptions(among))

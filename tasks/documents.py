"""Reading and writing document tables in batches, so that memory does not grow with the corpus."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

DOCUMENTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # hash of source and position
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # the source's name in the recipe
        pa.field("path", pa.string(), nullable=False),  # file (and record) it came from
        pa.field("language", pa.string(), nullable=False),  # ISO 639-1 ("en", "zh"), "code", or "und": not known
        pa.field("bytes", pa.int64(), nullable=False),  # UTF-8 bytes of text
        # group: what must not be split across train and validation; charset, repaired, url, title, format: what reading noted
        pa.field("meta", pa.map_(pa.string(), pa.string())),
    ]
)
DROPPED = pa.schema(
    [
        *DOCUMENTS,
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.float64()),  # the figure behind the reason
    ]
)
VERDICTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("cluster", pa.string()),  # id of the first document of its cluster; null for a document alone
        pa.field("stage", pa.string()),  # that dropped it
        pa.field("reason", pa.string()),
        pa.field("value", pa.float64()),  # the figure behind the reason
    ]
)
MATCHES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # of the document, or of the labelled example
        pa.field("item", pa.string(), nullable=False),  # what it overlaps most: validation/…, examples/…, benchmark name/…
        pa.field("text", pa.large_string(), nullable=False),  # the longest shared run, as the document has it
        pa.field("units", pa.int64(), nullable=False),  # words or characters of that run
        pa.field("item_share", pa.float64(), nullable=False),  # of the item's n-grams, those in the document
        pa.field(
            "document_share", pa.float64(), nullable=False
        ),  # of the document, or of the labelled example's n-grams, those in any item
        pa.field("action", pa.string(), nullable=False),  # drop, cut, mark
    ]
)
NO_TEXT = ("id", "group", "label", "labels")  # columns of examples that hold no text
BATCH_BYTES = 64 * 2**20  # of text in a row group

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


class TableWriter:
    """Writes batches of one schema to a Parquet file (zstd), one row group for about 64 MB of them.

    The file appears under its name only when it is whole: it is written as `<name>.tmp` and renamed on a clean exit.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema, self.rows = path, schema, 0
        self._temporary = path.with_name(path.name + ".tmp")
        self._file = pq.ParquetWriter(self._temporary, schema, compression="zstd")
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a batch of the writer's schema."""
        self.rows += batch.num_rows
        self._pending.append(batch.cast(self.schema) if batch.schema != self.schema else batch)
        self._pending_bytes += batch.nbytes
        if self._pending_bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._file.write_table(pa.Table.from_batches(self._pending, self.schema))
        self._pending, self._pending_bytes = [], 0

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._file.close()
        if kind is None:
            self._temporary.rename(self.path)
        else:
            self._temporary.unlink(missing_ok=True)


def read_batches(folder: Path, pattern: str, rows: int = 2_000) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows` rows of the folder's files that match `pattern`, in name order."""
    for path in sorted(folder.glob(pattern)):
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=rows)


def bounded(batches: Iterable[pa.RecordBatch], most_bytes: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most `most_bytes` of text, or of one document that is longer."""
    for batch in batches:
        ends = np.cumsum(batch.column("bytes").to_numpy())
        start = 0
        while start < batch.num_rows:
            before = ends[start - 1] if start else 0
            end = max(start + 1, int(np.searchsorted(ends, before + most_bytes, side="right")))
            yield batch.slice(start, end - start)
            start = end


def text_buffers(column: pa.Array) -> tuple[Bytes, Offsets]:
    """UTF-8 bytes and offsets of a large_string column without nulls; nothing is copied."""
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), ends


def table_rows(path: Path) -> int:
    """Rows of a Parquet file, from its footer."""
    return pq.read_metadata(path).num_rows


def stable_id(*parts: str) -> str:
    """Twenty hex digits over the parts; which text belongs to which part matters."""
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=10).hexdigest()


def example_text(row: Mapping[str, object]) -> str:
    """All text of a labelled example, a line a text; a list of tokens is one text. Ids, labels and numbers are none.

    Whatever the kind: a column of text that this code does not know is text that models are judged on.
    """
    parts: list[str] = []
    for name, value in row.items():
        if name in NO_TEXT:
            continue
        if isinstance(value, str):
            parts.append(value)
        elif isinstance(value, list):
            texts: list[object] = value
            parts.append(("" if name == "tokens" else "\n").join(str(text) for text in texts))
    return "\n".join(parts)

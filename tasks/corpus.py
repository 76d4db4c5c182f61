"""What every corpus stage writes: kept documents in files of bounded size, dropped rows beside them, and the count of both."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.documents import DOCUMENTS, DROPPED, TableWriter
from tasks.ledger import Ledger, StageOutcome

FILE_BYTES = 256 * 2**20  # of text in one file

Mask = npt.NDArray[np.bool_]


def stable_id(*parts: str) -> str:
    """Twenty hex digits over the parts; which text belongs to which part matters."""
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=10).hexdigest()


class RollingWriter:
    """Document files `<prefix>-00000.parquet`, `-00001`, …: a new one after each `file_bytes` of text, and at least one.

    With `file_bytes` None all goes into the one file `<prefix>.parquet`.
    """

    def __init__(self, folder: Path, prefix: str, file_bytes: int | None = FILE_BYTES) -> None:
        self.folder, self.prefix, self.file_bytes = folder, prefix, file_bytes
        self.paths: list[Path] = []
        self.rows = self.bytes = 0
        self._written = 0  # bytes in the current file
        self._files = ExitStack()
        self._current: TableWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a batch of documents; batches are never split over files."""
        if not batch.num_rows:
            return
        if self._current is None or self._is_full():
            self._current = self._next()
        size = sum(batch.column("bytes").to_pylist())
        self._current.write(batch)
        self._written += size
        self.rows, self.bytes = self.rows + batch.num_rows, self.bytes + size

    def _is_full(self) -> bool:
        return self.file_bytes is not None and self._written >= self.file_bytes

    def _next(self) -> TableWriter:
        self._files.close()
        number = "" if self.file_bytes is None else f"-{len(self.paths):05d}"
        self.paths.append(self.folder / f"{self.prefix}{number}.parquet")
        self._written = 0
        return self._files.enter_context(TableWriter(self.paths[-1], DOCUMENTS))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self.paths:
            self._next()
        self._files.__exit__(kind, error, trace)


class DropWriter:
    """Dropped rows with stage, reason and value, and how many rows and bytes each reason took."""

    def __init__(self, path: Path, stage: str) -> None:
        self.stage = stage
        self.rows: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._file = TableWriter(path, DROPPED)

    def write(self, batch: pa.RecordBatch, reasons: Sequence[str], values: Sequence[float | None]) -> None:
        """Add documents, each with its reason and the figure that broke the rule."""
        if not batch.num_rows:
            return
        self.rows.update(reasons)
        for reason, size in zip(reasons, batch.column("bytes").to_pylist(), strict=True):
            self.bytes[reason] += size
        added = [[self.stage] * batch.num_rows, reasons, pa.array(values, pa.float64())]
        columns = [batch.column(name) for name in DOCUMENTS.names] + [pa.array(column) for column in added]
        self._file.write(pa.RecordBatch.from_arrays(columns, schema=DROPPED))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)


def split_batch(
    batch: pa.RecordBatch,
    reasons: Sequence[str | None],
    values: Sequence[float | None],
    kept: RollingWriter,
    dropped: DropWriter,
) -> None:
    """Writes each row to one side: a reason of None keeps it."""
    mask = np.array([reason is None for reason in reasons], dtype=np.bool_)
    kept.write(batch.filter(pa.array(mask)))
    gone = np.flatnonzero(~mask).tolist()
    dropped.write(batch.take(pa.array(gone, pa.int64())), [reasons[i] or "" for i in gone], [values[i] for i in gone])


def outcome_of(
    kept: Sequence[RollingWriter],
    dropped: DropWriter,
    repaired_bytes: int = 0,
    figures: Mapping[str, float] | None = None,
) -> StageOutcome:
    """Ledger of a stage: what it kept and dropped is what it read."""
    rows, size = sum(writer.rows for writer in kept), sum(writer.bytes for writer in kept)
    ledger = Ledger(
        rows_in=rows + dropped.rows.total(),
        rows_out=rows,
        bytes_in=size + dropped.bytes.total() + repaired_bytes,
        bytes_out=size,
        repaired_bytes=repaired_bytes,
        dropped=dict(sorted(dropped.rows.items())),
        dropped_bytes=dict(sorted(dropped.bytes.items())),
    )
    return StageOutcome(ledger=ledger, figures=dict(figures or {}))

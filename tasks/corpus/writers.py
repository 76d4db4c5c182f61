"""Corpus writers: kept documents in files of bounded size, dropped rows beside them, and the count of both."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.contracts import ContractName, check_table
from tasks.documents import DOCUMENTS, DROPPED, TableWriter
from tasks.ledger import Ledger, StageOutcome

FILE_BYTES = 256 * 2**20  # of text in one file

Mask = npt.NDArray[np.bool_]


class RollingWriter:
    """Document files `<prefix>-000.parquet`, `-001`, …: a new one after each `file_bytes` of text; none without documents."""

    def __init__(self, folder: Path, prefix: str, file_bytes: int = FILE_BYTES) -> None:
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
        if self._current is None or self._written >= self.file_bytes:
            self._current = self._next()
        size = _total(batch)
        self._current.write(batch)
        self._written += size
        self.rows, self.bytes = self.rows + batch.num_rows, self.bytes + size

    def _next(self) -> TableWriter:
        self._files.close()
        self.paths.append(self.folder / f"{self.prefix}-{len(self.paths):03d}.parquet")
        self._written = 0
        return self._files.enter_context(TableWriter(self.paths[-1], DOCUMENTS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files.__exit__(kind, error, trace)


class DropWriter:
    """Dropped rows with stage, reason and value, in `<name>-000.parquet`, and how many rows and bytes each reason took.

    Without a dropped row there is no file.
    """

    def __init__(self, folder: Path, stage: str, name: str = "dropped") -> None:
        self.stage = stage
        self.path = folder / f"{name}-000.parquet"
        self.rows: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self._file: TableWriter | None = None

    @property
    def paths(self) -> list[Path]:
        """The file, if there is one."""
        return [] if self._file is None else [self.path]

    def write(self, batch: pa.RecordBatch, reasons: Sequence[str], values: Sequence[float | None]) -> None:
        """Add documents, each with its reason and the figure behind the reason."""
        if not batch.num_rows:
            return
        self._file = self._file or TableWriter(self.path, DROPPED)
        self.rows.update(reasons)
        for reason, size in zip(reasons, batch.column("bytes").to_pylist(), strict=True):
            self.bytes[reason] += size
        added = [[self.stage] * batch.num_rows, reasons, pa.array(values, pa.float64())]
        columns = [batch.column(name) for name in DOCUMENTS.names] + [pa.array(column) for column in added]
        self._file.write(pa.RecordBatch.from_arrays(columns, schema=DROPPED))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.__exit__(kind, error, trace)


def _total(batch: pa.RecordBatch) -> int:
    return int(np.sum(batch.column("bytes").to_numpy(), dtype=np.int64))


def split_batch(
    batch: pa.RecordBatch, reasons: Sequence[str | None], values: Sequence[float | None], kept: RollingWriter, dropped: DropWriter
) -> Mask:
    """Writes each row to one side: a reason of None keeps it. Gives the mask of those kept."""
    mask = np.array([reason is None for reason in reasons], dtype=np.bool_)
    kept.write(batch if mask.all() else batch.filter(pa.array(mask)))
    gone = np.flatnonzero(~mask).tolist()
    dropped.write(batch.take(pa.array(gone, pa.int64())), [reasons[i] or "" for i in gone], [values[i] for i in gone])
    return mask


def outcome_of(
    kept: Sequence[RollingWriter],
    dropped: DropWriter,
    repaired_bytes: int = 0,
    figures: Mapping[str, float] | None = None,
    contracts: Mapping[Path, ContractName] | None = None,
) -> StageOutcome:
    """Outcome of one task: what it kept and dropped is what it read, and every table it wrote keeps its contract.

    Documents and dropped rows are held to theirs; `contracts` names that of other tables. Call it when all are closed.
    """
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
    named: dict[Path, ContractName] = {path: "Documents" for writer in kept for path in writer.paths}
    named |= dict.fromkeys(dropped.paths, "Dropped")
    named |= dict(contracts or {})
    receipts = tuple(check_table(contract, path) for path, contract in named.items())
    return StageOutcome(ledger=ledger, receipts=receipts, figures=dict(figures or {}))

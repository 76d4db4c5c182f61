"""Signatures of document tables: keys of exact copies, MinHash values of near ones, mapped from disk.

Each table is signed in a task of its own; a table that was signed for an earlier corpus is not signed again.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.documents import text_buffers
from tasks.executor.tables import TableWork
from tasks.ledger import Ledger, StageOutcome
from tasks.settings import Json

if TYPE_CHECKING:
    from tasks.kernels.shingles import Digits

REVISION = 2  # of the signatures
BATCH_ROWS = 2_000


@dataclass(frozen=True)
class SignWork(TableWork):
    """One document table, and how it is signed."""

    shingle_units: int
    bands: int
    rows: int
    seed: int
    digits: "Digits" = "auto"

    def identity(self) -> dict[str, Json]:
        return {
            "documents": self.table.digest,
            "shingle_units": self.shingle_units,
            "bands": self.bands,
            "rows": self.rows,
            "seed": self.seed,
            "digits": self.digits,
        }


def signature_schema(bands: int, slots: int) -> pa.Schema:
    """Columns of a signature table: who, 128-bit key, units, one hash for each band, the signature (uint32 LE)."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("bytes", pa.int64(), nullable=False),
            pa.field("key_high", pa.uint64(), nullable=False),
            pa.field("key_low", pa.uint64(), nullable=False),
            pa.field("units", pa.int64(), nullable=False),
            *(pa.field(f"band_{band}", pa.uint64(), nullable=False) for band in range(bands if slots else 0)),
            *([pa.field("signature", pa.binary(4 * slots), nullable=False)] if slots else []),
        ]
    )


def sign_table(work: SignWork, out: Path) -> StageOutcome:
    """`signatures-000.arrow`: Arrow's file format, uncompressed, so that it is read as a memory map."""
    from tasks.kernels.shingles import sign

    slots = work.bands * work.rows
    schema = signature_schema(work.bands, slots)
    rows = 0
    with pq.ParquetFile(work.table.path) as file, pa.OSFile(str(out / "signatures-000.arrow"), "wb") as sink:
        with pa.ipc.new_file(sink, schema) as writer:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=["id", "text", "bytes"]):
                signed = sign(*text_buffers(batch.column("text")), work.shingle_units, slots, work.seed, work.digits)
                bands = [band_hashes(signed.signatures[:, band * work.rows : (band + 1) * work.rows]) for band in range(work.bands)]
                columns = [
                    batch.column("id"),
                    batch.column("bytes"),
                    pa.array(signed.keys[:, 0]),
                    pa.array(signed.keys[:, 1]),
                    pa.array(signed.units),
                    *(pa.array(band) for band in (bands if slots else [])),
                ]
                if slots:
                    data = pa.py_buffer(np.ascontiguousarray(signed.signatures).view(np.uint8))
                    columns.append(pa.Array.from_buffers(pa.binary(4 * slots), batch.num_rows, [None, data]))
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
                rows += batch.num_rows
    return StageOutcome(Ledger(rows_in=rows, rows_out=rows))


def band_hashes(values: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """One 64-bit hash for the values [documents, rows] of a band."""
    found = np.full(len(values), 0xCBF29CE484222325, np.uint64)
    for column in values.T:
        found = (found ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(32)
    return found


@dataclass(frozen=True)
class Signatures:
    """Mapped signature tables, in order, and which of their documents take part."""

    tables: list[pa.Table]
    masks: list[npt.NDArray[np.bool_]]

    @cached_property
    def sizes(self) -> list[int]:
        """Documents of each table."""
        return [table.num_rows for table in self.tables]

    @cached_property
    def kept(self) -> npt.NDArray[np.bool_]:
        """True for each document that takes part."""
        return np.concatenate([np.zeros(0, np.bool_), *self.masks])

    def column(self, name: str) -> np.ndarray:
        """A column over all tables."""
        return np.concatenate([np.zeros(0, np.uint64), *(table[name].to_numpy() for table in self.tables)])

    def ids(self) -> "pa.ChunkedArray":
        """The ids over all tables; they stay where they are mapped."""
        return pa.chunked_array([chunk for table in self.tables for chunk in table["id"].chunks], pa.string())

    def signature_arrays(self) -> list[npt.NDArray[np.uint32]]:
        """Signatures as mapped, one array a record batch."""
        arrays: list[npt.NDArray[np.uint32]] = []
        for table in self.tables:
            for chunk in table["signature"].chunks:
                width = chunk.type.byte_width
                data = np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width : (chunk.offset + len(chunk)) * width]
                arrays.append(data.view(np.uint32).reshape(len(chunk), width // 4))
        return arrays


def open_table(path: Path) -> pa.Table:
    """A signature table, mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()

"""Repeated blocks: lines and paragraphs of an earlier document, as byte ranges to cut out of the later ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.corpus.signatures import open_table
from tasks.documents import DOCUMENTS, text_buffers
from tasks.executor.filetasks import FileTasks
from tasks.executor.tables import TableFile, TableWork
from tasks.ledger import Ledger, StageOutcome
from tasks.settings import Json

BLOCKS = pa.schema([("row", pa.int64()), ("start", pa.int64()), ("end", pa.int64()), ("hash", pa.uint64())])
REVISION = 1  # of the tables of blocks
BATCH_ROWS = 2_000


@dataclass(frozen=True)
class BlockWork(TableWork):
    """One document table, and which of its blocks are listed."""

    by_paragraph: bool
    min_chars: int

    def identity(self) -> dict[str, Json]:
        return {"documents": self.table.digest, "by_paragraph": self.by_paragraph, "min_chars": self.min_chars}


def list_blocks(work: BlockWork, out: Path) -> StageOutcome:
    """`blocks-000.arrow`: row, start, end (bytes) and hash of each line or paragraph that is long enough."""
    from tasks.kernels.repeated_blocks import find_blocks

    first = 0
    with pq.ParquetFile(work.table.path) as file, pa.OSFile(str(out / "blocks-000.arrow"), "wb") as sink:
        with pa.ipc.new_file(sink, BLOCKS) as writer:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=["text"]):
                rows, starts, ends, hashes = find_blocks(*text_buffers(batch.column("text")), work.by_paragraph, work.min_chars)
                columns = [pa.array(rows + first), pa.array(starts), pa.array(ends), pa.array(hashes)]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=BLOCKS))
                first += batch.num_rows
    return StageOutcome(Ledger(rows_in=first, rows_out=first))


def cut_blocks(
    by_paragraph: bool, min_chars: int, tables: list[TableFile], kept: list[npt.NDArray[np.bool_]], out: Path, files: FileTasks
) -> int:
    """Writes `cuts-*.parquet`, byte ranges to cut out of each table's documents, and gives their number.

    Memory: one partition of the hashes.
    """
    from tasks.kernels.clusters import in_partition, partitions
    from tasks.kernels.repeated_blocks import repeated

    works = [BlockWork(table, by_paragraph, min_chars) for table in tables]
    parts = files.run("blocks", REVISION, list_blocks, works)
    found = [open_table(part.folder / "blocks-000.arrow") for part in parts]
    cuts = [np.zeros(blocks.num_rows, np.bool_) for blocks in found]
    starts = np.cumsum([0, *(len(mask) for mask in kept)])
    count = partitions(sum(blocks.num_rows for blocks in found))
    for partition in range(count):
        chosen = [
            np.flatnonzero(in_partition(blocks["hash"].to_numpy(), partition, count) & mask[blocks["row"].to_numpy()])
            for blocks, mask in zip(found, kept, strict=True)
        ]
        hashes = np.concatenate([blocks["hash"].to_numpy()[here] for blocks, here in zip(found, chosen, strict=True)])
        numbers = [blocks["row"].to_numpy()[here] + start for blocks, here, start in zip(found, chosen, starts, strict=False)]
        again = repeated(hashes, np.concatenate(numbers))
        for cut, here, part in zip(cuts, chosen, column_slices([len(here) for here in chosen]), strict=True):
            cut[here[again[part]]] = True
    total = 0
    for table, blocks, cut in zip(tables, found, cuts, strict=True):
        gone = blocks.filter(pa.array(cut)).select(["row", "start", "end"])
        total += gone.num_rows
        pq.write_table(gone, out / Path(table.path).name.replace("documents", "cuts"), compression="zstd")
    return total


def column_slices(sizes: list[int]) -> Iterator[slice]:
    """Where each of several arrays lies in their concatenation."""
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size


def read_cuts(path: str | None) -> dict[int, list[tuple[int, int]]]:
    """Byte ranges to cut, by document row."""
    cuts: dict[int, list[tuple[int, int]]] = {}
    for row, start, end in [] if path is None else zip(*(column.to_pylist() for column in pq.read_table(path).columns), strict=True):
        cuts.setdefault(row, []).append((start, end))
    return cuts


def without_cuts(batch: pa.RecordBatch, cuts: dict[int, list[tuple[int, int]]]) -> pa.RecordBatch:
    """The batch without byte ranges of some rows."""
    from tasks.kernels.overlap import without_spans

    if not cuts:
        return batch
    texts: list[str] = batch.column("text").to_pylist()
    for row, spans in cuts.items():
        texts[row] = without_spans(texts[row], spans)
    shorter = pa.array(texts, pa.large_string())
    changed = {"text": shorter, "bytes": pa.array(np.diff(text_buffers(shorter)[1]))}
    columns = [changed.get(name, batch.column(name)) for name in DOCUMENTS.names]
    return pa.RecordBatch.from_arrays(columns, schema=DOCUMENTS)

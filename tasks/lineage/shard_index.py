"""Shard index: which rows of token shards hold a document, by the columns beside the tokens."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class ShardPiece:
    """A piece of the document in token shards."""

    split: str
    group: str
    row: int  # among the rows of the group
    file: str  # in the artifact's folder
    file_row: int
    start: int  # its tokens in the row
    end: int
    first: int  # in the document, whose <|bos|> is token 0


def pieces_of(folder: Path, split: str, numbers: Collection[int]) -> Iterator[tuple[int, ShardPiece]]:
    """(document number, piece) of these documents, row by row: the column of numbers is searched, a row group at a time."""
    wanted = np.array(sorted(numbers), np.int64)
    for group in sorted(path for path in (folder / split).glob("*") if path.is_dir() and len(wanted)):
        first_row = 0
        for path in sorted(group.glob("*.parquet")):
            with pq.ParquetFile(path) as file:
                start = 0
                for number in range(file.num_row_groups):
                    for document, row, span in _matches(file, number, wanted):
                        yield (
                            document,
                            ShardPiece(split, group.name, first_row + start + row, path.relative_to(folder).as_posix(), start + row, *span),
                        )
                    start += file.metadata.row_group(number).num_rows
                first_row += start


def _matches(file: pq.ParquetFile, group: int, wanted: npt.NDArray[np.int64]) -> list[tuple[int, int, tuple[int, int, int]]]:
    """(document, row, (start, end, first)) in a row group."""
    column = _lists(file.read_row_group(group, columns=["documents"]))
    values: npt.NDArray[np.int64] = column.flatten().to_numpy()
    hits = np.flatnonzero(np.isin(values, wanted))
    if not len(hits):
        return []
    offsets: npt.NDArray[np.int32] = column.offsets.to_numpy()
    rows = np.searchsorted(offsets - offsets[0], hits, side="right") - 1
    beside = file.read_row_group(group, columns=["ends", "offsets"])
    ends: npt.NDArray[np.int32] = _lists(beside.select(["ends"])).flatten().to_numpy()
    firsts: npt.NDArray[np.int64] = _lists(beside.select(["offsets"])).flatten().to_numpy()
    is_first = (offsets - offsets[0])[rows] == hits
    return [
        (int(values[hit]), int(row), (0 if begins else int(ends[hit - 1]), int(ends[hit]), int(firsts[hit])))
        for hit, row, begins in zip(hits.tolist(), rows.tolist(), is_first.tolist(), strict=True)
    ]


def _lists(table: pa.Table) -> pa.ListArray:
    """The only column of a table."""
    (column,) = table.columns
    chunk = column.combine_chunks()
    return pa.concat_arrays(chunk.chunks) if isinstance(chunk, pa.ChunkedArray) else chunk

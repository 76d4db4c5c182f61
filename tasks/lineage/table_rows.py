"""Random access to large tables by number or by id: only what holds a row is read, and memory does not grow with the tables."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_ROWS = 65_536  # of a column of ids

Cells = Mapping[str, object]


def numbered_rows(paths: Sequence[Path], numbers: Collection[int], columns: Sequence[str]) -> dict[int, Cells]:
    """Rows by number, counted from 0 over all tables, one behind the other. IndexError for a number beyond the last."""
    wanted = np.array(sorted(set(numbers)), np.int64)
    found: dict[int, Cells] = {}
    start = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                here = wanted[(wanted >= start) & (wanted < start + rows)]
                if len(here):
                    chosen = file.read_row_group(group, columns=list(columns)).take(pa.array(here - start))
                    found |= dict(zip(here.tolist(), chosen.to_pylist(), strict=True))
                start += rows
    missing = wanted[wanted >= start].tolist()
    if missing:
        raise IndexError(f"{len(paths)} tables hold {start} rows, asked for number {missing[0]}")
    return found


class IdFinder:
    """Where ids stand in tables. A file that lies in several folders, as hard links, is searched once."""

    def __init__(self, ids: Collection[str]) -> None:
        self._ids = pa.array(sorted(ids), pa.string())
        self._known: dict[tuple[int, int], dict[str, int]] = {}

    def find(self, path: Path) -> dict[str, int]:
        """Row of each id that stands in the table at `path`; an id stands in a table once."""
        stat = path.stat()
        key = (stat.st_dev, stat.st_ino)
        if key not in self._known:
            self._known[key] = dict(self._search(path))
        return self._known[key]

    def find_all(self, folder: Path, *patterns: str) -> Iterator[tuple[str, Path, int]]:
        """(id, table, row) in the folder's tables of these names."""
        for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
            for id_, row in self.find(path).items():
                yield id_, path, row

    def _search(self, path: Path) -> Iterator[tuple[str, int]]:
        start = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=["id"]):
                positions = pc.call_function("index_in", [batch.column(0)], pc.SetLookupOptions(self._ids))
                for row in np.flatnonzero(positions.is_valid().to_numpy(zero_copy_only=False)).tolist():
                    yield self._ids[positions[row].as_py()].as_py(), start + row
                start += batch.num_rows

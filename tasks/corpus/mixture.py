"""Corpus mixture: documents and bytes by set, source and language."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FILE = "mixture.parquet"
MIXTURE = pa.schema(
    [
        ("split", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("documents", pa.int64()),
        ("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True)
class MixtureRow:
    """What a source and language came to in one set: train, validation or test."""

    split: str
    source: str
    language: str
    documents: int
    bytes: int


def write_mixture(folder: Path) -> None:
    """Counts the document tables of `folder` into mixture.parquet there, largest first."""
    counts: dict[tuple[str, str, str], list[int]] = {}
    for name in ("train", "validation", "test"):
        for path in sorted(folder.glob(f"{name}*.parquet")):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=100_000, columns=["source", "language", "bytes"]):
                    for source, language, size in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        count = counts.setdefault((name, source, language), [0, 0])
                        count[0] += 1
                        count[1] += size
    ranked = sorted(counts, key=lambda key: (key[0], -counts[key][1], key[1], key[2]))
    rows = [(*key, *counts[key]) for key in ranked]
    columns = [pa.array([row[at] for row in rows], kind.type) for at, kind in enumerate(MIXTURE)]
    pq.write_table(pa.table(columns, schema=MIXTURE), folder / FILE, compression="zstd")


def read_mixture(folder: Path) -> tuple[MixtureRow, ...]:
    """What `write_mixture` wrote; empty in a corpus of before there was one."""
    path = folder / FILE
    return tuple(MixtureRow(**row) for row in pq.read_table(path).to_pylist()) if path.exists() else ()

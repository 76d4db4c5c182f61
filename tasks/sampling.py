"""Which documents: an order of rows that depends on their ids and a seed alone, and samples taken in that order."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.documents import read_batches


def hash_keys(ids: Iterable[str], seed: int) -> NDArray[np.uint64]:
    """A number in [0, 2^64) for each id, evenly spread and the same on every machine; another seed, another spread."""
    key = seed.to_bytes(8, "little")
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest() for text in ids)
    return np.frombuffer(digests, dtype="<u8")


@dataclass(frozen=True)
class SampledDocument:
    """A document of a sample; the last one of its language may be cut to the budget."""

    id: str
    language: str
    text: str


def sample_documents(
    folder: Path, pattern: str, budget_bytes: int, seed: int, by_language: bool = True
) -> Iterator[SampledDocument]:
    """Documents of the files that match `pattern`, at most `budget_bytes` of text, lowest keys first taken.

    `by_language` gives each language an equal share, as far as it has text. They come in the order of the files.
    """
    keys, languages, sizes = _read_index(folder, pattern, seed)
    takes = sample_sizes(keys, languages if by_language else np.full(len(keys), "any"), sizes, budget_bytes)
    row = 0
    for batch in read_batches(folder, pattern, rows=500):
        here = np.flatnonzero(takes[row : row + batch.num_rows])
        for position in here:
            text = batch.column("text")[int(position)].as_py()
            size = int(sizes[row + position])
            if takes[row + position] < size:
                text = text.encode()[: int(takes[row + position])].decode(errors="ignore")
            yield SampledDocument(
                batch.column("id")[int(position)].as_py(), batch.column("language")[int(position)].as_py(), text
            )
        row += batch.num_rows


def sample_sizes(
    keys: NDArray[np.uint64], languages: NDArray[np.str_], sizes: NDArray[np.int64], budget_bytes: int
) -> NDArray[np.int64]:
    """Bytes to take of each document: 0, all of it, or, for the last one of a language, what the budget leaves."""
    takes = np.zeros(len(keys), dtype=np.int64)
    totals = {str(language): int(sizes[languages == language].sum()) for language in np.unique(languages)}
    left = budget_bytes
    for done, language in enumerate(sorted(totals, key=lambda name: (totals[name], name))):
        share = min(totals[language], left // (len(totals) - done))
        members = np.flatnonzero(languages == language)
        members = members[np.argsort(keys[members], kind="stable")]
        before = np.cumsum(sizes[members]) - sizes[members]
        takes[members] = np.clip(share - before, 0, sizes[members])
        left -= share
    return takes


def _read_index(
    folder: Path, pattern: str, seed: int
) -> tuple[NDArray[np.uint64], NDArray[np.str_], NDArray[np.int64]]:
    """Key, language and bytes of every row, in file order; no text is read."""
    keys, languages, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.str_)], [np.empty(0, np.int64)]
    for path in sorted(folder.glob(pattern)):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=65_536, columns=["id", "language", "bytes"]):
                keys.append(hash_keys(batch.column("id").to_pylist(), seed))
                languages.append(np.asarray(batch.column("language").to_pylist(), dtype=np.str_))
                sizes.append(batch.column("bytes").to_numpy())
    return np.concatenate(keys), np.concatenate(languages), np.concatenate(sizes)

"""Audit of documents behind token shards, in one pass over their table: what the rows hold of each source and language."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.histogram import Histogram, Numbers, bins_of

if TYPE_CHECKING:
    from model.data.shard_format import ShardHeader

BATCH_DOCUMENTS = 65_536


@dataclass
class Pair:
    """Documents of one source and language."""

    source: str
    language: str
    documents: int = 0
    row_tokens: float = 0.0  # in rows: tokens of an overlap count in both
    crossings: float = 0.0  # sum of c (c - 1), c being the rows that a document lies in


@dataclass(frozen=True)
class Documents:
    """All documents by source and language, and the pair of each document that was asked for."""

    pairs: list[Pair]
    lengths: Histogram
    wanted: Numbers  # document numbers, ascending
    pair_of_wanted: Numbers

    def pair_of(self, documents: Numbers) -> Numbers:
        """Which pair each of these documents is of; they must be among those asked for."""
        return self.pair_of_wanted[np.searchsorted(self.wanted, documents)]

    def names(self, kind: Literal["group", "source", "language"]) -> tuple[list[str], Numbers]:
        """The sources or languages in the order of the alphabet, and which of them each pair is of."""
        values = [pair.language if kind == "language" else pair.source for pair in self.pairs]
        names = sorted(set(values))
        number = {name: at for at, name in enumerate(names)}
        return names, np.array([number[value] for value in values], np.int64)


@dataclass
class _Sums:
    pairs: list[Pair] = field(default_factory=list[Pair])
    numbers: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def codes(self, batch: pa.RecordBatch) -> Numbers:
        """Pair of each row."""
        sources, languages = (_encoded(batch.column(name)) for name in ("source", "language"))
        local = sources[1] * len(languages[0]) + languages[1]
        found, inverse = np.unique(local, return_inverse=True)
        known = np.array([self._pair(sources[0][c // len(languages[0])], languages[0][c % len(languages[0])]) for c in found])
        return known[inverse]

    def _pair(self, source: str, language: str) -> int:
        if (source, language) not in self.numbers:
            self.numbers[source, language] = len(self.pairs)
            self.pairs.append(Pair(source, language))
        return self.numbers[source, language]


def _encoded(column: pa.Array) -> tuple[list[str], Numbers]:
    encoded = column.dictionary_encode("encode")
    names = [name or "" for name in encoded.dictionary.to_pylist()]
    return names, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def read_documents(path: Path, wanted: Numbers, header: "ShardHeader") -> Documents:
    """One pass over documents-train.parquet; `wanted` are document numbers, ascending, each once."""
    sums, lengths = _Sums(), np.zeros(64, np.int64)
    pair_of_wanted = np.empty(len(wanted), np.int64)
    first = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_DOCUMENTS, columns=["source", "language", "tokens"]):
            codes, tokens = sums.codes(batch), batch.column("tokens").to_numpy().astype(np.int64)
            lengths += bins_of(tokens)
            _add(sums.pairs, codes, tokens, header)
            here = slice(*np.searchsorted(wanted, [first, first + batch.num_rows]))
            pair_of_wanted[here] = codes[wanted[here] - first]
            first += batch.num_rows
    return Documents(sums.pairs, Histogram.of_bins(lengths), wanted, pair_of_wanted)


def _add(pairs: list[Pair], codes: Numbers, tokens: Numbers, header: "ShardHeader") -> None:
    rows, crossings = rows_of_documents(tokens, header)
    counts = np.bincount(codes, minlength=len(pairs))
    row_tokens = np.bincount(codes, tokens + rows - 1, len(pairs))
    crossed = np.bincount(codes, crossings, len(pairs))
    for at in np.flatnonzero(counts):
        pairs[at].documents += int(counts[at])
        pairs[at].row_tokens += float(row_tokens[at])
        pairs[at].crossings += float(crossed[at])


def rows_of_documents(tokens: Numbers, header: "ShardHeader") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """c, the number of rows that a document of n tokens lies in, and c (c - 1).

    Rows of T + 1 tokens share one with the next, so a document that is cut into pieces lies in ceil((n - 1) / T) rows. Where
    documents are put one behind the other and cut, one at a random position lies in (n + T) / T rows on average: in the next
    lower or next higher whole number.
    """
    if header.packing == "concatenate":
        mean = (tokens + header.context) / header.context
        whole = np.floor(mean)
        return mean, whole * (whole - 1 + 2 * (mean - whole))
    pieces = np.maximum(1, -(-(tokens - 1) // header.context)).astype(np.float64)
    return pieces, pieces * (pieces - 1)

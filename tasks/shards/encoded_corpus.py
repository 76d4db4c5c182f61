"""Encoded corpus: each table encoded in a task of its own, and all of them read in one shuffled order.

An encoded table is a part that stays: `documents-000.parquet` in the order of the table, and sorted by the shuffled order
`index.bin` (records of INDEX) and `tokens.bin`. Memory is that of one table while it is encoded, afterwards of a window.
"""

import json
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.documents import TableWriter, bounded
from tasks.executor.parts import Part
from tasks.executor.tables import TableWork
from tasks.ledger import Ledger, StageOutcome
from tasks.sampling import hash_keys
from tasks.settings import Json
from tasks.shards.packing import Pieces
from tasks.tokenizer.encoding import open_encoder, text_ids

REVISION = 1  # of encoded tables
ENCODE_BYTES = 4 * 2**20  # of text given to the tokenizer at a time
SORT_TOKENS = 2**22  # written at a time
RANGE_DOCUMENTS = 2**13  # of the shuffled order, read at a time
RANGE_OF_PART = 64  # or so many of each table, where there are many
TOKEN_DOCUMENTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),  # UTF-8 bytes of text
        pa.field("tokens", pa.int64(), nullable=False),  # <|bos|> and <|eos|> included; 0: in no row
    ]
)
INDEX = np.dtype(
    [
        ("key", "<u8"),
        ("row", "<i8"),
        ("start", "<i8"),
        ("tokens", "<i8"),
        ("bytes", "<i8"),
        ("source", "<i4"),
        ("language", "<i4"),
    ]
)
ORDERED = np.dtype([*INDEX.descr, ("part", "<i8"), ("number", "<i8")])

Index = NDArray[np.void]  # of INDEX or ORDERED


@dataclass(frozen=True)
class EncodeWork(TableWork):
    """One document table, the tokenizer and the shuffle's seed."""

    tokenizer: str  # folder
    fingerprint: str
    seed: int

    def identity(self) -> dict[str, Json]:
        return {"documents": self.table.digest, "tokenizer": self.fingerprint, "seed": self.seed}


def item_type(vocab_size: int) -> "np.dtype[np.uint16] | np.dtype[np.uint32]":
    """The narrowest type that holds every id."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


def text_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of a few MB of text, so that few long documents do not fill the memory with tokens."""
    with pq.ParquetFile(path) as file:
        batches = file.iter_batches(batch_size=1_000, columns=["id", "text", "source", "language", "bytes"])
        yield from bounded(batches, ENCODE_BYTES)


def encode_table(work: EncodeWork, out: Path) -> StageOutcome:
    """Encode each document once: <|bos|> text <|eos|>. A document whose text gives no token goes into no row."""
    encoder = open_encoder(Path(work.tokenizer))
    special = text_ids(encoder.tokenizer, f"tokenizer {work.fingerprint}")
    bos, eos = np.array([special.bos], np.uint32), np.array([special.eos], np.uint32)
    kind = item_type(encoder.vocab_size)
    names: dict[str, dict[str, int]] = {"source": {}, "language": {}}
    parts: list[Index] = []
    written = row = 0
    with (out / "unsorted.bin").open("wb") as file, TableWriter(out / "documents-000.parquet", TOKEN_DOCUMENTS) as documents:
        for batch in text_batches(Path(work.table.path)):
            encoded = encoder.encode(batch.column("text").to_pylist())
            flat = np.concatenate([run for ids in encoded for run in (bos, ids, eos)])
            flat.astype(kind).tofile(file)
            index = np.zeros(batch.num_rows, INDEX)
            index["key"] = hash_keys(batch.column("id").to_pylist(), work.seed)
            index["row"] = np.arange(row, row + batch.num_rows)
            index["tokens"] = [len(ids) + 2 for ids in encoded]
            index["start"] = written + np.cumsum(index["tokens"]) - index["tokens"]
            index["bytes"] = batch.column("bytes").to_numpy()
            for name, numbers in names.items():
                index[name] = [numbers.setdefault(value, len(numbers)) for value in batch.column(name).to_pylist()]
            tokens = pa.array(np.where(index["tokens"] > 2, index["tokens"], 0))
            columns = [batch.column(name) for name in TOKEN_DOCUMENTS.names[:-1]]
            documents.write(pa.RecordBatch.from_arrays([*columns, tokens], schema=TOKEN_DOCUMENTS))
            parts.append(index)
            written, row = written + len(flat), row + batch.num_rows
    (out / "groups.json").write_text(json.dumps({name: list(numbers) for name, numbers in names.items()}))
    return _write_sorted(np.concatenate([np.empty(0, INDEX), *parts]), kind, out)


def _write_sorted(index: Index, kind: "np.dtype[np.uint16] | np.dtype[np.uint32]", out: Path) -> StageOutcome:
    is_empty = index["tokens"] <= 2
    empty = index[is_empty]
    index = index[~is_empty]
    index = index[np.argsort(index["key"], kind="stable")]  # equal keys: by row of the table
    unsorted = out / "unsorted.bin"
    ends = np.cumsum(index["tokens"])
    with (out / "tokens.bin").open("wb") as file:
        tokens = map_tokens(unsorted, kind)
        first = 0
        while first < len(index):
            before = int(ends[first - 1]) if first else 0
            stop = max(first + 1, int(np.searchsorted(ends, before + SORT_TOKENS, side="right")))
            here = index[first:stop]
            spans = zip(here["start"].tolist(), here["tokens"].tolist(), strict=True)
            np.concatenate([tokens[start : start + length] for start, length in spans]).tofile(file)
            first = stop
    unsorted.unlink()
    index["start"] = ends - index["tokens"]
    index.tofile(out / "index.bin")
    reasons = {"empty_document": len(empty)} if len(empty) else {}
    lost = {"empty_document": int(empty["bytes"].sum())} if len(empty) else {}
    kept_bytes = int(index["bytes"].sum())
    return StageOutcome(
        Ledger(
            rows_in=len(index) + len(empty),
            rows_out=len(index),
            bytes_in=kept_bytes + sum(lost.values()),
            bytes_out=kept_bytes,
            tokens_out=int(ends[-1]) if len(ends) else 0,
            dropped=reasons,
            dropped_bytes=lost,
        )
    )


def map_tokens(path: Path, kind: "np.dtype[np.uint16] | np.dtype[np.uint32]") -> NDArray[np.unsignedinteger]:
    """The tokens of a file as they lie there; the file is closed when nothing holds them."""
    if path.stat().st_size == 0:
        return np.empty(0, kind)
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), kind)


@dataclass(frozen=True)
class Chosen:
    """Documents of a group: of each table those whose source or language is among its names."""

    by: Literal["source", "language"]
    names: tuple[frozenset[str], ...]  # a set for each table


@dataclass(frozen=True)
class EncodedCorpus:
    """The encoded tables of one split, in the corpus' order. Document numbers count through all of them."""

    parts: Sequence[Part]
    kind: "np.dtype[np.uint16] | np.dtype[np.uint32]"

    @cached_property
    def first_numbers(self) -> NDArray[np.int64]:
        """Number of each table's first document, and behind them of all."""
        return np.cumsum([0, *(part.outcome.ledger.rows_in for part in self.parts)])

    @cached_property
    def _ranges(self) -> NDArray[np.int64]:
        """[ranges + 1, parts]: where each range of keys begins in each index. Every range has about as many documents."""
        count = 1 + int(self.first_numbers[-1]) // max(RANGE_DOCUMENTS, RANGE_OF_PART * len(self.parts))
        bounds = np.array([(number << 64) // count for number in range(1, count)], np.uint64)
        ranges = np.zeros((count + 1, len(self.parts)), np.int64)
        for number, part in enumerate(self.parts):
            keys = np.fromfile(part.folder / "index.bin", INDEX)["key"]
            ranges[1:count, number], ranges[count, number] = np.searchsorted(keys, bounds), len(keys)
        return ranges

    def names(self, by: Literal["source", "language"]) -> list[frozenset[str]]:
        """The sources or languages that the documents of each table have."""
        return [frozenset(_names(part, by)) for part in self.parts]

    def ordered(self, chosen: Chosen | None = None) -> Iterator[Index]:
        """Documents in shuffled order, many at a time: all, or those chosen. Records of ORDERED."""
        ranges = self._ranges
        codes = [] if chosen is None else [_codes(part, chosen.by, names) for part, names in zip(self.parts, chosen.names, strict=True)]
        for start, stop in pairwise(ranges):
            found = [np.empty(0, ORDERED)]
            for number, part in enumerate(self.parts):
                if (chosen is not None and not codes[number]) or start[number] == stop[number]:
                    continue
                here = np.fromfile(
                    part.folder / "index.bin", INDEX, int(stop[number] - start[number]), offset=int(start[number]) * INDEX.itemsize
                )
                if chosen is not None:
                    here = here[np.isin(here[chosen.by], codes[number])]
                found.append(self._numbered(here, number))
            documents = np.concatenate(found)
            yield documents[np.lexsort((documents["number"], documents["key"]))]

    def _numbered(self, index: Index, part: int) -> Index:
        documents = np.empty(len(index), ORDERED)
        for name in INDEX.names or ():
            documents[name] = index[name]
        documents["part"], documents["number"] = part, index["row"] + self.first_numbers[part]
        return documents

    def rows(self, documents: Index, pieces: Pieces, width: int, pad: int) -> NDArray[np.unsignedinteger]:
        """The rows [n, width] that pieces of these documents make, padded behind the last."""
        from tasks.kernels.packing import copy_pieces

        rows = np.full((pieces.count, width), pad, self.kind)
        parts = documents["part"][pieces.documents]
        begins = documents["start"][pieces.documents] + pieces.offsets
        order = np.argsort(parts, kind="stable")
        present, starts = np.unique(parts[order], return_index=True)
        bounds = [*starts.tolist(), len(order)]
        for part, start, stop in zip(present.tolist(), bounds[:-1], bounds[1:], strict=True):
            here = order[start:stop]
            tokens = map_tokens(self.parts[part].folder / "tokens.bin", self.kind)
            copy_pieces(tokens, begins[here], pieces.lengths[here], pieces.rows[here], pieces.starts[here], rows)
        return rows


def _names(part: Part, by: str) -> list[str]:
    return json.loads((part.folder / "groups.json").read_text())[by]


def _codes(part: Part, by: str, chosen: frozenset[str]) -> list[int]:
    return [number for number, name in enumerate(_names(part, by)) if name in chosen]

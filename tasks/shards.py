"""Token shards: the corpus as rows of token ids, in shuffled document order, every token a target exactly once."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from model.shards import write_token_shard
from tasks.artifacts import Corpus, Tokenizer
from tasks.documents import TableWriter, read_batches
from tasks.encoding import SpecialIds, encode_documents, load_tokenizer, special_ids
from tasks.errors import UserError
from tasks.ledger import Ledger, StageOutcome
from tasks.sampling import hash_keys
from tasks.settings import Section

if TYPE_CHECKING:
    import tokenizers

BUCKET_BYTES = 64 * 2**20  # of text whose tokens are sorted in memory at a time
MAX_BUCKETS = 512  # open files
ENCODE_BYTES = 4 * 2**20  # of text given to the tokenizer at a time
DOCUMENT_PLACES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),  # of its <|bos|> in the stream: row position // context
        pa.field("tokens", pa.int64(), nullable=False),  # <|bos|> and <|eos|> included
    ]
)


class ShardsConfig(Section):
    """How documents become rows."""

    revision: Literal[1] = 1
    context: int = Field(
        default=256, ge=8, le=2**20, description="Tokens per row that a model reads; at most its own context"
    )
    rows_per_shard: int = Field(
        default=16_384, ge=1, le=2**24, description="Rows per file; 16,384 rows of 256 tokens are 8 MB"
    )
    seed: int = Field(default=1, ge=0, lt=2**63, description="Shuffles the documents")
    packing: Literal["concatenate"] = Field(
        default="concatenate", description="<|bos|> document <|eos|>, one behind the other, cut every `context` tokens"
    )


@dataclass(frozen=True)
class Spilled:
    """Encoded documents of one bucket, sorted by key: document i is tokens[ends[i-1]:ends[i]]."""

    ids: Sequence[str]
    sizes: NDArray[np.int64]  # UTF-8 bytes of text
    tokens: NDArray[np.uint32]
    ends: NDArray[np.int64]


@dataclass
class Totals:
    """What became of one split."""

    documents: int = 0
    text_bytes: int = 0
    tokens: int = 0  # of the whole stream, <|bos|> and <|eos|> included
    rows: int = 0
    context: int = 0
    tail_bytes: float = 0.0  # of text behind the last whole row

    @property
    def targets(self) -> int:
        """Tokens that some row asks for."""
        return self.rows * self.context

    @property
    def kept_bytes(self) -> int:
        """Bytes of text in whole rows; a document cut by the end counts by its share of tokens."""
        return self.text_bytes - round(self.tail_bytes)


@dataclass
class Packer:
    """Cuts the stream of one split into rows of context + 1 tokens; each begins with the last token of the one before."""

    context: int
    tokens: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))  # not in a row yet
    starts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # of documents; may be negative
    ids: list[str] = field(default_factory=list[str])
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, documents: Spilled) -> None:
        """Append documents to the stream."""
        begins = np.concatenate([[0], documents.ends[:-1]]) + len(self.tokens)
        self.starts = np.concatenate([self.starts, begins])
        self.tokens = np.concatenate([self.tokens, documents.tokens])
        self.sizes = np.concatenate([self.sizes, documents.sizes])
        self.ids.extend(documents.ids)

    def take(self, rows: int) -> tuple[NDArray[np.uint32], pa.Table]:
        """The next `rows` rows [rows, context + 1] and, beside them, where their documents are."""
        step = self.context
        cut = np.lib.stride_tricks.sliding_window_view(self.tokens, step + 1)[::step][:rows]
        row_starts = np.arange(rows) * step
        first = np.searchsorted(self.starts, row_starts, side="right") - 1
        last = np.searchsorted(self.starts, row_starts + step, side="right") - 1
        beside = pa.table(
            {
                "doc_first": pa.array([self.ids[i] for i in first], pa.string()),
                "doc_offset": pa.array(row_starts - self.starts[first], pa.int32()),
                "documents": pa.array(last - first + 1, pa.int32()),
            }
        )
        self._forget(rows * step)
        return np.ascontiguousarray(cut), beside

    def portion(self, rows: int, is_last: bool) -> int:
        """How many rows to take now: `rows`, or at the end of the stream what is left; 0 when it must go on first."""
        ready = max(0, len(self.tokens) - 1) // self.context
        return min(ready, rows) if is_last or ready >= rows else 0

    def tail_bytes(self) -> float:
        """Bytes of text behind the last row. Token 0 is that row's last: a target already, if of text."""
        ends = np.append(self.starts[1:], len(self.tokens))
        left = np.maximum(
            ends - 1 - np.maximum(self.starts + 1, 1), 0
        )  # of each document, without its <|bos|> and <|eos|>
        return float(np.sum(self.sizes * (left / np.maximum(ends - self.starts - 2, 1))))

    def _forget(self, tokens: int) -> None:
        self.tokens = self.tokens[tokens:].copy()
        self.starts = self.starts - tokens
        keep = max(0, int(np.searchsorted(self.starts, 0, side="right")) - 1)  # the document of the first token stays
        self.starts, self.ids, self.sizes = self.starts[keep:], self.ids[keep:], self.sizes[keep:]


def text_batches(folder: Path, pattern: str) -> Iterator[pa.RecordBatch]:
    """Batches of a few MB of text, so that few long documents do not fill the memory with tokens."""
    for batch in read_batches(folder, pattern, rows=1_000):
        ends = np.cumsum(batch.column("bytes").to_numpy())
        start = 0
        while start < batch.num_rows:
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + ENCODE_BYTES, side="right")))
            yield batch.slice(start, stop - start)
            start = stop


def spill(
    folder: Path, pattern: str, tokenizer: "tokenizers.Tokenizer", special: SpecialIds, seed: int, out: Path
) -> list[Path]:
    """Encode each document once, into bucket files by its place in the shuffled order; lowest places first."""
    schema = pa.schema(
        {"key": pa.uint64(), "id": pa.string(), "bytes": pa.int64(), "tokens": pa.large_list(pa.uint32())}
    )
    total = sum(_column_sum(path, "bytes") for path in sorted(folder.glob(pattern)))
    buckets = min(MAX_BUCKETS, 1 + total // BUCKET_BYTES)
    paths = [out / f"{number:03d}.arrow" for number in range(buckets)]
    writers = [pa.ipc.new_file(path, schema) for path in paths]
    for batch in tqdm(text_batches(folder, pattern), disable=None, unit="batch", desc="encode"):
        ids = batch.column("id").to_pylist()
        encoded = encode_documents(tokenizer, batch.column("text").to_pylist())
        keys = hash_keys(ids, seed)
        tokens = [[special.bos, *one, special.eos] for one in encoded]
        columns = [pa.array(keys), pa.array(ids), batch.column("bytes"), pa.array(tokens, pa.large_list(pa.uint32()))]
        table = pa.RecordBatch.from_arrays(columns, schema=schema)
        places = (keys >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)
        for place in np.unique(places):
            writers[int(place)].write_batch(table.filter(pa.array(places == place)))
    for writer in writers:
        writer.close()
    return paths


def read_spilled(path: Path) -> Spilled:
    """The documents of one bucket, sorted."""
    with pa.ipc.open_file(path) as reader:
        table = reader.read_all().sort_by([("key", "ascending"), ("id", "ascending")]).combine_chunks()
    if table.num_rows == 0:
        return Spilled([], np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, np.int64))
    tokens = pa.concat_arrays(table["tokens"].chunks)
    flat = tokens.flatten().to_numpy()
    return Spilled(
        table["id"].to_pylist(), table["bytes"].to_numpy(), flat, np.cumsum(tokens.value_lengths().to_numpy())
    )


def pack_split(
    config: ShardsConfig, corpus: Path, pattern: str, tokenizer: "tokenizers.Tokenizer", mark: str, out: Path
) -> Totals:
    """Write one split: `<out>/shard-*.parquet`, and beside `out` where every document lies in its stream of tokens."""
    spilled = out / "spill"
    spilled.mkdir(parents=True)
    buckets = spill(corpus, pattern, tokenizer, special_ids(tokenizer, f"tokenizer {mark}"), config.seed, spilled)
    packer, totals, shards = Packer(config.context), Totals(context=config.context), 0
    is_short = tokenizer.get_vocab_size() <= 2**16
    metadata = {"vocab_size": tokenizer.get_vocab_size(), "tokenizer": mark}
    with TableWriter(out.with_name(f"documents-{out.name}.parquet"), DOCUMENT_PLACES) as places:
        for path in buckets:
            documents = read_spilled(path)
            path.unlink()
            places.write(_places(documents, totals.tokens))
            _count(totals, documents)
            packer.add(documents)
            while rows := packer.portion(config.rows_per_shard, is_last=path == buckets[-1]):
                cut, beside = packer.take(rows)
                write_token_shard(
                    out / f"shard-{shards:05d}.parquet", cut.astype(np.uint16) if is_short else cut, beside, metadata
                )
                totals.rows, shards = totals.rows + rows, shards + 1
    shutil.rmtree(spilled)
    totals.tail_bytes = packer.tail_bytes()
    return totals


def check_rows(totals: Totals, split: str, context: int) -> None:
    """UserError for a split that fills no row."""
    if totals.rows == 0:
        fix = "add text" if split == "corpus" else "keep more documents for validation"
        raise UserError(
            f"shards: {split} gives {totals.tokens} tokens, fewer than one row of {context + 1}. "
            f"Fix: lower shards.context or {fix}."
        )


def write_shards(config: ShardsConfig, corpus: Corpus, tokenizer: Tokenizer, out: Path) -> StageOutcome:
    """Write train/ and validation/, token rows, and documents-train.parquet and documents-validation.parquet."""
    encoder = load_tokenizer(tokenizer.path)
    mark = tokenizer.fingerprint
    train = pack_split(config, corpus.path, "train-*.parquet", encoder, mark, out / "train")
    check_rows(train, "corpus", config.context)
    validation = pack_split(config, corpus.path, "validation.parquet", encoder, mark, out / "validation")
    check_rows(validation, "validation set", config.context)
    lost = {name: t.text_bytes - t.kept_bytes for name, t in (("train", train), ("validation", validation))}
    ledger = Ledger(
        rows_out=train.rows + validation.rows,
        bytes_in=train.text_bytes + validation.text_bytes,
        bytes_out=train.kept_bytes + validation.kept_bytes,
        tokens_out=train.targets + validation.targets,
        dropped_bytes={f"incomplete_{name}_row": count for name, count in lost.items() if count},
    )
    return StageOutcome(ledger, (), {"context": config.context, **_figures(train, validation)})


def _figures(train: Totals, validation: Totals) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, totals in (("train", train), ("validation", validation)):
        figures[f"{name}_documents"] = totals.documents
        figures[f"{name}_rows"] = totals.rows
        figures[f"{name}_tokens"] = totals.targets
        figures[f"{name}_tokens_dropped"] = totals.tokens - totals.targets - 1
        figures[f"{name}_bytes"] = totals.kept_bytes
    return figures


def _count(totals: Totals, documents: Spilled) -> None:
    totals.documents += len(documents.ids)
    totals.text_bytes += int(documents.sizes.sum())
    totals.tokens += len(documents.tokens)


def _places(documents: Spilled, behind: int) -> pa.RecordBatch:
    begins = np.concatenate([[0], documents.ends[:-1]])[: len(documents.ends)]
    columns = [pa.array(documents.ids, pa.string()), pa.array(begins + behind), pa.array(documents.ends - begins)]
    return pa.RecordBatch.from_arrays(columns, schema=DOCUMENT_PLACES)


def _column_sum(path: Path, name: str) -> int:
    with pq.ParquetFile(path) as file:
        return sum(int(batch.column(0).to_numpy().sum()) for batch in file.iter_batches(columns=[name]))

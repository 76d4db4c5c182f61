"""Token shards: the corpus as rows of token ids, in shuffled document order, every token a target exactly once."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from model.data.shard_format import SEGMENT_FIELDS, Codec
from model.data.shard_writer import TokenShardWriter
from tasks.artifacts import Corpus, ReplayText, Tokenizer
from tasks.contracts import check_table
from tasks.documents import TableWriter, stable_id
from tasks.errors import UserError
from tasks.executor.filetasks import FileTasks
from tasks.executor.parts import Part, combined
from tasks.executor.tables import tables_of
from tasks.histogram import Histogram
from tasks.ledger import Ledger, Receipt, StageOutcome
from tasks.settings import Later, Section
from tasks.shards.encoded_corpus import REVISION, TOKEN_DOCUMENTS, Chosen, EncodedCorpus, EncodeWork, Index, encode_table, item_type
from tasks.shards.packing import Packing, Pieces, pack_alone, pack_best_fit, pack_concatenated, tokens_left, window_documents
from tasks.shards.packing_table import PackingRow, write_packing
from tasks.tokenizer.encoding import load_tokenizer, text_ids, vocabulary_size

FILLED_TOKENS = 2**21  # of rows that are filled at a time
ALL = "all"  # the group of rows that are not grouped
OWN, GENERAL = "own", "general"  # those of a continued pretraining: what it learns, and what it may not forget


class ShardsConfig(Section):
    """How documents become rows."""

    stage: ClassVar[str] = "shards"
    revision: Literal[2] = 2
    context: int = Field(default=256, ge=8, le=2**20, description="Tokens per row that a model reads; at most its own context")
    rows_per_shard: int = Field(default=16_384, ge=1, le=2**24, description="Rows per file; 16,384 rows of 256 tokens are 8 MB")
    seed: int = Field(default=1, ge=0, lt=2**63, description="Shuffles the documents, and the rows they make")
    packing: Packing = Field(
        default="best_fit",
        description="best_fit: whole documents side by side, only those longer than a row cut; concatenate: one behind the "
        "other, cut every `context` tokens; documents: one a row, padded",
    )
    group_by: Literal["none", "source", "language"] = Field(
        default="none", description="what training rows are kept apart by, so that training can mix them by weights"
    )
    general: Annotated[tuple[str, ...], Later()] = Field(
        default=(),
        description="sources whose rows are the group general, those of all others the group own; a recipe sets it once, as replay.sources",
    )
    codec: Codec = Field(default="none", description="zstd: an archive of about two thirds the size, whose rows are decoded when read")


@dataclass(frozen=True)
class RowKind:
    """What all rows of a run have in common: the shards' header, but for their number of rows."""

    config: ShardsConfig
    vocab_size: int
    tokenizer: str
    bos: int
    eos: int
    pad: int
    parent: str

    @property
    def width(self) -> int:
        """Tokens of a row."""
        return self.config.context + 1

    def metadata(self) -> dict[str, int | str | None]:
        """For `TokenShardWriter`."""
        return {
            "vocab_size": self.vocab_size,
            "tokenizer": self.tokenizer,
            "packing": self.config.packing,
            "bos": self.bos,
            "eos": self.eos,
            "pad": self.pad,
            "seed": self.config.seed,
            "parent": self.parent,
        }


@dataclass
class Packed:
    """What became of one group of one split."""

    split: str
    group: str
    width: int
    documents: int = 0
    pieces: int = 0
    rows: int = 0
    tokens: int = 0  # of the documents, <|bos|> and <|eos|> included
    in_rows: int = 0  # tokens of rows that are no padding; where pieces overlap, one more each
    targets: int = 0  # tokens that some row asks for
    text_bytes: int = 0
    tail_bytes: int = 0  # of text behind the last whole row; a document cut there counts by its share of tokens
    uncut: int = 0  # documents that stand whole in some row
    short: int = 0  # documents that would fit a row
    lengths: NDArray[np.int64] = field(default_factory=lambda: np.zeros(64, np.int64))  # documents of 2^i.. tokens

    @property
    def padding(self) -> int:
        """Tokens of rows that hold nothing."""
        return self.rows * self.width - self.in_rows

    @property
    def fill(self) -> float:
        """Share of the rows' tokens that is no padding."""
        return self.in_rows / max(1, self.rows * self.width)

    def add_documents(self, documents: Index) -> None:
        """Count documents that are about to be packed."""
        lengths = documents["tokens"]
        self.documents += len(documents)
        self.tokens += int(lengths.sum())
        self.text_bytes += int(documents["bytes"].sum())
        self.short += int(np.count_nonzero(lengths <= self.width))
        self.lengths += np.bincount(np.frexp(lengths)[1] - 1, minlength=64)

    def add_rows(self, documents: Index, pieces: Pieces, packing: Packing) -> None:
        """Count rows that were made."""
        self.pieces += len(pieces.rows)
        self.rows += pieces.count
        self.in_rows += int(pieces.lengths.sum())
        self.uncut += pieces.whole(documents["tokens"])
        # concatenated rows ask for each token behind their first; the others for each behind a piece's first
        self.targets += int(pieces.lengths.sum()) - (pieces.count if packing == "concatenate" else len(pieces.rows))

    def row(self) -> PackingRow:
        """What packing.json tells of it."""
        last = int(self.lengths.nonzero()[0].max(initial=0)) + 1
        lengths = Histogram(tuple(2**i for i in range(last + 1)), tuple(self.lengths[:last].tolist()))
        return PackingRow(
            self.split,
            self.group,
            self.documents,
            self.pieces,
            self.rows,
            self.tokens,
            self.padding,
            self.documents - self.uncut,
            self.short - self.uncut,
            lengths,
            self.rows * self.width,
        )


def group_folder(name: str) -> str:
    """The group's folder: its name, or where that makes no good folder one like it and a digest of the name."""
    safe = re.sub(r"[^\w.-]", "_", name).strip(".")[:80]
    return name if safe == name else f"{safe or 'group'}-{stable_id(name)[:8]}"


def pack_windows(kind: RowKind, documents: Iterator[Index], packed: Packed) -> Iterator[tuple[Index, Pieces]]:
    """Windows of documents and how they make rows, in order. What concatenation leaves over goes into the next window."""
    config, number, skipped = kind.config, 0, 0
    left: Index | None = None
    for window in cut_windows(documents, kind.width):
        packed.add_documents(window)
        if config.packing == "best_fit":
            pieces = pack_best_fit(window["tokens"], kind.width, config.seed, number)
        elif config.packing == "documents":
            pieces = pack_alone(window["tokens"], kind.width)
        else:
            window = window if left is None else np.concatenate([left, window])
            lengths = window["tokens"].copy()
            lengths[0] -= skipped
            pieces = pack_concatenated(lengths, kind.width, skipped)
            first, more = tokens_left(lengths, kind.width)
            skipped = more + (skipped if first == 0 else 0)
            left = window[first:]
        packed.add_rows(window, pieces, config.packing)
        yield window, pieces
        number += 1
    if left is not None:
        packed.tail_bytes = tail_bytes(left, skipped)


def cut_windows(documents: Iterator[Index], width: int) -> Iterator[Index]:
    """The documents, a window at a time."""
    waiting: Index | None = None
    for more in documents:
        waiting = more if waiting is None else np.concatenate([waiting, more])
        while count := window_documents(waiting["tokens"], width):
            yield waiting[:count]
            waiting = waiting[count:]
    if waiting is not None and len(waiting):
        yield waiting


def tail_bytes(left: Index, skipped: int) -> int:
    """Bytes of text that no row asks for: of the first document `skipped` tokens went before, and the next is in a row."""
    of_text = left["tokens"] - 2  # without <|bos|> and <|eos|>
    lost = of_text.copy()
    lost[0] -= min(skipped, int(of_text[0]))
    return round(float(np.sum(left["bytes"] * (lost / of_text))))


def segments_beside(documents: Index, pieces: Pieces) -> pa.Table:
    """The columns beside the rows: for each its segments."""
    begins = pa.array(pieces.begins, pa.int32())
    values = [
        pa.array(pieces.starts + pieces.lengths, pa.int32()),
        pa.array(documents["number"][pieces.documents], pa.int64()),
        pa.array(pieces.offsets, pa.int64()),
    ]
    return pa.table([pa.ListArray.from_arrays(begins, column) for column in values], schema=pa.schema(SEGMENT_FIELDS))


class ShardWriter:
    """Files `<folder>/shard-00000.parquet`, … of `rows_per_shard` rows each, the last of what is left."""

    def __init__(self, kind: RowKind, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.paths: list[Path] = []
        self._open = ExitStack()
        self._current: TokenShardWriter | None = None
        self._room = 0  # rows that go into the current file

    def write(self, rows: NDArray[np.unsignedinteger], beside: pa.Table) -> None:
        """Add rows."""
        start = 0
        while start < len(rows):
            if self._current is None or not self._room:
                self._current = self._next(rows.dtype.itemsize)
            stop = min(len(rows), start + self._room)
            self._current.write(rows[start:stop], beside.slice(start, stop - start))
            self._room -= stop - start
            start = stop

    def _next(self, item_bytes: int) -> TokenShardWriter:
        self._open.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.paths.append(self.folder / f"shard-{len(self.paths):05d}.parquet")
        self._room = self.kind.config.rows_per_shard
        writer = TokenShardWriter(self.paths[-1], self.kind.width, item_bytes, SEGMENT_FIELDS, self.kind.metadata(), self.kind.config.codec)
        return self._open.enter_context(writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)


def training_groups(config: ShardsConfig, corpus: EncodedCorpus, tables: int) -> Mapping[str, Chosen | None]:
    """The groups of training rows, each with its documents. Tables from number `tables` on are replayed: general text, all of it.

    UserError where one of the two groups of a continued pretraining has no document.
    """
    count = len(corpus.parts)
    if not config.general and count == tables:
        if config.group_by == "none":
            return {ALL: None}
        names = corpus.names(config.group_by)
        return {group_folder(name): Chosen(config.group_by, (frozenset({name}),) * count) for name in sorted(frozenset().union(*names))}
    general = frozenset(config.general)
    found = corpus.names("source")
    taught = [names & general for names in found[:tables]]
    sides = {
        OWN: [names - general for names in found[:tables]] + [frozenset[str]()] * (count - tables),
        GENERAL: [*taught, *found[tables:]],
    }
    for side, names in sides.items():
        if not any(names):
            what = "own text: all that the corpus kept is general" if side == OWN else "general text to replay"
            raise UserError(
                f"shards: found no {what} (replay.sources: {', '.join(config.general) or 'none'}). "
                "Fix: name other sources, add text, or set replay.share to 0."
            )
    return {side: Chosen("source", tuple(names)) for side, names in sides.items()}


def pack_group(
    kind: RowKind, corpus: EncodedCorpus, split: str, name: str, chosen: Chosen | None, out: Path
) -> tuple[Packed, list[Receipt]]:
    """Write one group of a split, as the folder `name`."""
    packed = Packed(split, name, kind.width)
    at_a_time = max(1, FILLED_TOKENS // kind.width)
    with ShardWriter(kind, out / split / name) as writer:
        for documents, window in pack_windows(kind, corpus.ordered(chosen), packed):
            for start in range(0, window.count, at_a_time):
                pieces = window.of_rows(start, min(start + at_a_time, window.count))
                writer.write(corpus.rows(documents, pieces, kind.width, kind.pad), segments_beside(documents, pieces))
    receipts = [check_table("TokenRows", path) for path in writer.paths]
    return packed, [Receipt(r.contract, f"{split}/{name}/{r.file}", r.rows, r.checks) for r in receipts]


def write_documents(parts: Sequence[Part], path: Path) -> Receipt:
    """The documents of a split in the order of their numbers."""
    with TableWriter(path, TOKEN_DOCUMENTS) as writer:
        for part in parts:
            with pq.ParquetFile(part.folder / "documents-000.parquet") as file:
                for batch in file.iter_batches():
                    writer.write(batch)
    return check_table("TokenDocuments", path)


def check_rows(packed: Sequence[Packed], split: str, config: ShardsConfig) -> None:
    """UserError for a split that fills no row."""
    if any(group.rows for group in packed):
        return
    tokens = sum(group.tokens for group in packed)
    more = "add text" if split == "corpus" else "keep more documents for validation"
    if config.packing == "concatenate":
        raise UserError(
            f"shards: {split} gives {tokens} tokens, fewer than one row of {config.context + 1}. Fix: lower shards.context or {more}."
        )
    raise UserError(f"shards: {split} gives no document with a token of text, expected at least one. Fix: {more}.")


def write_shards(
    config: ShardsConfig, corpus: Corpus, tokenizer: Tokenizer, out: Path, files: FileTasks, replayed: ReplayText | None = None
) -> StageOutcome:
    """Writes token rows in `train/<group>/` and `validation/all/`, `documents-<split>.parquet` and `packing.json`.

    `replayed`: general text beside the corpus; its documents are numbered behind those of the corpus.
    """
    encoder = load_tokenizer(tokenizer.path)
    special = text_ids(encoder, f"tokenizer {tokenizer.fingerprint}")
    kind = RowKind(config, vocabulary_size(encoder), tokenizer.fingerprint, special.bos, special.eos, special.pad, corpus.fingerprint)
    splits = {"train": tables_of(corpus, "train-*.parquet"), "validation": tables_of(corpus, "validation.parquet")}
    own_tables = len(splits["train"])
    splits["train"] += [] if replayed is None else tables_of(replayed, "train-*.parquet")
    works = [EncodeWork(table, tokenizer.folder, tokenizer.fingerprint, config.seed) for tables in splits.values() for table in tables]
    encoded = files.run("encode", REVISION, encode_table, works)
    files.close()  # no later stage has work for the pool, and training wants its memory
    made: list[Packed] = []
    receipts: list[Receipt] = []
    for split, parts in (("train", encoded[: len(splits["train"])]), ("validation", encoded[len(splits["train"]) :])):
        source = EncodedCorpus(parts, item_type(kind.vocab_size))
        receipts.append(write_documents(parts, out / f"documents-{split}.parquet"))
        groups = training_groups(config, source, own_tables) if split == "train" else {ALL: None}
        here: list[Packed] = []
        for name, chosen in groups.items():
            packed, written = pack_group(kind, source, split, name, chosen, out)
            here.append(packed)
            receipts += written
        check_rows(here, "corpus" if split == "train" else "validation set", config)
        made += here
    write_packing([packed.row() for packed in made], out)
    return StageOutcome(_ledger(combined(encoded).ledger, made), tuple(receipts), _figures(config, made))


def _ledger(encoded: Ledger, made: Sequence[Packed]) -> Ledger:
    tails: dict[str, int] = {}
    for packed in made:
        if packed.tail_bytes:
            reason = f"incomplete_{packed.split}_row"
            tails[reason] = tails.get(reason, 0) + packed.tail_bytes
    return Ledger(
        rows_out=sum(packed.rows for packed in made),
        bytes_in=encoded.bytes_in,
        bytes_out=encoded.bytes_out - sum(tails.values()),
        tokens_out=sum(packed.targets for packed in made),
        dropped=encoded.dropped,
        dropped_bytes={**encoded.dropped_bytes, **tails},
    )


def _figures(config: ShardsConfig, made: Sequence[Packed]) -> dict[str, float]:
    figures: dict[str, float] = {"context": config.context}
    sums: dict[str, Callable[[Packed], int]] = {
        "documents": lambda packed: packed.documents,
        "rows": lambda packed: packed.rows,
        "tokens": lambda packed: packed.targets,
        "bytes": lambda packed: packed.text_bytes - packed.tail_bytes,
        "padding_tokens": lambda packed: packed.padding,
        "cut_documents": lambda packed: packed.documents - packed.uncut,
    }
    for split in ("train", "validation"):
        here = [packed for packed in made if packed.split == split]
        figures |= {f"{split}_{name}": float(sum(map(count, here))) for name, count in sums.items()}
        cells = sum(packed.rows for packed in here) * (config.context + 1)
        figures[f"{split}_fill"] = 1 - figures[f"{split}_padding_tokens"] / cells
    return figures

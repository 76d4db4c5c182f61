"""Deduplicate: exact copies by hash, near copies by MinHash; of each cluster the first document stays.

Each document table is signed once, in a task of its own; what was signed for an earlier corpus is not signed again.
The decision itself reads signatures alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from tasks.artifacts import AnnotatedCorpus, Selection, read_manifest
from tasks.contracts import check_table
from tasks.corpus import tables_of
from tasks.documents import VERDICTS, text_buffers
from tasks.errors import UserError
from tasks.filetasks import FileTasks, Part, TableFile
from tasks.ledger import Ledger, Receipt, StageOutcome
from tasks.settings import Json, Placement, Section

CLUSTERS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("root_id", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
    ]
)
BLOCKS = pa.schema([("row", pa.int64()), ("start", pa.int64()), ("end", pa.int64()), ("hash", pa.uint64())])
BATCH_ROWS = 2_000


class DeduplicateConfig(Section):
    """What counts as a copy, and what becomes of it."""

    stage: ClassVar[str] = "deduplicate"
    revision: Literal[2] = 2
    shingle_units: int = Field(default=5, ge=1, le=50, description="words, or Han characters, in a shingle")
    bands: int = Field(default=16, ge=1, le=256, description="more bands find less similar pairs")
    rows: int = Field(default=8, ge=1, le=64, description="values in a band; more rows propose fewer pairs")
    threshold: float | None = Field(
        default=0.7, ge=0, le=1, description="similarity of a near copy, inclusive; null: exact copies only"
    )
    min_units: int = Field(
        default=20,
        ge=0,
        description="shorter documents are compared exactly only: they have too few shingles to judge by",
    )
    keep: Literal["first", "all"] = Field(
        default="first", description="all: copies stay, marked with their cluster, and are never parted by the split"
    )
    blocks: Literal["lines", "paragraphs"] | None = Field(
        default=None, description="cut those that stood in an earlier document out of the later ones; null: whole documents only"
    )
    min_block_chars: int = Field(default=50, ge=1, description="of a line or paragraph; shorter ones repeat by nature")
    against: Annotated[list[str], Placement()] = Field(
        default=[],
        description="artifact folders of earlier deduplications (WORKSPACE/deduplicate/…): copies of theirs go",
    )
    seed: int = Field(default=1, ge=0, description="of the hash functions")

    @property
    def slots(self) -> int:
        """Values in a signature."""
        return 0 if self.threshold is None else self.bands * self.rows


def earlier_digests(config: DeduplicateConfig) -> dict[str, str]:
    """Fingerprints of the earlier corpora."""
    return {f"against.{number}": Path(folder).name for number, folder in enumerate(config.against)}


@dataclass(frozen=True)
class SignWork:
    """One document table, and how it is signed."""

    table: TableFile
    shingle_units: int
    bands: int
    rows: int
    seed: int

    @property
    def label(self) -> str:
        return self.table.path

    @property
    def size(self) -> int:
        return self.table.size

    def identity(self) -> dict[str, Json]:
        return {
            "documents": self.table.digest, "shingle_units": self.shingle_units, "bands": self.bands, "rows": self.rows,
            "seed": self.seed,
        }  # fmt: skip


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
    from tasks.text.shingles import sign

    slots = work.bands * work.rows
    schema = signature_schema(work.bands, slots)
    rows = 0
    with pq.ParquetFile(work.table.path) as file, pa.OSFile(str(out / "signatures-000.arrow"), "wb") as sink:
        with pa.ipc.new_file(sink, schema) as writer:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=["id", "text", "bytes"]):
                signed = sign(*text_buffers(batch.column("text")), work.shingle_units, slots, work.seed)
                bands = [
                    band_hashes(signed.signatures[:, band * work.rows : (band + 1) * work.rows])
                    for band in range(work.bands)
                ]
                columns = [
                    batch.column("id"), batch.column("bytes"), pa.array(signed.keys[:, 0]), pa.array(signed.keys[:, 1]),
                    pa.array(signed.units), *(pa.array(band) for band in (bands if slots else [])),
                ]  # fmt: skip
                if slots:
                    data = pa.py_buffer(np.ascontiguousarray(signed.signatures).view(np.uint8))
                    columns.append(pa.Array.from_buffers(pa.binary(4 * slots), batch.num_rows, [None, data]))
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
                rows += batch.num_rows
    return StageOutcome(Ledger(rows_in=rows, rows_out=rows))


@dataclass(frozen=True)
class BlockWork:
    """One document table, and which of its blocks are listed."""

    table: TableFile
    by_paragraph: bool
    min_chars: int

    @property
    def label(self) -> str:
        return self.table.path

    @property
    def size(self) -> int:
        return self.table.size

    def identity(self) -> dict[str, Json]:
        return {"documents": self.table.digest, "by_paragraph": self.by_paragraph, "min_chars": self.min_chars}


def list_blocks(work: BlockWork, out: Path) -> StageOutcome:
    """`blocks-000.arrow`: row, start, end (bytes) and hash of each line or paragraph that is long enough."""
    from tasks.text.blocks import find_blocks

    first = 0
    with pq.ParquetFile(work.table.path) as file, pa.OSFile(str(out / "blocks-000.arrow"), "wb") as sink:
        with pa.ipc.new_file(sink, BLOCKS) as writer:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=["text"]):
                rows, starts, ends, hashes = find_blocks(
                    *text_buffers(batch.column("text")), work.by_paragraph, work.min_chars
                )
                columns = [pa.array(rows + first), pa.array(starts), pa.array(ends), pa.array(hashes)]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=BLOCKS))
                first += batch.num_rows
    return StageOutcome(Ledger(rows_in=first, rows_out=first))


def _no_blocks(work: BlockWork, out: Path) -> StageOutcome:
    """A table whose worker died twice keeps its blocks."""
    with pa.OSFile(str(out / "blocks-000.arrow"), "wb") as sink, pa.ipc.new_file(sink, BLOCKS):
        pass
    return StageOutcome(Ledger(rows_in=work.table.rows, rows_out=work.table.rows))


def cut_blocks(
    config: DeduplicateConfig, tables: list[TableFile], kept: list[npt.NDArray[np.bool_]], out: Path, files: FileTasks
) -> dict[str, float]:
    """Writes `cuts-*.parquet`, byte ranges to cut out of each table's documents. Memory: one partition of the hashes."""
    from tasks.text.blocks import repeated
    from tasks.text.clusters import in_partition, partitions

    if config.blocks is None:
        return {}
    works = [BlockWork(table, config.blocks == "paragraphs", config.min_block_chars) for table in tables]
    parts = files.run("blocks", config.revision, list_blocks, works, _no_blocks)
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
        numbers = [
            blocks["row"].to_numpy()[here] + start for blocks, here, start in zip(found, chosen, starts, strict=False)
        ]
        again = repeated(hashes, np.concatenate(numbers))
        for cut, here, part in zip(cuts, chosen, column_slices([len(here) for here in chosen]), strict=True):
            cut[here[again[part]]] = True
    total = 0
    for table, blocks, cut in zip(tables, found, cuts, strict=True):
        gone = blocks.filter(pa.array(cut)).select(["row", "start", "end"])
        total += gone.num_rows
        pq.write_table(gone, out / Path(table.path).name.replace("documents", "cuts"), compression="zstd")
    return {"repeated_blocks": float(total)}


def column_slices(sizes: list[int]) -> Iterator[slice]:
    """Where each of several arrays lies in their concatenation."""
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size


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
                data = np.frombuffer(chunk.buffers()[1], np.uint8)[
                    chunk.offset * width : (chunk.offset + len(chunk)) * width
                ]
                arrays.append(data.view(np.uint32).reshape(len(chunk), width // 4))
        return arrays


def open_table(path: Path) -> pa.Table:
    """A signature table, mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def cluster(config: DeduplicateConfig, found: Signatures) -> "tuple[Found, int]":
    """Clusters of exact copies, then of near ones."""
    from tasks.text.clusters import Clusters, SignatureRows, in_partition, join_equal, join_near, partitions

    total = len(found.kept)
    clusters = Clusters(total)
    taking_part = np.flatnonzero(found.kept)
    keys = np.stack([found.column("key_high"), found.column("key_low")], axis=1)
    join_equal(keys[taking_part], taking_part, clusters)
    del keys
    exact_roots = clusters.roots()
    if config.threshold is not None and total:
        units = found.column("units")
        comparable = (
            found.kept & (units >= max(config.min_units, config.shingle_units)) & (exact_roots == np.arange(total))
        )
        numbers = np.flatnonzero(comparable)
        rows = SignatureRows(found.signature_arrays())
        count = partitions(len(numbers))
        for band in range(config.bands):
            hashes = found.column(f"band_{band}")[numbers]
            for partition in range(count):
                here = in_partition(hashes, partition, count)
                join_near(hashes[here], numbers[here], rows.similarity, config.threshold, clusters)
    roots = clusters.roots()
    return Found(roots, exact_roots != np.arange(total), clusters.similarity), total


@dataclass(frozen=True)
class Found:
    """Per document: number of its cluster's first, whether it is an exact copy, highest similarity to another."""

    roots: npt.NDArray[np.int64]
    is_exact: npt.NDArray[np.bool_]
    similarity: npt.NDArray[np.float32]


def earlier_signatures(config: DeduplicateConfig) -> list[tuple[pa.Table, npt.NDArray[np.bool_]]]:
    """Signature tables of earlier corpora and which of their documents were kept. UserError where they do not fit."""
    found: list[tuple[pa.Table, npt.NDArray[np.bool_]]] = []
    for folder in config.against:
        place = Path(folder)
        manifest = read_manifest(place)
        if manifest is None or manifest.stage != "deduplicate" or not isinstance(manifest.config, dict):
            raise UserError(
                f"deduplicate.against: {folder} is no finished deduplication. Fix: name a folder WORKSPACE/deduplicate/…"
            )
        for name in ("shingle_units", "bands", "rows", "seed"):
            then, now = manifest.config.get(name), getattr(config, name)
            if then != now:
                raise UserError(
                    f"deduplicate.against: {folder} was made with {name} {then}, this recipe has {now}. "
                    "Fix: use the same, for signatures of other kinds cannot be compared."
                )
        for path in sorted(place.glob("signatures-*.arrow")):
            verdicts = place / path.with_suffix(".parquet").name.replace("signatures", "verdicts")
            kept = pq.read_table(verdicts, columns=["kept"])["kept"].to_numpy()
            found.append((open_table(path), kept))
    return found


def remove_duplicates(
    config: DeduplicateConfig, clean: AnnotatedCorpus, selection: Selection, out: Path, files: FileTasks
) -> StageOutcome:
    """Verdicts over the documents that were selected: `verdicts-*.parquet`, one for each document table.

    Beside them `clusters.parquet` (every document that has copies), `signatures-*.arrow`, for later corpora, and with
    `blocks` what is to be cut out of the documents, `cuts-*.parquet`.
    """
    tables = tables_of(clean)
    works = [
        SignWork(table, config.shingle_units, config.bands if config.slots else 0, config.rows, config.seed)
        for table in tables
    ]
    parts = files.run("signatures", config.revision, sign_table, works, _cannot_sign)
    gather_as(parts, tables, out)
    chosen = [read_verdicts(selection, Path(table.path).name) for table in tables]
    masks = [
        verdicts["kept"].to_numpy() if part.lost is None else np.zeros(len(verdicts), np.bool_)
        for verdicts, part in zip(chosen, parts, strict=True)
    ]
    earlier = earlier_signatures(config)
    signatures = Signatures(
        [*(table for table, _ in earlier), *(open_table(part.folder / "signatures-000.arrow") for part in parts)],
        [*(mask for _, mask in earlier), *masks],
    )
    found, _ = cluster(config, signatures)
    before = sum(table.num_rows for table, _ in earlier)
    ledger, receipts = write_verdicts(
        config, chosen, signatures, found, before, [part.lost is not None for part in parts], tables, out
    )
    figures = write_clusters(signatures, found, before, out / "clusters.parquet")
    left = [pq.read_table(out / Path(table.path).name.replace("documents", "verdicts"), columns=["kept"]) for table in tables]
    figures |= cut_blocks(config, tables, [verdicts["kept"].to_numpy() for verdicts in left], out, files)
    receipts.append(check_table("Clusters", out / "clusters.parquet"))
    return StageOutcome(ledger, tuple(receipts), figures)


def gather_as(parts: list[Part], tables: list[TableFile], out: Path) -> None:
    """Signatures under their table's number."""
    from tasks.filetasks import link_or_copy

    for part, table in zip(parts, tables, strict=True):
        name = Path(table.path).with_suffix(".arrow").name.replace("documents", "signatures")
        link_or_copy(part.folder / "signatures-000.arrow", out / name)


def read_verdicts(selection: Selection, documents: str) -> pa.Table:
    """The verdicts on a document table."""
    return pq.read_table(selection.path / documents.replace("documents", "verdicts"))


def _cannot_sign(work: SignWork, out: Path) -> StageOutcome:
    """A table whose worker died twice: empty signatures, so that its documents keep their numbers; they are dropped."""
    slots = work.bands * work.rows
    schema = signature_schema(work.bands, slots)
    columns = pq.read_table(work.table.path, columns=["id", "bytes"])
    blank = [columns["id"].combine_chunks(), columns["bytes"].combine_chunks()]
    for kind in list(schema)[2:]:
        zeros = np.zeros(columns.num_rows, f"V{4 * slots}" if kind.name == "signature" else np.int64)
        blank.append(pa.Array.from_buffers(kind.type, columns.num_rows, [None, pa.py_buffer(zeros)]))
    with pa.OSFile(str(out / "signatures-000.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(blank, schema=schema))
    return StageOutcome(Ledger(rows_in=columns.num_rows, rows_out=columns.num_rows))


def write_verdicts(
    config: DeduplicateConfig, chosen: list[pa.Table], signatures: Signatures, found: Found, before: int,
    lost: list[bool], tables: list[TableFile], out: Path,
) -> tuple[Ledger, list[Receipt]]:  # fmt: skip
    """A verdict table for each document table; what was not selected keeps its earlier verdict. Counts those selected."""
    counts: dict[str, list[int]] = {}
    totals = np.zeros(4, np.int64)  # rows in and out, bytes in and out
    receipts: list[Receipt] = []
    ids = signatures.ids()
    sizes = np.bincount(found.roots[signatures.kept], minlength=len(found.roots))
    start = before
    for verdicts, is_lost, table, signed in zip(
        chosen, lost, tables, signatures.tables[len(signatures.tables) - len(chosen) :], strict=True
    ):
        numbers = np.arange(start, start + verdicts.num_rows)
        start += verdicts.num_rows
        selected = verdicts["kept"].to_numpy()
        roots = found.roots[numbers]
        reasons = np.full(len(numbers), None, dtype=object)
        reasons[roots != numbers] = "near_copy"
        reasons[found.is_exact[numbers]] = "exact_copy"
        reasons[roots < before] = "earlier_copy"
        if config.keep == "all":
            reasons[roots >= before] = None
        reasons[:] = "worker_died" if is_lost else reasons
        reasons[~selected] = None
        gone = ~np.equal(reasons, None)
        values = np.where(found.is_exact[numbers], 1.0, found.similarity[numbers])
        clustered = selected & (sizes[roots] > 1)
        cluster_ids = np.full(len(numbers), None, dtype=object)
        cluster_ids[clustered] = ids.take(pa.array(roots[clustered])).to_pylist()
        merged = pa.table(
            [
                verdicts["id"], pa.array(selected & ~gone), pa.array(cluster_ids, pa.string()),
                pa.array(np.where(gone, "deduplicate", _objects(verdicts["stage"])), pa.string()),
                pa.array(np.where(gone, reasons, _objects(verdicts["reason"])), pa.string()),
                pa.array(np.where(gone, values, verdicts["value"].to_numpy()), pa.float64(), from_pandas=True),
            ],
            schema=VERDICTS,
        )  # fmt: skip
        path = out / Path(table.path).name.replace("documents", "verdicts")
        pq.write_table(merged, path, compression="zstd")
        receipts.append(check_table("Verdicts", path))
        weights = signed["bytes"].to_numpy()
        totals += [selected.sum(), (selected & ~gone).sum(), weights[selected].sum(), weights[selected & ~gone].sum()]
        for reason in {reason for reason in reasons if reason is not None}:
            mask = np.equal(reasons, reason)
            count = counts.setdefault(reason, [0, 0])
            count[0] += int(mask.sum())
            count[1] += int(weights[mask].sum())
    dropped = dict(sorted(counts.items()))
    ledger = Ledger(
        rows_in=int(totals[0]), rows_out=int(totals[1]), bytes_in=int(totals[2]), bytes_out=int(totals[3]),
        dropped={reason: rows for reason, (rows, _) in dropped.items()},
        dropped_bytes={reason: size for reason, (_, size) in dropped.items()},
    )  # fmt: skip
    return ledger, receipts


def _objects(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    return np.array(column.to_pylist(), dtype=object)


def write_clusters(signatures: Signatures, found: Found, before: int, path: Path) -> dict[str, float]:
    """A row for each document that has copies: its id, the id of the first (of an earlier corpus, perhaps), how many there
    are, and how like another it is at most."""
    sizes = np.bincount(found.roots[signatures.kept], minlength=len(found.roots))
    members = np.flatnonzero(signatures.kept & (sizes[found.roots] > 1))
    members = members[members >= before]  # an earlier corpus has its own table of them, and ids of its own
    ids = signatures.ids()
    with pq.ParquetWriter(path, CLUSTERS, compression="zstd") as writer:
        for part in _slices(len(members)):
            here = members[part]
            writer.write_table(
                pa.table(
                    [
                        ids.take(pa.array(here)).combine_chunks(),
                        ids.take(pa.array(found.roots[here])).combine_chunks(),
                        pa.array(sizes[found.roots[here]]),
                        pa.array(np.where(found.is_exact[here], 1.0, found.similarity[here]).astype(np.float32)),
                    ],
                    schema=CLUSTERS,
                )
            )
    return {"clusters": float((sizes > 1).sum()), "largest_cluster": float(sizes.max(initial=0))}


def _slices(count: int, size: int = 1 << 20) -> Iterator[slice]:
    for start in range(0, max(1, count), size):
        yield slice(start, start + size)

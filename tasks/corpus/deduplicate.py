"""Deduplicate: exact copies by hash, near copies by MinHash; of each cluster the first document stays.

The decision reads signatures (tasks/corpus/signatures.py) and earlier verdicts, and no text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from tasks.artifacts import AnnotatedCorpus, Selection, read_manifest
from tasks.contracts import check_table
from tasks.corpus.repeated_blocks import cut_blocks
from tasks.corpus.signatures import REVISION, Signatures, SignWork, open_table, sign_table
from tasks.documents import VERDICTS
from tasks.errors import UserError
from tasks.executor.filetasks import FileTasks
from tasks.executor.parts import Part, link_or_copy
from tasks.executor.tables import TableFile, tables_of
from tasks.ledger import Ledger, Receipt, StageOutcome
from tasks.settings import Placement, Section

CLUSTERS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("root_id", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
    ]
)


class DeduplicateConfig(Section):
    """What counts as a copy, and what becomes of it."""

    stage: ClassVar[str] = "deduplicate"
    revision: Literal[3] = 3
    shingle_units: int = Field(default=5, ge=1, le=50, description="words, or characters where a script has no spaces, in a shingle")
    digits: Literal["auto", "fold", "keep"] = Field(
        default="auto",
        description="fold: every digit is alike, so that texts which differ in figures alone are near copies; keep: none is; "
        "auto: figures count in a text of whose units a tenth hold some",
    )
    bands: int = Field(default=20, ge=1, le=256, description="more bands find less similar pairs")
    rows: int = Field(default=6, ge=1, le=64, description="values in a band; more rows propose fewer pairs")
    threshold: float | None = Field(default=0.6, ge=0, le=1, description="similarity of a near copy, inclusive; null: exact copies only")
    min_units: int = Field(
        default=20, ge=0, description="shorter documents are compared exactly only: they have too few shingles to judge by"
    )
    keep: Literal["first", "all"] = Field(
        default="first", description="all: copies stay, marked with their cluster, and are never parted by the split"
    )
    blocks: Literal["lines", "paragraphs"] | None = Field(
        default=None, description="cut those that stood in an earlier document out of the later ones; null: whole documents only"
    )
    min_block_chars: int = Field(default=50, ge=1, description="of a line or paragraph; shorter ones repeat by nature")
    against: Annotated[list[str], Placement()] = Field(
        default=[], description="artifact folders of earlier deduplications (WORKSPACE/deduplicate/…): copies of theirs go"
    )
    seed: int = Field(default=1, ge=0, description="of the hash functions")

    @property
    def slots(self) -> int:
        """Values in a signature."""
        return 0 if self.threshold is None else self.bands * self.rows


def earlier_digests(config: DeduplicateConfig) -> dict[str, str]:
    """Fingerprints of the earlier corpora."""
    return {f"against.{number}": Path(folder).name for number, folder in enumerate(config.against)}


def cluster(config: DeduplicateConfig, found: Signatures) -> "tuple[Found, int]":
    """Clusters of exact copies, then of near ones."""
    from tasks.kernels.clusters import Clusters, SignatureRows, in_partition, join_equal, join_near, partitions

    total = len(found.kept)
    clusters = Clusters(total)
    taking_part = np.flatnonzero(found.kept)
    keys = np.stack([found.column("key_high"), found.column("key_low")], axis=1)
    join_equal(keys[taking_part], taking_part, clusters)
    del keys
    exact_roots = clusters.roots()
    if config.threshold is not None and total:
        units = found.column("units")
        comparable = found.kept & (units >= max(config.min_units, config.shingle_units)) & (exact_roots == np.arange(total))
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
        earlier = Path(folder)
        manifest = read_manifest(earlier)
        if manifest is None or manifest.stage != "deduplicate" or not isinstance(manifest.config, dict):
            raise UserError(f"deduplicate.against: {folder} is no finished deduplication. Fix: name a folder WORKSPACE/deduplicate/…")
        if manifest.config.get("revision") != config.revision:
            raise UserError(
                f"deduplicate.against: {folder} was made by an earlier version, whose signatures cannot be compared with today's. "
                "Fix: run its recipe again and name the new folder."
            )
        for name in ("shingle_units", "bands", "rows", "seed", "digits"):
            then, now = manifest.config.get(name), getattr(config, name)
            if then != now:
                raise UserError(
                    f"deduplicate.against: {folder} was made with {name} {then}, this recipe has {now}. "
                    "Fix: use the same, for signatures of other kinds cannot be compared."
                )
        for path in sorted(earlier.glob("signatures-*.arrow")):
            verdicts = earlier / path.with_suffix(".parquet").name.replace("signatures", "verdicts")
            kept = pq.read_table(verdicts, columns=["kept"])["kept"].to_numpy()
            found.append((open_table(path), kept))
    return found


def remove_duplicates(config: DeduplicateConfig, clean: AnnotatedCorpus, selection: Selection, out: Path, files: FileTasks) -> StageOutcome:
    """Verdicts over the documents that were selected: `verdicts-*.parquet`, one for each document table.

    Beside them `clusters.parquet` (every document that has copies), `signatures-*.arrow`, for later corpora, and with
    `blocks` what is to be cut out of the documents, `cuts-*.parquet`.
    """
    tables = tables_of(clean)
    bands = config.bands if config.slots else 0
    works = [SignWork(table, config.shingle_units, bands, config.rows, config.seed, config.digits) for table in tables]
    parts = files.run("signatures", REVISION, sign_table, works)
    gather_as(parts, tables, out)
    chosen = [read_verdicts(selection, Path(table.path).name) for table in tables]
    masks = [verdicts["kept"].to_numpy() for verdicts in chosen]
    earlier = earlier_signatures(config)
    signatures = Signatures(
        [*(table for table, _ in earlier), *(open_table(part.folder / "signatures-000.arrow") for part in parts)],
        [*(mask for _, mask in earlier), *masks],
    )
    found, _ = cluster(config, signatures)
    before = sum(table.num_rows for table, _ in earlier)
    ledger, receipts = write_verdicts(config, chosen, signatures, found, before, tables, out)
    figures = write_clusters(signatures, found, before, out / "clusters.parquet")
    left = [pq.read_table(out / Path(table.path).name.replace("documents", "verdicts"), columns=["kept"]) for table in tables]
    if config.blocks is not None:
        by_paragraph, masks_left = config.blocks == "paragraphs", [verdicts["kept"].to_numpy() for verdicts in left]
        figures["repeated_blocks"] = cut_blocks(by_paragraph, config.min_block_chars, tables, masks_left, out, files)
    receipts.append(check_table("Clusters", out / "clusters.parquet"))
    return StageOutcome(ledger, tuple(receipts), figures)


def gather_as(parts: list[Part], tables: list[TableFile], out: Path) -> None:
    """Signatures under their table's number."""
    for part, table in zip(parts, tables, strict=True):
        name = Path(table.path).with_suffix(".arrow").name.replace("documents", "signatures")
        link_or_copy(part.folder / "signatures-000.arrow", out / name)


def read_verdicts(selection: Selection, documents: str) -> pa.Table:
    """The verdicts on a document table."""
    return pq.read_table(selection.path / documents.replace("documents", "verdicts"))


def write_verdicts(
    config: DeduplicateConfig, chosen: list[pa.Table], signatures: Signatures, found: Found, before: int, tables: list[TableFile], out: Path
) -> tuple[Ledger, list[Receipt]]:
    """A verdict table for each document table; what was not selected keeps its earlier verdict. Counts those selected."""
    counts: dict[str, list[int]] = {}
    totals = np.zeros(4, np.int64)  # rows in and out, bytes in and out
    receipts: list[Receipt] = []
    ids = signatures.ids()
    sizes = np.bincount(found.roots[signatures.kept], minlength=len(found.roots))
    start = before
    for verdicts, table, signed in zip(chosen, tables, signatures.tables[len(signatures.tables) - len(chosen) :], strict=True):
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
        reasons[~selected] = None
        gone = ~np.equal(reasons, None)
        values = np.where(found.is_exact[numbers], 1.0, found.similarity[numbers])
        clustered = selected & (sizes[roots] > 1)
        cluster_ids = np.full(len(numbers), None, dtype=object)
        cluster_ids[clustered] = ids.take(pa.array(roots[clustered])).to_pylist()
        merged = pa.table(
            [
                verdicts["id"],
                pa.array(selected & ~gone),
                pa.array(cluster_ids, pa.string()),
                pa.array(np.where(gone, "deduplicate", _objects(verdicts["stage"])), pa.string()),
                pa.array(np.where(gone, reasons, _objects(verdicts["reason"])), pa.string()),
                pa.array(np.where(gone, values, verdicts["value"].to_numpy()), pa.float64(), from_pandas=True),
            ],
            schema=VERDICTS,
        )
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
        rows_in=int(totals[0]),
        rows_out=int(totals[1]),
        bytes_in=int(totals[2]),
        bytes_out=int(totals[3]),
        dropped={reason: rows for reason, (rows, _) in dropped.items()},
        dropped_bytes={reason: size for reason, (_, size) in dropped.items()},
    )
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

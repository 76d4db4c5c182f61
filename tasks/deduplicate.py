"""Deduplicate: exact copies by hash, near copies by MinHash; of each cluster the first document stays.

Sources: Broder, "On the resemblance and containment of documents" (1997), for MinHash; Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3, for bands. Two documents that share a fraction s of their shingles meet in a
band with probability 1 - (1 - s**rows)**bands: 61 % at 0.7, 95 % at 0.8, 99.99 % at 0.9.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from tqdm import tqdm

from tasks.artifacts import CleanCorpus
from tasks.corpus import DropWriter, RollingWriter, outcome_of, split_batch
from tasks.documents import read_batches
from tasks.ledger import StageOutcome
from tasks.ngrams import Hashes, ngram_hashes, split_units
from tasks.settings import Section

CLUSTERS = pa.schema([("id", pa.string()), ("root_id", pa.string()), ("size", pa.int64())])
CHUNK = 512  # shingles hashed at once: the table of CHUNK x values fits in the cache

Signature = npt.NDArray[np.uint32]


class DeduplicateConfig(Section):
    """What counts as a copy."""

    stage: ClassVar[str] = "deduplicate"
    revision: Literal[1] = 1
    shingle_units: int = Field(default=5, ge=1, le=50, description="words, or Han characters, in a shingle")
    bands: int = Field(default=16, ge=1, le=256, description="more bands find less similar pairs")
    rows: int = Field(default=8, ge=1, le=64, description="values in a band; more rows propose fewer pairs")
    threshold: float | None = Field(
        default=0.7, ge=0, le=1, description="similarity of a near copy, inclusive; null: exact copies only"
    )
    seed: int = Field(default=1, ge=0, description="of the hash functions")


@dataclass
class Clusters:
    """Union-find over document numbers; the root of a cluster is its smallest number."""

    parents: list[int] = field(default_factory=list[int])

    def add(self) -> int:
        """A new document, alone."""
        self.parents.append(len(self.parents))
        return len(self.parents) - 1

    def root(self, number: int) -> int:
        """The first document of the cluster."""
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def join(self, one: int, other: int) -> None:
        """Make one cluster of two."""
        low, high = sorted((self.root(one), self.root(other)))
        self.parents[high] = low


def exact_key(text: str) -> bytes:
    """Equal for texts that differ in case and white space alone."""
    return hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).digest()


def hash_functions(config: DeduplicateConfig) -> Hashes:
    """Odd multipliers and offsets, [2, bands * rows]: h -> multiplier * h + offset modulo 2**64."""
    drawn = np.random.Generator(np.random.PCG64(config.seed)).integers(
        0, 2**64, size=(2, config.bands * config.rows), dtype=np.uint64
    )
    drawn[0] |= np.uint64(1)
    return drawn


def signature(text: str, shingle_units: int, functions: Hashes) -> Signature | None:
    """The smallest value of each hash function over the text's shingles; None for a text shorter than a shingle."""
    shingles = np.unique(ngram_hashes(split_units(text).hashes, shingle_units))
    if not len(shingles):
        return None
    smallest = np.full(functions.shape[1], 2**64 - 1, dtype=np.uint64)
    for start in range(0, len(shingles), CHUNK):
        values = functions[0][:, None] * shingles[None, start : start + CHUNK] + functions[1][:, None]
        np.minimum(smallest, values.min(axis=1), out=smallest)
    return (smallest >> np.uint64(32)).astype(np.uint32)


def similarity(one: Signature, other: Signature) -> float:
    """Estimate of the share of shingles that two texts have in common."""
    return float(np.mean(one == other))


def join_near_copies(
    numbers: npt.NDArray[np.int64], signatures: Signature, config: DeduplicateConfig, clusters: Clusters
) -> dict[int, float]:
    """Joins pairs that meet in a band and are similar enough; gives each document's highest similarity to another.

    `signatures` is [documents, bands * rows]; row i belongs to document `numbers[i]`, and the numbers ascend.
    """
    closest: dict[int, float] = {}
    for band in range(config.bands):
        for members in _buckets(signatures[:, band * config.rows : (band + 1) * config.rows]):
            for place, row in enumerate(members[:-1]):
                root = clusters.root(int(numbers[row]))
                rest = np.array(
                    [other for other in members[place + 1 :] if clusters.root(int(numbers[other])) != root], np.int64
                )
                shares = np.mean(signatures[rest] == signatures[row], axis=1)
                for other, share in zip(
                    rest[shares >= config.threshold], shares[shares >= config.threshold], strict=True
                ):
                    clusters.join(int(numbers[row]), int(numbers[other]))
                    for number in (int(numbers[row]), int(numbers[other])):
                        closest[number] = max(closest.get(number, 0.0), float(share))
    return closest


def _buckets(values: Signature) -> Iterator[list[int]]:
    """Rows that agree in all values of a band, two and more at a time, ascending."""
    keys = np.ascontiguousarray(values).view(np.dtype((np.void, values.shape[1] * values.itemsize))).ravel()
    _, groups, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(counts)
    for group in np.flatnonzero(counts > 1):
        yield order[ends[group] - counts[group] : ends[group]].tolist()


@dataclass
class Found:
    """What the first reading gives: cluster of each document, and why it was joined."""

    clusters: Clusters = field(default_factory=Clusters)
    ids: list[str] = field(default_factory=list[str])
    exact: set[int] = field(default_factory=set[int])
    closest: dict[int, float] = field(default_factory=dict[int, float])

    def verdict(self, number: int) -> tuple[str | None, float | None]:
        """Reason and similarity for a document that goes; (None, None) for the first of a cluster."""
        if number in self.exact:
            return "exact_copy", 1.0
        if self.clusters.root(number) == number:
            return None, None
        return "near_copy", self.closest[number]


def find_copies(config: DeduplicateConfig, folder: Path) -> Found:
    """Reads all documents once and clusters them. Memory: 4 bytes x bands x rows a document, and its id."""
    found = Found()
    first: dict[bytes, int] = {}
    functions = hash_functions(config)
    rows: list[Signature] = []
    numbers: list[int] = []
    for batch in read_batches(folder, "documents-*.parquet"):
        found.ids += batch.column("id").to_pylist()
        for text in tqdm(batch.column("text").to_pylist(), desc="deduplicate", unit="doc", disable=None, leave=False):
            number = found.clusters.add()
            original = first.setdefault(exact_key(text), number)
            if original != number:
                found.clusters.join(original, number)
                found.exact.add(number)
            elif config.threshold is not None and (row := signature(text, config.shingle_units, functions)) is not None:
                rows.append(row)
                numbers.append(number)
    if rows:
        found.closest = join_near_copies(np.array(numbers), np.stack(rows), config, found.clusters)
    return found


def _write_clusters(found: Found, path: Path) -> tuple[int, int]:
    """A row for each document that has copies: its id, the id of the one kept, how many share it. Gives clusters and largest."""
    roots = np.array([found.clusters.root(number) for number in range(len(found.ids))], dtype=np.int64)
    sizes = np.bincount(roots, minlength=len(roots))
    members = np.flatnonzero(sizes[roots] > 1)
    columns = [[found.ids[n] for n in members], [found.ids[roots[n]] for n in members], sizes[roots[members]].tolist()]
    pq.write_table(pa.table(columns, schema=CLUSTERS), path, compression="zstd")
    return int((sizes > 1).sum()), int(sizes.max(initial=0))


def remove_duplicates(config: DeduplicateConfig, clean: CleanCorpus, out: Path) -> StageOutcome:
    """Keeps the first document of each cluster: `documents-*.parquet`, `dropped.parquet`, `clusters.parquet`."""
    found = find_copies(config, clean.path)
    number = 0
    with RollingWriter(out, "documents") as kept, DropWriter(out / "dropped.parquet", "deduplicate") as dropped:
        for batch in read_batches(clean.path, "documents-*.parquet"):
            verdicts = [found.verdict(number + row) for row in range(batch.num_rows)]
            split_batch(batch, [reason for reason, _ in verdicts], [value for _, value in verdicts], kept, dropped)
            number += batch.num_rows
    clusters, largest = _write_clusters(found, out / "clusters.parquet")
    return outcome_of([kept], dropped, figures={"clusters": clusters, "largest_cluster": largest})

"""MinHash clusters: candidates from bands, each pair verified, union to the smallest number.

Two documents that share a fraction s of their shingles meet in a band with probability 1 - (1 - s**rows)**bands. Source:
Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3. Memory: 25 bytes a document, and the band that is
being looked at, cut into partitions of PARTITION_ROWS.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from tasks.kernels.machine_code import numba

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Similarities = npt.NDArray[np.float32]
Similarity = Callable[[Numbers, Numbers], Similarities]  # of each pair

PARTITION_ROWS = 1 << 25  # of a band sorted at once: 16 bytes each
PAIRS = 1 << 16  # verified at once: two signatures each
ALL_PAIRS = 16  # documents of a bucket up to which every two are compared
ROUNDS = 8  # of firsts tried in a larger bucket: documents that meet in a band and yet differ


@numba.njit(cache=True, nogil=True)
def _roots(parents: Numbers, numbers: Numbers, roots: Numbers) -> None:
    for i in range(len(numbers)):
        number = numbers[i]
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        roots[i] = number


@numba.njit(cache=True, nogil=True)
def _join(parents: Numbers, ones: Numbers, others: Numbers) -> None:
    for i in range(len(ones)):
        one, other = ones[i], others[i]
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        while parents[other] != other:
            parents[other] = parents[parents[other]]
            other = parents[other]
        if one < other:
            parents[other] = one
        elif other < one:
            parents[one] = other


class Clusters:
    """Union-find over document numbers; the root of a cluster is its smallest number."""

    def __init__(self, documents: int) -> None:
        self._parents = np.arange(documents, dtype=np.int64)
        self.similarity = np.zeros(documents, np.float32)  # highest one to a document it was joined with

    def roots(self, numbers: Numbers | None = None) -> Numbers:
        """First document of each one's cluster; of all documents when none are named."""
        asked = np.arange(len(self._parents)) if numbers is None else numbers
        found = np.empty(len(asked), np.int64)
        _roots(self._parents, asked, found)
        return found

    def join(self, ones: Numbers, others: Numbers, similarities: Similarities) -> None:
        """Make one cluster of each pair's two."""
        _join(self._parents, ones, others)
        np.maximum.at(self.similarity, ones, similarities)
        np.maximum.at(self.similarity, others, similarities)


def join_equal(hashes: Hashes, numbers: Numbers, clusters: Clusters) -> None:
    """Joins documents whose 128-bit keys `hashes` [documents, 2] agree."""
    order = np.lexsort((numbers, hashes[:, 1], hashes[:, 0]))
    sorted_hashes, sorted_numbers = hashes[order], numbers[order]
    same = np.flatnonzero((sorted_hashes[1:] == sorted_hashes[:-1]).all(axis=1))
    clusters.join(sorted_numbers[same], sorted_numbers[same + 1], np.ones(len(same), np.float32))


def partitions(documents: int) -> int:
    """Into how many parts a band is cut: a power of two."""
    count = 1
    while documents > count * PARTITION_ROWS:
        count *= 2
    return count


def in_partition(hashes: Hashes, partition: int, count: int) -> npt.NDArray[np.bool_]:
    """Which hashes belong to a partition: by their top bits."""
    if count == 1:
        return np.ones(len(hashes), np.bool_)
    return (hashes >> np.uint64(65 - count.bit_length())) == np.uint64(partition)


def join_near(hashes: Hashes, numbers: Numbers, similarity: Similarity, threshold: float, clusters: Clusters) -> None:
    """Joins documents that meet in a band (equal `hashes`) and are as similar as `threshold`.

    All of a bucket are compared with its first that are not yet in one cluster with it. In one of at most ALL_PAIRS
    documents, the others are then compared with the second, and so on. In a larger one only those unlike the first go on,
    to be compared with the first of themselves: the work stays linear, and of a chain of copies the end may be left out.
    """
    order = np.lexsort((numbers, hashes))
    hashes, numbers = hashes[order], numbers[order]
    sizes = _bucket_sizes(hashes)
    large = sizes > ALL_PAIRS
    for here, is_large in ((~large & (sizes > 1), False), (large, True)):
        left, left_numbers = hashes[here], numbers[here]
        for _ in range(ROUNDS if is_large else ALL_PAIRS - 1):
            firsts, others = _firsts_and_others(left)
            unlike = _join_alike(left_numbers[firsts], left_numbers[others], similarity, threshold, clusters)
            staying = others[unlike] if is_large else others
            left, left_numbers = left[staying], left_numbers[staying]


def _bucket_sizes(hashes: Hashes) -> Numbers:
    """How many equal ones there are of each; `hashes` ascend."""
    edges = np.flatnonzero(hashes[1:] != hashes[:-1]) + 1
    counts = np.diff(np.concatenate(([0], edges, [len(hashes)])))
    return np.repeat(counts, counts)


def _firsts_and_others(hashes: Hashes) -> tuple[Numbers, Numbers]:
    """Where each bucket's documents but the first stand, and for each where its first does; `hashes` ascend."""
    is_first = np.ones(len(hashes), np.bool_)
    is_first[1:] = hashes[1:] != hashes[:-1]
    others = np.flatnonzero(~is_first)
    return np.flatnonzero(is_first)[np.cumsum(is_first)[others] - 1], others


def _join_alike(ones: Numbers, others: Numbers, similarity: Similarity, threshold: float, clusters: Clusters) -> npt.NDArray[np.bool_]:
    """Joins the pairs that are as similar as `threshold`; which ones were compared and are not."""
    unlike = np.zeros(len(ones), np.bool_)
    for start in range(0, len(ones), PAIRS):
        part = slice(start, start + PAIRS)
        apart = start + np.flatnonzero(clusters.roots(ones[part]) != clusters.roots(others[part]))
        shares = similarity(ones[apart], others[apart])
        alike = shares >= threshold
        clusters.join(ones[apart[alike]], others[apart[alike]], shares[alike])
        unlike[apart[~alike]] = True
    return unlike


@numba.njit(cache=True, nogil=True)
def _agreement(ones: npt.NDArray[np.uint32], others: npt.NDArray[np.uint32], shares: Similarities) -> None:
    for row in range(len(ones)):
        equal = 0
        for slot in range(ones.shape[1]):
            equal += ones[row, slot] == others[row, slot]
        shares[row] = equal / ones.shape[1]


class SignatureRows:
    """Signatures of many mapped tables, read by document number."""

    def __init__(self, tables: list[npt.NDArray[np.uint32]]) -> None:
        self._tables = tables
        self._starts = np.cumsum([0, *(len(table) for table in tables)])

    def rows(self, numbers: Numbers) -> npt.NDArray[np.uint32]:
        """Signatures [numbers, slots]."""
        tables = np.searchsorted(self._starts, numbers, side="right") - 1
        found = np.empty((len(numbers), self._tables[0].shape[1]), np.uint32)
        for table in np.unique(tables):
            here = tables == table
            found[here] = self._tables[table][numbers[here] - self._starts[table]]
        return found

    def similarity(self, ones: Numbers, others: Numbers) -> Similarities:
        """Estimate of the share of shingles that two documents have in common: equal slots of all slots."""
        shares = np.empty(len(ones), np.float32)
        _agreement(self.rows(ones), self.rows(others), shares)
        return shares


def column_parts(sizes: list[int]) -> Iterator[slice]:
    """Where each table's documents lie among all of them."""
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size

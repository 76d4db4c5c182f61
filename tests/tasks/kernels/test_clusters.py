"""Clustering of signatures: near copies meet, unlike documents do not, whatever the order of the work."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tasks.kernels import clusters as module
from tasks.kernels.clusters import Clusters, SignatureRows, column_parts, in_partition, join_equal, join_near, partitions

SLOTS, ROWS = 64, 4
Signatures = npt.NDArray[np.uint32]


def family(centre: Signatures, changes: list[int], seed: int) -> Signatures:
    """Copies of a signature with that many slots changed in each."""
    generator = np.random.Generator(np.random.PCG64(seed))
    copies = np.repeat(centre[None], len(changes), axis=0)
    for copy, count in zip(copies, changes, strict=True):
        copy[generator.choice(SLOTS, count, replace=False)] = generator.integers(0, 2**32, count, dtype=np.uint32)
    return copies


def random_signatures(count: int, seed: int) -> Signatures:
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 2**32, (count, SLOTS), dtype=np.uint32)


def bands_of(signatures: Signatures) -> list[npt.NDArray[np.uint64]]:
    weights = np.array([3, 5, 7, 11], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return [
        (signatures[:, start : start + ROWS].astype(np.uint64) * weights).sum(axis=1, dtype=np.uint64) for start in range(0, SLOTS, ROWS)
    ]


def clustered(signatures: Signatures, threshold: float = 0.7, order: list[int] | None = None) -> Clusters:
    found, rows = Clusters(len(signatures)), SignatureRows([signatures])
    bands, numbers = bands_of(signatures), np.arange(len(signatures))
    for band in order or range(len(bands)):
        parts = partitions(len(signatures))
        for part in range(parts):
            here = in_partition(bands[band], part, parts)
            join_near(bands[band][here], numbers[here], rows.similarity, threshold, found)
    return found


def test_equal_keys_are_one_cluster_whose_root_is_the_smallest_number():
    keys = np.array([[1, 1], [2, 2], [1, 2], [2, 2], [1, 1], [2, 2]], np.uint64)
    found = Clusters(6)
    join_equal(keys, np.arange(6), found)
    assert found.roots().tolist() == [0, 1, 2, 1, 0, 1]
    assert found.similarity.tolist() == [1, 1, 0, 1, 1, 1]


def test_near_copies_are_found_and_others_left_alone():
    base = random_signatures(3, 1)
    signatures = np.concatenate([base[:1], family(base[1], [0, 3, 8], 2), base[2:], family(base[1], [16], 3)])
    found = clustered(signatures)
    assert found.roots().tolist() == [0, 1, 1, 1, 4, 1]
    assert found.similarity[[0, 4]].tolist() == [0, 0]
    assert found.similarity[5] == pytest.approx(48 / 64)


def test_only_pairs_as_similar_as_the_threshold_are_joined(monkeypatch: pytest.MonkeyPatch):
    joined: list[float] = []
    join: Callable[..., None] = Clusters.join

    def watched(self: Clusters, ones: object, others: object, similarities: npt.NDArray[np.float32]) -> None:
        joined.extend(similarities.tolist())
        join(self, ones, others, similarities)

    monkeypatch.setattr(Clusters, "join", watched)
    centre = random_signatures(1, 5)[0]
    clustered(np.concatenate([centre[None], family(centre, [*range(0, 64, 2)], 6)]), threshold=0.75)
    assert joined
    assert min(joined) == 0.75  # sixteen of 64 slots changed: the bound is inclusive


def test_a_chain_of_near_copies_is_one_cluster():
    chain = [random_signatures(1, 7)[0]]
    for step in range(6):  # each shares 48 of 64 slots with the one before, the ends share none
        following = chain[-1].copy()
        following[(16 * step) % 64 : (16 * step) % 64 + 16] += np.uint32(1 + step)
        chain.append(following)
    signatures = np.array(chain)[[3, 0, 6, 1, 5, 2, 4]]
    assert (signatures[1] == signatures[2]).sum() == 0
    assert (clustered(signatures).roots() == 0).all()


def test_the_order_of_bands_and_the_size_of_partitions_change_nothing(monkeypatch: pytest.MonkeyPatch):
    bases = random_signatures(40, 8)
    signatures = np.concatenate([family(base, [0, 4, 8, 12], seed) for seed, base in enumerate(bases)])
    signatures = signatures[np.random.Generator(np.random.PCG64(9)).permutation(len(signatures))]
    whole = clustered(signatures)
    assert len(np.unique(whole.roots())) == 40
    assert (clustered(signatures, order=list(range(SLOTS // ROWS))[::-1]).roots() == whole.roots()).all()
    monkeypatch.setattr(module, "PARTITION_ROWS", 10)
    monkeypatch.setattr(module, "PAIRS", 7)
    assert partitions(len(signatures)) == 16
    in_parts = clustered(signatures)
    assert (in_parts.roots() == whole.roots()).all()


def test_every_hash_is_in_exactly_one_partition():
    hashes = np.random.Generator(np.random.PCG64(1)).integers(0, 2**64, 1000, dtype=np.uint64)
    for count in (1, 2, 8):
        assert (sum(in_partition(hashes, part, count).astype(int) for part in range(count)) == 1).all()


def test_a_bucket_of_thousands_is_compared_with_its_first_alone():
    centre = random_signatures(1, 10)[0]
    signatures = np.repeat(centre[None], 5_000, axis=0)
    asked: list[int] = []
    rows = SignatureRows([signatures])

    def similarity(ones: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        asked.append(len(ones))
        return rows.similarity(ones, others)

    found = Clusters(5_000)
    join_near(np.zeros(5_000, np.uint64), np.arange(5_000), similarity, 0.9, found)
    assert (found.roots() == 0).all()
    assert sum(asked) == 4_999


@pytest.mark.parametrize("members", [3, 100])
def test_groups_that_share_a_band_are_clusters_of_their_own(members: int):
    groups = [family(base, [2] * members, seed) for seed, base in enumerate(random_signatures(3, 11))]
    signatures = np.stack(groups, axis=1).reshape(-1, SLOTS)  # the groups take turns
    found, count = Clusters(3 * members), 3 * members
    join_near(np.zeros(count, np.uint64), np.arange(count), SignatureRows([signatures]).similarity, 0.8, found)
    assert found.roots().tolist() == [0, 1, 2] * members


def test_buckets_beside_one_another_are_not_mixed():
    signatures = np.repeat(random_signatures(1, 3), 40, axis=0)  # all equal, so that only the buckets keep them apart
    buckets = np.repeat(np.array([7, 9, 11, 13], np.uint64), [20, 2, 1, 17])
    found = Clusters(40)
    join_near(buckets, np.arange(40), SignatureRows([signatures]).similarity, 0.8, found)
    assert found.roots().tolist() == [0] * 20 + [20] * 2 + [22] + [23] * 17


def test_signatures_of_many_tables_are_read_by_number():
    tables = [random_signatures(3, 1), np.zeros((0, SLOTS), np.uint32), random_signatures(2, 2)]
    numbers = np.array([4, 0, 3, 2])
    assert (SignatureRows(tables).rows(numbers) == np.concatenate(tables)[numbers]).all()
    assert list(column_parts([3, 0, 2])) == [slice(0, 3), slice(3, 3), slice(3, 5)]


def test_no_documents_and_one_document_are_fine():
    for count in (0, 1):
        found = clustered(random_signatures(count, 1))
        assert found.roots().tolist() == list(range(count))

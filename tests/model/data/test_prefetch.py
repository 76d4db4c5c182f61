import threading
from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import DataLoader

from model.data.batches import Batch, PretrainBatches
from model.data.dataset import StepDataset
from model.data.prefetch import Prefetch


def one_each(steps: range) -> Iterator[range]:
    return (range(step, step + 1) for step in steps)


def same(one: Batch, other: Batch) -> bool:
    return all(map(torch.equal, (one.ids, one.targets, one.lengths), (other.ids, other.targets, other.lengths)))


def test_prefetched_batches_are_those_of_the_steps_in_order(pretrain_batches: PretrainBatches):
    with Prefetch(pretrain_batches, [(0, 4), (4, 8)], one_each(range(3, 9)), pins_memory=False) as ahead:
        for step in range(3, 9):
            made = ahead.next().slices
            assert same(made[0], pretrain_batches.batch(step, 0, 4))
            assert same(made[1], pretrain_batches.batch(step, 4, 8))


def test_thread_ends_with_the_block_though_batches_are_left(pretrain_batches: PretrainBatches):
    before = threading.active_count()
    with Prefetch(pretrain_batches, [(0, 8)], one_each(range(10**9)), pins_memory=False) as ahead:
        ahead.next()
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_fault_of_the_thread_is_raised_where_the_batch_is_taken(pretrain_batches: PretrainBatches):
    class Broken(PretrainBatches):
        def batch(self, step: int, start: int, stop: int) -> Batch:
            if step == 2:
                raise OSError("disk gone")
            return super().batch(step, start, stop)

    with Prefetch(Broken(pretrain_batches.stream), [(0, 8)], one_each(range(9)), pins_memory=False) as ahead:
        ahead.next()
        ahead.next()
        with pytest.raises(OSError, match="disk gone"):
            ahead.next()


@pytest.mark.parametrize("workers", [0, 1])
def test_data_loader_of_torch_gives_the_same_batches(pretrain_batches: PretrainBatches, workers: int):
    way = "spawn" if workers else None  # a forked worker would end the threads of whatever this process ran before, and fail at it
    shares = [
        DataLoader(
            StepDataset(pretrain_batches, 9, rank, 2),
            batch_size=None,
            sampler=range(4, 9),
            num_workers=workers,
            multiprocessing_context=way,
        )
        for rank in (0, 1)
    ]
    for step, parts in zip(range(4, 9), zip(*shares, strict=True), strict=True):
        whole = pretrain_batches.batch(step, 0, 8)
        assert torch.equal(torch.cat([part.ids for part in parts]), whole.ids)


def test_data_set_ends_with_its_steps(pretrain_batches: PretrainBatches):
    data = StepDataset(pretrain_batches, 3)
    assert len([data[step] for step in range(len(data))]) == 3
    with pytest.raises(IndexError, match="step 3 is not within 0 to 2"):
        data[3]

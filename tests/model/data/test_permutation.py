import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.permutation import permute, unpermute


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10**6))
def test_every_position_is_hit_once(size: int, seed: int, epoch: int):
    order = permute(np.arange(size), size, seed, epoch)
    assert np.array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize(("seed", "epoch"), [(1, 1), (2, 0)])
def test_seed_and_epoch_change_the_order(seed: int, epoch: int):
    order, other = permute(np.arange(1000), 1000, 1, 0), permute(np.arange(1000), 1000, seed, epoch)
    assert (order == other).mean() < 0.02


def test_neighbors_are_scattered():
    order = permute(np.arange(10000), 10000, 5, 0)
    assert abs(np.corrcoef(np.arange(10000), order)[0, 1]) < 0.05
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05


def test_one_position_does_not_depend_on_the_others():
    order = permute(np.arange(777), 777, 9, 4)
    assert [int(permute(np.array([k]), 777, 9, 4)[0]) for k in (0, 400, 776)] == [int(order[k]) for k in (0, 400, 776)]


@given(size=st.integers(1, 3000), seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 10**6), window=st.integers(0, 99))
def test_the_way_back_leads_to_the_position(size: int, seed: int, epoch: int, window: int):
    positions = np.arange(size)
    images = permute(positions, size, seed, epoch, window)
    assert np.array_equal(unpermute(images, size, seed, epoch, window), positions)

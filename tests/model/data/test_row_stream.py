from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.config.training_config import ContextPhase, MixturePhase
from model.data.batches import rank_rows
from model.data.permutation import permute
from model.data.row_stream import BLOCK, RowOrder, RowStream
from model.data.shard_reader import TokenRows

MakeShard = Callable[[str, int], Path]
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=12)
windows = st.one_of(st.none(), st.integers(1, 5))
several_uses = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


def first_epochs(order: RowOrder, epochs: int) -> list[list[int]]:
    numbers = order.numbers(np.arange(epochs * order.rows))
    return numbers.reshape(epochs, order.rows).tolist()


@given(sizes=sizes, seed=st.integers(0, 99), window=windows)
def test_each_epoch_has_every_row_once_and_leads_back(sizes: list[int], seed: int, window: int | None):
    order = RowOrder(np.array(sizes), seed, 0, window)
    for epoch, numbers in enumerate(first_epochs(order, 3)):
        assert sorted(numbers) == list(range(order.rows))
        for position, row in enumerate(numbers):
            assert order.ordinal_of(row, epoch) == epoch * order.rows + position


@given(sizes=sizes, seed=st.integers(0, 99), window=st.integers(1, 4))
def test_rows_of_a_window_come_together(sizes: list[int], seed: int, window: int):
    order = RowOrder(np.array(sizes), seed, 0, window)
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    groups = [int(group_of[row]) for row in first_epochs(order, 1)[0]]
    seen = list(dict.fromkeys(groups))
    for start in range(0, len(sizes), window):  # a window's groups are done before the next window's begin
        members = set(sorted(seen, key=seen.index)[start : start + window])
        span = [position for position, group in enumerate(groups) if group in members]
        assert span == list(range(span[0], span[-1] + 1))


def test_order_is_the_permutation_of_the_seed_and_epoch():
    order = RowOrder(np.array([10_000]), 5, 0, None)
    reference = np.concatenate([permute(np.arange(10_000), 10_000, 5, epoch) for epoch in range(2)])
    positions = np.arange(BLOCK - 3, BLOCK + 3)
    assert np.array_equal(order.numbers(positions), reference[positions])
    across = np.arange(9_990, 10_010)
    assert np.array_equal(order.numbers(across), reference[across])


@pytest.fixture
def groups(make_shard: MakeShard) -> dict[str, TokenRows]:
    return {
        "zh": TokenRows.open([make_shard("zh-0.parquet", 13), make_shard("zh-1.parquet", 6)]),
        "en": TokenRows.open([make_shard("en-0.parquet", 31)]),
    }


MIXTURE = [MixturePhase(0, {"en": 3.0, "zh": 1.0}), MixturePhase(5, {"en": 1.0, "zh": 2.0})]


@pytest.fixture(params=["all rows", "mixture", "windows"])
def stream(request: pytest.FixtureRequest, groups: dict[str, TokenRows]) -> RowStream:
    mixture: Sequence[MixturePhase] = MIXTURE if request.param == "mixture" else ()
    return RowStream(groups, 12, 3, mixture, window_groups=1 if request.param == "windows" else None)


def test_shares_of_the_ranks_make_up_the_global_batch_whatever_their_number(stream: RowStream):
    for step in (0, 1, 7, 1_000_000):
        whole = stream.rows_at(step)
        for world in (1, 2, 3, 4, 6, 12):
            shares = [stream.rows_at(step, *rank_rows(12, rank, world)) for rank in range(world)]
            assert np.array_equal(np.concatenate(shares), whole)


def test_steps_of_a_row_are_those_that_a_scan_of_all_steps_finds(stream: RowStream):
    steps = 23
    found: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for step in range(steps):
        for position, row in enumerate(stream.locations(step)):
            found.setdefault(row, []).append((step, position))
    for group, rows in stream.token_rows.items():
        for row in range(rows.rows):
            assert stream.steps_of(group, row, steps) == found.get((group, row), [])


def test_without_a_mixture_every_row_comes_once_an_epoch(groups: dict[str, TokenRows]):
    stream = RowStream(groups, 10, 3)
    numbers = np.concatenate([stream.rows_at(step) for step in range(10)])
    assert sorted(numbers[:50]) == sorted(numbers[50:]) == list(range(50))


def test_mixture_draws_each_group_as_its_weights_say(groups: dict[str, TokenRows]):
    stream = RowStream(groups, 12, 3, MIXTURE)
    drawn = [group for step in range(5) for group, _ in stream.locations(step)]
    assert (drawn.count("en"), drawn.count("zh")) == (45, 15)
    drawn = [group for step in range(5, 10) for group, _ in stream.locations(step)]
    assert (drawn.count("en"), drawn.count("zh")) == (20, 40)


def test_tokens_are_those_of_the_rows(groups: dict[str, TokenRows], stream: RowStream):
    tokens = stream.take(stream.rows_at(4))
    for row, (group, number) in zip(tokens, stream.locations(4), strict=True):
        assert np.array_equal(row, groups[group].take(np.array([number]))[0])


def test_batch_larger_than_the_rows_goes_through_several_epochs(make_shard: MakeShard):
    stream = RowStream({"all": TokenRows.open([make_shard("one.parquet", 1)])}, 4, 3)
    assert stream.rows_at(2).tolist() == [0, 0, 0, 0]
    assert stream.steps_of("all", 0, 2) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]


@several_uses
@given(step=st.integers(0, 2**40), start=st.integers(0, 11))
def test_a_part_of_a_batch_is_that_part_of_the_whole_however_late(make_shard: MakeShard, step: int, start: int):
    stream = RowStream({"all": TokenRows.open([make_shard("s.parquet", 29)])}, 12, 3)
    assert np.array_equal(stream.rows_at(step, start), stream.rows_at(step)[start:])


def test_phases_out_of_order_are_refused(groups: dict[str, TokenRows]):
    with pytest.raises(ValueError, match="mixture: from_step goes 0, 5, 5; each phase must begin after the one before"):
        RowStream(groups, 4, 1, [MIXTURE[0], MIXTURE[1], MIXTURE[1]])
    with pytest.raises(ValueError, match="the first phase begins at step 5; set its from_step to 0"):
        RowStream(groups, 4, 1, [MIXTURE[1]])


def test_sequences_that_do_not_divide_the_rows_are_refused_with_those_that_do(groups: dict[str, TokenRows]):
    with pytest.raises(ValueError, match="5 tokens do not divide the rows' context of 16; the nearest that do: 4, 8"):
        RowStream(groups, 4, 1, curriculum=[ContextPhase(0, 5)])
    with pytest.raises(ValueError, match="32 tokens do not divide the rows' context of 16; the nearest that do: 16"):
        RowStream(groups, 4, 1, curriculum=[ContextPhase(0, 32)])


def test_groups_of_different_tokenizers_are_refused(groups: dict[str, TokenRows], make_shard: MakeShard):
    other = TokenRows.open([make_shard("other.parquet", 3)])
    other.tokenizer = "t2"
    with pytest.raises(ValueError, match="the rows of other are of another context or tokenizer than those of en"):
        RowStream({**groups, "other": other}, 4, 1)

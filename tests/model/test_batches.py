import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.batches import ExampleBatches, PretrainBatches, rank_rows, shuffled_rows
from model.loss import IGNORED


def instruction_table(sizes: list[int]) -> pa.Table:
    ids = [list(range(1, size + 1)) for size in sizes]
    targets = [[IGNORED] * (size // 2) + row[size // 2 :] for size, row in zip(sizes, ids, strict=True)]
    columns = {"ids": pa.array(ids, pa.list_(pa.int32())), "targets": pa.array(targets, pa.list_(pa.int32()))}
    return pa.table(columns)


@given(batch_rows=st.integers(1, 200), step=st.integers(0, 50), rows=st.integers(1, 300), seed=st.integers(0, 99))
def test_shares_of_the_ranks_make_up_the_global_batch(batch_rows: int, step: int, rows: int, seed: int):
    whole = shuffled_rows(step, batch_rows, rows, seed)
    for world in (n for n in range(1, batch_rows + 1) if batch_rows % n == 0):
        shares = [whole[slice(*rank_rows(batch_rows, rank, world))] for rank in range(world)]
        assert np.array_equal(np.concatenate(shares), whole)
        assert len({len(share) for share in shares}) == 1


def test_an_epoch_holds_every_row_once_and_the_next_another_order():
    rows = np.concatenate([shuffled_rows(step, 7, 21, 5) for step in range(6)])
    assert sorted(rows[:21]) == sorted(rows[21:]) == list(range(21))
    assert not np.array_equal(rows[:21], rows[21:])


def test_a_batch_may_lie_on_two_epochs():
    rows = np.concatenate([shuffled_rows(step, 8, 20, 5) for step in range(5)])
    assert sorted(rows[:20]) == sorted(rows[20:]) == list(range(20))


def test_world_size_that_does_not_divide_the_batch_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match="5 processes do not divide batch_rows 12; numbers that do: 1, 2, 3, 4, 6, 12"):
        rank_rows(12, 0, 5)


def test_pretraining_targets_are_the_next_tokens(pretrain_batches: PretrainBatches):
    batch = pretrain_batches.batch(2, 3, 6)
    rows = pretrain_batches.token_rows.take(pretrain_batches.rows_at(2)[3:6])
    assert np.array_equal(batch.ids, rows[:, :-1])
    assert np.array_equal(batch.targets, rows[:, 1:])
    assert batch.lengths.tolist() == [16, 16, 16]


def test_evaluation_keeps_the_order_and_ends_with_the_rows(pretrain_batches: PretrainBatches):
    sizes = [len(batch.ids) for batch in pretrain_batches.evaluation(100)]
    assert sizes == [8, 8, 8, 8, 8, 8, 2]
    first = next(pretrain_batches.evaluation(1))
    assert np.array_equal(first.ids, pretrain_batches.token_rows.take(np.arange(8))[:, :-1])


def test_instruction_targets_are_shifted_and_padding_is_not_scored():
    batches = ExampleBatches(instruction_table([4, 9]), "instruction", 2, 0, context=16, pad_id=0)
    batch = next(batches.evaluation(1))
    assert batch.ids.tolist() == [[1, 2, 3, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8]]
    assert batch.targets[0].tolist() == [IGNORED, 3, 4] + [IGNORED] * 5
    assert batch.targets[1].tolist() == [IGNORED] * 3 + [5, 6, 7, 8, 9]
    assert batch.lengths.tolist() == [3, 8]


@pytest.mark.parametrize("context", [4, 5, 12])
def test_long_examples_are_cut_at_the_context(context: int):
    batches = ExampleBatches(instruction_table([40, 3]), "instruction", 2, 0, context=context, pad_id=0)
    batch = next(batches.evaluation(1))
    assert batch.ids.shape == (2, context)
    assert batch.ids[0].tolist() == list(range(1, context + 1))
    assert batch.lengths.tolist() == [context, 2]


def test_token_labels_are_not_shifted():
    batches = ExampleBatches(instruction_table([4]), "token_labels", 1, 0, context=16, pad_id=0)
    batch = batches.batch(0, 0, 1)
    assert batch.targets[0].tolist() == [IGNORED, IGNORED, 3, 4] + [IGNORED] * 4


def test_classification_has_one_target_per_row():
    table = instruction_table([4, 2, 3]).drop_columns(["targets"])
    table = table.append_column("label", pa.array([2, 0, 1], pa.int32()))
    batches = ExampleBatches(table, "classification", 2, 1, context=16, pad_id=7)
    batch = batches.batch(0, 0, 2)
    assert batch.targets.tolist() == [[2, 0, 1][row] for row in batches.rows_at(0)]
    assert batch.ids.dtype == batch.targets.dtype == torch.int64
    assert batch.ids[0, -1] == 7


def test_table_without_its_column_is_refused():
    with pytest.raises(ValueError, match="no column 'label'; its columns: ids, targets"):
        ExampleBatches(instruction_table([4]), "classification", 1, 0, context=16, pad_id=0)


def test_table_read_in_pieces_is_one_table():
    pieces = pa.concat_tables([instruction_table([4]), instruction_table([6, 3])])
    batches = ExampleBatches(pieces.slice(1), "instruction", 2, 0, context=16, pad_id=0)
    assert next(batches.evaluation(1)).lengths.tolist() == [5, 2]


def test_examples_that_cannot_be_trained_on_are_refused_by_number():
    with pytest.raises(ValueError, match="example 1: 1 tokens, instruction examples need 2 or more"):
        ExampleBatches(instruction_table([4, 1]), "instruction", 1, 0, context=16, pad_id=0)
    table = instruction_table([4, 5]).set_column(1, "targets", pa.array([[1] * 4, [1] * 4], pa.list_(pa.int32())))
    with pytest.raises(ValueError, match="example 1: 5 ids, but 4 targets"):
        ExampleBatches(table, "instruction", 1, 0, context=16, pad_id=0)
    with pytest.raises(ValueError, match="no instruction examples"):
        ExampleBatches(instruction_table([]), "instruction", 1, 0, context=16, pad_id=0)

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from model.config.heads import IGNORED
from model.config.training_config import ContextPhase
from model.data.batches import ExampleBatches, PretrainBatches, micro_slices, rank_rows
from model.data.row_stream import RowStream
from model.data.shard_reader import TokenRows
from model.data.shard_writer import write_token_shard


def instruction_table(sizes: list[int]) -> pa.Table:
    ids = [list(range(1, size + 1)) for size in sizes]
    targets = [[IGNORED] * (size // 2) + row[size // 2 :] for size, row in zip(sizes, ids, strict=True)]
    columns = {"ids": pa.array(ids, pa.list_(pa.int32())), "targets": pa.array(targets, pa.list_(pa.int32()))}
    return pa.table(columns)


@given(rows=st.integers(1, 300), world=st.integers(1, 40), most=st.integers(1, 40))
def test_every_row_of_a_batch_is_of_one_process_and_one_slice(rows: int, world: int, most: int):
    assume(world <= rows)
    shares = [rank_rows(rows, rank, world) for rank in range(world)]
    slices = [one for share in shares for one in micro_slices(*share, most)]
    assert [row for first, last in slices for row in range(first, last)] == list(range(rows))
    sizes = [last - first for first, last in slices]
    assert 1 <= min(sizes) <= max(sizes) <= most
    counts = [last - first for first, last in shares]
    assert max(counts) - min(counts) <= 1


def test_more_processes_than_rows_are_refused():
    with pytest.raises(ValueError, match="13 processes for batches of 12 rows: some would have none; start 12 at the most"):
        rank_rows(12, 0, 13)


def test_pretraining_targets_are_the_next_tokens_but_for_those_after_the_end_of_a_document(pretrain_batches: PretrainBatches):
    batch = pretrain_batches.batch(2, 3, 6)
    rows = pretrain_batches.stream.take(pretrain_batches.rows_at(2)[3:6])
    assert np.array_equal(batch.ids, rows[:, :-1])
    ends = rows[:, :-1] == pretrain_batches.stream.header.eos
    assert np.array_equal(batch.targets, np.where(ends, IGNORED, rows[:, 1:]))
    assert batch.lengths.tolist() == [16, 16, 16]


def test_padding_is_no_target_and_does_not_count(tmp_path: Path):
    bos, eos, pad = 0, 1, 2
    metadata = {"vocab_size": 9, "tokenizer": "t", "packing": "best_fit", "bos": bos, "eos": eos, "pad": pad}
    rows = np.array([[bos, 5, 6, eos, bos, 7, eos, pad, pad], [bos, 5, 5, 5, 5, 5, 5, 5, eos]], np.uint16)
    write_token_shard(tmp_path / "s.parquet", rows, None, metadata)
    batches = PretrainBatches(RowStream({"all": TokenRows.open([tmp_path / "s.parquet"])}, 2, 1))
    batch = next(batches.evaluation(1))
    assert batch.targets.tolist() == [[5, 6, eos, IGNORED, 7, eos, IGNORED, IGNORED], [5] * 7 + [eos]]
    assert batch.lengths.tolist() == [7, 8]


def test_curriculum_cuts_the_same_rows_into_shorter_sequences(pretrain_batches: PretrainBatches):
    rows = pretrain_batches.stream.token_rows
    phases = [ContextPhase(0, 4), ContextPhase(2, 8)]
    short = PretrainBatches(RowStream(rows, 8, 3, curriculum=phases))
    for step, context in ((0, 4), (1, 4), (2, 8), (9, 8)):
        whole, cut = pretrain_batches.batch(step, 2, 5), short.batch(step, 2, 5)
        assert cut.ids.shape == cut.targets.shape == (3 * 16 // context, context)
        assert torch.equal(cut.ids.reshape(3, 16), whole.ids)
        assert torch.equal(cut.targets.reshape(3, 16), whole.targets)
    assert next(short.evaluation(1)).ids.shape == (8, 16)


def test_evaluation_keeps_the_order_and_ends_with_the_rows(pretrain_batches: PretrainBatches):
    sizes = [len(batch.ids) for batch in pretrain_batches.evaluation(100)]
    assert sizes == [8, 8, 8, 8, 8, 8, 2]
    first = next(pretrain_batches.evaluation(1))
    assert np.array_equal(first.ids, pretrain_batches.stream.take(np.arange(8))[:, :-1])


def test_instruction_targets_are_shifted_and_padding_is_not_scored():
    batches = ExampleBatches(instruction_table([4, 9]), "next_token", 2, 0, context=16, pad_id=0)
    batch = next(batches.evaluation(1))
    assert batch.ids.tolist() == [[1, 2, 3, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 8]]
    assert batch.targets[0].tolist() == [IGNORED, 3, 4] + [IGNORED] * 5
    assert batch.targets[1].tolist() == [IGNORED] * 3 + [5, 6, 7, 8, 9]
    assert batch.lengths.tolist() == [3, 8]


@pytest.mark.parametrize("context", [4, 5, 12])
def test_long_examples_are_cut_at_the_context(context: int):
    batches = ExampleBatches(instruction_table([40, 3]), "next_token", 2, 0, context=context, pad_id=0)
    batch = next(batches.evaluation(1))
    assert batch.ids.shape == (2, context)
    assert batch.ids[0].tolist() == list(range(1, context + 1))
    assert batch.lengths.tolist() == [context, 2]


def test_token_labels_are_not_shifted():
    batches = ExampleBatches(instruction_table([4]), "token_class", 1, 0, context=16, pad_id=0)
    batch = batches.batch(0, 0, 1)
    assert batch.targets[0].tolist() == [IGNORED, IGNORED, 3, 4] + [IGNORED] * 4


def test_classification_has_one_target_per_row():
    table = instruction_table([4, 2, 3]).drop_columns(["targets"])
    table = table.append_column("label", pa.array([2, 0, 1], pa.int32()))
    batches = ExampleBatches(table, "class", 2, 1, context=16, pad_id=7)
    batch = batches.batch(0, 0, 2)
    assert batch.targets.tolist() == [[2, 0, 1][row] for row in batches.rows_at(0)]
    assert batch.ids.dtype == batch.targets.dtype == torch.int64
    assert batch.ids[0, -1] == 7


def test_table_without_its_column_is_refused():
    with pytest.raises(ValueError, match="no column 'label'; its columns: ids, targets"):
        ExampleBatches(instruction_table([4]), "class", 1, 0, context=16, pad_id=0)


def test_table_read_in_chunks_is_one_table():
    chunks = pa.concat_tables([instruction_table([4]), instruction_table([6, 3])])
    batches = ExampleBatches(chunks.slice(1), "next_token", 2, 0, context=16, pad_id=0)
    assert next(batches.evaluation(1)).lengths.tolist() == [5, 2]


def test_examples_that_cannot_be_trained_on_are_refused_by_number():
    with pytest.raises(ValueError, match="example 1: 1 tokens, expected 2 or more"):
        ExampleBatches(instruction_table([4, 1]), "next_token", 1, 0, context=16, pad_id=0)
    table = instruction_table([4, 5]).set_column(1, "targets", pa.array([[1] * 4, [1] * 4], pa.list_(pa.int32())))
    with pytest.raises(ValueError, match="example 1: 5 ids, but 4 targets"):
        ExampleBatches(table, "next_token", 1, 0, context=16, pad_id=0)
    with pytest.raises(ValueError, match="no examples to train on"):
        ExampleBatches(instruction_table([]), "next_token", 1, 0, context=16, pad_id=0)

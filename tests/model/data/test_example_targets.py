"""Batches of examples with several labels, figures and choices."""

import pyarrow as pa
import pytest
import torch

from model.data.batches import ExampleBatches

IDS = pa.array([[1, 2, 3], [4, 5]], pa.list_(pa.int32()))
CHOICES = pa.list_(pa.list_(pa.int32()))


def batches(targets: str, ids: pa.Array, **answers: pa.Array) -> ExampleBatches:
    table = pa.table({"ids": ids, **answers})
    return ExampleBatches(table, targets, 2, 0, context=16, pad_id=9)  # type: ignore[arg-type]


def test_figures_are_float32_and_all_count() -> None:
    batch = next(batches("value", IDS, value=pa.array([0.5, -2.0])).evaluation(1))
    assert batch.targets.dtype == torch.float32
    assert batch.targets.tolist() == [0.5, -2.0]
    assert batch.scored() == 2


def test_labels_are_flags_and_all_count() -> None:
    flags = pa.array([[1, 0, 1], [0, 0, 0]], pa.list_(pa.int32()))
    batch = next(batches("labels", IDS, flags=flags).evaluation(1))
    assert batch.targets.dtype == torch.float32
    assert batch.targets.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert batch.scored() == 6


def test_choices_of_a_question_stay_together() -> None:
    ids = pa.array([[[1, 2, 3], [4]], [[5], [6, 7]]], CHOICES)
    found = batches("choice", ids, label=pa.array([1, 0], pa.int32()))
    batch = next(found.evaluation(1))
    assert batch.ids.shape == (2, 2, 8)
    assert batch.ids[0, 0].tolist() == [1, 2, 3, 9, 9, 9, 9, 9]
    assert batch.ids[1, 1].tolist() == [6, 7, 9, 9, 9, 9, 9, 9]
    assert batch.lengths.tolist() == [[3, 1], [1, 2]]
    assert batch.targets.tolist() == [1, 0]
    assert found.rows_at(0).tolist() == [1, 0]  # by the longest of their choices
    assert found.batch(0, 0, 1).ids.tolist() == batch.ids[1:].tolist()


@pytest.mark.parametrize(
    ("targets", "ids", "answers", "message"),
    [
        ("choice", pa.array([[[1], [2]], [[3]]], CHOICES), {"label": pa.array([0, 0])}, "rows have 1 to 2 choices"),
        ("choice", pa.array([[[1], []], [[3], [4]]], CHOICES), {"label": pa.array([0, 0])}, "example 0: 0 tokens"),
        ("labels", IDS, {"flags": pa.array([[1], [1, 0]], pa.list_(pa.int32()))}, "rows have 1 to 2 flags"),
        ("value", IDS, {"label": pa.array([1, 2])}, "no column 'value'"),
    ],
)
def test_tables_of_another_form_are_refused(targets: str, ids: pa.Array, answers: dict[str, pa.Array], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(targets, ids, **answers)

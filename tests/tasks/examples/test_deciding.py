"""By which figure models compete, as a person would choose it."""

from pathlib import Path

import pytest

from tasks.examples.deciding import deciding_metric, lower_is_better
from tasks.examples.kinds.table import KINDS
from tasks.examples.label_values import by_classes
from tests.tasks.examples.prepared import Row, from_rows


def decides(folder: Path, kind: str, rows: list[Row]) -> str:
    from_rows(folder, kind, rows)
    return deciding_metric(next(folder.glob("out-*")))


def texts(labels: list[str]) -> list[Row]:
    return [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]


def sentences(labels: list[str]) -> list[Row]:
    return [{"tokens": [f"word{number}", *"a b c".split()[: len(labels) - 1]], "labels": labels} for number in range(20)]


def test_classes_of_one_size_compete_by_accuracy(tmp_path: Path) -> None:
    assert decides(tmp_path, "classification", texts(["a", "b", "c"] * 20)) == "accuracy"


def test_skewed_classes_compete_by_macro_f1(tmp_path: Path) -> None:
    assert decides(tmp_path, "classification", texts(["a"] * 50 + ["b"] * 6 + ["c"] * 6)) == "macro_f1"


@pytest.mark.parametrize(("common", "expected"), [(74, "accuracy"), (75, "macro_f1")])
def test_skew_begins_at_half_more_than_an_even_share(common: int, expected: str) -> None:
    assert by_classes(["a"] * common + ["b"] * (100 - common)) == expected
    assert (
        by_classes([*["a"] * 15, *(f"class {n}" for n in range(9) for _ in range(9)), *["class 0"] * 4]) == "macro_f1"
    )  # 15 of 100, in 10


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["B-PER", "I-PER", "O", "O"], "entity_f1"),
        (["O", "I-PER", "I-PER", "O"], "entity_f1"),
        (["S-PER", "O", "B-LOC", "E-LOC"], "entity_f1"),
        (["NOUN", "VERB", "NOUN", "VERB"], "accuracy"),
        (["NOUN", "NOUN", "NOUN", "VERB"], "macro_f1"),
    ],
)
def test_tags_compete_by_whole_entities_and_other_labels_as_classes_do(labels: list[str], expected: str, tmp_path: Path) -> None:
    assert decides(tmp_path, "token_labels", sentences(labels)) == expected


def test_tokens_that_are_not_learnt_do_not_count(tmp_path: Path) -> None:
    rows: list[Row] = [{"tokens": [f"w{n}", "a", "b"], "labels": [None, None, ["x", "y"][n % 2]]} for n in range(40)]
    assert decides(tmp_path, "token_labels", rows) == "accuracy"


def test_other_kinds_compete_by_one_figure(tmp_path: Path) -> None:
    assert decides(tmp_path, "regression", [{"text": f"text {n}", "value": n} for n in range(30)]) == "mse"
    assert {kind.name: kind.metric for kind in KINDS.values() if kind.deciding is None} == {
        "instruction": "bits_per_byte",
        "multi_label": "macro_f1",
        "regression": "mse",
        "multiple_choice": "accuracy",
    }


def test_errors_and_losses_are_better_when_lower() -> None:
    assert all(map(lower_is_better, ("mse", "bits_per_byte", "bits_per_byte_zh", "bits_per_byte:han", "masked_loss")))
    assert not any(map(lower_is_better, ("accuracy", "macro_f1", "micro_f1", "entity_f1", "pearson", "rouge_l", "exact_match")))

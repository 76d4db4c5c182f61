"""Contracts look at values, not at types alone."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.shard_format import SEGMENT_FIELDS
from tasks.contracts import check_rows, check_table
from tasks.documents import DOCUMENTS, DROPPED
from tasks.examples.kinds.table import KINDS
from tasks.items import FIGURES, ITEMS
from tasks.ledger import Receipt
from tasks.shards.encoded_corpus import TOKEN_DOCUMENTS

TEXTS = pa.list_(pa.string())
SCHEMAS: dict[str, pa.Schema] = {
    "Documents": DOCUMENTS,
    "Dropped": DROPPED,
    "InstructionExamples": pa.schema([(name, pa.string()) for name in ("id", "group", "prompt", "response")]),
    "ClassificationExamples": pa.schema([(name, pa.string()) for name in ("id", "group", "text", "label")]),
    "TokenLabelExamples": pa.schema([("id", pa.string()), ("group", pa.string()), ("tokens", TEXTS), ("labels", TEXTS)]),
    "Scores": pa.schema(
        [(name, pa.string()) for name in ("model", "suite", "task", "metric")]
        + [(name, pa.float64()) for name in ("value", "ci_low", "ci_high")]
        + [("n", pa.int64()), ("seed", pa.int64())]
    ),
    "Items": ITEMS,
    "ItemFigures": FIGURES,
    "TokenRows": pa.schema([("tokens", pa.binary(6)), *SEGMENT_FIELDS]),
    "TokenDocuments": TOKEN_DOCUMENTS,
}
DOCUMENT = {"id": "a", "text": "é", "source": "s", "path": "p", "language": "en", "bytes": 2, "meta": [("group", "g")]}
GOOD: dict[str, dict[str, object]] = {
    "Documents": DOCUMENT,
    "Dropped": {**DOCUMENT, "stage": "clean", "reason": "min_chars", "value": 1.0},
    "InstructionExamples": {"id": "a", "group": "g", "prompt": "p", "response": "r"},
    "ClassificationExamples": {"id": "a", "group": "g", "text": "t", "label": "yes"},
    "TokenLabelExamples": {"id": "a", "group": "g", "tokens": ["x", " y"], "labels": ["yes", "no"]},
    "Scores": {
        "model": "m",
        "suite": "s",
        "task": "t",
        "metric": "accuracy",
        "value": 0.5,
        "ci_low": 0.4,
        "ci_high": 0.6,
    }
    | {"n": 10, "seed": 0},
    "Items": {"task": "t", "item": "a", "cluster": "c", "source": "", "language": "und", "bytes": 4, "shown": "rain", "expected": ""},
    "ItemFigures": {"model": "m", "task": "t", "metric": "f1", "statistic": "ratio", "item": "a", "answer": "", "columns": [1.0, 0.0]},
    "TokenRows": {"tokens": b"123456", "ends": [1, 3], "documents": [7, 0], "offsets": [5, 0]},
    "TokenDocuments": {"id": "a", "source": "s", "language": "en", "bytes": 2, "tokens": 3},
}


def another(contract: str) -> dict[str, object]:
    """The same row of something else."""
    return GOOD[contract] | {name: "b" for name in ("id", "item") if name in GOOD[contract]}


def write(folder: Path, contract: str, *rows: Mapping[str, object]) -> Path:
    path = folder / "table.parquet"
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMAS[contract]), path)
    return path


def check(contract: str, path: Path) -> Receipt:
    """By a shared contract, or that of a kind of examples, whose labels are yes and no."""
    for kind in KINDS.values():
        schema = kind.contract(("yes", "no"))
        if schema.name == contract:
            return check_rows(schema, path)
    return check_table(contract, path)  # type: ignore[arg-type]


@pytest.mark.parametrize("contract", list(GOOD))
def test_a_sound_table_gets_a_receipt_for_every_row(contract: str, tmp_path: Path):
    receipt = check(contract, write(tmp_path, contract, GOOD[contract], another(contract)))
    assert (receipt.contract, receipt.file, receipt.rows) == (contract, "table.parquet", 2)
    assert receipt.checks > 1


@pytest.mark.parametrize("contract", list(GOOD))
def test_an_empty_table_is_sound(contract: str, tmp_path: Path):
    assert check(contract, write(tmp_path, contract)).rows == 0


WRONG: list[tuple[str, dict[str, object], str]] = [
    ("Documents", {"id": ""}, "non-empty id"),
    ("Documents", {"text": "", "bytes": 0}, "non-empty text"),
    ("Documents", {"bytes": 1}, "UTF-8 length"),
    ("Documents", {"language": "English"}, "an ISO 639 code"),
    ("Documents", {"source": ""}, "source"),
    ("Dropped", {"reason": ""}, "a reason"),
    ("Dropped", {"reason": "Too Short!"}, "a reason"),
    ("Dropped", {"bytes": 7}, "UTF-8 length"),
    ("Dropped", {"value": float("inf")}, "finite"),
    ("InstructionExamples", {"response": ""}, "non-empty text"),
    ("InstructionExamples", {"group": ""}, "group"),
    ("ClassificationExamples", {"label": "maybe"}, "one of the 2 labels"),
    ("TokenLabelExamples", {"labels": ["yes"]}, "as many labels"),
    ("TokenLabelExamples", {"labels": ["yes", "maybe"]}, "one of the 2 labels"),
    ("TokenLabelExamples", {"labels": ["yes", None]}, "one of the 2 labels"),
    ("TokenLabelExamples", {"tokens": ["x", ""]}, "no empty token"),
    ("TokenLabelExamples", {"tokens": [], "labels": []}, "at least one token"),
    ("Scores", {"value": 0.7}, "ci_low <= value <= ci_high"),
    ("Scores", {"ci_high": float("inf")}, "finite"),
    ("Scores", {"n": 0}, "sample count"),
    ("Items", {"cluster": ""}, "cluster"),
    ("Items", {"language": ""}, "an ISO 639 code"),
    ("Items", {"shown": "x" * 601}, "600 characters at most"),
    ("ItemFigures", {"statistic": "mean"}, "one of ratio, macro_f1, pearson"),
    ("ItemFigures", {"columns": [1.0]}, "two numbers"),
    ("ItemFigures", {"statistic": "macro_f1"}, "three for each class"),
    ("ItemFigures", {"columns": [1.0, float("nan")]}, "finite numbers"),
    ("TokenRows", {"ends": [], "documents": [], "offsets": []}, "1 segment or more"),
    ("TokenRows", {"ends": [0, 3]}, "ends that rise"),
    ("TokenRows", {"ends": [3, 3]}, "ends that rise"),
    ("TokenRows", {"ends": [1, 4]}, "ends within the row"),
    ("TokenRows", {"documents": [7]}, "a document for each segment"),
    ("TokenRows", {"offsets": [5, 0, 0]}, "an offset for each segment"),
    ("TokenRows", {"documents": [-1, 0]}, "document numbers of 0 or more"),
    ("TokenRows", {"offsets": [0, -1]}, "offsets of 0 or more"),
    ("TokenDocuments", {"tokens": 2}, "3 tokens or more"),
    ("TokenDocuments", {"bytes": 0}, "1 or more"),
]


@pytest.mark.parametrize(("contract", "change", "expected"), WRONG)
def test_a_wrong_value_is_found_and_named(contract: str, change: dict[str, object], expected: str, tmp_path: Path):
    wrong = another(contract) | change
    with pytest.raises(AssertionError, match="table.parquet, row 1: ") as caught:
        check(contract, write(tmp_path, contract, GOOD[contract], wrong))
    assert expected in str(caught.value)


@pytest.mark.parametrize("contract", ["Items", "ItemFigures"])
def test_an_item_is_in_a_table_once(contract: str, tmp_path: Path):
    with pytest.raises(AssertionError, match="once"):
        check(contract, write(tmp_path, contract, GOOD[contract], GOOD[contract]))
    assert check(contract, write(tmp_path, contract, GOOD[contract], GOOD[contract] | {"task": "u"})).rows == 2


def test_ids_are_compared_over_the_whole_file(tmp_path: Path):
    rows = [DOCUMENT | {"id": str(number % 2_500)} for number in range(2_501)]
    with pytest.raises(AssertionError, match="row 0: id: found again"):
        check_table("Documents", write(tmp_path, "Documents", *rows))


def test_a_missing_column_and_a_foreign_one_are_refused(tmp_path: Path):
    path = tmp_path / "t.parquet"
    table = pa.Table.from_pylist([GOOD["InstructionExamples"]])
    pq.write_table(table.drop_columns(["prompt"]), path)
    with pytest.raises(AssertionError, match="prompt"):
        check("InstructionExamples", path)
    pq.write_table(table.append_column("extra", pa.array(["x"])), path)
    with pytest.raises(AssertionError, match="extra"):
        check("InstructionExamples", path)


def test_a_lone_surrogate_in_the_bytes_of_a_string_is_found(tmp_path: Path):
    raw = b"\xed\xa0\x80"
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(raw)])
    table = pa.table({"id": ["a"], "group": ["g"], "prompt": text, "response": ["r"]})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(AssertionError, match="UTF-8"):
        check("InstructionExamples", tmp_path / "t.parquet")


def statistics(**changed: object) -> pa.Table:
    from tasks.corpus.annotate import STATISTICS

    row: dict[str, object] = {field.name: 0 for field in STATISTICS} | {
        "id": "a",
        "source": "s",
        "language": "en",
        **changed,
    }
    return pa.Table.from_pylist([row], schema=STATISTICS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"words": -1}, "counts of 0 or more"),
        ({"han_share": 1.5}, "shares in 0..1"),
        ({"language": "English"}, "ISO 639"),
        ({"quality": float("nan")}, "finite numbers"),
        ({"hash_share": -0.5}, "figures per word of 0 or more"),
    ],
)
def test_statistics_out_of_their_bounds_are_refused(tmp_path: Path, changed: dict[str, object], message: str):
    path = tmp_path / "statistics.parquet"
    pq.write_table(statistics(), path)
    assert check_table("Statistics", path).rows == 1
    pq.write_table(statistics(**changed), path)
    with pytest.raises(AssertionError, match=message):
        check_table("Statistics", path)


def test_statistics_with_another_column_are_refused(tmp_path: Path):
    path = tmp_path / "statistics.parquet"
    pq.write_table(statistics().drop_columns(["words"]), path)
    with pytest.raises(AssertionError, match=r"found column \('lines'.*expected \('words'"):
        check_table("Statistics", path)

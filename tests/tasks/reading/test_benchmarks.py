"""Benchmark files: every text of a row is an item's, and what cannot be read refuses the benchmark with its place."""

import re
from pathlib import Path

import pytest

from tasks.errors import UserError
from tasks.reading.benchmarks import Benchmark, read_benchmark


def items(path: Path, raw: str, kind: str = "jsonl", fields: list[str] | None = None) -> list[tuple[str, str]]:
    path.write_text(raw, encoding="utf-8")
    return list(read_benchmark(Benchmark.model_validate({"name": "quiz", "kind": kind, "paths": [str(path)], "fields": fields})))


def test_the_texts_of_a_row_are_one_item_however_deep_they_lie(tmp_path: Path):
    raw = '{"id": 7, "question": {"text": "Who mills?"}, "choices": ["Ann", {"name": "Bo"}], "answer": null}\n'
    assert items(tmp_path / "q.jsonl", raw) == [("q.jsonl:1", "Who mills?\nAnn\nBo")]


def test_a_field_that_some_rows_lack_is_empty_in_them(tmp_path: Path):
    raw = '{"question": "Who mills?"}\n{"question": "Who bakes?", "hint": "Bo"}\n{"question": null, "hint": "Cy"}\n{"other": "x"}\n'
    assert [text for _, text in items(tmp_path / "q.jsonl", raw, fields=["hint", "question"])] == ["Who mills?", "Bo\nWho bakes?", "Cy", ""]


@pytest.mark.parametrize(
    ("raw", "kind", "fields", "said"),
    [
        ("", "jsonl", None, "found no rows in 1 files, expected one an item. Fix: correct paths."),
        ("[]", "json", None, "found no rows in 1 files"),
        ("question,label\n", "csv", None, "found no rows in 1 files"),
        ('{"question": "Who?"}\n', "jsonl", ["questoin"], "no row has a field 'questoin'; the rows have question. Fix: correct fields."),
        (
            '{"a": 1, "b": null}\n' * 3,
            "jsonl",
            None,
            "found no text in 3 rows (a: int, b: null), expected strings; the rows have a, b. Fix: set",
        ),
        (
            '{"a": 1, "b": "Who?"}\n',
            "jsonl",
            ["a"],
            "found no text in 1 rows (a: int), expected strings; the rows have a, b. Fix: set fields",
        ),
        ('{"a": "Who?"}\n{"a": \n', "jsonl", None, 'q.data:2: found malformed (\'{"a":'),
        ('{"a": "Who?"}\n{"a": \n', "jsonl", None, "expected a row. Fix: mend the row or take it out."),
        ("a,b\n1,2,3\n", "csv", None, "q.data:2: found uneven_row"),
        ("a,b\n1,2\n", "parquet", None, "Fix: give the file whole, as parquet, or correct kind."),
    ],
)
def test_what_is_wrong_with_a_benchmark_is_told_with_its_place(tmp_path: Path, raw: str, kind: str, fields: list[str] | None, said: str):
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        items(tmp_path / "q.data", raw, kind, fields)
    assert str(refused.value).startswith("decontaminate benchmark 'quiz': ")


def test_texts_of_any_depth_are_found_in_their_order(tmp_path: Path):
    deep = "[" * 900 + '"deep"' + "]" * 900
    row = '{"q": "first", "n": 3, "more": {"a": ["second", DEEP], "b": "third"}}\n'
    (tmp_path / "a.jsonl").write_text(row.replace("DEEP", deep))
    benchmark = Benchmark.model_validate({"name": "quiz", "kind": "jsonl", "paths": [str(tmp_path / "a.jsonl")]})
    assert list(read_benchmark(benchmark)) == [("a.jsonl:1", "first\nsecond\ndeep\nthird")]

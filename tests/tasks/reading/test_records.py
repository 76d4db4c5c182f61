"""Rows: every format gives back what was written, and one that cannot be read leaves its neighbours alone."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.csv_rows import Table
from tasks.reading.faults import Fault
from tasks.reading.files import SourceFile
from tasks.reading.json_values import parse, split_values
from tasks.reading.lines import split_lines
from tasks.reading.records import Layout, RecordFormat, read_records
from tasks.reading.rows import Record

texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=30)
rows = st.lists(st.fixed_dictionaries({"text": texts, "n": st.integers(-(2**63), 2**63)}), max_size=8)


def read(raw: bytes, kind: RecordFormat, name: str = "rows", **settings: object) -> Iterator[Record | Fault]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        layout = Layout(kind, **settings)  # type: ignore[arg-type]
        yield from read_records(SourceFile(name, str(path), len(raw)), layout)


def fields(raw: bytes, kind: RecordFormat, name: str = "rows", **settings: object) -> list[object]:
    found = read(raw, kind, name, **settings)
    return [one.reason if isinstance(one, Fault) else dict(one.fields) for one in found]


@given(rows, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_json_gives_back_what_was_written(written: list[dict[str, object]], escaped: bool, indent: int | str | None):
    raw = json.dumps(written, ensure_ascii=escaped, indent=indent).encode()
    assert fields(raw, "json") == written
    lines = "\n".join(json.dumps(row, ensure_ascii=escaped) for row in written)
    assert fields(lines.encode(), "jsonl") == written
    behind = "".join(json.dumps(row, ensure_ascii=escaped, indent=indent) for row in written)
    assert fields(behind.encode(), "json") == written


@given(st.lists(st.fixed_dictionaries({"text": texts.filter(str.strip), "n": texts}), min_size=1, max_size=8))
def test_csv_gives_back_what_was_written(written: list[dict[str, str]]):
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ["text", "n"], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(written)
    raw = stream.getvalue().encode()
    assert fields(raw, "csv", encoding="utf-8") == written


@given(st.binary(max_size=300), st.sampled_from(["jsonl", "json", "csv", "parquet"]))
def test_any_bytes_are_records_or_faults(raw: bytes, kind: RecordFormat):
    for found in read(raw, kind):
        assert isinstance(found, Record | Fault)


@given(st.lists(st.binary(max_size=20), max_size=20), st.integers(5, 40), st.integers(1, 30))
def test_lines_do_not_depend_on_chunks_and_long_ones_are_faults_of_their_size(parts: list[bytes], limit: int, size: int):
    raw = b"\n".join(parts).replace(b"\x00", b"\r\n")
    chunks = [raw[start : start + size] for start in range(0, len(raw), size)]
    lines = list(split_lines(chunks, limit))
    expected = [line.replace(b"\r\r\n", b"\r\n") for line in re.findall(rb"[^\r\n]*(?:\r{0,2}\n|\r(?!\r?\n))|[^\r\n]+", raw)]
    assert [line.bytes if isinstance(line, Fault) else len(line) for line in lines] == list(map(len, expected))
    assert all(isinstance(line, Fault) == (len(whole) > limit) for line, whole in zip(lines, expected, strict=True))


entries = st.recursive(texts | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=5)


@given(st.lists(entries, max_size=4), st.integers(1, 50))
def test_json_values_do_not_depend_on_chunks(values: list[object], size: int):
    raw = json.dumps([{"v": value} for value in values]).encode()
    split = list(split_values((raw[start : start + size] for start in range(0, len(raw), size)), 1 << 20))
    assert [json.loads(value) for value in split if isinstance(value, bytes)] == [{"v": value} for value in values]


def test_a_value_that_is_too_long_or_broken_leaves_its_neighbours_alone():
    raw = b'[{"t": 1},\n{"t": "' + b"x" * 500 + b'"},\n{"t": "no end},\n{"t": 2}, nothing, {"t": "\\"]"}]'
    assert fields(raw, "json", max_bytes=100) == [
        {"t": 1},
        "too_large",
        "malformed",
        {"t": 2},
        "malformed",
        {"t": '"]'},
    ]


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'{"n": NaN}', None),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\ud83d"', "\ufffd"),
        (b"1" * 5_000, "1" * 5_000),
    ],
)
def test_what_only_lenient_writers_write_is_read(raw: bytes, value: object):
    found, repairs = parse(raw)
    assert value is None or found == value
    assert repairs == (("surrogate",) if value == "\ufffd" else ())


def test_columns_of_any_string_type_are_text_and_only_wanted_ones_are_read():
    values = ["a", None, "林"]
    table = pa.table(
        {
            "plain": values,
            "large": pa.array(values, pa.large_string()),
            "dictionary": pa.array(values).dictionary_encode(),
            "bytes": pa.array([value and value.encode() for value in values], pa.binary()),
            "n": [1, 2, 3],
        }
    )
    stream = io.BytesIO()
    pq.write_table(table, stream, row_group_size=2)
    wanted = ["plain", "large", "dictionary", "bytes"]
    expected = [{**dict.fromkeys(wanted, value), "n": "(not read)"} for value in values]
    assert fields(stream.getvalue(), "parquet", fields=wanted) == expected


def test_tsv_has_no_quotes_and_a_table_may_have_no_header():
    raw = b'say "hi\t0\nother\t1\n'
    table = Table(header=False)
    assert fields(raw, "csv", "rows.tsv", table=table) == [{"0": 'say "hi', "1": "0"}, {"0": "other", "1": "1"}]


def test_a_charset_of_the_recipe_is_used():
    raw = '{"text": "渡船"}\n'.encode("big5")
    assert fields(raw, "jsonl", encoding="big5") == [{"text": "渡船"}]


def test_a_field_that_is_too_large_does_not_hide_how_many_columns_a_table_without_a_header_has():
    raw = b"one,two\n" + b'"' + b"x" * 3_000 + b"\n" + b'y",two\n' + b"one,two\n" * 3
    found = fields(raw, "csv", table=Table(header=False), max_bytes=2_000)
    assert found == [{"0": "one", "1": "two"}, "too_large", {"0": 'y"', "1": "two"}, *[{"0": "one", "1": "two"}] * 3]

"""Damage: whatever is done to a part of a file, the sound records elsewhere are read, and no byte is unaccounted for."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.faults import Fault
from tasks.reading.files import SourceFile
from tasks.reading.lines import Line, read_text
from tasks.reading.records import Layout, RecordFormat, read_records

ROWS = 9
TEXTS = [f'Row {number} said "yes, {number}" to the miller.' + "\nA second line of it." * (number % 2) for number in range(ROWS)]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}


def table(delimiter: str, quoting: int) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([["id", "text", "label"], *([f"r{number}", text, "x"] for number, text in enumerate(TEXTS))])
    return stream.getvalue().encode()


def jsonl() -> bytes:
    return b"".join(json.dumps({"id": f"r{number}", "text": text, "label": "x"}).encode() + b"\n" for number, text in enumerate(TEXTS))


WHOLE: dict[str, tuple[RecordFormat, bytes]] = {
    "a.jsonl": ("jsonl", jsonl()),
    "b.jsonl": ("jsonl", jsonl().decode().encode("utf-16")),
    "a.json": ("json", b"[\n" + b",\n".join(jsonl().splitlines()) + b"\n]\n"),
    "b.json": ("json", jsonl()),
    "a.csv": ("csv", table(",", csv.QUOTE_MINIMAL)),
    "b.csv": ("csv", table(",", csv.QUOTE_ALL)),
    "a.tsv": ("csv", table("\t", csv.QUOTE_MINIMAL)),
}
kinds = st.sampled_from(sorted(WHOLE))
noise = st.binary(max_size=6) | st.sampled_from(
    [b'"', b"\n", b"\r\n", b",", b"\\", b"{", b"}", b"[", b"]", b"\0" * 40, b'"\n', b"\xef\xbb\xbf", b"\t"]
)


def read(raw: bytes, name: str, kind: RecordFormat, fields: Sequence[str] = ("id", "text", "label")) -> list[dict[str, object] | Fault]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        found = list(read_records(SourceFile(name, str(path), len(raw)), Layout(kind, fields=fields)))
    return [one if isinstance(one, Fault) else dict(one.fields) for one in found]


def sound(number: int) -> dict[str, object]:
    return {"id": f"r{number}", "text": TEXTS[number], "label": "x"}


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_files_that_nothing_happened_to_have_no_fault(name: str):
    kind, raw = WHOLE[name]
    assert read(raw, name, kind) == [sound(number) for number in range(ROWS)]


@given(kinds, st.floats(0, 1), st.integers(0, 30), noise)
def test_bytes_changed_anywhere_leave_no_byte_unaccounted_for(name: str, place: float, gone: int, put: bytes):
    """The readers hold themselves to it; here it is enough that they come to an end."""
    kind, raw = WHOLE[name]
    at = int(place * len(raw))
    read(raw[:at] + put + raw[at + gone :], name, kind)


@given(
    st.sampled_from(["a.jsonl", "b.json", "a.csv", "b.csv", "a.tsv"]), st.integers(1, ROWS - 3), st.floats(0, 1), st.integers(0, 5), noise
)
def test_a_damaged_row_costs_at_most_the_one_behind_it(name: str, row: int, place: float, gone: int, put: bytes):
    kind, raw = WHOLE[name]
    start = raw.index(f"r{row}".encode()) - 8
    size = raw.index(f"r{row + 1}".encode()) - 8 - start
    at = start + int(place * size)
    found = read(raw[:at] + put + raw[min(at + gone, start + size) :], name, kind)
    away = [number for number in range(ROWS) if number < row - 1 or number > row + 1]
    assert [entry for entry in found if entry in list(map(sound, away))] == [sound(number) for number in away]


@given(kinds, st.sampled_from(sorted(PACKERS)), st.floats(0, 1), st.integers(0, 40), st.binary(max_size=20))
def test_packed_files_that_were_damaged_give_what_lies_before_and_behind(name: str, form: str, place: float, gone: int, put: bytes):
    kind, raw = WHOLE[name]
    packed = PACKERS[form](raw)
    at = int(place * len(packed))
    read(packed[:at] + put + packed[at + gone :], name, kind)


@given(st.binary(max_size=400), st.sampled_from(["a.txt", "a.csv"]), st.integers(3, 60))
def test_lines_of_any_bytes_are_accounted_for(raw: bytes, name: str, limit: int):
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(raw)
        for line in read_text(SourceFile(name, str(path), len(raw)), "latin-1", limit):
            assert isinstance(line, Line | Fault)


pieces = st.lists(
    st.sampled_from(
        ['"', '""', ",", "\n", "\r\n", "\r", "\t", "\\", '\\"', "a", "b c", ";", "\ufeff", "\0", "é", "1", '"x"', '"x,y"', "sep=;\n"]
    ),
    max_size=40,
).map("".join)


@given(pieces, st.sampled_from(["a.csv", "a.tsv"]))
def test_any_marks_of_csv_are_rows_or_faults(text: str, name: str):
    read(text.encode(), name, "csv", ["text"])


tokens = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", '"', ":", ",", "\n", '"text"', '"a"', "1", "NaN", "-Infinity", "\\ud800", "\\", "\0", "\ufeff", "9" * 400, " "]
    )
    | st.just('{"text": "a"}'),
    max_size=40,
).map("".join)


@given(tokens, st.sampled_from(["json", "jsonl"]))
def test_any_marks_of_json_are_rows_or_faults(text: str, kind: RecordFormat):
    read(text.encode(), "a.json", kind)

"""Byte account: what a source's files hold, unpacked, is what lies in records, in rejects and between them."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.reading.account import Account
from tasks.reading.faults import Fault
from tasks.reading.files import SourceFile
from tasks.reading.read import read_file
from tasks.reading.records import Layout, read_records
from tasks.reading.sources import CsvSource, HtmlSource, JsonLinesSource, JsonSource, MarkdownSource, TextSource, WarcSource

ROWS = b'\xef\xbb\xbf{"text": "one"}\n\n{"text": 2}\n{"text": "thr'
PAGE = b"<p>one two three</p>"
WARC = b"WARC/1.0\r\nWARC-Type: resource\r\nContent-Type: text/%b\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n"
PAGES = [WARC % (kind, len(PAGE), PAGE) for kind in (b"html", b"css")]
SOURCES = {"text": TextSource, "markdown": MarkdownSource, "jsonl": JsonLinesSource, "json": JsonSource, "csv": CsvSource}


def account(folder: Path, kind: str, raw: bytes, name: str = "a") -> Account:
    (folder / name).write_bytes(raw)
    source = (SOURCES | {"html": HtmlSource, "warc": WarcSource})[kind].model_validate({"name": "s", "kind": kind, "paths": ["x"]})
    total = Account()
    list(read_file(source, SourceFile(name, str(folder / name), len(raw)), total))
    return total


@pytest.mark.parametrize(
    ("kind", "raw", "records", "rejects", "between"),
    [
        ("jsonl", ROWS, 16, 12 + 13, 3 + 1),
        ("json", b'[{"text": "one"},\n{"text": }]\n', 15, 11, 4),
        ("json", b'[{"text": "one"},\n{"text": 2}]', 15, 12, 3),
        ("csv", b"text,n\none,1\ntwo\n\n", 6, 4, 7 + 1),
        ("csv", b"text,n\r\r\none,1\r\r\n", 7, 0, 8 + 2),
        ("csv", b'text,"n\none,1\n', 0, 14, 0),
        ("text", b"\xef\xbb\xbfone\r\r\ntwo\n", 9, 0, 3 + 1),
        ("text", b" \n\n", 0, 3, 0),
        ("text", b"%PDF-1.7 and so on", 0, 18, 0),
        ("text", bytes(range(256)) * 4, 0, 1024, 0),
        ("markdown", b"# One\n\nand so on\n", 17, 0, 0),
        ("html", PAGE, 20, 0, 0),
        ("html", b" \n", 0, 2, 0),
        ("warc", b"\n" + PAGES[0] + b"noise" + PAGES[1], len(PAGES[0]), 5 + len(PAGES[1]), 1),
        ("warc", b"filedesc://a.arc 0.0.0.0 20260101000000 text/plain 9\nand so on", 0, 62, 0),
        ("warc", b"no archive", 0, 10, 0),
    ],
)
def test_every_byte_is_in_a_record_a_reject_or_between(tmp_path: Path, kind: str, raw: bytes, records: int, rejects: int, between: int):
    assert account(tmp_path, kind, raw) == Account(len(raw), records, rejects, between)


def test_packed_files_count_as_they_are_unpacked(tmp_path: Path):
    assert account(tmp_path, "jsonl", gzip.compress(ROWS)) == account(tmp_path, "jsonl", ROWS)
    cut = gzip.compress(ROWS)[:-12]
    assert account(tmp_path, "jsonl", cut).came in range(1, len(ROWS) + 1)


@pytest.mark.parametrize("text", ["one\ntwo\n", "一行字\n又一行\n"])
def test_what_utf_16_takes_beyond_utf_8_is_told_apart(tmp_path: Path, text: str):
    raw = text.encode("utf-16")
    found = account(tmp_path, "text", raw)
    assert (found.records, found.structure) == (len(text.encode()), 2)
    figures = found.figures()
    assert figures.pop("file_bytes") == len(raw) == sum(figures.values())


def damaged(raw: bytes) -> bytes:
    return raw[:100] + bytes(100) + raw[200:]


@pytest.mark.parametrize(("change", "lost"), [(bytes, 0), (damaged, 100)])
def test_parquet_gives_as_many_rows_as_its_footer_counts(tmp_path: Path, change: Callable[[bytes], bytes], lost: int):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"row {number}" for number in range(300)]}), path, row_group_size=100)
    path.write_bytes(change(path.read_bytes()))
    total = Account()
    found = list(read_records(SourceFile(path.name, str(path), path.stat().st_size), Layout("parquet"), total))
    faults = [one for one in found if isinstance(one, Fault)]
    assert len(found) - len(faults) == 300 - lost
    assert [fault.reason for fault in faults] == ["damaged_rows"] * bool(lost)
    assert total.figures() == {}


def test_a_parquet_footer_that_contradicts_itself_refuses_the_file(tmp_path: Path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["row"] * 300}), path, row_group_size=100)
    raw = path.read_bytes()
    counted = raw.index(b"\x16\xd8\x04")  # 300 as the footer spells it
    path.write_bytes(raw[:counted] + b"\x16\xda\x04" + raw[counted + 3 :])
    found = list(read_records(SourceFile(path.name, str(path), len(raw)), Layout("parquet")))
    assert [(one.reason, one.evidence) for one in found if isinstance(one, Fault)] == [
        ("unreadable_file", "its footer counts 301 rows, its row groups hold 300")
    ]

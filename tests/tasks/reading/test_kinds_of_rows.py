"""Rows as people's programs write them: what is whole is read, what is not is told, and no name reaches our own notes."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from tasks.errors import UserError
from tasks.reading.documents import Found, Refused
from tasks.reading.read import list_files, read_file
from tasks.reading.sources import AnySource

SOURCES: TypeAdapter[AnySource] = TypeAdapter(AnySource)


MHTML = b"From: <Saved by Blink>\nSubject: A\n page\nMIME-Version: 1.0\nContent-Type: multipart/related;\n\n<p>a</p>"


def read(folder: Path, kind: str, name: str, raw: bytes, **settings: object) -> list[Found | Refused]:
    path = folder / name
    path.write_bytes(raw)
    source = SOURCES.validate_python({"kind": kind, "name": "t", "paths": [str(path)], **settings})
    return [found for file in list_files(source) for found in read_file(source, file)]


def told(found: list[Found | Refused]) -> list[str]:
    return [one.text if isinstance(one, Found) else one.fault.reason for one in found]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'"id","text"\n"1","a"\n"2","b\n"3","c"\n', ["a", "malformed", "c"]),
        (b'id,text\n1,"' + b"line\n" * 12_000 + b'"\n2,b\n', ["line\n" * 12_000, "b"]),
        (b"id,text,n\n1,a,x\n9,half\nof it,x\n2,b,x\n", ["a", "uneven_row", "uneven_row", "b"]),
        (b"id,text,\n1,a\n2,b\n", ["a", "b"]),
        (b'id,text\n1,"say \\"hi\\""\n2,b\n', ['say "hi"', "b"]),
        (b"id,text\n1,a\n\xef\xbb\xbfid,text\n2,b\n", ["a", "malformed", "b"]),
        (b"sep=;\r\nid;text\r\n1;a,b\r\n", ["a,b"]),
        (b"# made by a tool\nid,text\n1,a\n", ["missing_field", "missing_field"]),
        (b'id,text\r\n1,"a\r\nb"\r\r\n2,c\r\r\n', ["a\r\nb", "c"]),
        (b'id,text\n1,a\n2,"never closed\n', ["a", "malformed"]),
    ],
)
def test_a_row_that_goes_wrong_costs_no_other(tmp_path: Path, raw: bytes, expected: list[str]):
    assert told(read(tmp_path, "csv", "a.csv", raw)) == expected


def test_a_line_that_tells_the_delimiter_is_no_header_when_the_recipe_tells_it_too(tmp_path: Path):
    assert told(read(tmp_path, "csv", "a.csv", b"sep=;\nid;text\n1;a,b\n", delimiter=";")) == ["a,b"]


def test_tsv_has_the_quotes_that_its_rows_show(tmp_path: Path):
    assert told(read(tmp_path, "csv", "a.tsv", b'id\ttext\n0\t"a ""b""\nc"\n1\td\n')) == ['a "b"\nc', "d"]
    assert told(read(tmp_path, "csv", "b.tsv", b'id\ttext\n0\t"No," he said.\n1\t"Yes"\n')) == ['"No," he said.', '"Yes"']
    assert told(read(tmp_path, "csv", "c.tsv", b'id\ttext\n0\t"I came.\n1\tI saw."\n')) == ['"I came.', 'I saw."']


@pytest.mark.parametrize(
    ("header", "words"), [(b"id,text,text", "both called 'text'"), (b"id;text", 'delimiter: ";"'), (b"id|text", 'delimiter: "|"')]
)
def test_a_header_that_says_otherwise_is_an_error_that_names_it(tmp_path: Path, header: bytes, words: str):
    with pytest.raises(UserError, match="a.csv") as error:
        read(tmp_path, "csv", "a.csv", header + b"\n1;a\n")
    assert words in str(error.value)


def test_json_that_others_write_costs_no_neighbour(tmp_path: Path):
    deep = b'{"text": "d", "r": [' * 300 + b"NaN" + b"]}" * 300
    rows = [b'{"text": "a"}', deep, b'\xef\xbb\xbf{"text": "b"}', b"\0" * 50 + b'{"text": "c"}', b"\0" * 500]
    expected = ["a", "malformed", "b", "malformed", "c", "malformed"]
    assert told(read(tmp_path, "jsonl", "a.jsonl", b"\n".join(rows))) == expected
    thread = b'{"text": "d", "r": [' * 490 + b"null" + b"]}" * 490
    assert told(read(tmp_path, "jsonl", "b.jsonl", b'{"text": "a"}\n' + thread, meta_fields=["r"])) == ["a", "malformed"]
    assert told(read(tmp_path, "jsonl", "c.jsonl", b'{"text": "a"}\n' + thread)) == ["a", "d"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"text": "b"}{"text": "c"} {"text": "d"}', ["b", "c", "d"]),  # files without a last line end, put together
        (b'\x1e{"text": "b"}', ["b"]),  # a JSON text sequence
        (b'{"text": "b"},', ["b"]),
        (b'{"text": "b"}{"text": ', ["b", "malformed"]),
        (b'{"text": "cut o{"text": "b"}', ["malformed", "b"]),
        (b'{"text": "cut", "replies": [{"text": "b"}', ["malformed"]),
        (b'{"text": "he said "no} {yes" twice", "meta": {"text": "b"}}', ["malformed"]),
        (b'{"a": 1} {"b": 2', ["missing_field", "malformed"]),
        (b"[1, {2} {3}]", ["malformed"]),
    ],
)
def test_a_line_of_several_values_gives_each_that_is_whole(tmp_path: Path, line: bytes, expected: list[str]):
    found = read(tmp_path, "jsonl", "a.jsonl", b'{"text": "a"}\n' + line + b'\n{"text": "z"}\n{"text": "y"}\n')
    assert told(found) == ["a", *expected, "z", "y"]
    assert len({one.id for one in found if isinstance(one, Found)}) == len([one for one in found if isinstance(one, Found)])


def test_an_object_in_a_list_that_is_not_closed_costs_no_other(tmp_path: Path):
    raw = b'[{"text": "a", "r": [{"text": "x"}, {"text": "y"}]}, {"text": "b", {"text": "c, {"}, {"text": "d"}]'
    assert told(read(tmp_path, "json", "a.json", raw)) == ["a", "malformed", "c, {", "d"]


def test_what_lies_behind_zeros_is_read_or_told_with_its_size(tmp_path: Path):
    rows = b'{"text": "b"}\n' * 100
    packed = gzip.compress(b'{"text": "a"}\n') + b"\0" * 512
    found = read(tmp_path, "jsonl", "a.gz", packed + rows)
    assert told(found) == ["a", "trailing_junk"]
    assert isinstance(found[1], Refused)
    assert found[1].fault.bytes == len(rows)
    assert told(read(tmp_path, "jsonl", "b.gz", packed + gzip.compress(rows))) == ["a", *["b"] * 100]


@pytest.mark.parametrize("raw", [b"%PDF-1.4\n1 0 obj\n", b"{\\rtf1\\ansi Hello}", b"%!PS-Adobe-3.0\n", MHTML])
def test_a_document_of_another_program_is_refused_by_name(tmp_path: Path, raw: bytes):
    found = read(tmp_path, "text", "a.txt", raw)
    assert told(found) == ["other_format"]
    assert isinstance(found[0], Refused)
    assert found[0].fault.bytes == len(raw)


def test_a_table_whose_column_names_are_no_utf8_is_refused_by_that(tmp_path: Path):
    pq.write_table(pa.table({"text": ["a"], "zzzz": ["b"]}), tmp_path / "a.parquet")
    raw = (tmp_path / "a.parquet").read_bytes().replace(b"zzzz", "标题".encode("gbk"))
    found = read(tmp_path, "parquet", "b.parquet", raw)
    assert told(found) == ["unreadable_file"]
    assert isinstance(found[0], Refused)
    assert "no UTF-8" in found[0].fault.evidence


def test_bytes_in_another_column_are_not_taken_for_a_text_that_is_none(tmp_path: Path):
    pq.write_table(pa.table({"text": ["a", "b"], "raw": pa.array([b"\xff\x00", b"ok"])}), tmp_path / "a.parquet")
    found = read(tmp_path, "parquet", "a.parquet", (tmp_path / "a.parquet").read_bytes(), meta_fields=["raw"])
    assert told(found) == ["malformed", "b"]
    assert isinstance(found[0], Refused)
    assert found[0].fault.evidence.startswith("field 'raw': not_text")


def test_fields_called_as_our_notes_change_nothing_but_themselves(tmp_path: Path):
    row = {"text": "a < b", "format": "html", "charset": "x", "repaired": "y", "field.format": "z", "group": "g"}
    (found,) = read(tmp_path, "jsonl", "a.jsonl", json.dumps(row).encode(), meta_fields=[*row][1:])
    assert isinstance(found, Found)
    expected = {"field.format": "html", "field.charset": "x", "field.repaired": "y", "field.field.format": "z", "group": "g"}
    assert found.meta == expected


def test_a_file_called_id_shares_no_id_with_rows_that_name_themselves(tmp_path: Path):
    rows = b'{"text": "a"}\n{"id": "1", "text": "b"}\n'
    found = read(tmp_path, "jsonl", "id", rows, id_field="id")
    assert len({one.id for one in found}) == 2


@pytest.mark.parametrize(
    "column",
    [
        pa.array([10_000_000, 1], pa.date32()),
        pa.array([2**62, 1], pa.timestamp("us", "Mars/Olympus")),
        pa.array([2**62, 1], pa.duration("ns")),
        pa.array([[10_000_000], [1]], pa.list_(pa.date32())),
        pa.array([None, None], pa.null()),
    ],
)
def test_values_that_python_has_not_cost_at_most_their_row(tmp_path: Path, column: pa.Array):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "value": column}), path)
    assert told(read(tmp_path, "parquet", "a.parquet", path.read_bytes(), meta_fields=["value"]))[1] == "b"

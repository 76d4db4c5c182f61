"""Reading a source: what becomes a document, what is refused and why, and that nothing depends on where files lie."""

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from tasks.errors import UserError
from tasks.reading import lines
from tasks.reading.documents import MANY_ROWS, Found, Refused
from tasks.reading.read import digests_of, list_files, read_file
from tasks.reading.sources import AnySource

SOURCES: TypeAdapter[AnySource] = TypeAdapter(AnySource)


def source(kind: str, path: Path | str, **settings: object) -> AnySource:
    return SOURCES.validate_python({"kind": kind, "name": "t", "paths": [str(path)], **settings})


def read(one: AnySource) -> Iterator[Found | Refused]:
    for file in list_files(one):
        yield from read_file(*pickle.loads(pickle.dumps((one, file))))


def texts(one: AnySource) -> list[str]:
    return [found.text if isinstance(found, Found) else found.fault.reason for found in read(one)]


def test_csv_tsv_json_and_parquet_rows_become_documents(tmp_path: Path):
    (tmp_path / "a.csv").write_text('id,text\n1,"two\nlines"\n2,b\n')
    (tmp_path / "b.tsv").write_text('say "hi\t0\nother\t1\n')
    (tmp_path / "c.json").write_text('[{"text": "j"}]')
    pq.write_table(pa.table({"body": ["p"]}), tmp_path / "d.parquet")
    assert texts(source("csv", tmp_path / "a.csv", id_field="id")) == ["two\nlines", "b"]
    assert texts(source("csv", tmp_path / "b.tsv", header=False, text_field="0")) == ['say "hi', "other"]
    assert texts(source("json", tmp_path / "c.json")) == ["j"]
    assert texts(source("parquet", tmp_path / "d.parquet", text_field="body")) == ["p"]


def test_fields_kept_in_meta_are_text(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "n": 1, "deep": {"x": [null]}, "none": null}\n')
    (found,) = read(source("jsonl", tmp_path, meta_fields=["n", "deep", "none"]))
    assert isinstance(found, Found)
    assert found.meta == {"n": "1", "deep": "{'x': [None]}"}


def test_front_matter_is_kept_apart_and_a_rule_across_the_page_is_not_mistaken_for_it(tmp_path: Path):
    (tmp_path / "a.md").write_text('---\ntitle: "The ferry"\ntags: [a]\n---\n\n# Head\n\nText\n')
    (tmp_path / "b.md").write_text("---\n\nText\n")
    (tmp_path / "c.md").write_text("---\n\nA verse: the first.\n\n---\nText\n")
    first, second, third = read(source("markdown", tmp_path))
    assert isinstance(third, Found)
    assert third.text == "---\n\nA verse: the first.\n\n---\nText"
    assert isinstance(first, Found)
    assert isinstance(second, Found)
    assert (first.text, second.text) == ("# Head\n\nText", "---\n\nText")
    expected = {"format": "markdown", "title": "The ferry", "front_matter": 'title: "The ferry"\ntags: [a]'}
    assert (first.meta, second.meta) == (expected, {"format": "markdown"})


def test_flags_stand_on_the_document_they_belong_to(tmp_path: Path):
    chapters = ["Chapter 1\nplain text of some length", "Chapter 2\nbad \udcff byte in a line that is long enough"]
    chapters += ["Chapter 3\nplain again"]
    (tmp_path / "a.txt").write_bytes("\n".join(chapters).encode("utf-8", "surrogateescape"))
    found = list(read(source("text", tmp_path, split="heading", heading="^Chapter")))
    flags = [dict(one.meta).get("repaired") for one in found if isinstance(one, Found)]
    assert flags[0] is None
    assert flags[1] is not None
    assert flags[2] is None


def test_charsets_other_than_utf8_are_recorded(tmp_path: Path):
    text = "渡船在天亮前一个小时离开了港口，船上有两辆车和十一位乘客。"
    (tmp_path / "a.txt").write_bytes(text.encode("gb18030"))
    (tmp_path / "b.txt").write_bytes(text.encode("utf-16"))
    (tmp_path / "c.txt").write_bytes(text.encode())
    found = [one for one in read(source("text", tmp_path)) if isinstance(one, Found)]
    assert [one.text for one in found] == [text] * 3
    assert [one.meta.get("charset") for one in found] == ["gb18030", "utf-16-le", None]


def test_a_cut_page_is_kept_flagged_and_counted(tmp_path: Path):
    import gzip
    import random

    chance = random.Random(1)
    page = "<p>" + " ".join(str(chance.random()) for _ in range(5_000))
    (tmp_path / "a.html.gz").write_bytes(gzip.compress(page.encode())[:-500])
    found, refused = read(source("html", tmp_path))
    assert isinstance(found, Found)
    assert isinstance(refused, Refused)
    assert page.startswith(found.text)
    assert found.meta == {"format": "html", "repaired": "truncated"}
    assert refused.fault.reason == "truncated_stream"


def test_ids_depend_on_name_and_position_or_the_id_field_alone(tmp_path: Path):
    found: list[list[Found | Refused]] = []
    for folder in ("here", "there"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub" / "a.jsonl").write_text('{"text": "one", "id": 7}\n\n{"text": "two"}\n')
        found.append(list(read(source("jsonl", tmp_path / folder / "**" / "*.jsonl"))))
        (tmp_path / "there").mkdir(exist_ok=True)
        (tmp_path / "there" / "b.jsonl").write_text('{"text": "other", "id": 7}\n')
    assert found[0] == [one for one in found[1] if one.path.startswith("sub")]
    assert [one.path for one in found[0]] == ["sub/a.jsonl:1", "sub/a.jsonl:3"]
    named = [one.id for one in read(source("jsonl", tmp_path / "there" / "**" / "*.jsonl", id_field="id"))]
    assert named[0] == named[1]


def test_language_is_what_the_recipe_says_or_not_known_yet(tmp_path: Path):
    (tmp_path / "a.txt").write_text("Plain English.")
    for declared, expected in {"auto": "und", "en": "en", "yue": "yue", "code": "code"}.items():
        (found,) = read(source("text", tmp_path, language=declared))
        assert isinstance(found, Found)
        assert found.language == expected
    with pytest.raises(ValidationError, match="language"):
        source("text", tmp_path, language="English")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_when_most_rows_of_a_large_file_lack_the_field_the_recipe_is_wrong(tmp_path: Path, kind: str):
    rows = [{"body": "one", "n": 1, "gone": None}] * MANY_ROWS
    path = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(UserError, match=r"10000 of 10000 rows have no text in field 'text'; .*body.*Fix: set text_field"):
        list(read(source(kind, path)))


def test_a_field_without_text_is_told_from_one_that_is_not_there(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": null}\n{"body": "b"}\n{"text": 3}\n{"text": ["x"]}\n{"text": " "}\n')
    assert [found.fault.reason for found in read(source("jsonl", tmp_path)) if isinstance(found, Refused)] == [
        "empty_text",
        "missing_field",
        "not_text",
        "not_text",
        "empty_text",
    ]


def test_a_file_that_is_written_to_meanwhile_is_the_users_error(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text((json.dumps({"text": "a" * 10_000}) + "\n") * 400)  # more than is read at once
    found = read(source("jsonl", path))
    next(found)
    with path.open("a") as file:
        file.write('{"text": "b"}\n')
    with pytest.raises(UserError, match=r"a\.jsonl: changed while it was read"):
        list(found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("a")
    path.chmod(0)
    with pytest.raises(UserError, match=r"a\.txt: Permission denied"):
        list(read(source("text", path)))


def test_a_disk_that_fails_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(_: object) -> Iterator[bytes]:
        raise OSError(5, "Input/output error")
        yield b""

    (tmp_path / "a.txt").write_text("a")
    monkeypatch.setattr(lines, "unpacked", fail)
    with pytest.raises(UserError, match=r"a\.txt: Input/output error"):
        list(read(source("text", tmp_path)))


def test_a_changed_byte_changes_the_digest_and_the_folder_does_not(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "a.txt").write_text("one")
    first = digests_of(source("text", tmp_path / "a.txt"))
    assert digests_of(source("text", tmp_path / "sub" / "a.txt")) == first
    (tmp_path / "a.txt").write_text("two")
    assert digests_of(source("text", tmp_path / "a.txt")) != first


def test_an_unknown_charset_is_refused_with_the_recipe(tmp_path: Path):
    for kind in ("text", "jsonl", "csv", "html"):
        with pytest.raises(ValidationError, match="'bi5' is no charset"):
            source(kind, tmp_path, encoding="bi5")


def test_japanese_with_escapes_is_read_line_by_line(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("吾輩は猫である。\n名前はまだ無い。\n".encode("iso2022_jp"))
    assert texts(source("text", tmp_path)) == ["吾輩は猫である。\n名前はまだ無い。"]


def test_a_file_whose_name_is_no_text_is_read(tmp_path: Path):
    (tmp_path / os.fsdecode(b"bad\xff.txt")).write_text("a")
    (found,) = read(source("text", tmp_path))
    assert found.path == "bad\\udcff.txt:1"


def test_a_heading_is_asked_for_with_its_split_only(tmp_path: Path):
    for settings in ({"split": "heading"}, {"heading": "^#"}, {"split": "heading", "heading": "("}):
        with pytest.raises(ValidationError, match="heading"):
            source("text", tmp_path, **settings)


def test_files_behind_an_address_are_read():
    import fsspec

    with fsspec.open("memory://read/a.txt", "wb") as file:
        file.write(b"remote text")
    assert texts(source("text", "memory://read/*.txt")) == ["remote text"]


@pytest.mark.parametrize(
    ("kind", "name", "raw"),
    [
        ("text", "a.txt", (b"<!--" * 4_000 + b"caf\xe9 na\xefve \xfcber ") * 10),
        ("text", "b.txt", b"ab" * 2_000_000 + "é".encode() * 9_000 + b"\xff"),
        ("markdown", "a.md", b"---\ntitle: x" + b" " * 64_000 + b"y\n---\ntext\n"),
        ("csv", "a.tsv", b"text\tn\n" + b'"a\n' * 150_000),
        ("warc", "a.warc", b"WARC/1.0\r\nX:" * 100_000),
    ],
)
@pytest.mark.timeout(40)  # seconds: each takes up to 4, and minutes when its marks look for their ends anew
def test_marks_that_never_end_and_parts_of_a_mended_line_are_read(tmp_path: Path, kind: str, name: str, raw: bytes):
    (tmp_path / name).write_bytes(raw)
    assert texts(source(kind, tmp_path / name, **({"split": "window", "window_chars": 100} if name == "b.txt" else {})))

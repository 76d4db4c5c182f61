"""Ingest: what becomes a document, what is refused and why, and that nothing depends on where files lie."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.contracts import check_table
from tasks.errors import UserError
from tasks.ingest import IngestConfig, ingest, source_digests
from tasks.ledger import StageOutcome
from tasks.reading.pieces import cut_text
from tasks.settings import identity
from tasks.stdlib import modules, python_texts

Row = dict[str, object]


def run(tmp_path: Path, *sources: Row, out: str = "out") -> tuple[StageOutcome, list[Row], list[Row]]:
    folder = tmp_path / out
    folder.mkdir()
    outcome = ingest(IngestConfig.model_validate({"sources": list(sources)}), folder)
    outcome.ledger.check("ingest")
    check_table("Documents", folder / "documents-000.parquet")
    rejects = folder / "rejects-000.parquet"
    documents = pq.read_table(folder / "documents-000.parquet").to_pylist()
    return outcome, documents, pq.read_table(rejects).to_pylist() if rejects.exists() else []


def text_source(path: Path, **settings: object) -> Row:
    return {"kind": "text", "name": "t", "paths": [str(path)], **settings}


def jsonl_source(path: Path, **settings: object) -> Row:
    return {"kind": "jsonl", "name": "t", "paths": [str(path)], **settings}


def test_paragraphs_are_merged_up_to_the_window_and_never_cut(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\n\n".join(["word " * 9] * 5) + "\n")
    _, documents, _ = run(tmp_path, text_source(tmp_path / "a.txt", split="blank_lines", window_chars=100))
    assert [len(str(row["text"]).split()) for row in documents] == [18, 18, 9]


@given(
    st.lists(st.text("ab 林\n\r", max_size=40), max_size=20).map("".join),
    st.sampled_from(["file", "window", "blank_lines"]),
    st.integers(1, 30),
)
def test_pieces_hold_all_text_in_order_and_fit_the_window(text: str, split: str, window: int):
    pieces = list(cut_text(text.splitlines(keepends=True), split, window))  # type: ignore[arg-type]
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= window and piece.strip() for piece in pieces)


def test_lines_longer_than_the_window_are_cut_and_shorter_ones_are_not():
    assert list(cut_text(["abc\n", "defgh\n", "i\n"], "window", 4)) == ["abc", "defg", "h\ni"]


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_compressed_files_read_like_plain_ones(ending: str, tmp_path: Path):
    raw = "\ufeffFirst line.\n第二行。\n".encode()
    packed = {"": raw, ".gz": gzip.compress(raw), ".bz2": bz2.compress(raw), ".xz": lzma.compress(raw)}
    packed[".zst"] = pa.compress(raw, codec="zstd", asbytes=True)
    (tmp_path / f"a.txt{ending}").write_bytes(packed[ending])
    _, documents, _ = run(tmp_path, text_source(tmp_path / f"a.txt{ending}"))
    assert [row["text"] for row in documents] == ["First line.\n第二行。"]


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_stream_that_breaks_off_gives_its_whole_records_and_one_reject(ending: str, tmp_path: Path):
    import random

    noise = random.Random(1)
    lines = [json.dumps({"text": f"{number} {noise.random()}"}) for number in range(40_000)]
    raw = "\n".join(lines).encode()
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    packed = pack[ending](raw) if ending in pack else pa.compress(raw, codec="zstd", asbytes=True)
    (tmp_path / f"a.jsonl{ending}").write_bytes(packed[: len(packed) * 9 // 10])
    outcome, documents, rejects = run(tmp_path, jsonl_source(tmp_path / f"a.jsonl{ending}"))
    assert 0 < len(documents) < 40_000
    assert [json.loads(line)["text"] for line in lines[: len(documents)]] == [row["text"] for row in documents]
    assert [row["reason"] for row in rejects] == ["truncated_stream"]
    assert outcome.ledger.dropped == {"truncated_stream": 1}


def test_what_is_no_gzip_file_at_all_is_the_users_error(tmp_path: Path):
    (tmp_path / "a.txt.gz").write_text("plain text")
    with pytest.raises(UserError, match=r"a\.txt\.gz: cannot be unpacked"):
        run(tmp_path, text_source(tmp_path / "a.txt.gz"))


def test_bytes_that_are_no_utf8_cost_their_own_document_only(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes("前文。\n\n".encode() + b"bad \xff\xfe byte\n\n" + "后文。\n".encode())
    (tmp_path / "b.txt").write_bytes(b"good")
    source = text_source(tmp_path, split="blank_lines", window_chars=100)
    _, documents, rejects = run(tmp_path, source)  # the three paragraphs fit one document
    assert [row["text"] for row in documents] == ["good"]
    assert rejects[0]["reason"] == "not_utf8"
    assert "bad \ufffd\ufffd byte" in str(rejects[0]["text"])


def test_bad_rows_are_refused_with_a_reason_and_their_neighbours_kept(tmp_path: Path):
    lines = [b'{"text": "one", "group": "g"}', b"not json", b"[1]", b'{"text": 3}', b'{"other": 1}', b'{"text": "  "}']
    lines += [
        b"",
        b'{"text": "\\ud800"}',
        b'{"text": "\xff"}',
        b'{"text": "two"}',
        *[b'{"text": "more %d"}' % n for n in range(4)],
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    outcome, documents, rejects = run(tmp_path, jsonl_source(tmp_path / "a.jsonl", meta_fields=["group"]))
    assert [row["text"] for row in documents] == ["one", "two", *(f"more {n}" for n in range(4))]
    assert documents[0]["meta"] == [("group", "g")]
    assert [row["reason"] for row in rejects] == [
        "malformed",
        "malformed",
        "not_text",
        "missing_field",
        "empty_text",
        "lone_surrogate",
        "not_utf8",
    ]
    assert outcome.ledger.rows_in == 13


def test_when_most_rows_lack_the_field_the_recipe_is_wrong(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"body": "one", "n": 1}\n{"body": "two"}\n{"text": "three"}\n')
    with pytest.raises(UserError, match=r"a\.jsonl:1: .*'text'.*body, n.*text_field"):
        run(tmp_path, jsonl_source(tmp_path / "a.jsonl"))


def test_a_pattern_without_files_names_what_lies_beside_it(tmp_path: Path):
    (tmp_path / "novel.txt").write_text("x")
    with pytest.raises(UserError, match=r"\*\.md' matches no file\. .* holds novel\.txt"):
        run(tmp_path, text_source(tmp_path / "*.md"))
    with pytest.raises(UserError, match="nowhere' matches no file"):
        source_digests(IngestConfig.model_validate({"sources": [text_source(tmp_path / "nowhere")]}))


def test_csv_tsv_json_and_parquet_rows_become_documents(tmp_path: Path):
    (tmp_path / "a.csv").write_text('id,text\n1,"two\nlines"\n2,b\n')
    (tmp_path / "b.tsv").write_text('say "hi\t0\nother\t1\n')
    (tmp_path / "c.json").write_text('[{"text": "j"}]')
    pq.write_table(pa.table({"body": ["p"]}), tmp_path / "d.parquet")
    _, documents, _ = run(
        tmp_path,
        {"kind": "csv", "name": "a", "paths": [str(tmp_path / "a.csv")], "id_field": "id"},
        {"kind": "csv", "name": "b", "paths": [str(tmp_path / "b.tsv")], "header": False, "text_field": "0"},
        {"kind": "json", "name": "c", "paths": [str(tmp_path / "c.json")]},
        {"kind": "parquet", "name": "d", "paths": [str(tmp_path / "d.parquet")], "text_field": "body"},
    )
    assert [row["text"] for row in documents] == ["two\nlines", "b", 'say "hi', "other", "j", "p"]


def test_an_id_given_twice_is_refused(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(
        '{"id": 1, "text": "one"}\n{"id": 1, "text": "two"}\n{"id": 2, "text": "three"}\n'
    )
    _, documents, rejects = run(tmp_path, jsonl_source(tmp_path / "a.jsonl", id_field="id"))
    assert [row["text"] for row in documents] == ["one", "three"]
    assert [row["reason"] for row in rejects] == ["duplicate_id"]


def test_broken_json_names_line_and_column(tmp_path: Path):
    (tmp_path / "a.json").write_text('[\n{"text": }]')
    with pytest.raises(UserError, match=r"a\.json:2:10: "):
        run(tmp_path, {"kind": "json", "name": "c", "paths": [str(tmp_path / "a.json")]})


def test_language_is_told_by_the_share_of_han_characters_unless_declared(tmp_path: Path):
    for name, text in {"a": "Plain English.", "b": "他说 OK，走了。", "c": "See 林 there, in the long text."}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    _, documents, _ = run(tmp_path, text_source(tmp_path / "*.txt"))
    assert [row["language"] for row in documents] == ["en", "zh", "en"]
    _, documents, _ = run(tmp_path, text_source(tmp_path / "a.txt", language="code"), out="declared")
    assert [row["language"] for row in documents] == ["code"]


def test_the_place_of_the_files_changes_neither_ids_nor_identity(tmp_path: Path):
    found = []
    for place in ("here", "there"):
        folder = tmp_path / place
        (folder / "sub").mkdir(parents=True)
        (folder / "a.txt").write_text("one")
        (folder / "sub" / "a.txt").write_text("two")
        source = text_source(folder / "**" / "*.txt")
        config = IngestConfig.model_validate({"sources": [source]})
        _, documents, _ = run(tmp_path, source, out=f"out-{place}")
        found.append((documents, source_digests(config), identity(config)))
    assert found[0] == found[1]
    assert [row["path"] for row in found[0][0]] == ["a.txt:1", "sub/a.txt:1"]


def test_a_changed_byte_changes_the_digest_and_a_second_run_gives_the_same_bytes(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    config = IngestConfig.model_validate({"sources": [text_source(path)]})
    before = source_digests(config)
    run(tmp_path, text_source(path), out="first")
    run(tmp_path, text_source(path), out="second")
    files = [(tmp_path / out / "documents-000.parquet").read_bytes() for out in ("first", "second")]
    path.write_text("two")
    assert files[0] == files[1]
    assert source_digests(config) != before


def test_files_behind_an_address_are_read_through_fsspec(tmp_path: Path):
    import fsspec

    with fsspec.open("memory://corpus/a.txt", "wb") as file:
        file.write(b"remote text")
    source = {"kind": "text", "name": "t", "paths": ["memory://corpus/*.txt"]}
    _, documents, _ = run(tmp_path, source)
    assert [row["text"] for row in documents] == ["remote text"]
    assert len(source_digests(IngestConfig.model_validate({"sources": [source]}))) == 1


def test_a_local_data_set_is_read_as_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": "three"}\n')
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = {"kind": "hub", "name": "h", "path": str(tmp_path / "data"), "streaming": True, "limit": 2}
    _, documents, _ = run(tmp_path, source)
    assert [row["text"] for row in documents] == ["one", "two"]
    with pytest.raises(UserError, match="ingest source 'h': .*split"):
        run(tmp_path, {**source, "split": "nothing"}, out="wrong")


def test_sources_of_one_name_and_unknown_keys_are_refused(tmp_path: Path):
    with pytest.raises(ValidationError, match="two sources are called 't'"):
        IngestConfig.model_validate({"sources": [text_source(tmp_path), text_source(tmp_path)]})
    with pytest.raises(ValidationError, match="text_field"):
        IngestConfig.model_validate({"sources": [text_source(tmp_path, text_field="x")]})
    with pytest.raises(ValidationError, match="sources"):
        IngestConfig.model_validate({"sources": []})


def test_no_document_at_all_is_the_users_error(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(UserError, match="no document .*empty_text 1"):
        run(tmp_path, text_source(tmp_path / "a.txt"))


def test_the_standard_library_gives_reference_docstrings_and_sources():
    texts = list(python_texts(8_000))
    kinds = {kind: [text for text in texts if text.kind == kind] for kind in ("reference", "docstring", "source")}
    assert all(len(found) > 50 for found in kinds.values())
    assert all(len(text.text) <= 8_000 for text in kinds["source"])
    assert all(not text.group for text in kinds["reference"])
    assert not any("site-packages" in text.path or "/test" in text.path for text in texts)
    source = "".join("".join(text.text.split()) for text in texts if text.path == "json/decoder.py")
    original = next(module.text for module in modules() if module.path == "json/decoder.py")
    assert source == "".join(original.split())

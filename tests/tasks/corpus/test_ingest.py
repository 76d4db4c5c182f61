"""Ingest: all sources of a recipe in document tables, in order, under ids and digests that stay when the files move.

What single files turn into is tested with the readers, in tests/tasks/reading.
"""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from tasks.contracts import check_table
from tasks.corpus import ingest
from tasks.corpus.ingest import GROUP_FILES, MANY_FILES, IngestConfig, grouped, source_digests
from tasks.documents import DOCUMENTS, DROPPED
from tasks.errors import UserError
from tasks.reading.files import SourceFile
from tasks.reading.stdlib import modules, python_texts
from tasks.settings import identity
from tests.tasks.corpus_run import Bench, Row, all_bytes, ids, rows


def source(kind: str, path: Path | str, name: str = "s", **settings: object) -> Row:
    return {"kind": kind, "name": name, "paths": [str(path)], **settings}


def config(*sources: Row) -> IngestConfig:
    return IngestConfig.model_validate({"sources": list(sources)})


def write_rows(path: Path, *found: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def test_sources_come_in_the_order_of_the_recipe_and_files_by_name(tmp_path: Path):
    for name in ("b", "a"):
        write_rows(tmp_path / "later" / f"{name}.jsonl", {"text": f"{name} one"}, {"text": f"{name} two"})
    write_rows(tmp_path / "first" / "z.jsonl", {"text": "z"})
    raw = Bench.open(tmp_path / "w").ingest(source("jsonl", tmp_path / "later", "later"), source("jsonl", tmp_path / "first", "first"))
    found = rows(raw, "documents-*.parquet")
    assert [row["text"] for row in found] == ["a one", "a two", "b one", "b two", "z"]
    assert [row["source"] for row in found] == ["later"] * 4 + ["first"]
    assert [row["path"] for row in found] == ["a.jsonl:1", "a.jsonl:2", "b.jsonl:1", "b.jsonl:2", "z.jsonl:1"]


def test_documents_and_rejects_keep_their_contracts_and_together_are_what_was_read(tmp_path: Path):
    write_rows(tmp_path / "in" / "a.jsonl", {"text": "Größe"}, {"text": " "}, {"text": "2", "n": 1}, {"text": 3})
    raw = Bench.open(tmp_path / "w").ingest(source("jsonl", tmp_path / "in"))
    (documents,), (rejects,) = sorted(raw.path.glob("documents-*")), sorted(raw.path.glob("rejects-*"))
    assert (check_table("Documents", documents).rows, check_table("Dropped", rejects).rows) == (2, 2)
    assert (pq.read_schema(documents), pq.read_schema(rejects)) == (DOCUMENTS, DROPPED)
    assert [row["bytes"] for row in rows(raw, "documents-*.parquet")] == [len("Größe".encode()), 1]
    assert {(row["stage"], row["reason"]) for row in rows(raw, "rejects-*.parquet")} == {("ingest", "empty_text"), ("ingest", "not_text")}
    raw.ledger.check("ingest")
    assert (raw.ledger.rows_in, raw.ledger.rows_out) == (4, 2)


def test_the_folder_of_the_files_changes_neither_bytes_nor_digests_nor_identity(tmp_path: Path):
    found = []
    for folder in ("here", "there/deep"):
        write_rows(tmp_path / folder / "a.jsonl", {"text": "one"}, {"text": None})
        write_rows(tmp_path / folder / "sub" / "a.jsonl", {"text": "two"})
        settings = source("jsonl", tmp_path / folder / "**" / "*.jsonl")
        raw = Bench.open(tmp_path / f"w-{len(found)}").ingest(settings)
        found.append((all_bytes(raw), raw.fingerprint, source_digests(config(settings)), identity(config(settings))))
    assert found[0] == found[1]
    assert len(set(ids(raw, "documents-*.parquet") + ids(raw, "rejects-*.parquet"))) == 3


def test_a_changed_byte_changes_digest_and_fingerprint(tmp_path: Path):
    path = write_rows(tmp_path / "a.jsonl", {"text": "one"})
    bench, settings = Bench.open(tmp_path / "w"), source("jsonl", path)
    before, digests = bench.ingest(settings), source_digests(config(settings))
    write_rows(path, {"text": "two"})
    assert source_digests(config(settings)) != digests
    after = bench.ingest(settings)
    assert after.fingerprint != before.fingerprint
    assert ids(after, "documents-*.parquet") == ids(before, "documents-*.parquet")  # where a document stands, not what it says


def test_a_file_that_changes_after_it_was_found_is_the_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_rows(tmp_path / "a.jsonl", {"text": "one"})
    digest_of = ingest.digest_of

    def digest_then_write(file: SourceFile) -> str:
        digest = digest_of(file)
        write_rows(path, {"text": "quite another one"})
        return digest

    monkeypatch.setattr(ingest, "digest_of", digest_then_write)
    with pytest.raises(UserError, match=r"a\.jsonl: changed while it was read\. Fix: run again"):
        Bench.open(tmp_path / "w").ingest(source("jsonl", path))


def test_a_file_in_two_sources_is_read_for_each_under_ids_of_its_own(tmp_path: Path):
    path = write_rows(tmp_path / "a.jsonl", {"text": "one"})
    raw = Bench.open(tmp_path / "w").ingest(source("jsonl", path, "here"), source("text", path, "there"))
    assert [row["text"] for row in rows(raw, "documents-*.parquet")] == ["one", '{"text": "one"}']
    assert len(set(ids(raw, "documents-*.parquet"))) == 2


def test_a_declared_language_is_kept_and_any_other_is_not_known_yet(tmp_path: Path):
    path = write_rows(tmp_path / "a.jsonl", {"text": "one"})
    declared = {"auto": "und", "zh": "zh", "code": "code"}
    raw = Bench.open(tmp_path / "w").ingest(*(source("jsonl", path, name, language=name) for name in declared))
    assert [row["language"] for row in rows(raw, "documents-*.parquet")] == list(declared.values())


def test_an_id_that_an_earlier_file_gave_becomes_a_reject_in_any_source_of_named_rows(tmp_path: Path):
    write_rows(tmp_path / "in" / "a.jsonl", {"id": 1, "text": "one"}, {"id": 2, "text": "two"}, {"text": ""})
    write_rows(tmp_path / "in" / "b.jsonl", {"id": 3, "text": "three"}, {"id": 1, "text": "again"})
    write_rows(tmp_path / "in" / "c.jsonl", {"id": 3, "text": "again"}, {"id": "1", "text": "once more"})
    bench = Bench.open(tmp_path / "w")
    raw = bench.ingest(source("jsonl", tmp_path / "in", id_field="id"))
    assert [row["text"] for row in rows(raw, "documents-*.parquet")] == ["one", "two", "three"]
    assert raw.ledger.dropped == {"duplicate_id": 3, "empty_text": 1}
    assert [row["text"] for row in rows(raw, "rejects-*.parquet")] == ["", "again", "again", "once more"]
    again = Bench.open(tmp_path / "again").ingest(source("jsonl", tmp_path / "in", id_field="id"))
    assert all_bytes(again) == all_bytes(raw)
    plain = bench.ingest(source("jsonl", tmp_path / "in"))
    assert plain.ledger.dropped == {"empty_text": 1}


def test_an_id_given_twice_among_many_small_files_is_a_reject_like_any_other(tmp_path: Path):
    for number in range(MANY_FILES):
        write_rows(tmp_path / "in" / f"{number:03d}.jsonl", {"id": number // 2, "text": f"text {number}"})
    raw = Bench.open(tmp_path / "w").ingest(source("jsonl", tmp_path / "in", id_field="id"))
    assert [row["text"] for row in rows(raw, "documents-*.parquet")] == [f"text {n}" for n in range(0, MANY_FILES, 2)]
    assert raw.ledger.dropped == {"duplicate_id": MANY_FILES // 2}


def test_no_document_at_all_is_the_users_error(tmp_path: Path):
    (tmp_path / "a.txt").write_text("\n\n")
    with pytest.raises(UserError, match=r"no document \(empty_text 1\); first a\.txt: empty_text, expected .* Fix: "):
        Bench.open(tmp_path / "w").ingest(source("text", tmp_path / "a.txt"))


def test_a_source_without_files_is_the_users_error(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="ingest source 's': .*empty' matches no file.* holds nothing"):
        Bench.open(tmp_path / "w").ingest(source("text", tmp_path / "empty"))


def test_a_source_of_which_no_file_can_be_read_is_the_users_error(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.parquet").write_text("no table")
    with pytest.raises(UserError, match=r"ingest source 's': a\.parquet \(and 1 more like it\): .*Fix: .*parquet"):
        Bench.open(tmp_path / "w").ingest(source("parquet", tmp_path / "*.parquet"))


def test_an_unreadable_file_among_others_is_one_counted_reject(tmp_path: Path):
    (tmp_path / "a.parquet").write_text("no table")
    pq.write_table(pa.table({"text": ["one"]}), tmp_path / "b.parquet")
    raw = Bench.open(tmp_path / "w").ingest(source("parquet", tmp_path / "*.parquet"))
    assert [row["text"] for row in rows(raw, "documents-*.parquet")] == ["one"]
    assert raw.ledger.dropped == {"unreadable_file": 1}
    assert [row["path"] for row in rows(raw, "rejects-*.parquet")] == ["a.parquet"]


def test_a_packed_copy_is_another_file_with_the_same_documents(tmp_path: Path):
    plain = write_rows(tmp_path / "a.jsonl", {"text": "one"})
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    raw = Bench.open(tmp_path / "w").ingest(source("jsonl", tmp_path / "a.jsonl*"))
    assert [row["text"] for row in rows(raw, "documents-*.parquet")] == ["one", "one"]
    assert len({row["id"] for row in rows(raw, "documents-*.parquet")}) == 2


def test_files_behind_an_address_are_read_and_digested(tmp_path: Path):
    import fsspec

    with fsspec.open("memory://ingest/a.txt", "wb") as file:
        file.write(b"remote text")
    settings = source("text", "memory://ingest/*.txt")
    raw = Bench.open(tmp_path / "w").ingest(settings)
    assert [(row["text"], row["path"]) for row in rows(raw, "documents-*.parquet")] == [("remote text", "a.txt:1")]
    assert list(source_digests(config(settings))) == ["s/a.txt"]


def test_a_local_data_set_is_read_as_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_rows(tmp_path / "data" / "train.jsonl", *({"text": text} for text in ("one", " ", "two", "three")))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hub = {"kind": "hub", "name": "h", "path": str(tmp_path / "data"), "streaming": True, "limit": 3}
    bench = Bench.open(tmp_path / "w")
    raw = bench.ingest(hub)
    assert [row["text"] for row in rows(raw, "documents-*.parquet")] == ["one", "two"]
    assert raw.ledger.dropped == {"empty_text": 1}
    assert list(source_digests(config(hub))) == ["h/train.jsonl"]
    with pytest.raises(UserError, match="ingest source 'h': .*split.*Fix: "):
        bench.ingest({**hub, "split": "nothing"})


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("second", "cause"),
    [
        ('{"text": "two"}\n{"text": "cut', "ArrowInvalid"),
        ('{"text": "two", "more": 1}', "column names"),
        ('{"text": ["two"]}', "array|cast"),
        ('{"text": "\xff"}', "utf-8"),
    ],
)
def test_a_file_of_a_data_set_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str, cause: str, streaming: bool
):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_rows(tmp_path / "z.jsonl", {"text": "one"}, {"text": "more"})
    (tmp_path / "a.jsonl").write_bytes(second.encode("latin-1"))
    files = [str(tmp_path / name) for name in ("z.jsonl", "a.jsonl")]
    hub = {"kind": "hub", "name": "h", "path": "json", "data_files": files, "streaming": streaming}
    with pytest.raises(UserError, match=rf"ingest source 'h': .*/a\.jsonl: .*({cause}).* behind row 2 .*Fix: "):
        Bench.open(tmp_path / "w").ingest(hub)
    if streaming:  # what is not asked for is not looked at
        assert Bench.open(tmp_path / "w").ingest({**hub, "limit": 2}).ledger.rows_out == 2


def test_rows_of_other_types_and_pictures_cost_no_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    kept = datasets.Features({"text": datasets.Value("string"), "picture": datasets.Image(), "sound": datasets.Audio()})
    broken = {"bytes": b"no picture", "path": None}
    table = pa.table({"text": ["one", None, "two"], "picture": [broken] * 3, "sound": [broken] * 3})
    about = json.dumps({"info": {"features": kept.to_dict()}})
    pq.write_table(table.replace_schema_metadata({"huggingface": about}), tmp_path / "a.parquet")
    write_rows(tmp_path / "b.jsonl", {"text": "three"}, {"text": 4}, {"text": "five"})
    for path, kind, texts, dropped in (
        ("a.parquet", "parquet", ["one", "two"], {"empty_text": 1}),
        ("b.jsonl", "json", ["three", "five"], {"not_text": 1}),
    ):
        hub = {"kind": "hub", "name": "h", "path": kind, "data_files": [str(tmp_path / path)], "streaming": True}
        raw = Bench.open(tmp_path / kind).ingest(hub)
        assert [row["text"] for row in rows(raw, "documents-*.parquet")] == texts
        assert raw.ledger.dropped == dropped


def test_sources_of_one_name_unknown_keys_and_no_source_are_refused(tmp_path: Path):
    with pytest.raises(ValidationError, match="two sources are called 's'"):
        config(source("text", tmp_path), source("jsonl", tmp_path))
    with pytest.raises(ValidationError, match="text_field"):
        config(source("text", tmp_path, text_field="x"))
    with pytest.raises(ValidationError, match="sources"):
        config()


def test_groups_of_small_files_hold_all_in_order_and_a_new_file_touches_one_of_them():
    files = [SourceFile(f"{number:05d}.txt", f"{number:05d}.txt", 10) for number in range(8 * MANY_FILES)]
    files[100] = SourceFile("00100.txt", "00100.txt", 1 << 30)
    groups = list(grouped(files))
    assert [file for group in groups for file in group] == files
    assert [files[100]] in groups
    assert len(files) // GROUP_FILES // 2 < len(groups) < 2 * len(files) // GROUP_FILES
    more = list(grouped(sorted([*files, SourceFile("00500x.txt", "", 10)], key=lambda file: file.name)))
    assert sum(group not in groups for group in more) <= 2
    assert list(grouped(files[:3])) == [[file] for file in files[:3]]


def test_the_standard_library_gives_reference_docstrings_and_sources():
    texts = list(python_texts(8_000))
    kinds = {kind: [text for text in texts if text.kind == kind] for kind in ("reference", "docstring", "source")}
    assert all(len(found) > 50 for found in kinds.values())
    assert all(len(text.text) <= 8_000 for text in kinds["source"])
    assert all(not text.group for text in kinds["reference"])
    assert not any("site-packages" in text.path or "/test" in text.path for text in texts)
    written = "".join("".join(text.text.split()) for text in texts if text.path == "json/decoder.py")
    original = next(module.text for module in modules() if module.path == "json/decoder.py")
    assert written == "".join(original.split())


def test_a_small_file_without_text_costs_its_rows_alone(tmp_path: Path):
    write_rows(tmp_path / "in" / "a.jsonl", {"text": "one"}, {"text": "two"}, {"text": "three"})
    write_rows(tmp_path / "in" / "b.jsonl", {"text": None, "id": 7})
    write_rows(tmp_path / "in" / "c.jsonl", {"body": "elsewhere"})
    raw = Bench.open(tmp_path / "w").ingest({"name": "s", "kind": "jsonl", "paths": [str(tmp_path / "in")]})
    assert (raw.ledger.rows_out, raw.ledger.dropped) == (3, {"empty_text": 1, "missing_field": 1})


def test_a_source_whose_rows_lack_the_field_is_refused_with_what_they_have(tmp_path: Path):
    write_rows(tmp_path / "in" / "a.jsonl", {"body": "one", "n": 1}, {"text": "two"})
    write_rows(tmp_path / "in" / "b.jsonl", {"body": "three"})
    with pytest.raises(UserError) as refused:
        Bench.open(tmp_path / "w").ingest({"name": "s", "kind": "jsonl", "paths": [str(tmp_path / "in")]})
    assert str(refused.value) == (
        "ingest source 's': a.jsonl:1: 2 of 3 rows have no text in field 'text'; this row is {'body': 'one', 'n': 1}. "
        "Fix: set text_field to the field that holds the text."
    )


def test_what_could_not_be_read_beside_files_is_in_the_ledger(tmp_path: Path):
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").symlink_to("/nowhere/b.txt")
    source = {"name": "s", "kind": "text", "paths": [str(folder)]}
    raw = Bench.open(tmp_path / "w").ingest(source)
    assert (raw.ledger.rows_in, raw.ledger.rows_out, raw.ledger.dropped) == (3, 1, {"dangling_link": 1, "subfolder": 1})
    told = {row["path"]: row["text"] for row in rows(raw, "rejects-*.parquet")}
    assert told["b.txt"] == "a link to /nowhere/b.txt"
    (folder / "b.txt").unlink()
    (folder / "b.txt").write_text("b")
    assert Bench.open(tmp_path / "w").ingest(source).ledger.dropped == {"subfolder": 1}


def test_bytes_of_all_files_are_among_the_figures_also_where_an_id_comes_again(tmp_path: Path):
    write_rows(tmp_path / "in" / "a.jsonl", {"text": "one", "id": 1}, {"text": " ", "id": 2})
    write_rows(tmp_path / "in" / "b.jsonl", {"text": "two", "id": 1}, {"text": "three", "id": 3})
    (tmp_path / "in" / "c.jsonl").write_text("\nno row\n")
    raw = Bench.open(tmp_path / "w").ingest(source("jsonl", tmp_path / "in", id_field="id"))
    assert raw.ledger.dropped == {"duplicate_id": 1, "empty_text": 1, "malformed": 1}
    figures = dict(raw.figures)
    assert figures.pop("source_bytes") == sum(path.stat().st_size for path in (tmp_path / "in").iterdir())  # as stored
    assert figures.pop("file_bytes") == sum(path.stat().st_size for path in (tmp_path / "in").iterdir()) == sum(figures.values())
    empty = len(json.dumps({"text": " ", "id": 2})) + 1
    assert (figures["reject_bytes"], figures["between_bytes"]) == (empty + len("no row\n"), 1)

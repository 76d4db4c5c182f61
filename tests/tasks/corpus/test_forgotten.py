"""Documents that are to be forgotten: the file that names them, and what ingest makes of it."""

import json
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.runner.execution import check_unchanged
from flows.stages import INGEST, identify
from tasks.corpus.forgotten import FILE, add_forgotten, bearing_on, read_forgotten, text_digest
from tasks.corpus.ingest import MANY_FILES, IngestConfig
from tasks.errors import UserError
from tests.tasks.corpus_run import Bench, Row, all_bytes, ids, rows


def write_rows(path: Path, *found: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def source(path: Path, name: str = "s", kind: str = "jsonl", **settings: object) -> Row:
    return {"kind": kind, "name": name, "paths": [str(path)], **settings}


def forget(bench: Bench, row: Row) -> None:
    digest = text_digest(str(row["text"]))
    add_forgotten(bench.workspace.root, str(row["id"]), str(row["source"]), str(row["path"]), "asked to", digest)


def named(bench: Bench, settings: Row, text: str) -> Row:
    """The document with this text."""
    return next(row for row in rows(bench.ingest(settings), "documents-*.parquet") if row["text"] == text)


def parts(bench: Bench) -> set[str]:
    return {path.name for path in (bench.workspace.root / "parts" / "ingest").glob("*")}


def test_forgotten_documents_are_read_back_in_order_and_once(tmp_path: Path):
    assert read_forgotten(tmp_path) == ()
    assert add_forgotten(tmp_path, "b", "文", "a.txt:1", "一句话\nzwei") is None
    assert add_forgotten(tmp_path, "a", "s", "a.txt:2", "") is None
    again = add_forgotten(tmp_path, "b", "s", "elsewhere", "another reason")
    assert again is not None
    assert (again.path, again.reason) == ("a.txt:1", "一句话\nzwei")
    assert [entry.id for entry in read_forgotten(tmp_path)] == ["b", "a"]
    assert len((tmp_path / FILE).read_text().splitlines()) == 2


def test_a_last_line_without_a_break_does_not_swallow_the_next(tmp_path: Path):
    add_forgotten(tmp_path, "a", "s", "p", "")
    path = tmp_path / FILE
    path.write_text(path.read_text().rstrip("\n"))
    add_forgotten(tmp_path, "b", "s", "p", "")
    path.write_text(path.read_text() + "\n\n")
    assert [entry.id for entry in read_forgotten(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("line", ['{"id": "a", "sour', "[]", '{"id": "a"}', '{"id": 1, "source": "s", "path": "p"}'])
def test_a_damaged_line_is_refused_by_its_number_and_never_passed_over(tmp_path: Path, line: str):
    add_forgotten(tmp_path, "a", "s", "p", "")
    path = tmp_path / FILE
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"forgotten\.jsonl:2: found .* Fix: correct the line"):
        read_forgotten(tmp_path)


def test_writers_at_once_lose_no_line(tmp_path: Path):
    threads = [threading.Thread(target=add_forgotten, args=(tmp_path, f"{n:04d}", "s", "p" * 200, "r")) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.id for entry in read_forgotten(tmp_path)) == [f"{n:04d}" for n in range(40)]


def test_a_document_bears_on_its_own_file_alone(tmp_path: Path):
    for document_id, path in {"1": "a.jsonl:1", "2": "a.jsonl", "3": "b/a.jsonl:1", "4": "a.jsonl2:1"}.items():
        add_forgotten(tmp_path, document_id, "s", path, "")
    add_forgotten(tmp_path, "5", "other", "a.jsonl:1", "")
    found = read_forgotten(tmp_path)
    assert bearing_on(found, "s", {"a.jsonl"}) == ("1", "2")
    assert bearing_on(found, "s", {"b/a.jsonl", "a.jsonl2"}) == ("3", "4")
    assert bearing_on(found, "s", None) == ("1", "2", "3", "4")


def test_a_forgotten_document_becomes_a_reject_without_text_and_its_file_alone_is_read_again(tmp_path: Path):
    for name in "abc":
        write_rows(tmp_path / "in" / f"{name}.jsonl", {"text": f"{name} one"}, {"text": f"{name} two"})
    bench, settings = Bench.open(tmp_path / "w"), source(tmp_path / "in")
    before = bench.ingest(settings)
    known = parts(bench)
    forget(bench, named(bench, settings, "b one"))
    after = bench.ingest(settings)
    assert [row["text"] for row in rows(after, "documents-*.parquet")] == ["a one", "a two", "b two", "c one", "c two"]
    (reject,) = rows(after, "rejects-*.parquet")
    assert (reject["reason"], reject["text"], reject["value"], reject["path"]) == ("forgotten", "", 5.0, "b.jsonl:1")
    after.ledger.check("ingest")
    assert (after.ledger.rows_in, after.ledger.dropped) == (before.ledger.rows_in, {"forgotten": 1})
    assert len(parts(bench) - known) == 1
    (part,) = parts(bench) - known
    assert not any(b"b one" in path.read_bytes() for path in (bench.workspace.root / "parts/ingest" / part).iterdir())


def test_a_forgotten_text_that_moves_in_its_file_does_not_come_back(tmp_path: Path):
    path = write_rows(tmp_path / "a.jsonl", {"text": "one"}, {"text": "secret"}, {"text": "two"})
    bench, settings = Bench.open(tmp_path / "w"), source(path)
    forget(bench, named(bench, settings, "secret"))
    write_rows(path, {"text": "secret"}, {"text": "zero"}, {"text": "one"}, {"text": "secret"}, {"text": "two"})
    raw = bench.ingest(settings)
    assert [row["text"] for row in rows(raw, "documents-*.parquet")] == [
        "one",
        "two",
    ]  # the second place stays closed too
    assert (raw.ledger.rows_in, raw.ledger.dropped) == (5, {"forgotten": 3})


def test_a_line_without_a_digest_closes_its_place_alone(tmp_path: Path):
    add_forgotten(tmp_path, "a", "s", "p:1", "")
    path = tmp_path / FILE
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "digest"}))
    assert bearing_on(read_forgotten(tmp_path), "s", {"p"}) == ("a",)


def test_a_refused_record_can_be_forgotten_too(tmp_path: Path):
    write_rows(tmp_path / "a.jsonl", {"text": "one"}, {"other": "secret"})
    bench, settings = Bench.open(tmp_path / "w"), source(tmp_path / "a.jsonl")
    (reject,) = rows(bench.ingest(settings), "rejects-*.parquet")
    assert "secret" in str(reject["text"])
    forget(bench, reject)
    (reject,) = rows(bench.ingest(settings), "rejects-*.parquet")
    assert (reject["reason"], reject["text"]) == ("forgotten", "")


def test_a_name_that_a_row_gives_itself_is_left_out_of_every_file_that_has_it(tmp_path: Path):
    write_rows(tmp_path / "in" / "a.jsonl", {"id": 1, "text": "one"}, {"id": 2, "text": "two"})
    write_rows(tmp_path / "in" / "b.jsonl", {"id": 1, "text": "one, later"}, {"id": 3, "text": "three"})
    write_rows(tmp_path / "in" / "c.jsonl", {"id": 4, "text": "four"})
    bench, settings = Bench.open(tmp_path / "w"), source(tmp_path / "in", id_field="id")
    forget(bench, named(bench, settings, "one"))
    raw = bench.ingest(settings)
    assert [row["text"] for row in rows(raw, "documents-*.parquet")] == ["two", "three", "four"]
    assert [(row["reason"], row["text"]) for row in rows(raw, "rejects-*.parquet")] == [("forgotten", "")] * 2
    assert (raw.ledger.rows_in, raw.ledger.dropped) == (5, {"forgotten": 2})
    (tmp_path / "in" / "a.jsonl").unlink()  # the name stays forgotten where it is left
    raw = bench.ingest(settings)
    assert [row["text"] for row in rows(raw, "documents-*.parquet")] == ["three", "four"]


def test_a_name_among_many_small_files_is_left_out_of_their_group(tmp_path: Path):
    for number in range(MANY_FILES):
        write_rows(tmp_path / "in" / f"{number:03d}.jsonl", {"id": number // 2, "text": f"text {number}"})
    bench, settings = Bench.open(tmp_path / "w"), source(tmp_path / "in", id_field="id")
    forget(bench, named(bench, settings, "text 8"))
    raw = bench.ingest(settings)
    assert "text 8" not in {row["text"] for row in rows(raw, "documents-*.parquet")}
    assert not {"text 8", "text 9"} & {row["text"] for row in rows(raw, "rejects-*.parquet")}
    assert raw.ledger.rows_in == MANY_FILES


def test_a_source_that_is_read_whole_leaves_its_document_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_rows(tmp_path / "data" / "train.jsonl", {"text": "one"}, {"text": "two"})
    bench = Bench.open(tmp_path / "w")
    hub: Row = {"kind": "hub", "name": "h", "path": str(tmp_path / "data"), "streaming": True}
    forget(bench, named(bench, hub, "one"))
    assert ids(bench.ingest(hub), "documents-*.parquet") == [named(bench, hub, "two")["id"]]


def test_sources_without_a_forgotten_document_keep_their_identity(tmp_path: Path):
    write_rows(tmp_path / "a.jsonl", {"text": "one"}, {"text": "two"})
    write_rows(tmp_path / "b.jsonl", {"text": "other"})
    bench = Bench.open(tmp_path / "w")
    this, other = source(tmp_path / "a.jsonl"), source(tmp_path / "b.jsonl", "t")
    same_name = source(tmp_path / "b.jsonl")  # another file under the same source's name
    before = [bench.ingest(settings).fingerprint for settings in (this, other, same_name)]
    forget(bench, named(bench, this, "one"))
    after = [bench.ingest(settings).fingerprint for settings in (this, other, same_name)]
    assert [was == now for was, now in zip(before, after, strict=True)] == [False, True, True]


def test_a_source_all_forgotten_is_told_as_that(tmp_path: Path):
    write_rows(tmp_path / "a.jsonl", {"text": "one"})
    bench, settings = Bench.open(tmp_path / "w"), source(tmp_path / "a.jsonl")
    forget(bench, named(bench, settings, "one"))
    with pytest.raises(UserError, match=r"no document \(forgotten 1\)"):
        bench.ingest(settings)


def test_a_document_forgotten_while_ingest_is_at_work_stops_it(tmp_path: Path):
    write_rows(tmp_path / "a.jsonl", {"text": "one"}, {"text": "two"})
    bench, settings = Bench.open(tmp_path / "w"), source(tmp_path / "a.jsonl")
    config = IngestConfig.model_validate({"sources": [settings]})
    found = identify(INGEST, config, {}, "nowhere", bench.workspace)
    forget(bench, named(bench, settings, "one"))
    with pytest.raises(UserError, match="forgotten documents changed while the stage was at work"):
        check_unchanged(INGEST, config, found, bench.workspace)


def test_annotate_works_again_on_the_table_that_changed_alone(tmp_path: Path):
    for name in "abc":
        write_rows(tmp_path / "in" / f"{name}.jsonl", {"text": f"{name} one"}, {"text": f"{name} two"})
    bench, settings = Bench.open(tmp_path / "w"), source(tmp_path / "in")
    before = bench.annotate(bench.ingest(settings))
    known = {path.name for path in (bench.workspace.root / "parts" / "annotate").iterdir()}
    forget(bench, named(bench, settings, "b two"))
    after = bench.annotate(bench.ingest(settings))
    assert len({path.name for path in (bench.workspace.root / "parts" / "annotate").iterdir()} - known) == 1
    same = {name for name, content in all_bytes(after).items() if all_bytes(before).get(name) == content}
    assert {name for name in all_bytes(after) if name.startswith("documents")} - same == {"documents-00001-000.parquet"}
    assert pq.read_table(after.path / "documents-00001-000.parquet")["text"].to_pylist() == ["b one"]

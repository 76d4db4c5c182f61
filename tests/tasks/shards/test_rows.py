"""What the stage writes: rows, documents, groups, figures."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks.shards.encoded_corpus
import tasks.shards.packing
from tasks.artifacts import Corpus, Tokenizer
from tasks.executor.filetasks import FilesConfig, FileTasks
from tasks.shards.encoded_corpus import ORDERED
from tasks.shards.shards import Packed, RowKind, ShardsConfig, pack_windows
from tasks.tokenizer.encoding import load_tokenizer, special_ids
from tests.tasks.shards.shards_run import (
    TRAIN,
    VALIDATION,
    digests,
    encoded,
    make_corpus,
    make_texts,
    open_rows,
    read_rows,
    run,
    shuffled,
    unpacked,
)


@pytest.mark.parametrize("packing", ["best_fit", "documents"])
def test_documents_come_out_of_the_rows_as_they_went_in(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks, packing: str
):
    config = ShardsConfig.model_validate({"context": 32, "rows_per_shard": 50, "seed": 7, "packing": packing})
    out, outcome = run(config, corpus, tokenizer, tmp_path / "out", files)
    assert unpacked(open_rows(out / "train/all")) == dict(enumerate(encoded(tokenizer, TRAIN)))
    assert unpacked(open_rows(out / "validation/all")) == dict(enumerate(encoded(tokenizer, [VALIDATION])))
    assert outcome.ledger.bytes_in == outcome.ledger.bytes_out
    tokens = sum(map(len, encoded(tokenizer, TRAIN)))
    assert outcome.figures["train_tokens"] == tokens - 120, "every token but a document's first is asked for once"
    assert outcome.ledger.tokens_out == outcome.figures["train_tokens"] + outcome.figures["validation_tokens"]


def test_best_fit_cuts_no_document_that_fits_a_row(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    out, _ = run(ShardsConfig(context=63), corpus, tokenizer, tmp_path / "out", files)
    rows = open_rows(out / "train/all")
    lengths = [len(tokens) for tokens in encoded(tokenizer, TRAIN)]
    for segments in rows.segments(np.arange(rows.rows)):
        for length, document in zip(np.diff([0, *segments.ends]), segments.documents, strict=True):
            assert length == lengths[document] if lengths[document] <= 64 else length <= 64
    assert json.loads((out / "packing.json").read_text())[0]["needless_cuts"] == 0


def test_concatenated_rows_are_the_shuffled_documents_one_behind_the_other(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    config = ShardsConfig(context=32, rows_per_shard=50, seed=7, packing="concatenate")
    out, outcome = run(config, corpus, tokenizer, tmp_path / "out", files)
    rows = read_rows(out / "train/all")
    documents = encoded(tokenizer, TRAIN)
    stream = [token for number in shuffled(TRAIN, 7) for token in documents[number]]
    found = [int(rows[0, 0]), *rows[:, 1:].ravel().tolist()]
    assert found == stream[: len(found)]
    assert len(stream) - len(found) < 32
    assert all(before[-1] == after[0] for before, after in pairwise(rows))
    assert outcome.figures["train_tokens"] == 32 * len(rows)
    shards = sorted((out / "train/all").glob("*.parquet"))
    assert [pq.read_metadata(path).num_rows for path in shards][:2] == [50, 50]
    whole = unpacked(open_rows(out / "train/all"))
    assert all(documents[number][: len(tokens)] == tokens for number, tokens in whole.items())


def test_bytes_of_concatenated_rows_are_those_of_the_tokens_they_ask_for(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks
):
    out, outcome = run(ShardsConfig(context=32, packing="concatenate"), corpus, tokenizer, tmp_path / "out", files)
    kept = read_rows(out / "validation/all")[:, 1:].ravel().tolist()
    text = load_tokenizer(tokenizer.path).decode(kept, skip_special_tokens=True)
    assert abs(outcome.figures["validation_bytes"] - len(text.encode())) <= 32


def test_document_tables_give_each_number_its_document(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    out, _ = run(ShardsConfig(context=32), corpus, tokenizer, tmp_path / "out", files)
    table = pq.read_table(out / "documents-train.parquet")
    assert table["id"].to_pylist() == [id for texts in TRAIN for id in texts]
    assert table["tokens"].to_pylist() == [len(tokens) for tokens in encoded(tokenizer, TRAIN)]
    assert table["bytes"].to_pylist() == [len(text.encode()) for texts in TRAIN for text in texts.values()]


def test_packing_file_tells_fill_cuts_and_lengths(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    out, outcome = run(ShardsConfig(context=32), corpus, tokenizer, tmp_path / "out", files)
    train, validation = json.loads((out / "packing.json").read_text())
    rows, lengths = open_rows(out / "train/all"), [len(tokens) for tokens in encoded(tokenizer, TRAIN)]
    padding = int((rows.take(np.arange(rows.rows)) == rows.header.pad).sum())
    assert (train["split"], train["group"], validation["split"]) == ("train", "all", "validation")
    assert (train["documents"], train["rows"], train["tokens"]) == (120, rows.rows, sum(lengths))
    assert train["padding"] == padding == outcome.figures["train_padding_tokens"]
    assert train["fill"] == round(1 - padding / (rows.rows * 33), 6)
    assert train["cut_documents"] == sum(length > 33 for length in lengths) == outcome.figures["train_cut_documents"]
    expected, _ = np.histogram(lengths, train["lengths"]["edges"])
    assert train["lengths"]["counts"] == expected.tolist()


def test_header_says_what_rows_were_made_of(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    out, _ = run(ShardsConfig(context=32, seed=5), corpus, tokenizer, tmp_path / "out", files)
    header = open_rows(out / "train/all").header
    special = special_ids(load_tokenizer(tokenizer.path), "test")
    assert (header.tokenizer, header.parent, header.seed, header.packing) == ("facade", "c0ffee", 5, "best_fit")
    assert (header.bos, header.eos, header.pad, header.vocab_size) == (special.bos, special.eos, special.pad, 300)


@pytest.mark.parametrize("packing", ["best_fit", "concatenate", "documents"])
def test_same_bytes_for_any_number_of_workers_and_whatever_is_read_at_a_time(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str
):
    config = ShardsConfig.model_validate({"context": 32, "rows_per_shard": 50, "packing": packing, "group_by": "source"})
    found = []
    for workers, read_bytes, documents in ((0, 2**22, 2**16), (2, 2**22, 2**16), (0, 500, 7)):
        monkeypatch.setattr(tasks.shards.encoded_corpus, "ENCODE_BYTES", read_bytes)
        monkeypatch.setattr(tasks.shards.encoded_corpus, "SORT_TOKENS", read_bytes)
        monkeypatch.setattr(tasks.shards.encoded_corpus, "RANGE_DOCUMENTS", documents)
        folder = tmp_path / f"{workers}-{documents}"
        files = FileTasks(folder / "parts", FilesConfig(workers=workers))
        found.append(digests(run(config, corpus, tokenizer, folder / "out", files)[0]))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 5


def test_small_windows_lose_nothing(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks.shards.packing, "WINDOW_TOKENS", 700)
    out, _ = run(ShardsConfig(context=32, rows_per_shard=9), corpus, tokenizer, tmp_path / "out", files)
    assert unpacked(open_rows(out / "train/all")) == dict(enumerate(encoded(tokenizer, TRAIN)))


def test_another_seed_is_another_order(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    one, _ = run(ShardsConfig(context=32, seed=1), corpus, tokenizer, tmp_path / "1", files)
    two, _ = run(ShardsConfig(context=32, seed=2), corpus, tokenizer, tmp_path / "2", files)
    assert not np.array_equal(read_rows(one / "train/all"), read_rows(two / "train/all"))


def test_tables_that_were_encoded_are_not_encoded_again(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    run(ShardsConfig(context=32), corpus, tokenizer, tmp_path / "1", files)
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts/encode").glob("*/part.json")}
    assert len(parts) == 3
    larger = make_corpus(tmp_path / "larger", [*TRAIN, make_texts(200, 210)], VALIDATION)
    out, _ = run(ShardsConfig(context=64, packing="concatenate"), larger, tokenizer, tmp_path / "2", files)
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts/encode").glob("*/part.json")}
    assert len(again) == 4
    assert parts.items() <= again.items()
    assert pq.read_metadata(out / "documents-train.parquet").num_rows == 130


@pytest.mark.parametrize("by", ["source", "language"])
def test_groups_hold_the_documents_of_one_source_or_language(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks, by: str
):
    config = ShardsConfig.model_validate({"context": 32, "group_by": by})
    out, _ = run(config, corpus, tokenizer, tmp_path / "out", files)
    named = pq.read_table(out / "documents-train.parquet")[by].to_pylist()
    everything: dict[int, list[int]] = {}
    for folder in sorted((out / "train").iterdir()):
        documents = unpacked(open_rows(folder))
        assert {named[number] for number in documents} == {folder.name}
        everything |= documents
    assert everything == dict(enumerate(encoded(tokenizer, TRAIN)))
    assert [folder.name for folder in (out / "validation").iterdir()] == ["all"]
    groups = [entry["group"] for entry in json.loads((out / "packing.json").read_text())]
    assert groups == [*sorted(set(named)), "all"]


def test_archive_holds_the_same_rows_in_less_space(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    plain, _ = run(ShardsConfig(context=32), corpus, tokenizer, tmp_path / "plain", files)
    archive, _ = run(ShardsConfig(context=32, codec="zstd"), corpus, tokenizer, tmp_path / "archive", files)
    assert np.array_equal(read_rows(archive / "train/all"), read_rows(plain / "train/all"))
    assert unpacked(open_rows(archive / "train/all")) == unpacked(open_rows(plain / "train/all"))
    sizes = [(folder / "train/all/shard-00000.parquet").stat().st_size for folder in (archive, plain)]
    assert sizes[0] < sizes[1]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(3, 30), min_size=1, max_size=20), st.sampled_from(["best_fit", "concatenate", "documents"]), st.integers(1, 6))
def test_ledger_of_windows_adds_up(lengths: list[int], packing: str, portion: int):
    documents = np.zeros(len(lengths), ORDERED)
    documents["tokens"], documents["bytes"] = lengths, np.array(lengths) - 2
    documents["number"] = np.arange(len(lengths))
    config = ShardsConfig.model_validate({"context": 8, "packing": packing})
    kind = RowKind(config, 300, "t", 0, 1, 2, "c")
    packed = Packed("train", "all", 9)
    portions = (documents[start : start + portion] for start in range(0, len(lengths), portion))
    targets: set[tuple[int, int]] = set()
    for window, pieces in pack_windows(kind, portions, packed):
        for start, number, offset, length in zip(
            pieces.starts, window["number"][pieces.documents], pieces.offsets, pieces.lengths, strict=True
        ):
            asked = range(offset + (start == 0 if packing == "concatenate" else 1), offset + length)
            assert targets.isdisjoint((number, token) for token in asked)
            targets |= {(int(number), token) for token in asked}
    assert packed.targets == len(targets)
    assert packed.tokens == sum(lengths)
    of_text = sum(1 for number, length in enumerate(lengths) for token in range(1, length - 1) if (number, token) in targets)
    assert packed.text_bytes - packed.tail_bytes == pytest.approx(of_text, abs=0.51)

"""Corpora and tokenizers at the edge of what can be packed, and beyond."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tokenizers

import tasks.shards.encoded_corpus
import tasks.shards.packing
from tasks.artifacts import Tokenizer
from tasks.errors import UserError
from tasks.executor.filetasks import FileTasks
from tasks.shards.shards import ShardsConfig, group_folder
from tasks.tokenizer.encoding import SPECIAL_TOKENS
from tests.tasks.shards.shards_run import VALIDATION, encoded, make_corpus, make_texts, open_rows, run, shuffled, unpacked


def test_group_without_a_whole_row_leaves_no_folder(tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    texts = {"a": "river", "b": "stones " * 50}  # of odd and of even length: two sources
    corpus = make_corpus(tmp_path, [texts], make_texts(120, 150))
    config = ShardsConfig(context=16, packing="concatenate", group_by="source")
    out, outcome = run(config, corpus, tokenizer, tmp_path / "out", files)
    assert [folder.name for folder in (out / "train").iterdir()] == ["made-0"]
    assert outcome.ledger.dropped_bytes["incomplete_train_row"] >= 5


def test_names_that_make_no_folder_are_changed_and_stay_apart():
    assert group_folder("wiki-zh.v2") == "wiki-zh.v2"
    assert group_folder("维基") == "维基"
    found = [group_folder(name) for name in ("a/b", "a:b", "..", "a b", "")]
    assert len(set(found)) == 5
    assert not any(set(name) & set("/: ") or name.startswith(".") for name in found)


def test_single_document_is_enough(tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    corpus = make_corpus(tmp_path, [{"only": "river"}], {"other": "stone"})
    out, outcome = run(ShardsConfig(), corpus, tokenizer, tmp_path / "out", files)
    assert unpacked(open_rows(out / "train/all")) == {0: encoded(tokenizer, [{"only": "river"}])[0]}
    assert outcome.figures["train_rows"] == 1


def test_document_longer_than_a_shard_and_a_window_is_whole(
    tokenizer: Tokenizer, tmp_path: Path, files: FileTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks.shards.packing, "WINDOW_TOKENS", 1_000)
    train = [{"long": "x" * 20_000, **make_texts(0, 10)}]
    corpus = make_corpus(tmp_path, train, VALIDATION)
    for packing in ("best_fit", "documents", "concatenate"):
        config = ShardsConfig.model_validate({"context": 16, "rows_per_shard": 30, "packing": packing})
        out, _ = run(config, corpus, tokenizer, tmp_path / packing, files)
        found, expected = unpacked(open_rows(out / "train/all")), encoded(tokenizer, train)
        last = shuffled(train, 1)[-1] if packing == "concatenate" else None  # its end may be in no row
        assert all(found[number] == expected[number] for number in range(11) if number != last)


def wide_tokenizer(folder: Path, words: int) -> Tokenizer:
    """One token a word; a text of spaces alone has none."""
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *(f"w{i}" for i in range(words))])}
    whole = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="w0"))
    whole.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    whole.add_special_tokens(list(SPECIAL_TOKENS))
    folder.mkdir()
    whole.save(str(folder / "tokenizer.json"))
    return Tokenizer(str(folder), "wide")


@pytest.mark.parametrize(("words", "item_bytes"), [(2**16 - 6, 2), (2**16 - 5, 4)])
def test_vocabulary_over_65536_widens_rows_and_wraps_no_id(tmp_path: Path, files: FileTasks, words: int, item_bytes: int):
    tokenizer = wide_tokenizer(tmp_path / "tokenizer", words)
    corpus = make_corpus(tmp_path, [{"a": f"w0 w{words - 1} w17"}], {"b": "w1"})
    out, _ = run(ShardsConfig(context=8), corpus, tokenizer, tmp_path / "out", files)
    rows = open_rows(out / "train/all")
    assert rows.header.item_bytes == item_bytes
    assert rows.take(np.array([0]))[0, :5].tolist() == [0, 6, words + 5, 23, 1]


def test_document_without_tokens_is_dropped_and_counted(tmp_path: Path, files: FileTasks):
    tokenizer = wide_tokenizer(tmp_path / "tokenizer", 20)
    corpus = make_corpus(tmp_path, [{"a": "w1", "spaces": " \n ", "c": "w2 w3"}], {"b": "w1"})
    out, outcome = run(ShardsConfig(context=8), corpus, tokenizer, tmp_path / "out", files)
    assert outcome.ledger.dropped == {"empty_document": 1}
    assert outcome.ledger.dropped_bytes == {"empty_document": 3}
    assert pq.read_table(out / "documents-train.parquet")["tokens"].to_pylist() == [3, 0, 4]
    assert sorted(unpacked(open_rows(out / "train/all"))) == [0, 2]


def test_ids_that_a_tokenizer_leaves_out_count_as_vocabulary(tmp_path: Path, files: FileTasks):
    tokenizer = wide_tokenizer(tmp_path / "tokenizer", 20)
    path = tokenizer.path / "tokenizer.json"
    path.write_text(path.read_text().replace('"w19":25', '"w19":99').replace('"w19": 25', '"w19": 99'))
    corpus = make_corpus(tmp_path, [{"a": "w19"}], {"b": "w1"})
    out, _ = run(ShardsConfig(context=8), corpus, tokenizer, tmp_path / "out", files)
    rows = open_rows(out / "train/all")
    assert (rows.vocab_size, rows.take(np.array([0]))[0, 1]) == (100, 99)


def test_corpus_smaller_than_a_row_is_refused_when_rows_are_not_padded(tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    corpus = make_corpus(tmp_path, [{"only": "river"}], {"only": "river"})
    with pytest.raises(UserError, match=r"corpus gives \d+ tokens, fewer than one row of 257. Fix: lower shards.context or add text"):
        run(ShardsConfig(packing="concatenate"), corpus, tokenizer, tmp_path / "out", files)


def test_empty_validation_set_is_refused(tokenizer: Tokenizer, tmp_path: Path, files: FileTasks):
    corpus = make_corpus(tmp_path, [make_texts(0, 20)], {})
    with pytest.raises(UserError, match="validation set gives no document.*keep more documents for validation"):
        run(ShardsConfig(context=32), corpus, tokenizer, tmp_path / "out", files)

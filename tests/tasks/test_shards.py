import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks.shards
from model.shards import TokenRows
from tasks.artifacts import Corpus, Tokenizer
from tasks.documents import DOCUMENTS, TableWriter
from tasks.encoding import encode_documents, load_tokenizer, special_ids
from tasks.errors import UserError
from tasks.sampling import hash_keys
from tasks.shards import Packer, ShardsConfig, Spilled, write_shards
from tasks.tokenizer import TokenizerConfig, train_tokenizer

WORDS = ["river", "stone", "cloud", "山", "水", "云", "def", "return", "lamp", "<|eos|>", "42", "night"]


def write_documents(path: Path, texts: dict[str, str]) -> None:
    rows = [
        {
            "id": id,
            "text": text,
            "source": "made",
            "path": id,
            "language": "en",
            "bytes": len(text.encode()),
            "meta": [],
        }
        for id, text in texts.items()
    ]
    with TableWriter(path, DOCUMENTS) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, DOCUMENTS))


def make_texts(start: int, stop: int) -> dict[str, str]:
    random = np.random.default_rng(start)
    return {f"doc-{i:04d}": " ".join(random.choice(WORDS, random.integers(1, 60))) for i in range(start, stop)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    write_documents(folder / "train-00000.parquet", make_texts(0, 70))
    write_documents(folder / "train-00001.parquet", make_texts(70, 120))
    write_documents(folder / "validation.parquet", make_texts(120, 150))
    return Corpus(str(folder), "c0ffee")


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TokenizerConfig(vocab_size=300), corpus, folder)
    return Tokenizer(str(folder), "facade")


def read_rows(folder: Path) -> np.ndarray:
    rows = TokenRows.open(sorted(folder.glob("*.parquet")))
    return rows.take(np.arange(rows.rows))


def expected_stream(tokenizer: Tokenizer, texts: dict[str, str], seed: int) -> tuple[list[str], list[int]]:
    """Ids in shuffled order, and all tokens one behind the other: the plain version of what the stage does."""
    encoder = load_tokenizer(tokenizer.path)
    special = special_ids(encoder, "test")
    ids = sorted(texts, key=lambda id: int(hash_keys([id], seed)[0]))
    return ids, [t for id in ids for t in (special.bos, *encode_documents(encoder, [texts[id]])[0], special.eos)]


def test_rows_are_the_shuffled_documents_one_behind_the_other(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = ShardsConfig(context=32, rows_per_shard=50, seed=7)
    outcome = write_shards(config, corpus, tokenizer, tmp_path)
    rows = read_rows(tmp_path / "train")
    _, stream = expected_stream(tokenizer, make_texts(0, 70) | make_texts(70, 120), 7)
    unpacked = [int(rows[0, 0]), *rows[:, 1:].ravel().tolist()]
    assert unpacked == stream[: len(unpacked)]
    assert len(stream) - len(unpacked) == outcome.figures["train_tokens_dropped"] < 32
    assert all(before[-1] == after[0] for before, after in pairwise(rows))
    assert [pq.read_metadata(p).num_rows for p in sorted((tmp_path / "train").glob("*.parquet"))][:2] == [50, 50]
    assert outcome.ledger.tokens_out == outcome.figures["train_tokens"] + outcome.figures["validation_tokens"]
    outcome.ledger.check("shards")


def test_beside_each_row_stand_its_documents(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_shards(ShardsConfig(context=32, rows_per_shard=50, seed=7), corpus, tokenizer, tmp_path)
    ids, stream = expected_stream(tokenizer, make_texts(0, 70) | make_texts(70, 120), 7)
    bos = special_ids(load_tokenizer(tokenizer.path), "test").bos
    beside = pa.concat_tables(pq.read_table(p) for p in sorted((tmp_path / "train").glob("*.parquet")))
    starts = [place for place, token in enumerate(stream) if token == bos]
    for number, row in enumerate(beside.to_pylist()):
        first = max(i for i, start in enumerate(starts) if start <= number * 32)
        assert row["doc_first"] == ids[first]
        assert row["doc_offset"] == number * 32 - starts[first]
        assert row["documents"] == sum(number * 32 < start <= number * 32 + 32 for start in starts) + 1
    places = pq.read_table(tmp_path / "documents-train.parquet")
    assert places["id"].to_pylist() == ids
    assert places["position"].to_pylist() == starts
    assert sum(places["tokens"].to_pylist()) == len(stream)


def test_same_inputs_give_the_same_bytes_however_many_buckets(
    corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for name, bucket_bytes in (("one", 10**9), ("many", 2_000)):
        monkeypatch.setattr(tasks.shards, "BUCKET_BYTES", bucket_bytes)
        monkeypatch.setattr(tasks.shards, "ENCODE_BYTES", bucket_bytes)
        out = tmp_path / name
        out.mkdir()
        write_shards(ShardsConfig(context=32, rows_per_shard=50), corpus, tokenizer, out)
        files = sorted(p for p in out.rglob("*") if p.is_file())
        digests.append({str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files})
    assert digests[0] == digests[1]
    assert not list(tmp_path.rglob("spill"))


def test_another_seed_is_another_order(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        write_shards(ShardsConfig(context=32, seed=seed), corpus, tokenizer, tmp_path / str(seed))
    assert not np.array_equal(read_rows(tmp_path / "1" / "train"), read_rows(tmp_path / "2" / "train"))


def test_validation_bytes_are_those_of_the_rows_kept(corpus: Corpus, tokenizer: Tokenizer, tmp_path: Path) -> None:
    outcome = write_shards(ShardsConfig(context=32), corpus, tokenizer, tmp_path)
    encoder = load_tokenizer(tokenizer.path)
    kept = read_rows(tmp_path / "validation")[:, 1:].ravel().tolist()
    text = encoder.decode(kept, skip_special_tokens=True)
    assert abs(outcome.figures["validation_bytes"] - len(text.encode())) <= 32


def test_corpus_smaller_than_a_row_is_refused_with_both_numbers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name in ("train-00000.parquet", "validation.parquet"):
        write_documents(tmp_path / name, {"only": "river"})
    with pytest.raises(
        UserError, match=r"corpus gives \d+ tokens, fewer than one row of 257. Fix: lower shards.context"
    ):
        write_shards(ShardsConfig(), Corpus(str(tmp_path), "c0ffee"), tokenizer, tmp_path / "out")


def test_empty_validation_set_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write_documents(tmp_path / "train-00000.parquet", make_texts(0, 20))
    write_documents(tmp_path / "validation.parquet", {})
    with pytest.raises(UserError, match="validation set gives 0 tokens"):
        write_shards(ShardsConfig(context=32), Corpus(str(tmp_path), "c0ffee"), tokenizer, tmp_path / "out")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(2, 40), min_size=1, max_size=6), min_size=1, max_size=5),
    st.integers(1, 7),
    st.integers(1, 9),
)
def test_no_token_is_lost_or_doubled_by_packing(buckets: list[list[int]], portion: int, context: int) -> None:
    packer, taken, number, stream = Packer(context), list[np.ndarray](), 0, list[int]()
    for place, lengths in enumerate(buckets):
        tokens = np.arange(number, number + sum(lengths), dtype=np.uint32)
        stream.extend(tokens.tolist())
        names = [f"{place}-{i}" for i in range(len(lengths))]
        packer.add(Spilled(names, np.array(lengths) - 2, tokens, np.cumsum(lengths)))
        number += sum(lengths)
        while rows := packer.portion(portion, is_last=place == len(buckets) - 1):
            cut, beside = packer.take(rows)
            assert beside.num_rows == len(cut) == rows
            taken.append(cut)
    rows = np.concatenate(taken) if taken else np.empty((0, context + 1), int)
    unpacked = rows[0, :1].tolist() + rows[:, 1:].ravel().tolist() if len(rows) else []
    assert unpacked == stream[: len(unpacked)]
    assert len(stream) - max(1, len(unpacked)) < context
    # one byte a text token: what is left is what the rows do not ask for, first and last token of a document aside
    ends = np.cumsum([length for lengths in buckets for length in lengths])
    edges = {int(e) - 1 for e in ends} | {0} | {int(e) for e in ends}
    left = [t for t in stream[max(1, len(unpacked)) :] if t not in edges]
    assert packer.tail_bytes() == pytest.approx(len(left))

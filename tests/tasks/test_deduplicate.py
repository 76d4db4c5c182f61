"""Deduplicate: copies go, the first stays, and what only looks alike is kept."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.artifacts import CleanCorpus
from tasks.deduplicate import DeduplicateConfig, hash_functions, remove_duplicates, signature, similarity
from tasks.documents import DOCUMENTS, TableWriter
from tasks.ledger import StageOutcome
from tasks.ngrams import ngram_hashes, split_units

HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 800)]


def words(seed: int, count: int = 300) -> list[str]:
    chooser = random.Random(seed)
    return ["".join(chooser.choices("abcdefghij", k=6)) for _ in range(count)]


def han(seed: int, count: int = 300) -> list[str]:
    return random.Random(seed).choices(HAN, k=count)


def deduplicated(
    tmp_path: Path, texts: list[str], name: str = "out", **settings: object
) -> tuple[StageOutcome, list[str]]:
    folder, out = tmp_path / f"clean-{name}", tmp_path / name
    folder.mkdir()
    out.mkdir()
    rows = [
        {"id": str(n), "text": t, "source": "s", "path": "p", "language": "en", "bytes": len(t.encode()), "meta": []}
        for n, t in enumerate(texts)
    ]
    with TableWriter(folder / "documents-00000.parquet", DOCUMENTS) as file:
        file.write(pa.RecordBatch.from_pylist(rows, schema=DOCUMENTS))
    outcome = remove_duplicates(DeduplicateConfig.model_validate(settings), CleanCorpus(str(folder), "c"), out)
    outcome.ledger.check("deduplicate")
    return outcome, pq.read_table(out / "documents-00000.parquet").column("id").to_pylist()


def test_copies_that_differ_in_case_and_space_are_exact(tmp_path: Path):
    outcome, kept = deduplicated(tmp_path, ["Hello  World", "other", "hello\nworld "])
    assert kept == ["0", "1"]
    assert outcome.ledger.dropped == {"exact_copy": 1}


def test_near_copies_go_in_english_and_chinese_and_the_first_stays(tmp_path: Path):
    english, chinese = words(1), han(2)
    near_english = " ".join([*english[:150], "changed", *english[151:]])
    near_chinese = "".join([*chinese[:150], "变", *chinese[151:]])
    texts = [" ".join(words(3)), " ".join(english), "".join(chinese), near_english, near_chinese, "".join(han(4))]
    outcome, kept = deduplicated(tmp_path, texts)
    assert kept == ["0", "1", "2", "5"]
    clusters = pq.read_table(tmp_path / "out" / "clusters.parquet").to_pylist()
    assert {(row["id"], row["root_id"], row["size"]) for row in clusters} == {
        ("1", "1", 2),
        ("3", "1", 2),
        ("2", "2", 2),
        ("4", "2", 2),
    }
    values = pq.read_table(tmp_path / "out" / "dropped.parquet").column("value").to_pylist()
    assert all(0.9 <= value < 1 for value in values)
    assert outcome.figures == {"clusters": 2, "largest_cluster": 2}


def test_texts_that_share_half_are_both_kept(tmp_path: Path):
    shared = words(1, 150)
    _, kept = deduplicated(tmp_path, [" ".join(shared + words(2, 150)), " ".join(shared + words(3, 150))])
    assert kept == ["0", "1"]


def test_the_threshold_can_be_switched_off(tmp_path: Path):
    english = words(1)
    _, kept = deduplicated(tmp_path, [" ".join(english), " ".join(english[:-1]), " ".join(english)], threshold=None)
    assert kept == ["0", "1"]


def test_short_texts_are_compared_exactly_only(tmp_path: Path):
    _, kept = deduplicated(tmp_path, ["one two", "one two three", "one two", "!!!", "???"])
    assert kept == ["0", "1", "3", "4"]


def test_a_chain_of_near_copies_is_one_cluster(tmp_path: Path):
    base = words(1)
    texts = [" ".join([*(f"new{n}" for n in range(shift)), *base[shift:]]) for shift in (0, 15, 30, 45)]
    outcome, kept = deduplicated(tmp_path, texts)
    assert kept == ["0"]
    assert outcome.figures["largest_cluster"] == 4


def test_two_runs_give_the_same_bytes(tmp_path: Path):
    texts = [" ".join(words(n % 3)) + (" x" if n > 3 else "") for n in range(6)]
    for name in ("one", "two"):
        deduplicated(tmp_path, texts, name)
    for file in ("documents-00000.parquet", "dropped.parquet", "clusters.parquet"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_signatures_estimate_the_share_of_common_shingles(share: float):
    functions = hash_functions(DeduplicateConfig())
    common = int(600 * share)
    one, other = words(1, 600), words(1, common) + words(2, 600 - common)
    sets = [set(ngram_hashes(split_units(" ".join(text)).hashes, 5).tolist()) for text in (one, other)]
    true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    signatures = [signature(" ".join(text), 5, functions) for text in (one, other)]
    assert signatures[0] is not None
    assert signatures[1] is not None
    assert abs(similarity(signatures[0], signatures[1]) - true) < 0.12


def test_units_are_words_and_single_han_characters():
    text = "Straße_2 İn 你好abc，world"
    units = split_units(text)
    assert [text[a:b] for a, b in zip(units.starts, units.ends, strict=True)] == [
        "Straße",
        "2",
        "İn",
        "你",
        "好",
        "abc",
        "world",
    ]
    assert split_units("WORLD").hashes == units.hashes[-1:]
    assert len(np.unique(units.hashes)) == 7


def test_ngrams_depend_on_order_and_length():
    hashes = split_units("a b c a b").hashes
    assert len(ngram_hashes(hashes, 2)) == 4
    assert ngram_hashes(hashes, 2)[0] == ngram_hashes(hashes, 2)[3]
    assert ngram_hashes(hashes, 2)[0] != ngram_hashes(split_units("b a").hashes, 2)[0]
    assert len(ngram_hashes(hashes, 6)) == 0

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.documents import DOCUMENTS, TableWriter
from tasks.sampling import hash_keys, language_shares, level_sizes, sample_documents, sample_sizes


@given(st.lists(st.tuples(st.sampled_from(["en", "zh", "code"]), st.integers(1, 50)), max_size=40), st.integers(0, 900))
def test_sample_keeps_the_budget_and_treats_languages_alike(rows: list[tuple[str, int]], budget: int) -> None:
    languages = np.array([language for language, _ in rows], dtype=np.str_)
    sizes = np.array([size for _, size in rows], dtype=np.int64)
    takes = sample_sizes(hash_keys([str(i) for i in range(len(rows))], 1), languages, sizes, budget)
    assert (takes >= 0).all()
    assert (takes <= sizes).all()
    assert budget - 3 < takes.sum() <= budget or takes.sum() == sizes.sum() <= budget
    taken = {language: takes[languages == language].sum() for language in set(languages)}
    short = [language for language in taken if taken[language] < sizes[languages == language].sum()]
    assert all(taken[language] >= max(taken.values()) - 1 for language in short)  # nobody got more than who had more


def test_keys_depend_on_id_and_seed_alone() -> None:
    assert hash_keys(["a", "b"], 1).tolist() == [hash_keys([id], 1)[0] for id in ("a", "b")]
    assert hash_keys(["a"], 1) != hash_keys(["a"], 2)
    assert hash_keys(["a"], 1)[0] == 0x3D8416FC1E8BDB6E  # the same on every machine


def test_last_document_is_cut_at_a_character(tmp_path: Path) -> None:
    row = {"id": "a", "text": "山水云", "source": "s", "path": "p", "language": "zh", "bytes": 9, "meta": []}
    with TableWriter(tmp_path / "train-0.parquet", DOCUMENTS) as writer:
        writer.write(pa.RecordBatch.from_pylist([row], DOCUMENTS))
    assert [d.text for d in sample_documents(tmp_path, "train-*.parquet", 7, 1)] == ["山水"]


@given(
    st.lists(st.tuples(st.sampled_from(["en", "zh"]), st.integers(0, 500)), min_size=1, max_size=40),
    st.integers(0, 9_000),
    st.integers(1, 200),
)
def test_long_documents_are_cut_only_as_far_as_their_language_has_other_text(rows: list[tuple[str, int]], budget: int, most: int) -> None:
    languages = np.array([language for language, _ in rows], dtype=np.str_)
    sizes = np.array([size for _, size in rows], dtype=np.int64)
    levelled = level_sizes(languages, sizes, budget, most)
    assert (levelled <= sizes).all()
    assert (levelled >= np.minimum(sizes, most)).all()
    shares = language_shares(languages, sizes, budget)
    after = language_shares(languages, levelled, budget)
    assert sum(after.values()) == sum(shares.values())  # the budget is still filled
    assert all(abs(after[language] - share) <= 1 for language, share in shares.items())
    for language, share in shares.items():
        ours = levelled[languages == language]
        if ours.max() > most:  # then no lower level would do
            assert np.minimum(sizes[languages == language], ours.max() - 1).sum() < share


def test_one_book_does_not_crowd_out_letters(tmp_path: Path) -> None:
    texts = {"book": "b" * 10_000} | {f"letter {i}": "l" * 100 for i in range(50)}
    row = {"source": "s", "path": "p", "language": "en", "meta": []}
    rows = [{"id": id, "text": text, "bytes": len(text), **row} for id, text in texts.items()]
    with TableWriter(tmp_path / "train-0.parquet", DOCUMENTS) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, DOCUMENTS))
    for budget, book in ((4_000, 100), (5_500, 500), (20_000, 10_000)):
        sample = {d.id: len(d.text) for d in sample_documents(tmp_path, "train-*", budget, 1, document_bytes=100)}
        assert sample.get("book", 0) <= book
        assert sum(sample.values()) in (budget, 15_000)

"""General text of a base's memory, to be learned again: without what is judged on, and refused where there is none."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.artifacts import Corpus, PretrainedModel
from tasks.corpus.replay import ReplayTextConfig, take_replay
from tasks.documents import DOCUMENTS
from tasks.errors import UserError
from tasks.memory import DOCUMENTS_SEEN
from tests.tasks.corpus_run import document

CONFIG = ReplayTextConfig(ngram_words=5, ngram_han=8, max_overlap=0.3)
HELD = "seven grey herons stood in the shallow water below the mill"


def base(folder: Path, texts: list[str]) -> PretrainedModel:
    (folder / "memory").mkdir(parents=True)
    rows = [{"id": f"m{n}", "source": "old", "language": "en", "bytes": len(text.encode()), "text": text} for n, text in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS_SEEN), folder / "memory" / "text.parquet")
    return PretrainedModel(str(folder), "b0")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.Table.from_pylist([document("v", HELD)], DOCUMENTS), tmp_path / "corpus" / "validation.parquet")
    pq.write_table(pa.Table.from_pylist([document("t", "text to learn")], DOCUMENTS), tmp_path / "corpus" / "train-000.parquet")
    return Corpus(str(tmp_path / "corpus"), "c0")


def test_text_that_is_judged_on_is_left_out_and_counted(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    outcome = take_replay(
        CONFIG, base(tmp_path / "base", [f"It is said that {HELD}.", "An old text of long ago."]), corpus, (), tmp_path / "out"
    )
    (row,) = pq.read_table(tmp_path / "out" / "train-00000.parquet").to_pylist()
    assert (row["text"], row["source"], row["path"]) == ("An old text of long ago.", "old", "memory of the base")
    assert (outcome.ledger.rows_in, outcome.ledger.rows_out, outcome.ledger.dropped) == (2, 1, {"contaminated": 1})
    outcome.ledger.check("replay")


def test_base_without_general_text_is_refused_with_what_to_do(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for one, found in (
        (PretrainedModel(str(tmp_path / "bare"), "b"), "no memory"),
        (base(tmp_path / "empty", []), "a memory without text"),
    ):
        with pytest.raises(UserError, match=rf"replay: the base brings {found}.*replay\.sources, or set replay\.share to 0"):
            take_replay(CONFIG, one, corpus, (), tmp_path)


def test_memory_that_is_all_judged_on_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all 1 texts of the base's memory hold text that this run judges on"):
        take_replay(CONFIG, base(tmp_path / "base", [HELD]), corpus, (), tmp_path)


def test_overlap_that_is_never_acted_on_leaves_all(corpus: Corpus, tmp_path: Path) -> None:
    outcome = take_replay(CONFIG.model_copy(update={"max_overlap": None}), base(tmp_path / "base", [HELD]), corpus, (), tmp_path)
    assert outcome.ledger.rows_out == 1
    assert json.loads(json.dumps(dict(outcome.ledger.dropped))) == {}

"""A base before and its model after, on the same held-out text: own and general."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.artifacts import Corpus, PretrainedModel
from tasks.documents import DOCUMENTS
from tasks.errors import UserError
from tasks.evaluate.change import Change, Changing, measure_change, read_changes
from tasks.evaluate.suite import EvaluateConfig
from tasks.memory import DOCUMENTS_SEEN
from tasks.report.changes import change_text
from tests.tasks.corpus_run import document
from tests.tasks.evaluate.test_judging import model_for

CONFIG = EvaluateConfig(max_documents=8, document_bytes=200, resamples=100, threads=1)


def corpus(folder: Path, *sources: str) -> Corpus:
    folder.mkdir()
    rows = [
        {**document(f"{source}{n}", f"{source} text number {n} of the mill. " * 3), "source": source}
        for source in sources
        for n in range(6)
    ]
    pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS), folder / "validation.parquet")
    return Corpus(str(folder), "c0")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    folder = tmp_path_factory.mktemp("base")
    model_for("instruction", folder / "model")
    return PretrainedModel(str(folder), "m0")


def changes(found: tuple[Change, ...]) -> dict[str, Change]:
    return {one.text: one for one in found}


def test_a_model_that_did_not_change_has_no_change(model: PretrainedModel, tmp_path: Path) -> None:
    outcome = measure_change(Changing(CONFIG, ("wiki",)), model, model, corpus(tmp_path / "corpus", "own", "wiki"), tmp_path)
    found = changes(read_changes(tmp_path))
    assert set(found) == {"own", "general"}
    assert all((one.difference, one.low, one.high, one.documents) == (0, 0, 0, 6) for one in found.values())
    assert set(outcome.figures) == {f"bits_per_byte.{text}.{when}" for text in ("own", "general") for when in ("before", "after")}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["change.json", "corpus"]


def test_general_text_is_what_the_base_remembers_where_no_source_is_named(model: PretrainedModel, tmp_path: Path) -> None:
    remembered = PretrainedModel(str(tmp_path / "base"), "b0")
    (tmp_path / "base" / "memory").mkdir(parents=True)
    (tmp_path / "base" / "model").symlink_to(model.path / "model")
    rows = [{"id": f"m{n}", "source": "own", "language": "en", "bytes": 3, "text": "old"} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS_SEEN), tmp_path / "base" / "memory" / "validation.parquet")
    measure_change(Changing(CONFIG, ()), remembered, model, corpus(tmp_path / "corpus", "own"), tmp_path)
    found = changes(read_changes(tmp_path))
    assert (found["own"].documents, found["general"].documents, found["general"].bytes) == (6, 5, 15)


def test_without_general_text_its_figure_is_said_to_be_missing(model: PretrainedModel, tmp_path: Path) -> None:
    outcome = measure_change(Changing(CONFIG, ()), model, model, corpus(tmp_path / "corpus", "own"), tmp_path)
    assert [one.text for one in read_changes(tmp_path)] == ["own"]
    assert outcome.notes["general"].startswith("not judged")


def test_corpus_without_held_out_own_text_is_refused(model: PretrainedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"change: no own document is held out.*Fix: raise decontaminate\.validation_share"):
        measure_change(Changing(CONFIG, ("wiki",)), model, model, corpus(tmp_path / "corpus", "wiki"), tmp_path)


@pytest.mark.parametrize(
    ("text", "low", "high", "told"),
    [
        ("own", -0.2, -0.1, "learned"),
        ("own", 0.1, 0.2, "worse than before"),
        ("general", 0.1, 0.2, "forgotten in part"),
        ("general", -0.2, -0.1, "better than before"),
        ("general", -0.1, 0.1, "no sure change"),
    ],
)
def test_change_is_told_in_words_as_far_as_its_interval_goes(text: str, low: float, high: float, told: str) -> None:
    kind = "own" if text == "own" else "general"
    assert change_text(Change(kind, "bits_per_byte", 9, 900, 1.0, 1.0 + (low + high) / 2, low, high)) == told

"""A kind of examples that the project does not have is one file and two lines."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from tasks.artifacts import Examples, PretrainedModel, Tokenizer
from tasks.documents import example_text
from tasks.errors import UserError
from tasks.evaluate.evaluate import EXAMPLE_SCORERS, EvaluateConfig, evaluate
from tasks.evaluate.label_scores import score_classes
from tasks.examples.examples import prepare_examples
from tasks.examples.kinds.table import KINDS, AnyExamples, kind_of
from tasks.examples.rows import read_examples
from tasks.finetune.base_model import BaseConfig, take_base
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.finetune import finetune
from tasks.inference.task_file import read_task
from tasks.promotion.names import registry_names
from tests.tasks.examples.entailment import ENTAILMENT
from tests.tasks.foreign import write_bert
from tests.tasks.launch_here import here

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two lines."""
    monkeypatch.setitem(KINDS, "entailment", ENTAILMENT)
    monkeypatch.setitem(EXAMPLE_SCORERS, "entailment", score_classes)


def prepared(folder: Path) -> Examples:
    numbers = np.random.default_rng(0).permutation(90).tolist()  # tell the rows apart, and nothing else
    fruit = ["apple", "plum"]
    rows = [
        {"premise": f"a {fruit[n % 2]} {n}", "hypothesis": f"a {fruit[n // 2 % 2]}", "label": "no" if n // 2 % 2 else "yes"}
        for n in numbers
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"premise": "a"}]))
    source = {"kind": "jsonl", "paths": [str(folder / "rows.jsonl")]}
    config = ENTAILMENT.config.model_validate({"name": "nli", "kind": "entailment", "source": source, "heldout_share": 0.3})
    out = folder / "examples"
    out.mkdir()
    outcome = prepare_examples(config, out)  # type: ignore[arg-type]
    assert outcome.ledger.dropped == {"missing_field": 1}
    assert [receipt.contract for receipt in outcome.receipts][:2] == ["EntailmentExamples"] * 2
    return Examples(str(out), "e4a3", outcome.ledger, outcome.figures)


@pytest.mark.usefixtures("_known")
def test_new_kind_is_prepared_learned_scored_and_competes(tmp_path: Path) -> None:
    examples, base, tuned = prepared(tmp_path), tmp_path / "base", tmp_path / "tuned"
    base.mkdir()
    tuned.mkdir()
    take_base(BaseConfig(folder=str(write_bert(tmp_path / "theirs"))), base)
    config = FinetuneConfig(name="nli", examples="nli", steps=200, optimizer={"learning_rate": 2e-3}, batch_rows=8)
    start, tokenizer = PretrainedModel(str(base), "ba5e"), Tokenizer(str(base), "ba5e")
    finetune(config, start, tokenizer, (examples,), tuned, here)
    task = read_task(tuned / "model")
    assert task is not None
    assert (task.kind, task.labels, task.is_chat) == ("entailment", ("no", "yes"), False)
    evaluate(EvaluateConfig(resamples=100), PretrainedModel(str(tuned), "f17e"), None, examples, tmp_path)
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    scores = {row["model"]: row["value"] for row in rows if (row["task"], row["metric"]) == ("entailment", ENTAILMENT.metric)}
    assert scores["model"] > 0.9 > scores["majority"]
    assert registry_names("mill", {}, {"nli": ENTAILMENT.writes}, has_base=False) == {"nli": "mill-nli"}


@pytest.mark.usefixtures("_known")
def test_held_out_texts_of_a_new_kind_are_kept_out_of_the_corpus(tmp_path: Path) -> None:
    row = read_examples(prepared(tmp_path).path, "heldout").table.to_pylist()[0]
    assert example_text(row) == f"{row['premise']}\n{row['hypothesis']}"


def test_every_kind_has_its_scorer_and_columns_of_its_own() -> None:
    assert set(EXAMPLE_SCORERS) == set(KINDS)
    assert all(kind_of(["id", "group", *kind.columns], "t.parquet") is kind for kind in KINDS.values())
    assert set(TypeAdapter(AnyExamples).json_schema()["discriminator"]["mapping"]) == set(KINDS)


def test_unknown_kind_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="'entailment'.*'instruction', 'classification'"):
        TypeAdapter(AnyExamples).validate_python({"name": "nli", "kind": "entailment", "source": {"kind": "jsonl", "paths": ["x"]}})
    with pytest.raises(UserError, match="columns hypothesis, label, premise are of no kind of examples"):
        kind_of(["id", "group", *ENTAILMENT.columns], "t.parquet")
    (tmp_path / "task.json").write_text(json.dumps({"name": "nli", "kind": "entailment", "labels": []}))
    with pytest.raises(UserError, match=r"task\.json: found the kind 'entailment', expected one of instruction"):
        read_task(tmp_path)

"""Several labels, figures and choices: read, tuned on, scored, and the same in transformers."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from model.huggingface.huggingface import load_folder
from model.nn.models import MultipleChoice
from tasks.artifacts import Examples, PretrainedModel, Tokenizer
from tasks.bootstrap import estimate
from tasks.errors import UserError
from tasks.evaluate.evaluate import EvaluateConfig, evaluate
from tasks.examples.deciding import lower_is_better
from tasks.examples.examples import prepare_examples
from tasks.examples.kinds.multiple_choice import choice_row
from tasks.examples.kinds.table import KINDS, AnyExamples
from tasks.examples.rows import read_examples
from tasks.finetune.base_model import BaseConfig, take_base
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.finetune import finetune
from tasks.tokenizer.encoding import TextIds
from tests.tasks.foreign import write_bert, write_gpt2
from tests.tasks.launch_here import here

Row = dict[str, object]
pytestmark = pytest.mark.usefixtures("one_thread")

FRUIT, TOOLS = ["apple", "pear", "plum"], ["hammer", "saw", "drill"]


@pytest.fixture(scope="module", params=["gpt2", "bert"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PretrainedModel:
    folder = tmp_path_factory.mktemp(request.param)
    out = folder / "base"
    out.mkdir()
    write = write_gpt2 if request.param == "gpt2" else write_bert
    take_base(BaseConfig(folder=str(write(folder / "theirs"))), out)
    return PretrainedModel(str(out), "ba5e")


def rows_of(kind: str) -> list[Row]:
    rows: list[Row] = []
    numbers = np.random.default_rng(0).permutation(90).tolist()  # tell the texts apart, and nothing else
    for i, number in enumerate(numbers):
        fruit, tool = FRUIT[i % 3], TOOLS[i // 3 % 3]
        words = [[fruit], [tool], [fruit, tool], ["is"]][i % 4]
        text = f"a {' and a '.join(words)} is here {number}"
        labels = [name for name, known in (("fruit", FRUIT), ("tool", TOOLS)) if set(words) & set(known)]
        value = 1.5 if fruit in words else -0.5
        first = [fruit, tool] if i % 2 else [tool, fruit]
        kinds: dict[str, Row] = {
            "multi_label": {"text": text, "labels": labels},
            "regression": {"text": text, "value": value},
            "multiple_choice": {"question": f"fruit {number}", "choices": first, "answer": fruit if i % 3 else first.index(fruit)},
        }
        rows.append(kinds[kind])
    return rows


def prepared(kind: str, rows: list[Row], folder: Path, **settings: object) -> Examples:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = folder / "examples"
    out.mkdir()
    source = {"kind": "jsonl", "paths": [str(folder / "rows.jsonl")]}
    outcome = prepare_examples(
        TypeAdapter(AnyExamples).validate_python({"name": "task", "kind": kind, "source": source, "heldout_share": 0.3, **settings}), out
    )
    outcome.ledger.check("examples")
    return Examples(str(out), "e4a3", outcome.ledger, outcome.figures)


def tuned(base: PretrainedModel, examples: Examples, out: Path) -> PretrainedModel:
    out.mkdir()
    config = FinetuneConfig(name="task", examples="task", steps=200, optimizer={"learning_rate": 2e-3}, batch_rows=8)
    tokenizer = Tokenizer(base.folder, base.fingerprint)
    finetune(config, base, tokenizer, (examples,), out, here)
    return PretrainedModel(str(out), "f17e")


def scores_of(model: PretrainedModel, examples: Examples, out: Path) -> dict[tuple[str, str], float]:
    evaluate(EvaluateConfig(resamples=100), model, None, examples, out)
    return {(row["model"], row["metric"]): row["value"] for row in pq.read_table(out / "scores.parquet").to_pylist()}


def theirs_say(model: PretrainedModel, text: str) -> torch.Tensor:
    """Logits of transformers, its own tokenizer in front."""
    network = transformers.AutoModelForSequenceClassification.from_pretrained(model.path / "model").eval()
    opened = transformers.AutoTokenizer.from_pretrained(model.path / "model")
    with torch.no_grad():
        return network(**opened(text, return_tensors="pt")).logits[0]


def test_several_labels_are_learned_scored_and_told_alike_by_transformers(base: PretrainedModel, tmp_path: Path) -> None:
    examples = prepared("multi_label", rows_of("multi_label"), tmp_path)
    model = tuned(base, examples, tmp_path / "model")
    scores = scores_of(model, examples, tmp_path)
    assert scores["model", "micro_f1"] > 0.95 > scores["majority", "micro_f1"]
    assert scores["model", "macro_f1"] > 0.95
    config = json.loads((model.path / "model" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert (theirs_say(model, "a plum and a saw is here 3") > 0).tolist() == [True, True]
    assert (theirs_say(model, "a saw is here 5") > 0).tolist() == [False, True]


def test_figures_are_learned_scored_and_told_alike_by_transformers(base: PretrainedModel, tmp_path: Path) -> None:
    examples = prepared("regression", rows_of("regression"), tmp_path)
    model = tuned(base, examples, tmp_path / "model")
    scores = scores_of(model, examples, tmp_path)
    assert scores["model", "mse"] < 0.1 < scores["mean", "mse"]
    assert scores["model", "pearson"] > 0.9
    config = json.loads((model.path / "model" / "config.json").read_text())
    assert (config["problem_type"], config["id2label"]) == ("regression", {"0": "value"})
    assert theirs_say(model, "a plum is here 3").item() == pytest.approx(1.5, abs=0.5)


def test_choices_are_learned_and_scored(base: PretrainedModel, tmp_path: Path) -> None:
    examples = prepared("multiple_choice", rows_of("multiple_choice"), tmp_path)
    assert {row["answer"] for row in pq.read_table(examples.path / "train.parquet").to_pylist()} == {0, 1}
    model = tuned(base, examples, tmp_path / "model")
    scores = scores_of(model, examples, tmp_path)
    assert scores["model", "accuracy"] > 0.9 > scores["majority", "accuracy"]
    ours = load_folder(model.path / "model")
    assert isinstance(ours, MultipleChoice)
    opened = transformers.AutoTokenizer.from_pretrained(model.path / "model")
    given = opened(["fruit 3"] * 2, ["saw", "plum"], return_tensors="pt", padding=True)
    lengths = given["attention_mask"].sum(dim=1)[None]
    with torch.no_grad():
        found = ours(given["input_ids"][None], lengths)
    assert found.argmax() == 1
    if ours.trunk.config.family == "bert":
        theirs = transformers.AutoModelForMultipleChoice.from_pretrained(model.path / "model").eval()
        with torch.no_grad():
            expected = theirs(**{name: tensor[None] for name, tensor in given.items()}).logits
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["multi_label", "regression", "multiple_choice"])
def test_kind_of_a_table_is_read_from_its_columns(kind: str, tmp_path: Path) -> None:
    examples = prepared(kind, rows_of(kind), tmp_path)
    found = read_examples(examples.path, "train")
    assert found.kind.name == kind
    assert found.labels == (("fruit", "tool") if kind == "multi_label" else ())


@pytest.mark.parametrize(
    ("kind", "row", "reason"),
    [
        ("multi_label", {"text": "x", "labels": "a"}, "no_list"),
        ("multi_label", {"text": "x", "labels": [" "]}, "no_label"),
        ("multi_label", {"text": "x", "labels": [1, 0, 0.0]}, "indicator_labels"),
        ("multi_label", {"text": "x", "labels": [True, True]}, "indicator_labels"),
        ("multi_label", {"text": 3, "labels": ["a"]}, "not_text"),
        ("regression", {"text": "x", "value": "much"}, "not_a_number"),
        ("regression", {"text": "x", "value": True}, "not_a_number"),
        ("regression", {"text": "x", "value": "nan"}, "not_a_number"),
        ("regression", {"text": "x"}, "missing_field"),
        ("multiple_choice", {"question": "x", "choices": ["a"], "answer": 0}, "one_choice"),
        ("multiple_choice", {"question": "x", "choices": ["a", "a"], "answer": 0}, "equal_choices"),
        ("multiple_choice", {"question": "x", "choices": ["a", "b"], "answer": 2}, "no_such_choice"),
        ("multiple_choice", {"question": "x", "choices": ["a", "b"], "answer": "c"}, "no_such_choice"),
        ("multiple_choice", {"question": "x", "choices": ["a", "b", "c"], "answer": 0}, "other_number_of_choices"),
    ],
)
def test_row_that_is_no_example_is_dropped_for_a_reason(kind: str, row: Row, reason: str, tmp_path: Path) -> None:
    examples = prepared(kind, [*rows_of(kind), row], tmp_path)
    assert examples.ledger.dropped == {reason: 1}


def test_numbers_that_csv_spells_are_figures(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,value\n" + "".join(f"text {n},{n / 2}\n" for n in range(40)))
    source = {"kind": "csv", "paths": [str(tmp_path / "rows.csv")]}
    out = tmp_path / "out"
    out.mkdir()
    config = TypeAdapter(AnyExamples).validate_python({"name": "task", "kind": "regression", "source": source, "heldout_share": 0.3})
    prepare_examples(config, out)
    for row in pq.read_table(out / "train.parquet").to_pylist():
        assert row["value"] == int(row["text"].split()[1]) / 2


def test_lists_in_csv_are_refused_with_the_recipe() -> None:
    source = {"kind": "csv", "paths": ["a.csv"]}
    with pytest.raises(ValidationError, match="these examples need lists, which CSV has not"):
        TypeAdapter(AnyExamples).validate_python({"name": "task", "kind": "multiple_choice", "source": source})


def test_model_of_another_kind_is_not_scored(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    take_base(BaseConfig(folder=str(write_gpt2(tmp_path / "theirs"))), folder)
    examples = prepared("regression", rows_of("regression"), tmp_path)
    with pytest.raises(UserError, match="regression needs a model that was tuned for it, found a LanguageModel"):
        scores_of(PretrainedModel(str(folder), "0"), examples, tmp_path)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(8, 24), st.booleans())
def test_row_of_a_choice_fits_and_keeps_the_nearest_parts(question: int, choice: int, context: int, shared: bool) -> None:
    special = TextIds(0, 1, 1 if shared else 2)
    ids = choice_row([100 + i for i in range(question)], [200 + i for i in range(choice)], special, context)
    assert len(ids) <= context
    assert ids[0] == 0
    middle = ids.index(1)
    asked, kept = ids[1:middle], [token for token in ids[middle + 1 :] if token >= 200]
    assert asked == [100 + i for i in range(question)][question - len(asked) :]
    assert kept == [200 + i for i in range(choice)][: len(kept)]
    assert (ids[-1] == 1) == (not shared or not kept)
    if question + choice + 4 <= context:
        assert (len(asked), len(kept)) == (question, choice)


def test_correlation_is_that_of_numpy() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=50) + 1e6
    y = x + random.normal(size=50)
    found = estimate("pearson", np.stack([x, y], axis=1), 200, 1)
    assert found.value == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    assert found.low < found.value < found.high
    assert estimate("pearson", np.stack([np.ones(5), x[:5]], axis=1), 100, 1).value == 0.0


def test_metric_that_decides_fits_the_kind() -> None:
    assert KINDS["regression"].metric == "mse"
    assert lower_is_better("mse")
    assert (KINDS["multi_label"].metric, KINDS["multiple_choice"].metric) == ("macro_f1", "accuracy")

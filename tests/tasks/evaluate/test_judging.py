"""What a model makes of each item: the figures behind its scores, and the same items for every model."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from model.config.model_config import ModelConfig
from model.huggingface.huggingface import save_folder
from model.nn.models import (
    LanguageModel,
    MaskedLanguageModel,
    Model,
    MultipleChoice,
    Seq2SeqModel,
    SequenceClassifier,
    TokenClassifier,
)
from tasks.contracts import check_table
from tasks.errors import UserError
from tasks.evaluate.evaluate import EvaluateConfig, score_model
from tasks.evaluate.judging import score_items, score_suite_items
from tasks.examples.kinds.table import KINDS
from tasks.inference.task_file import ModelTask, write_task
from tasks.items import Asked, Item, ItemFigures, read_figures, read_items
from tasks.scores import OWN, read_scores
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer, tokenizer_settings
from tests.tasks.examples.prepared import from_rows

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ["rain", "stone", "mill", "石头", "wheel"]
LABELS = ["dry", "wet", "snow"]
TAGS = ["O", "O", "B-THING", "I-THING", "O", "O", "B-PLACE"]
LLAMA = ModelConfig(layers=1, width=16, heads=2, context=64)
BERT = ModelConfig("bert", layers=1, width=16, heads=2, context=64)
SEQ2SEQ = ModelConfig("seq2seq", layers=1, width=16, heads=2, context=64)
Row = dict[str, object]


def rows_of(kind: str, count: int = 40) -> list[Row]:
    texts = [f"{WORDS[n % 5]} on {WORDS[n // 5 % 5]} {n}" for n in range(count)]
    kinds: dict[str, list[Row]] = {
        "instruction": [{"prompt": text, "response": f"{WORDS[n % 3]}!"} for n, text in enumerate(texts)],
        "classification": [{"text": text, "label": LABELS[n % 3]} for n, text in enumerate(texts)],
        "multi_label": [{"text": text, "labels": [name for at, name in enumerate(LABELS) if n >> at & 1]} for n, text in enumerate(texts)],
        "regression": [{"text": text, "value": n / 7} for n, text in enumerate(texts)],
        "token_labels": [
            {"tokens": text.split(), "labels": [TAGS[(n + at) % 7] for at in range(len(text.split()))]} for n, text in enumerate(texts)
        ],
        "multiple_choice": [{"question": text, "choices": WORDS[:3], "answer": n % 3} for n, text in enumerate(texts)],
    }
    return kinds[kind]


def examples_of(folder: Path, kind: str, rows: Sequence[Row] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    from_rows(folder, kind, rows_of(kind) if rows is None else rows)
    return next(folder.glob("out-*"))


def saved(folder: Path, make: type[Model], *settings: object, task: ModelTask | None = None, merges: int = 300, bias: int = -1) -> Path:
    """A model with random weights; one with a `bias` says that class, whatever it is asked."""
    tokenizer = new_tokenizer()
    learn_merges(tokenizer, iter(WORDS * 3), merges)
    complete(tokenizer)
    tokenizer.add_special_tokens(["<|mask|>"])
    torch.manual_seed(3)
    config = LLAMA if make is LanguageModel else SEQ2SEQ if make is Seq2SeqModel else BERT
    model = make(config, tokenizer.get_vocab_size(), *settings).eval()  # type: ignore[arg-type, call-arg]
    if bias >= 0:
        assert isinstance(model, SequenceClassifier | TokenClassifier)
        with torch.no_grad():
            model.head.score.weight.zero_()
            model.head.score.bias.copy_(torch.eye(model.spec.classes)[bias])
    save_folder(folder, model, {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2})
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings()))
    if task is not None:
        write_task(task, folder)
    return folder


def model_for(kind: str, folder: Path, labels: Sequence[str] = ()) -> Path:
    classes = max(len(labels), 1)
    heads: dict[str, tuple[type[Model], tuple[object, ...]]] = {
        "instruction": (LanguageModel, ()),
        "classification": (SequenceClassifier, (classes,)),
        "multi_label": (SequenceClassifier, (classes, "multi")),
        "regression": (SequenceClassifier, (1, "regression")),
        "token_labels": (TokenClassifier, (classes,)),
        "multiple_choice": (MultipleChoice, ()),
    }
    make, settings = heads[kind]
    return saved(folder, make, *settings)


def documents(folder: Path, count: int = 12) -> Path:
    texts = [("石头 " if n % 3 == 0 else "") + f"rain falls on stone, {n} times; " * (1 + 20 * n) for n in range(count)]
    rows = [
        {"id": f"d{n}", "source": f"s{n % 2}", "language": "zh" if n % 3 == 0 else "en", "bytes": len(text.encode()), "text": text}
        for n, text in enumerate(texts)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "validation.parquet")
    return folder / "validation.parquet"


def plain_value(figures: ItemFigures) -> float:
    """The figure as its definition has it."""
    columns = figures.columns
    if figures.statistic == "pearson":
        return float(np.corrcoef(columns[:, 0], columns[:, 1])[0, 1])
    if figures.statistic == "ratio":
        return float(columns[:, 0].sum() / columns[:, 1].sum()) if columns[:, 1].any() else 1.0
    counts = columns.sum(axis=0).reshape(3, -1).T.tolist()  # of each class
    found = [2 * hits / (predicted + actual) for hits, predicted, actual in counts if predicted + actual]
    return sum(found) / len(found)


def check_tables(folder: Path) -> tuple[dict[tuple[str, str], Item], list[ItemFigures]]:
    """Both tables keep their contracts, and each figure is of items that there are."""
    check_table("Items", folder / "items.parquet")
    check_table("ItemFigures", folder / "figures.parquet")
    items = {(item.task, item.item): item for item in read_items(folder)}
    figures = read_figures(folder)
    assert all((one.task, item) in items for one in figures for item in one.items)
    return items, figures


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_figures_of_items(kind: str, tmp_path: Path) -> None:
    examples = examples_of(tmp_path / "examples", kind)
    labels = json.loads((examples / "labels.json").read_text())
    config = EvaluateConfig(tasks=[kind], resamples=100, max_responses=3, response_tokens=4)
    score_model(config, model_for(kind, tmp_path / "model", labels), tmp_path, examples=examples)
    items, figures = check_tables(tmp_path)
    scores = {(row.model, row.task, row.metric): row for row in read_scores(tmp_path)}
    whole = [one for one in figures if ":" not in one.metric]
    assert {(one.model, one.task, one.metric) for one in whole} == set(scores)
    for one in whole:
        row = scores[one.model, one.task, one.metric]
        assert row.value == pytest.approx(plain_value(one), abs=1e-9)
        assert row.n == len(one.items)
    held = {row["id"]: row for row in pq.read_table(examples / "heldout.parquet").to_pylist()}
    assert {item.item: item.cluster for item in items.values()} == {id: row["group"] for id, row in held.items()}
    assert all(WORDS[0] in item.shown or "on" in item.shown for item in items.values())
    assert len({one.model for one in figures}) > 1  # a baseline is among them
    assert ("entity_f1" in {one.metric for one in figures}) == (kind == "token_labels")


@pytest.mark.parametrize("kind", ["classification", "multiple_choice"])
def test_items_are_right_or_wrong_as_their_answers_are(kind: str, tmp_path: Path) -> None:
    examples = examples_of(tmp_path / "examples", kind)
    score_items(model_for(kind, tmp_path / "model", LABELS), Asked("fruit", 100, examples=examples), tmp_path)
    items, figures = check_tables(tmp_path)
    for one in (one for one in figures if one.metric == "accuracy"):
        right = [float(items[one.task, id].expected == answer) for id, answer in zip(one.items, one.answers, strict=True)]
        assert one.columns.tolist() == [[value, 1.0] for value in right]
    assert {one.model for one in figures} == {OWN, "majority"}


def test_models_with_other_tokenizers_are_asked_the_same_items(tmp_path: Path) -> None:
    asked = Asked("general text", 5, documents=documents(tmp_path))
    found = list[tuple[list[Item], dict[str, ItemFigures]]]()
    for name, merges in (("one", 265), ("other", 300)):
        (tmp_path / name).mkdir()
        score_items(saved(tmp_path / f"model-{name}", LanguageModel, merges=merges), asked, tmp_path / name)
        check_tables(tmp_path / name)
        found.append((read_items(tmp_path / name), {one.metric: one for one in read_figures(tmp_path / name) if one.model == OWN}))
    (items, own), (others, theirs) = found
    assert items == others
    assert len(items) == 5
    assert {item.language for item in items} == {"zh", "en"}
    assert max(item.bytes for item in items) <= 2_048
    assert set(own) == set(theirs)
    assert {"bits_per_byte", "bits_per_byte:letters", "bits_per_byte:han", "bits_per_byte_zh"} <= set(own)
    for metric, one in own.items():
        assert one.items == theirs[metric].items
        assert one.columns[:, 1].tolist() == theirs[metric].columns[:, 1].tolist()  # bytes
    assert own["bits_per_byte"].columns[:, 0].tolist() != theirs["bits_per_byte"].columns[:, 0].tolist()
    for figures in (own, theirs):
        parts = [one.columns.sum(axis=0) for metric, one in figures.items() if ":" in metric]
        assert np.sum(parts, axis=0) == pytest.approx(figures["bits_per_byte"].columns.sum(axis=0))


@pytest.mark.parametrize("make", [LanguageModel, Seq2SeqModel])
def test_kinds_of_byte_add_up_to_responses_as_far_as_they_fit(make: type[Model], tmp_path: Path) -> None:
    rows: list[Row] = [{"prompt": f"say {n}", "response": f"石头 {n}, rain! " * (1 + 3 * n)} for n in range(30)]
    examples = examples_of(tmp_path / "examples", "instruction", rows)
    score_items(saved(tmp_path / "model", make), Asked("answers", 100, examples=examples), tmp_path)
    items, _ = check_tables(tmp_path)
    found = figures_by_metric(tmp_path)
    whole = found["bits_per_byte"]
    parts = [one.columns.sum(axis=0) for metric, one in found.items() if ":" in metric]
    assert len(parts) == 5
    assert np.sum(parts, axis=0) == pytest.approx(whole.columns.sum(axis=0))
    sizes = [(read, items["instruction", id].bytes) for id, read in zip(whole.items, whole.columns[:, 1].tolist(), strict=True)]
    assert all(0 < read <= size for read, size in sizes)
    assert {read < size for read, size in sizes} == {True, False}  # the longest lost their end


def test_masked_model_is_judged_on_documents_by_its_objective(tmp_path: Path) -> None:
    score_items(saved(tmp_path / "model", MaskedLanguageModel), Asked("general text", 4, documents=documents(tmp_path)), tmp_path)
    items, figures = check_tables(tmp_path)
    assert {one.metric for one in figures if one.model == OWN} == {"masked_loss"}
    assert len(items) == 4


def test_suite_is_asked_without_writing_samples(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", LanguageModel)
    score_suite_items(EvaluateConfig(documents="python", max_documents=3, document_bytes=64), model, tmp_path)
    items, figures = check_tables(tmp_path)
    assert {item.source for item in items.values()} == {"python"}
    assert "bits_per_byte" in {one.metric for one in figures}
    assert not (tmp_path / "samples.json").exists()
    with pytest.raises(UserError, match="it measures nothing of a LanguageModel without a corpus or examples"):
        score_suite_items(EvaluateConfig(), model, tmp_path)


def test_model_that_cannot_be_asked_says_why(tmp_path: Path) -> None:
    examples, texts = examples_of(tmp_path / "examples", "classification"), documents(tmp_path)
    writer, classifier = saved(tmp_path / "writer", LanguageModel), saved(tmp_path / "classifier", SequenceClassifier, 3)
    with pytest.raises(UserError, match="a SequenceClassifier has no figure on text. Fix: ask it examples of its kind"):
        score_items(classifier, Asked("general text", 5, documents=texts), tmp_path)
    with pytest.raises(UserError, match="classification needs a model that was tuned for it, found a LanguageModel"):
        score_items(writer, Asked("areas", 5, examples=examples), tmp_path)
    with pytest.raises(UserError, match="classification needs a model that was tuned for it, found a SequenceClassifier"):
        score_items(saved(tmp_path / "multi", SequenceClassifier, 3, "multi"), Asked("areas", 5, examples=examples), tmp_path)
    (writer / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer that this version can read"):
        score_items(writer, Asked("general text", 5, documents=texts), tmp_path)
    broken = LanguageModel(LLAMA, 400)
    with torch.no_grad():
        for weights in broken.parameters():
            weights.mul_(1e38 if weights.ndim == 1 else 1e3)  # finite, but its logits are not
    save_folder(tmp_path / "broken", broken, {})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "broken" / name).write_bytes((classifier / name).read_bytes())
    with pytest.raises(UserError, match="its bits_per_byte of d0 is (nan|inf), so its weights are broken. Fix: train it again"):
        score_items(tmp_path / "broken", Asked("general text", 1, documents=documents(tmp_path, 1)), tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        score_items(tmp_path / "gone", Asked("general text", 5, documents=texts), tmp_path)


def figures_by_metric(folder: Path) -> dict[str, ItemFigures]:
    return {one.metric: one for one in read_figures(folder) if one.model == OWN}


@pytest.mark.parametrize(
    ("labels", "says", "right"),
    [
        (("snow", "dry", "wet"), "snow", "snow"),  # the same labels in another order
        (("dry", "hail"), "dry", "dry"),  # two that it does not know, and one that is gone
        (("dry", "hail"), "hail", ""),
        (("dry", "hail", "wet", "fog"), "fog", ""),
    ],
)
def test_answers_are_held_to_the_names_of_labels(labels: tuple[str, ...], says: str, right: str, tmp_path: Path) -> None:
    examples = examples_of(tmp_path / "examples", "classification")
    task = ModelTask("weather", "classification", labels)
    model = saved(tmp_path / "model", SequenceClassifier, len(labels), task=task, bias=labels.index(says))
    score_items(model, Asked("weather", 100, examples=examples), tmp_path)
    items, _ = check_tables(tmp_path)
    found = figures_by_metric(tmp_path)
    wanted = [items["classification", id].expected for id in found["accuracy"].items]
    assert set(wanted) == set(LABELS)
    assert set(found["accuracy"].answers) == {says}
    assert found["accuracy"].columns[:, 0].tolist() == [float(name == right) for name in wanted]
    share = wanted.count(right) / len(wanted)
    assert plain_value(found["macro_f1"]) == pytest.approx((2 * share / (1 + share)) / 3)


def test_tags_of_a_tagger_are_held_to_their_names(tmp_path: Path) -> None:
    examples = examples_of(tmp_path / "examples", "token_labels")
    for name, labels in (("known", ("B-PLACE", "B-OTHER")), ("gone", ("B-OTHER", "B-PLACE"))):
        task = ModelTask("tags", "token_labels", labels)
        model = saved(tmp_path / name, TokenClassifier, 2, task=task, bias=0)
        (tmp_path / f"out-{name}").mkdir()
        score_items(model, Asked("tags", 100, examples=examples), tmp_path / f"out-{name}")
    known, gone = figures_by_metric(tmp_path / "out-known"), figures_by_metric(tmp_path / "out-gone")
    assert gone["accuracy"].columns[:, 0].sum() == 0 < known["accuracy"].columns[:, 0].sum()
    assert gone["entity_f1"].columns[:, 0].sum() == 0 < known["entity_f1"].columns[:, 0].sum()
    assert gone["entity_f1"].columns[:, 1].tolist() == known["entity_f1"].columns[:, 1].tolist()  # as many found, as many wanted


def test_label_that_is_gone_counts_as_found_wrongly_among_several(tmp_path: Path) -> None:
    examples = examples_of(tmp_path / "examples", "multi_label")
    task = ModelTask("tags", "multi_label", ("hail", "wet"))
    score_items(
        saved(tmp_path / "model", SequenceClassifier, 2, "multi", task=task, bias=0), Asked("tags", 100, examples=examples), tmp_path
    )
    found = figures_by_metric(tmp_path)
    assert set(found["micro_f1"].answers) == {"hail"}
    assert found["micro_f1"].columns[:, 0].sum() == 0
    wanted = [len(item.expected.split(", ")) if item.expected else 0 for item in read_items(tmp_path)]
    assert found["micro_f1"].columns[:, 1].tolist() == [1.0 + count for count in wanted]


def test_model_without_names_needs_as_many_classes_as_there_are_labels(tmp_path: Path) -> None:
    examples = examples_of(tmp_path / "examples", "classification")
    with pytest.raises(UserError, match="the model has 2 classes, the examples 3"):
        score_items(saved(tmp_path / "model", SequenceClassifier, 2), Asked("weather", 100, examples=examples), tmp_path)


def test_long_texts_are_shown_by_their_beginning(tmp_path: Path) -> None:
    rows: list[Row] = [{"text": f"{n} " + "rain " * 300, "label": LABELS[n % 3]} for n in range(12)]
    examples = examples_of(tmp_path / "examples", "classification", rows)
    score_items(saved(tmp_path / "model", SequenceClassifier, 3), Asked("weather", 100, examples=examples), tmp_path)
    items, _ = check_tables(tmp_path)
    assert {len(item.shown) for item in items.values()} == {600}
    assert all(item.bytes > 1_500 for item in items.values())

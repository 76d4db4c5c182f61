"""What classifiers, masked models and encoder-decoders answer, as it is served."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModelContext

from model.config.model_config import ModelConfig
from model.huggingface.huggingface import save_folder
from model.nn.models import MaskedLanguageModel, Model, MultipleChoice, Seq2SeqModel, SequenceClassifier, TokenClassifier
from tasks.errors import UserError
from tasks.evaluate.judged import Subject, score_rows
from tasks.evaluate.metrics import predict_tokens
from tasks.evaluate.suite import EvaluateConfig
from tasks.evaluate.token_scores import score_token_labels
from tasks.examples.kinds.token_labels import word_rows
from tasks.examples.text_words import spaced
from tasks.inference.labelling import WordLabeller, choose_text, classify_text, label_text, labels_of
from tasks.inference.serving import ServedModel
from tasks.inference.task_file import ModelTask
from tasks.tokenizer.encoding import text_ids
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer, tokenizer_settings
from tasks.tokenizer.word_encoding import WordEncoder

LLAMA = ModelConfig(layers=1, width=16, heads=2, context=16)
BERT = ModelConfig("bert", layers=1, width=16, heads=2, context=16)


@pytest.fixture(scope="module")
def tokenizer() -> tokenizers.Tokenizer:
    made = new_tokenizer()
    learn_merges(made, iter(["rain falls on stone, stone by stone"] * 3), 280)
    complete(made)
    made.add_special_tokens(["<|mask|>"])
    return made


def biased(problem: str, biases: Sequence[float], tokenizer: tokenizers.Tokenizer) -> SequenceClassifier:
    """Its logits are `biases`, whatever the text."""
    model = SequenceClassifier(BERT, tokenizer.get_vocab_size(), len(biases), problem).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        model.head.score.weight.zero_()
        model.head.score.bias.copy_(torch.tensor(biases))
    return model


def test_probabilities_of_exclusive_labels_are_their_softmax(tokenizer: tokenizers.Tokenizer) -> None:
    found = label_text(biased("single", [0.0, 1.0, -1.0], tokenizer), tokenizer, ("a", "b", "c"), "rain")
    assert [label.name for label in found] == ["b", "a", "c"]
    expected = torch.tensor([1.0, 0.0, -1.0]).softmax(dim=0).tolist()
    assert [label.probability for label in found] == pytest.approx(expected)


def test_labels_that_hold_together_are_told_by_their_own_probabilities(tokenizer: tokenizers.Tokenizer) -> None:
    model = biased("multi", [0.5, 3.0, -1.0], tokenizer)
    assert classify_text(model, tokenizer, ("a", "b", "c"), "rain") == "b, a"
    assert label_text(model, tokenizer, ("a", "b", "c"), "rain")[1].probability == pytest.approx(torch.tensor(0.5).sigmoid().item())


def test_regression_tells_its_figure(tokenizer: tokenizers.Tokenizer) -> None:
    assert classify_text(biased("regression", [2.5], tokenizer), tokenizer, ("score",), "rain falls " * 30) == "2.5"


def test_labels_that_are_not_as_many_as_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 labels for 3 classes"):
        labels_of(tmp_path, ModelTask("t", "classification", ("a", "b")), 3)


@pytest.mark.parametrize(
    ("make", "task", "params", "rows"),
    [
        (lambda size: SequenceClassifier(LLAMA, size, 2), "classification", {}, 1),
        (lambda size: TokenClassifier(LLAMA, size, 2), "token_labels", {}, 1),
        (lambda size: MaskedLanguageModel(BERT, size), "", {"count": 2}, 2),
        (
            lambda size: Seq2SeqModel(ModelConfig("seq2seq", layers=1, width=16, heads=2, context=16), size),
            "",
            {"count": 3, "max_tokens": 4, "min_p": 0.1, "repetition_penalty": 1.2},
            3,
        ),
    ],
    ids=["classes", "word labels", "masked", "encoder-decoder"],
)
def test_every_kind_of_model_is_served(
    make: Callable[[int], Model], task: str, params: dict[str, float], rows: int, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    served = open_served(make(tokenizer.get_vocab_size()), task, tokenizer, tmp_path)
    prompts = pandas.DataFrame({"prompt": ["rain <|mask|>", "stone <|mask|> by"]})
    answers = served.predict(PythonModelContext({}, {}), prompts, params)
    assert list(answers.columns) == ["text"]
    assert len(answers) == 2 * rows


def test_served_settings_out_of_bounds_are_refused(tokenizer: tokenizers.Tokenizer, tmp_path: Path) -> None:
    make = Seq2SeqModel(ModelConfig("seq2seq", layers=1, width=16, heads=2, context=16), tokenizer.get_vocab_size())
    served = open_served(make, "", tokenizer, tmp_path)
    with pytest.raises(MlflowException, match="params: min_p 2.0"):
        served.predict(PythonModelContext({}, {}), pandas.DataFrame({"prompt": ["rain"]}), {"min_p": 2.0})


def test_likeliest_of_the_choices_below_a_question_is_served(tokenizer: tokenizers.Tokenizer, tmp_path: Path) -> None:
    model = MultipleChoice(BERT, tokenizer.get_vocab_size()).eval()
    served = open_served(model, "", tokenizer, tmp_path)
    prompts = pandas.DataFrame({"prompt": ["what falls?\nrain\nstone by stone", "what falls?\nstone by stone\nrain"]})
    answers = served.predict(PythonModelContext({}, {}), prompts)["text"].tolist()
    assert answers[0] == answers[1] == choose_text(model, tokenizer, "what falls?\nrain\nstone by stone")[0].name
    assert sum(label.probability or 0 for label in choose_text(model, tokenizer, "x\na\nb\nc")) == pytest.approx(1)


def test_question_without_choices_is_refused(tokenizer: tokenizers.Tokenizer, tmp_path: Path) -> None:
    served = open_served(MultipleChoice(BERT, tokenizer.get_vocab_size()), "", tokenizer, tmp_path)
    with pytest.raises(MlflowException, match="the prompt has 0 below its first line. Fix: give the question and two or more"):
        served.predict(PythonModelContext({}, {}), pandas.DataFrame({"prompt": ["rain"]}))


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_every_word_of_a_long_text_is_labelled_alike_in_evaluation_and_use(
    family: Literal["llama", "bert"], tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    model = TokenClassifier(ModelConfig(family, layers=1, width=16, heads=2, context=10), tokenizer.get_vocab_size(), 2).eval()
    served = open_served(model, "token_labels", tokenizer, tmp_path)
    text = "rain falls on stone, stone by stone and on rain " * 4
    found = WordLabeller(model, tokenizer, ("dry", "wet"), None).label(text)
    assert [word.word for word in found] == text.split()
    labels = [word.label.name for word in found if word.label is not None]
    assert len(labels) == len(found)
    assert set(labels) == {"dry", "wet"}
    answers = served.predict(PythonModelContext({}, {}), pandas.DataFrame({"prompt": [text]}))["text"].tolist()
    assert answers == [" ".join(labels)]

    tokens = spaced(text.split())
    rows = pa.table({"id": ["a"], "group": ["a"], "tokens": [tokens], "labels": [labels]})
    for split in ("train", "heldout"):
        pq.write_table(rows, tmp_path / f"{split}.parquet")
    (tmp_path / "labels.json").write_text(json.dumps(["dry", "wet"]))
    judged = score_token_labels(EvaluateConfig(), Subject(model, tokenizer, None), tmp_path)
    assert {row.value for row in score_rows(EvaluateConfig(), judged.figures) if row.model == "model"} == {1.0}

    ids = [text_ids(tokenizer, "test").bos, *(number for word in WordEncoder(tokenizer).encode(tokens) for number in word)]
    first = ids[:10] if family == "llama" else [*ids[:9], text_ids(tokenizer, "test").eos]  # as much as the context holds, read alone
    (classes,) = predict_tokens(model, [first])
    (windows,) = word_rows([tokens], WordEncoder(tokenizer), model.trunk.config, "test")
    assert labels[: len(windows[0].firsts)] == [("dry", "wet")[classes[at]] for at in windows[0].firsts.values()]
    assert windows[0].ids == first


def open_served(model: Model, task: str, tokenizer: tokenizers.Tokenizer, folder: Path) -> ServedModel:
    labels = ["dry", "wet"]
    save_folder(folder, model, {"id2label": dict(enumerate(labels))} if task else {})
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_settings()))
    if task:
        (folder / "task.json").write_text(json.dumps({"name": "t", "kind": task, "labels": labels}))
    served = ServedModel()
    served.load_context(PythonModelContext({"model": str(folder)}, {}))
    return served

"""One text, one encoding: what a model is given of a text is the same in training, evaluation, `generate`, serving and transformers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

import pandas
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.pyfunc.model import PythonModelContext
from transformers import AutoTokenizer

from model.config.heads import IGNORED
from model.config.model_config import ModelConfig
from model.inference.sampling import Sampling
from model.nn.models import LanguageModel, MaskedLanguageModel, Model, Seq2SeqModel, TokenClassifier, model_with
from tasks.evaluate.metrics import predict_tokens
from tasks.examples.kinds.kind import Kind, LabelledExamples
from tasks.examples.kinds.table import KINDS
from tasks.examples.kinds.token_labels import word_rows
from tasks.examples.rows import encode_examples
from tasks.finetune.tuned_model import Origin, save_tuned
from tasks.inference.generation import continue_text, translate_text
from tasks.inference.labelling import choose_text, label_text, word_labeller
from tasks.inference.mask_filling import fill_masks
from tasks.inference.saved_models import load, start_id
from tasks.inference.serving import ServedModel
from tasks.inference.task_file import ModelTask, read_task
from tasks.tokenizer.encoding import Encoder, text_ids, vocabulary_size
from tasks.tokenizer.word_encoding import WordEncoder
from tests.tasks.tokenizer.tokenizer_forms import FORMS, form

Family = Literal["llama", "bert", "seq2seq"]
SHORT = Sampling(max_tokens=1, temperature=0)
LABELS = ("in", "out")
SIGNS = "John reads a12.,()'’é\u0301\u200b\ufe0f\x07\x00😀山水京は한ไ\t\n  ﬁ"
pytestmark = pytest.mark.usefixtures("one_thread")

texts = st.one_of(st.text(st.sampled_from(SIGNS), min_size=1, max_size=24), st.sampled_from(["<|bos|> John <|end|>", "</s>[SEP]<s>"]))
lines = texts.map(lambda text: " ".join(text.split()) or "a")


@dataclass
class Tuned:
    """A model as fine-tuning saves it, opened by each that answers, and what each gives it."""

    folder: Path
    model: Model
    served: ServedModel
    seen: list[list[int]] = field(default_factory=list[list[int]])

    def asked(self, prompt: str) -> list[list[int]]:
        """The rows that the served model reads for the prompt."""
        self.seen.clear()
        self.served.predict(PythonModelContext({}, {}), pandas.DataFrame({"prompt": [prompt]}), {"max_tokens": 1})
        return list(self.seen)


def watched(model: Model, seen: list[list[int]]) -> None:
    """Every row that goes in, padding aside, which stands behind a row."""

    def note(_: object, given: tuple[torch.Tensor, ...]) -> None:
        seen.extend(given[0].reshape(-1, given[0].shape[-1]).tolist())

    model.trunk.embedding.register_forward_pre_hook(note)


@cache
def tuned(name: str, kind: str, family: Family) -> Tuned:
    tokenizer, shape = form(name), ModelConfig(family, layers=1, width=16, heads=2, context=256)
    torch.manual_seed(0)
    size, special = vocabulary_size(tokenizer), text_ids(tokenizer, "test")
    if kind == "instruction":
        model: Model = LanguageModel(shape, size) if family == "llama" else Seq2SeqModel(shape, size)
    elif kind == "mask":
        model = MaskedLanguageModel(shape, size)
    else:
        model = model_with(shape, size, KINDS[kind].head(len(LABELS)))
    source, folder = Path(mkdtemp()), Path(mkdtemp())
    settings_of = {
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (source / "tokenizer_config.json").write_text(json.dumps(settings_of))
    labels = LABELS if kind in KINDS and KINDS[kind].labels else ()
    task = ModelTask("t", kind if kind in KINDS else "classification", labels)
    save_tuned(model, tokenizer, special, task, Origin(source, source), folder)  # type: ignore[arg-type]
    served = ServedModel()
    served.load_context(PythonModelContext({"model": str(folder)}, {}))
    found = Tuned(folder, load(folder)[0], served)
    watched(found.model, found.seen)
    watched(served.model, found.seen)
    return found


def rows_of(kind: Kind, values: Mapping[str, object]) -> LabelledExamples:
    """The one example, as it is prepared from a row of a file."""
    checked = kind.check(values)
    assert not isinstance(checked, str), checked
    columns = {name: pa.array([checked[name]], dtype) for name, dtype in kind.columns.items()}
    return LabelledExamples(kind, LABELS if kind.labels else (), pa.table(columns))


def learned(name: str, family: Family, examples: LabelledExamples) -> dict[str, list[int]]:
    """The row of training, which evaluation has from the same call."""
    tokenizer = form(name)
    start = start_id(tokenizer) if family == "seq2seq" else None
    table = encode_examples(examples, tokenizer, ModelConfig(family, layers=1, width=16, heads=2, context=256), start).table
    return table.to_pylist()[0]


ANSWERS: dict[str, dict[str, object]] = {
    "classification": {"label": "in"},
    "multi_label": {"labels": ["in"]},
    "regression": {"value": 0.5},
}


@pytest.mark.parametrize("family", ["llama", "bert"])
@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=6)
@given(text=texts.filter(str.strip))
def test_text_to_be_labelled_is_encoded_as_it_was_learned(name: str, family: Family, text: str) -> None:
    for kind, answer in ANSWERS.items():
        model = tuned(name, kind, family)
        row = learned(name, family, rows_of(KINDS[kind], {"text": text, **answer}))["ids"]
        assert model.asked(text) == [row]
        model.seen.clear()
        label_text(model.model, form(name), LABELS[: model.model.head.score.out_features], text)  # type: ignore[arg-type, union-attr]
        assert model.seen == [row]


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=6)
@given(question=texts.filter(str.strip), choices=st.lists(lines, min_size=2, max_size=3, unique=True))
def test_question_and_choices_are_encoded_as_they_were_learned(name: str, question: str, choices: list[str]) -> None:
    question = "\n".join(line for line in question.split("\n") if line.strip())
    model = tuned(name, "multiple_choice", "bert")
    rows = learned(name, "bert", rows_of(KINDS["multiple_choice"], {"question": question, "choices": choices, "answer": choices[0]}))["ids"]
    prompt = "\n".join((question, "", *choices) if "\n" in question else (question, *choices))
    assert [ids[: len(row)] for ids, row in zip(model.asked(prompt), rows, strict=True)] == rows  # type: ignore[arg-type]
    model.seen.clear()
    choose_text(model.model, form(name), prompt)  # type: ignore[arg-type]
    assert [ids[: len(row)] for ids, row in zip(model.seen, rows, strict=True)] == rows  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["llama", "bert"])
@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=10)
@given(text=texts.filter(str.strip))
def test_words_are_encoded_and_labelled_alike_everywhere(name: str, family: Family, text: str) -> None:
    model = tuned(name, "token_labels", family)
    labeller = word_labeller(model.model, form(name), model.folder, read_task(model.folder))
    assert labeller is not None
    answers = labeller.label(text)
    words = [word.word for word in answers]
    examples = rows_of(KINDS["token_labels"], {"tokens": words, "labels": [LABELS[at % 2] for at in range(len(words))]})
    row = learned(name, family, examples)
    assert model.asked(text) == [row["ids"]]
    ((evaluated,),) = word_rows(examples.table["tokens"].to_pylist(), WordEncoder(form(name)), model.model.trunk.config, "test")
    assert evaluated.ids == row["ids"]
    targets = {first: word % 2 for word, first in evaluated.firsts.items()}
    assert row["targets"] == [targets.get(at, IGNORED) for at in range(len(row["ids"]))]
    assert isinstance(model.model, TokenClassifier)
    (classes,) = predict_tokens(model.model, [evaluated.ids])
    labels = [LABELS[classes[evaluated.firsts[word]]] if word in evaluated.firsts else None for word in range(len(words))]
    assert [None if word.label is None else word.label.name for word in answers] == labels
    served = model.served.predict(PythonModelContext({}, {}), pandas.DataFrame({"prompt": [text]}))["text"].tolist()
    assert served == [" ".join(name or "_" for name in labels)]


def test_text_without_words_has_no_labels() -> None:
    model = tuned("bert", "token_labels", "bert")
    assert [model.served.predict(PythonModelContext({}, {}), pandas.DataFrame({"prompt": [text]}))["text"][0] for text in ("", " \n")] == [
        "",
        "",
    ]


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=6)
@given(prompt=texts.filter(str.strip), response=texts.filter(str.strip))
def test_question_is_encoded_as_it_was_learned(name: str, prompt: str, response: str) -> None:
    examples = rows_of(KINDS["instruction"], {"prompt": prompt, "response": response})
    for family in ("llama", "seq2seq"):
        model, row = tuned(name, "instruction", family), learned(name, family, examples)
        asked = row["ids"] if family == "seq2seq" else row["ids"][: row["targets"].count(IGNORED)]
        assert model.asked(prompt)[0] == asked
        model.seen.clear()
        if isinstance(model.model, Seq2SeqModel):
            translate_text(model.model, form(name), prompt, start_id(form(name)), 1, SHORT)
        else:
            continue_text(model.model, form(name), prompt, 1, SHORT, is_chat=True)
        assert model.seen[0] == asked


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=6)
@given(text=st.text(st.sampled_from(SIGNS), max_size=24))
def test_text_to_be_continued_is_encoded_as_in_shards(name: str, text: str) -> None:
    tokenizer, model = form(name), tuned(name, "instruction", "llama")
    model.seen.clear()
    continue_text(model.model, tokenizer, text, 1, SHORT)
    (ids,) = Encoder(tokenizer, None, vocabulary_size(tokenizer)).encode([text])
    assert model.seen[0] == [start_id(tokenizer), *ids.tolist()]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("text", ["John reads.", " John  reads\n", "山水 f(x)", "a"])
def test_transformers_encodes_a_text_as_it_was_learned(name: str, text: str) -> None:
    for family in ("llama", "bert"):
        for kind in ("classification", "regression"):
            row = learned(name, family, rows_of(KINDS[kind], {"text": text, **ANSWERS[kind]}))["ids"]
            assert AutoTokenizer.from_pretrained(tuned(name, kind, family).folder)(text)["input_ids"] == row


@pytest.mark.parametrize("name", FORMS)
def test_transformers_encodes_words_as_they_were_learned(name: str) -> None:
    words = ["John", "reads", "12", "cafes"]
    given_words = [words[0], *(f" {word}" for word in words[1:])] if name.startswith(("our", "gpt2", "neox")) else words
    for family in ("llama", "bert"):
        row = learned(name, family, rows_of(KINDS["token_labels"], {"tokens": words, "labels": ["in"] * 4}))["ids"]
        theirs = AutoTokenizer.from_pretrained(tuned(name, "token_labels", family).folder)
        assert theirs(given_words, is_split_into_words=True)["input_ids"] == row


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("prompt", "response"), [("John reads", "a book."), (" f(x)\n", "山水"), ("a", " b ")])
def test_rendered_conversation_is_encoded_as_it_was_learned_with_one_start(name: str, prompt: str, response: str) -> None:
    row = learned(name, "llama", rows_of(KINDS["instruction"], {"prompt": prompt, "response": response}))["ids"]
    theirs = AutoTokenizer.from_pretrained(tuned(name, "instruction", "llama").folder)
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    assert theirs(theirs.apply_chat_template(messages, tokenize=False))["input_ids"] == row
    assert theirs.apply_chat_template(messages, return_dict=True)["input_ids"] == row


@pytest.mark.parametrize("name", ["our bytes", "our word pieces", "our words", "our unigram", "bert"])
@pytest.mark.parametrize("spelling", ["[MASK]", "own"])
def test_mask_stands_for_a_word_as_in_training_however_it_is_spelled(name: str, spelling: str) -> None:
    own, model = "[MASK]" if name == "bert" else "<|mask|>", tuned(name, "mask", "bert")
    mask = form(name).token_to_id(own)
    model.seen.clear()
    fill_masks(model.model, form(name), f"a {own if spelling == 'own' else spelling} reads.", 1)  # type: ignore[arg-type]
    (row,) = model.seen
    word = WordEncoder(form(name)).encode(["a", " John", " reads."])
    around = text_ids(form(name), "test")
    assert row == [around.bos, *word[0], mask, *word[2], around.eos]


def test_every_kind_is_compared() -> None:
    compared: Sequence[str] = (*ANSWERS, "multiple_choice", "token_labels", "instruction")
    assert set(compared) == set(KINDS)

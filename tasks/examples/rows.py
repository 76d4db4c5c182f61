"""Labelled examples as rows of token ids: one rule for learning from them and for being judged on them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from model.config.model_config import ModelConfig
from model.config.targets import IGNORED, ExampleKind
from tasks.examples.pair_rows import pair_rows
from tasks.tokenizer.encoding import SpecialIds, TextIds, encode_documents, special_ids, text_ids

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class LabelledExamples:
    """The rows of one split of an Examples artifact, as they are in its table."""

    kind: ExampleKind
    labels: tuple[str, ...]  # names of the classes in order; empty for kinds without
    table: pa.Table


@dataclass(frozen=True)
class EncodedExamples:
    """What a model is given: `ids`, and what is to come out, by kind (see ExampleBatches in model/data/batches.py)."""

    table: pa.Table
    cut: int  # examples longer than the context, of which a part is missing


def read_examples(folder: Path, split: Literal["train", "heldout"]) -> LabelledExamples:
    """One split of an Examples artifact; its columns say which kind it is."""
    table = pq.read_table(folder / f"{split}.parquet")
    kind = _kind_of(table)
    if kind not in ("classification", "multi_label", "token_labels"):
        return LabelledExamples(kind, (), table)
    return LabelledExamples(kind, tuple(json.loads((folder / "labels.json").read_text(encoding="utf-8"))), table)


def _kind_of(table: pa.Table) -> ExampleKind:
    columns = set(table.column_names)
    if "response" in columns:
        return "instruction"
    if "choices" in columns:
        return "multiple_choice"
    if "tokens" in columns:
        return "token_labels"
    if "value" in columns:
        return "regression"
    return "classification" if "label" in columns else "multi_label"


def encode_examples(
    examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None = None
) -> EncodedExamples:
    """Rows in the order of the table, none longer than a model of that `shape` takes.

    `start`: the token that an encoder-decoder's targets begin with; None: the one that begins any text.
    """
    if examples.kind == "instruction" and shape.family == "seq2seq":
        return _encode_pairs(examples.table, tokenizer, text_ids(tokenizer, "fine-tuning", start), shape.context)
    if examples.kind == "instruction":
        return _encode_instructions(examples.table, tokenizer, special_ids(tokenizer, "fine-tuning"), shape.context)
    special = text_ids(tokenizer, "fine-tuning")
    if examples.kind == "token_labels":
        return _encode_token_labels(examples, tokenizer, special, shape)
    if examples.kind == "multiple_choice":
        return _encode_choices(examples.table, tokenizer, special, shape.context)
    return _encode_texts(examples, tokenizer, special, shape.context)


def prompt_ids(prompt: Sequence[int], special: SpecialIds) -> list[int]:
    """What comes before a response."""
    return [special.bos, special.user, *prompt, special.assistant]


def instruction_row(
    prompt: Sequence[int], response: Sequence[int], special: SpecialIds, context: int
) -> tuple[list[int], list[int]]:
    """(ids, targets), at most context + 1 each: the last id is a target alone. Scored are the response and <|end|>.

    Of what does not fit, the beginning of the prompt and the end of the response go, each down to half of the room;
    a response that was cut has no <|end|>.
    """
    room = context + 1 - 4
    response_room = room - min(len(prompt), room // 2)
    answer = [*response, special.end] if len(response) <= response_room else list(response[:response_room])
    prompt_room = room + 1 - len(answer)
    given = prompt_ids(prompt[max(0, len(prompt) - prompt_room) :], special)
    return given + answer, [IGNORED] * len(given) + answer


def classification_row(text: Sequence[int], special: TextIds, context: int) -> list[int]:
    """<|bos|> text <|eos|>; the end of a text that does not fit goes, <|eos|> stays.

    Where <|eos|> is what pads as well, the row ends with the text: Hugging Face's classifiers look for the last token that is
    no padding.
    """
    end = [] if special.eos == special.pad else [special.eos]
    return [special.bos, *text[: context - 1 - len(end)], *end]


def choice_row(question: Sequence[int], choice: Sequence[int], special: TextIds, context: int) -> list[int]:
    """<|bos|> question <|eos|> choice <|eos|>, the last one as in `classification_row`.

    Of what does not fit, the beginning of the question and the end of the choice go, each down to half of the room.
    """
    end = [] if special.eos == special.pad else [special.eos]
    room = context - 2 - len(end)
    kept = choice[: room - min(len(question), room // 2)]
    asked = question[max(0, len(question) - (room - len(kept))) :]
    return [special.bos, *asked, special.eos, *kept, *end]


def token_label_row(
    pieces: Sequence[Sequence[int]], classes: Sequence[int], special: TextIds, shape: ModelConfig
) -> tuple[list[int], list[int]]:
    """<|bos|> and the tokens' pieces, and as many targets: a token's class on its first piece, nothing on the others.

    In an encoder, which was trained on whole texts, <|eos|> ends the row.
    """
    ids, targets = [special.bos], [IGNORED]
    for piece, number in zip(pieces, classes, strict=True):
        ids.extend(piece)
        targets.extend([number] + [IGNORED] * (len(piece) - 1))
    if shape.is_causal:
        return ids[: shape.context], targets[: shape.context]
    room = shape.context - 1
    return [*ids[:room], special.eos], [*targets[:room], IGNORED]


def _encode_instructions(
    table: pa.Table, tokenizer: "tokenizers.Tokenizer", special: SpecialIds, context: int
) -> EncodedExamples:
    prompts = encode_documents(tokenizer, table["prompt"].to_pylist())
    responses = encode_documents(tokenizer, table["response"].to_pylist())
    rows = [instruction_row(p, r, special, context) for p, r in zip(prompts, responses, strict=True)]
    cut = sum(len(p) + len(r) + 4 > context + 1 for p, r in zip(prompts, responses, strict=True))
    return EncodedExamples(_lists([ids for ids, _ in rows], [targets for _, targets in rows]), cut)


def _encode_pairs(
    table: pa.Table, tokenizer: "tokenizers.Tokenizer", special: TextIds, context: int
) -> EncodedExamples:
    rows = pair_rows(table["prompt"].to_pylist(), table["response"].to_pylist(), tokenizer, special, context)
    pairs = _lists([row.ids for row in rows], [row.targets for row in rows])
    begun = pa.array([row.decoder_ids for row in rows], pa.list_(pa.int32()))
    return EncodedExamples(pairs.append_column("decoder_ids", begun), sum(row.is_cut for row in rows))


def _encode_texts(
    examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", special: TextIds, context: int
) -> EncodedExamples:
    texts = encode_documents(tokenizer, examples.table["text"].to_pylist())
    rows = [classification_row(text, special, context) for text in texts]
    around = len(classification_row([], special, context))
    cut = sum(len(text) + around > context for text in texts)
    name, answers = _text_answers(examples)
    return EncodedExamples(pa.table({"ids": pa.array(rows, pa.list_(pa.int32())), name: answers}), cut)


def _text_answers(examples: LabelledExamples) -> tuple[str, pa.Array | pa.ChunkedArray]:
    """Name and values of the column of answers: a figure, flags or a class for each text."""
    if examples.kind == "regression":
        return "value", examples.table["value"]
    if examples.kind == "multi_label":
        flags = [[int(name in own) for name in examples.labels] for own in examples.table["labels"].to_pylist()]
        return "flags", pa.array(flags, pa.list_(pa.int32()))
    numbers = {name: number for number, name in enumerate(examples.labels)}
    return "label", pa.array([numbers[name] for name in examples.table["label"].to_pylist()], pa.int32())


def _encode_choices(
    table: pa.Table, tokenizer: "tokenizers.Tokenizer", special: TextIds, context: int
) -> EncodedExamples:
    around = len(choice_row([], [], special, context))
    questions = encode_documents(tokenizer, table["question"].to_pylist())
    rows, cut = list[list[list[int]]](), 0
    for question, texts in zip(questions, table["choices"].to_pylist(), strict=True):
        choices = encode_documents(tokenizer, texts)
        rows.append([choice_row(question, choice, special, context) for choice in choices])
        cut += len(question) + max(map(len, choices)) + around > context
    ids = pa.array(rows, pa.list_(pa.list_(pa.int32())))
    return EncodedExamples(pa.table({"ids": ids, "label": table["answer"].cast(pa.int32())}), cut)


def _encode_token_labels(
    examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", special: TextIds, shape: ModelConfig
) -> EncodedExamples:
    numbers = {name: number for number, name in enumerate(examples.labels)}
    around = len(token_label_row([], [], special, shape)[0])
    ids, targets, cut = list[list[int]](), list[list[int]](), 0
    for tokens, labels in zip(examples.table["tokens"].to_pylist(), examples.table["labels"].to_pylist(), strict=True):
        pieces = encode_documents(tokenizer, tokens)
        row, classes = token_label_row(pieces, [numbers[name] for name in labels], special, shape)
        ids.append(row)
        targets.append(classes)
        cut += around + sum(map(len, pieces)) > shape.context
    return EncodedExamples(_lists(ids, targets), cut)


def _lists(ids: list[list[int]], targets: list[list[int]]) -> pa.Table:
    return pa.table({"ids": pa.array(ids, pa.list_(pa.int32())), "targets": pa.array(targets, pa.list_(pa.int32()))})

"""Labelled examples as rows of token ids: one rule for learning from them and for being judged on them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from model.model_config import ModelConfig
from tasks.encoding import SpecialIds, TextIds, encode_documents, special_ids, text_ids

if TYPE_CHECKING:
    import tokenizers

Kind = Literal["instruction", "classification", "token_labels"]
IGNORED = -100  # a target that is not scored; model/loss.py counts on the same number


@dataclass(frozen=True)
class LabelledExamples:
    """The rows of one split of an Examples artifact, as they are in its table."""

    kind: Kind
    labels: tuple[str, ...]  # names of the classes in order; empty for instructions
    table: pa.Table


@dataclass(frozen=True)
class EncodedExamples:
    """What a model is given: `ids`, and `targets` or `label` (see ExampleBatches in model/batches.py)."""

    table: pa.Table
    cut: int  # examples longer than the context, of which a part is missing


def read_examples(folder: Path, split: Literal["train", "heldout"]) -> LabelledExamples:
    """One split of an Examples artifact; its columns say which kind it is."""
    table = pq.read_table(folder / f"{split}.parquet")
    labels: tuple[str, ...] = ()
    if "response" in table.column_names:
        return LabelledExamples("instruction", labels, table)
    labels = tuple(json.loads((folder / "labels.json").read_text(encoding="utf-8")))
    return LabelledExamples("classification" if "label" in table.column_names else "token_labels", labels, table)


def encode_examples(
    examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig
) -> EncodedExamples:
    """Rows in the order of the table, none longer than a model of that `shape` takes."""
    if examples.kind == "instruction":
        return _encode_instructions(examples.table, tokenizer, special_ids(tokenizer, "fine-tuning"), shape.context)
    special = text_ids(tokenizer, "fine-tuning")
    if examples.kind == "classification":
        return _encode_texts(examples, tokenizer, special, shape.context)
    return _encode_token_labels(examples, tokenizer, special, shape)


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


def _encode_texts(
    examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", special: TextIds, context: int
) -> EncodedExamples:
    texts = encode_documents(tokenizer, examples.table["text"].to_pylist())
    numbers = {name: number for number, name in enumerate(examples.labels)}
    labels = pa.array([numbers[name] for name in examples.table["label"].to_pylist()], pa.int32())
    rows = [classification_row(text, special, context) for text in texts]
    around = len(classification_row([], special, context))
    cut = sum(len(text) + around > context for text in texts)
    return EncodedExamples(pa.table({"ids": pa.array(rows, pa.list_(pa.int32())), "label": labels}), cut)


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

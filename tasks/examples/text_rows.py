"""Text rows: one text between the tokens that begin and end it, as heads over a whole row read it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from model.config.model_config import ModelConfig
from tasks.examples.kinds.kind import EncodedExamples, id_lists
from tasks.tokenizer.encoding import TextIds, encode_documents, text_ids

if TYPE_CHECKING:
    import tokenizers


def text_row(text: Sequence[int], special: TextIds, context: int) -> list[int]:
    """<|bos|> text <|eos|>; the end of a text that does not fit goes, <|eos|> stays.

    Where <|eos|> is what pads as well, the row ends with the text: Hugging Face's classifiers look for the last token that is
    no padding.
    """
    end = [] if special.eos == special.pad else [special.eos]
    return [special.bos, *text[: context - 1 - len(end)], *end]


def encode_texts(table: pa.Table, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, name: str, answers: pa.Array) -> EncodedExamples:
    """A row for each `text` of the table, and the column `name` with the answers."""
    special = text_ids(tokenizer, "fine-tuning")
    texts = encode_documents(tokenizer, table["text"].to_pylist())
    rows = [text_row(text, special, shape.context) for text in texts]
    around = len(text_row([], special, shape.context))
    cut = sum(len(text) + around > shape.context for text in texts)
    return EncodedExamples(pa.table({"ids": id_lists(rows), name: answers}), cut)

"""Example tables: one split of an artifact, as written and as token ids, by one rule for learning and for being judged."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow.parquet as pq

from model.config.model_config import ModelConfig
from tasks.examples.kinds.kind import EncodedExamples, Example, LabelledExamples
from tasks.examples.kinds.table import kind_of

if TYPE_CHECKING:
    import tokenizers


def read_examples(folder: Path, split: Literal["train", "heldout", "replay"]) -> LabelledExamples:
    """One split of an Examples artifact; its columns say which kind it is. UserError where they are of none."""
    path = folder / f"{split}.parquet"
    table = pq.read_table(path)
    kind = kind_of(table.column_names, str(path))
    names = [] if kind.labels is None else json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    return LabelledExamples(kind, tuple(names), table)


def stored_examples(examples: LabelledExamples) -> list[Example]:
    """The rows of a table as the examples that they were written from."""
    names = list(examples.kind.columns)
    return [
        Example("" if row["group"] == row["id"] else row["group"], {name: row[name] for name in names}, f"row {number}")
        for number, row in enumerate(examples.table.to_pylist())
    ]


def encode_examples(
    examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None = None
) -> EncodedExamples:
    """Rows in the order of the table, none longer than a model of that `shape` takes.

    `start`: the token that an encoder-decoder's targets begin with; None: the one that begins any text.
    """
    return examples.kind.encode(examples, tokenizer, shape, start)

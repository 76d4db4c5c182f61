"""Entailment: a premise, a hypothesis, and whether the one follows from the other. A kind of examples that only tests have.

All of it is here: with a line in KINDS and one in EXAMPLE_SCORERS it is prepared, learned, scored and compared.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import pyarrow as pa
from pydantic import Field

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from tasks.contracts import label_column, text_column
from tasks.examples.config import ExamplesConfig, RowExamples
from tasks.examples.kinds.kind import TEXT, EncodedExamples, Kind, LabelledExamples, check_texts, example_schema
from tasks.examples.text_rows import encode_texts

if TYPE_CHECKING:
    import pandera.polars as pandera
    import tokenizers


class EntailmentRows(RowExamples):
    """Rows with two texts and a label."""

    premise_field: str = Field(default="premise", min_length=1)
    hypothesis_field: str = Field(default="hypothesis", min_length=1)

    def pick(self, row: Mapping[str, object]) -> dict[str, object]:
        """Both texts and the label."""
        texts = {"premise": row.get(self.premise_field), "hypothesis": row.get(self.hypothesis_field)}
        return {**texts, "label": row.get("label")}


class EntailmentConfig(ExamplesConfig):
    """Pairs of texts."""

    kind: Literal["entailment"]
    source: Annotated[EntailmentRows, Field(discriminator="kind")]


def contract(labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    """Two texts and a label."""
    columns = {"premise": text_column(), "hypothesis": text_column(), "label": label_column(labels)}
    return example_schema("EntailmentExamples", columns)


def encode(examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None) -> EncodedExamples:
    """Both texts in one row."""
    numbers = {name: number for number, name in enumerate(examples.labels)}
    rows = examples.table.to_pylist()
    texts = pa.table({"text": [f"{row['premise']} so {row['hypothesis']}" for row in rows]})
    classes = pa.array([numbers[row["label"]] for row in rows], pa.int32())
    return encode_texts(texts, tokenizer, shape, "label", classes)


ENTAILMENT = Kind(
    name="entailment",
    config=EntailmentConfig,
    columns={"premise": TEXT, "hypothesis": TEXT, "label": TEXT},
    contract=contract,
    check=check_texts,
    encode=encode,
    head=lambda labels: HeadSpec("sequence", labels),
    metric="macro_f1",
    labels=lambda values: [str(values["label"])],
)

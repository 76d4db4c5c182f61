"""Regression: a text and a number. The mean squared error decides."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Literal

import pyarrow as pa
from pydantic import Field

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from tasks.contracts import number_column, text_column
from tasks.examples.config import ExamplesConfig, RowExamples
from tasks.examples.kinds.kind import TEXT, EncodedExamples, Kind, LabelledExamples, Values, check_texts, example_schema
from tasks.examples.text_rows import encode_texts

if TYPE_CHECKING:
    import pandera.polars as pandera
    import tokenizers


class RegressionRows(RowExamples):
    """Rows with a text and a number."""

    text_field: str = Field(default="text", min_length=1)
    value_field: str = Field(default="value", min_length=1, description="a number")

    def pick(self, row: Mapping[str, object]) -> dict[str, object]:
        """The text and its number."""
        return {"text": row.get(self.text_field), "value": row.get(self.value_field)}


class RegressionConfig(ExamplesConfig):
    """Texts, each with a number."""

    kind: Literal["regression"]
    source: Annotated[RegressionRows, Field(discriminator="kind")]


def check(values: Mapping[str, object]) -> Values | str:
    """The text and a finite number; CSV spells it."""
    text, value = check_texts({"text": values["text"]}), values["value"]
    if isinstance(text, str):
        return text
    number = math.nan
    if isinstance(value, int | float | Decimal | str) and not isinstance(value, bool) and "_" not in str(value):  # 1_000 is no figure
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return "not_a_number"
    return {**text, "value": number} if math.isfinite(number) else "not_a_number"


def contract(labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    """A text, and a finite number."""
    return example_schema("RegressionExamples", {"text": text_column(), "value": number_column()})


def encode(examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None) -> EncodedExamples:
    """`value`: the number of each text."""
    return encode_texts(examples.table, tokenizer, shape, "value", examples.table["value"])


REGRESSION = Kind(
    name="regression",
    config=RegressionConfig,
    columns={"text": TEXT, "value": pa.float64()},
    contract=contract,
    check=check,
    encode=encode,
    head=lambda labels: HeadSpec("sequence", 1, "regression"),
    metric="mse",
    lower_is_better=True,
    output="value",
)

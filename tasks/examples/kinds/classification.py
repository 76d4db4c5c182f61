"""Classification: a text and its one label. Accuracy decides, or macro F1 where classes are skewed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import pyarrow as pa
from pydantic import Field

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from tasks.contracts import label_column, text_column
from tasks.examples.config import ExamplesConfig, PythonAreas, RowExamples
from tasks.examples.kinds.kind import TEXT, EncodedExamples, Kind, LabelledExamples, Values, check_texts, example_schema
from tasks.examples.label_values import Unlabelled, by_classes, label_of
from tasks.examples.text_rows import encode_texts

if TYPE_CHECKING:
    import pandera.polars as pandera
    import tokenizers


class ClassificationRows(RowExamples):
    """Rows with a text and a label."""

    text_field: str = Field(default="text", min_length=1)
    label_field: str = Field(default="label", min_length=1)

    def pick(self, row: Mapping[str, object]) -> dict[str, object]:
        """The text and its label."""
        return {"text": row.get(self.text_field), "label": row.get(self.label_field)}


class ClassificationConfig(ExamplesConfig):
    """Texts, each with one label of several."""

    kind: Literal["classification"]
    source: Annotated[PythonAreas | ClassificationRows, Field(discriminator="kind")]


def check(values: Mapping[str, object]) -> Values | str:
    """The text, and the name of its label."""
    text, label = check_texts({"text": values["text"]}), label_of(values["label"])
    if isinstance(text, str):
        return text
    return label.reason if isinstance(label, Unlabelled) else {**text, "label": label}


def contract(labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    """A text, and one of the labels."""
    return example_schema("ClassificationExamples", {"text": text_column(), "label": label_column(labels)})


def encode(examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None) -> EncodedExamples:
    """`label`: the number of each text's class."""
    numbers = {name: number for number, name in enumerate(examples.labels)}
    classes = pa.array([numbers[name] for name in examples.table["label"].to_pylist()], pa.int32())
    return encode_texts(examples.table, tokenizer, shape, "label", classes)


CLASSIFICATION = Kind(
    name="classification",
    config=ClassificationConfig,
    columns={"text": TEXT, "label": TEXT},
    contract=contract,
    check=check,
    encode=encode,
    head=lambda labels: HeadSpec("sequence", labels),
    metric="accuracy",
    deciding=lambda train: by_classes(train.table["label"].to_pylist()),
    labels=lambda values: [str(values["label"])],
)

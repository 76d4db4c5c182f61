"""Multi-label classification: a text and the labels that it has, of several, perhaps none. Macro F1 decides."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from tasks.contracts import column, label_check, row_check, text_column
from tasks.examples.config import ExamplesConfig, RowExamples
from tasks.examples.kinds.kind import TEXT, TEXTS, EncodedExamples, Kind, LabelledExamples, Values, check_texts, example_schema, id_lists
from tasks.examples.label_values import Unlabelled, as_list, label_of
from tasks.examples.text_rows import encode_texts
from tasks.settings import Later

if TYPE_CHECKING:
    import pandera.polars as pandera
    import tokenizers


INDICATORS = ({"0", "1"}, {"False", "True"})  # a list of these has a place for each label, and names none


class MultiLabelRows(RowExamples):
    """Rows with a text and a list of labels."""

    has_lists: ClassVar[bool] = True

    text_field: str = Field(default="text", min_length=1)
    labels_field: str = Field(default="labels", min_length=1, description="a list of the labels that a text has")
    separator: Annotated[str | None, Later()] = Field(
        default=None,
        min_length=1,
        description="what stands between labels that are written as one text, as CSV must; none: they are a list",
    )

    def pick(self, row: Mapping[str, object]) -> dict[str, object]:
        """The text and its labels."""
        labels = row.get(self.labels_field)
        if self.separator is not None and isinstance(labels, str):
            labels = [name for name in labels.split(self.separator) if name.strip()]
        return {"text": row.get(self.text_field), "labels": labels}

    @property
    def spells_lists(self) -> bool:
        """Whether CSV can hold them."""
        return self.separator is not None


class MultiLabelConfig(ExamplesConfig):
    """Texts, each with the labels that it has."""

    kind: Literal["multi_label"]
    source: Annotated[MultiLabelRows, Field(discriminator="kind")]


def check(values: Mapping[str, object]) -> Values | str:
    """The text and its labels, sorted, each once; there may be none."""
    text, labels = check_texts({"text": values["text"]}), as_list(values["labels"])
    if isinstance(text, str):
        return text
    if labels is None:
        return "no_list"
    names = [label_of(label) for label in labels]
    wrong = next((name for name in names if isinstance(name, Unlabelled)), None)
    if wrong:
        return wrong.reason
    own = {name for name in names if isinstance(name, str)}
    if len(own) < len(names) and any(own <= pair for pair in INDICATORS):
        return "indicator_labels"
    return {**text, "labels": sorted(own)}


def contract(labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    """A text, and a list of labels, each once."""
    import polars as pl

    named = pl.col("labels").list
    return example_schema(
        "MultiLabelExamples",
        {"text": text_column(), "labels": column(pl.List(pl.String))},
        label_check("labels", labels),
        row_check(named.n_unique() == named.len(), "each label once"),
    )


def own_labels(values: Values) -> Sequence[str]:
    """The labels of an example."""
    labels = values["labels"]
    assert not isinstance(labels, str | float | int)
    return labels


def encode(examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None) -> EncodedExamples:
    """`flags`: 1 for each label that a text has, else 0, in the order of the labels."""
    flags = [[int(name in own) for name in examples.labels] for own in examples.table["labels"].to_pylist()]
    return encode_texts(examples.table, tokenizer, shape, "flags", id_lists(flags))


MULTI_LABEL = Kind(
    name="multi_label",
    config=MultiLabelConfig,
    columns={"text": TEXT, "labels": TEXTS},
    contract=contract,
    check=check,
    encode=encode,
    head=lambda labels: HeadSpec("sequence", labels, "multi"),
    metric="macro_f1",
    labels=own_labels,
)

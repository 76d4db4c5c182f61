"""Example kinds: what one kind of labelled examples is. Each kind is a file beside this one and a line in table.py.

N rows of a table, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from tasks.contracts import table_schema, text_column
from tasks.documents import stable_id
from tasks.examples.config import ExamplesConfig
from tasks.examples.text_words import WordRule
from tasks.reading.encodings import has_surrogates

if TYPE_CHECKING:
    import pandera.polars as pandera
    import tokenizers

TEXT, TEXTS = pa.string(), pa.list_(pa.string())
UNREADABLE_PARTS = frozenset({"replaced", "surrogate"})  # repairs that put something else instead of text
Value = str | float | Sequence[str]
Values = Mapping[str, Value]  # the columns of an example but for id and group: what is asked first, the answer last


@dataclass(frozen=True)
class Example:
    """A row of the table to be."""

    group: str
    values: Values
    place: str  # where it was read: file and row
    is_padded: bool = False  # space stood around a label

    @cached_property
    def id(self) -> str:
        """Equal for equal examples, so that copies can be found."""
        return stable_id(*map(_spelled, self.values.values()))

    @cached_property
    def question(self) -> str:
        """Equal for examples that differ in their answer alone, so that they always fall on one side."""
        return stable_id(*map(_spelled, list(self.values.values())[:-1]))


def _spelled(value: Value) -> str:
    if isinstance(value, str):
        return value
    return repr(value) if isinstance(value, float | int) else "\x01".join(value)


@dataclass(frozen=True)
class Rejected:
    """What is no example, or may not be used as one: reason, and how it begins."""

    place: str
    reason: str
    evidence: str
    fields: tuple[str, ...] = ()  # that its row has, where it lacks one


@dataclass(frozen=True)
class Structure:
    """A line of a file that is no example and no part of one."""

    what: str  # comment


@dataclass(frozen=True)
class Settled:
    """Answers that only the whole set explains: each example's values, or the reason that they are none; and what was found."""

    values: Sequence[Values | str]
    notes: Mapping[str, str]


@dataclass(frozen=True)
class LabelledExamples:
    """The rows of one split of an Examples artifact, as they are in its table."""

    kind: "Kind"
    labels: tuple[str, ...]  # names of the classes in order; empty for kinds without
    table: pa.Table

    @property
    def head(self) -> HeadSpec:
        """The head that learns them."""
        return self.kind.head(len(self.labels))

    @property
    def words(self) -> WordRule | None:
        """How a text falls into the words that they label, where they label words."""
        return None if self.kind.words is None else self.kind.words(self.table)


@dataclass(frozen=True)
class EncodedExamples:
    """What a model is given: `ids`, and what is to come out, by its head (see ExampleBatches in model/data/batches.py)."""

    table: pa.Table
    cut: int  # examples longer than the context, of which a part is missing
    lost_labels: int = 0  # of words that have no token, so that nothing learns them


@dataclass(frozen=True)
class Equal:
    """A number that all examples of a set must share: those with another than most are left out."""

    count: Callable[[Values], int]
    reason: str  # of those that are left out


@dataclass(frozen=True)
class Kind:
    """A kind of labelled examples, from the row of a file to the figure by which its models compete."""

    name: str
    config: type[ExamplesConfig]  # the recipe's section: where they come from, and the fields of a file's rows
    columns: Mapping[str, pa.DataType]  # of its table, beside id and group; no other kind has these
    contract: "Callable[[Sequence[str] | None], pandera.DataFrameSchema]"  # of its table, given the labels where known
    check: Callable[[Mapping[str, object]], Values | str]  # a row's fields -> the columns, or the reason they are none
    encode: "Callable[[LabelledExamples, tokenizers.Tokenizer, ModelConfig, int | None], EncodedExamples]"  # see `encode_examples`
    head: Callable[[int], HeadSpec]  # for that many labels
    metric: str  # by which models compete, where `deciding` names no other
    lower_is_better: bool = False
    deciding: Callable[[LabelledExamples], str] | None = None  # by which models compete, given what they learn from
    labels: Callable[[Values], Sequence[str]] | None = None  # names that answers are chosen from; None: there are none
    output: str = ""  # what the model's one figure is called, where there are no labels
    writes: bool = False  # the answer is a text, so that it needs a model that writes
    leaks_whole: bool = False  # a question may recur: a held-out example leaks only where its answer stands there too
    equal: Equal | None = None
    settle: Callable[[Sequence[Values]], Settled] | None = None  # over all examples read, before they are split
    words: Callable[[pa.Table], WordRule] | None = None  # how a text falls into the words that it labels, by its table; None: it does not

    def names(self, labels: Sequence[str]) -> list[str]:
        """What the outputs of its head are called."""
        return [self.output] if self.output else list(labels)


def example_schema(name: str, columns: "Mapping[str, pandera.Column]", *checks: "pandera.Check") -> "pandera.DataFrameSchema":
    """The contract of a kind's table: id and group, and these columns."""
    own = {"id": text_column("a non-empty id"), "group": text_column("a non-empty group")}
    return table_schema(name, {**own, **columns}, *checks)


def check_texts(values: Mapping[str, object]) -> dict[str, str] | str:
    """The values when all are texts that can be stored, else the reason they are not."""
    kept: dict[str, str] = {}
    for name, value in values.items():
        if not isinstance(value, str):
            return "not_text"
        if not value.strip():
            return "empty_text"
        if has_surrogates(value):
            return "not_utf8"
        kept[name] = value
    return kept


def id_lists(rows: Sequence[Sequence[int]]) -> pa.Array:
    """A column of token ids, or of what belongs to them: list<int32> [N]."""
    return pa.array(rows, pa.list_(pa.int32()))

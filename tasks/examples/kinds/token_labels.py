"""Token labelling: the tokens of a text, each with its label. F1 over whole entities decides where labels are tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from model.config.heads import IGNORED, HeadSpec
from model.config.model_config import ModelConfig
from tasks.contracts import column, label_check, row_check
from tasks.examples.config import ConllExamples, ExamplesConfig, PythonTokenKinds, RowExamples
from tasks.examples.kinds.kind import TEXTS, EncodedExamples, Kind, LabelledExamples, Values, example_schema, id_lists
from tasks.examples.label_values import IGNORED_LABEL, Unlabelled, as_list, by_classes, tag_scheme, token_label_of
from tasks.examples.text_words import spaced, word_rule
from tasks.reading.encodings import has_surrogates
from tasks.tokenizer.encoding import TextIds, text_ids
from tasks.tokenizer.word_encoding import WordEncoder

if TYPE_CHECKING:
    import pandera.polars as pandera
    import tokenizers


class TokenLabelRows(RowExamples):
    """Rows with a list of tokens and one of their labels."""

    has_lists: ClassVar[bool] = True

    tokens_field: str = Field(default="tokens", min_length=1, description="a list of strings")
    labels_field: str = Field(default="labels", min_length=1, description="a list of labels, one a token")

    def pick(self, row: Mapping[str, object]) -> dict[str, object]:
        """Tokens and labels."""
        return {"tokens": row.get(self.tokens_field), "labels": row.get(self.labels_field)}


class TokenLabelConfig(ExamplesConfig):
    """Texts of which each token has a label."""

    kind: Literal["token_labels"]
    source: Annotated[PythonTokenKinds | ConllExamples | TokenLabelRows, Field(discriminator="kind")]


def check(values: Mapping[str, object]) -> Values | str:
    """Tokens and labels when they are lists of the same length, of texts that can be stored, else the reason.

    A token that is not to be learnt has the label "".
    """
    tokens, labels = as_list(values["tokens"]), as_list(values["labels"])
    if tokens is None or labels is None:
        return "no_list"
    if len(tokens) != len(labels):
        return "uneven_labels"
    if not all(isinstance(token, str | int | float) for token in tokens if token is not None):
        return "not_text"
    words = ["" if token is None else str(token) for token in tokens]
    if not words or not all(words):
        return "empty_text"
    if any(has_surrogates(word) for word in words):
        return "not_utf8"
    names = [token_label_of(label) for label in labels]
    wrong = next((name for name in names if isinstance(name, Unlabelled)), None)
    if wrong is not None or not any(names):
        return "no_label" if wrong is None else wrong.reason
    return {"tokens": spaced(words), "labels": [name for name in names if isinstance(name, str)]}


def contract(labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    """One token or more, none empty, and as many labels."""
    import polars as pl

    tokens, named = pl.col("tokens").list, pl.col("labels").list
    return example_schema(
        "TokenLabelExamples",
        {"tokens": column(pl.List(pl.String)), "labels": column(pl.List(pl.String))},
        row_check(tokens.len() == named.len(), "as many labels as tokens"),
        row_check(tokens.len() > 0, "at least one token"),
        row_check(tokens.eval((pl.element().str.len_bytes() > 0).fill_null(False)).list.all(), "no empty token"),
        label_check("labels", labels, also=(IGNORED_LABEL,)),
    )


def own_labels(values: Values) -> Sequence[str]:
    """The labels of an example's tokens, but for those that are not to be learnt."""
    labels = values["labels"]
    assert not isinstance(labels, str | float | int)
    return [label for label in labels if label != IGNORED_LABEL]


def is_tagged(train: LabelledExamples) -> bool:
    """Whether the labels are tags of entities, by those that are learned from."""
    return tag_scheme(train.table["labels"].to_pylist()) is not None


def deciding(train: LabelledExamples) -> str:
    """F1 over whole entities where the labels are tags: most tokens are outside, and to say so is right but finds nothing."""
    if is_tagged(train):
        return "entity_f1"
    return by_classes([name for names in train.table["labels"].to_pylist() for name in names if name != IGNORED_LABEL])


@dataclass(frozen=True)
class WordRow:
    """Words of one text, as a model is given them."""

    ids: list[int]
    firsts: Mapping[int, int]  # word -> where it begins in `ids`, of the words that this row labels
    is_cut: bool  # tokens of the text lie behind it


def word_windows(words: Sequence[Sequence[int]], special: TextIds, shape: ModelConfig) -> list[WordRow]:
    """<|bos|> and the ids of the words, which may be none for some; in an encoder, which was trained on whole texts, <|eos|> behind.

    A text longer than the context makes several rows. Each further one begins with words that have their label, up to half a row of
    them, so that those behind are read after what they follow. Every word that has a token is labelled by one row.
    """
    room, end = (shape.context, []) if shape.is_causal else (shape.context - 1, [special.eos])
    rows, begin, labelled = list[WordRow](), 0, 0
    while not rows or (rows[-1].firsts and labelled < len(words)):  # no word fits beside what stands around a text: one row
        ids, firsts, number = [special.bos], dict[int, int](), begin
        while number < len(words) and (len(ids) < room or not words[number]):
            if words[number] and number >= labelled:
                firsts[number] = len(ids)
            ids.extend(words[number])
            number += 1
        rows.append(WordRow([*ids[:room], *end], firsts, len(ids) > room or number < len(words)))
        begin = labelled = number
        before = 0
        while begin > 0 and (before := before + len(words[begin - 1])) <= (room - 1) // 2:
            begin -= 1
    return rows


def word_rows(texts: Sequence[Sequence[str]], encoder: WordEncoder, shape: ModelConfig, place: str) -> list[list[WordRow]]:
    """Rows for the words of each text, whose concatenation it is: the one form in which a model labels words."""
    special = text_ids(encoder.tokenizer, place)
    return [word_windows(encoder.encode(words), special, shape) for words in texts]


def encode(examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None) -> EncodedExamples:
    """Each text's first row. `targets`: as long as `ids`, a word's class where it begins, IGNORED elsewhere."""
    numbers = {IGNORED_LABEL: IGNORED, **{name: number for number, name in enumerate(examples.labels)}}
    tables = word_rows(examples.table["tokens"].to_pylist(), WordEncoder(tokenizer), shape, "fine-tuning")
    rows, labels = [windows[0] for windows in tables], examples.table["labels"].to_pylist()
    targets = list[list[int]]()
    for row, names in zip(rows, labels, strict=True):
        classes = {first: numbers[names[word]] for word, first in row.firsts.items()}
        targets.append([classes.get(at, IGNORED) for at in range(len(row.ids))])
    columns = {"ids": id_lists([row.ids for row in rows]), "targets": id_lists(targets)}
    lost = sum(len(names) - len(row.firsts) for row, names in zip(rows, labels, strict=True) if not row.is_cut)
    return EncodedExamples(pa.table(columns), sum(row.is_cut for row in rows), lost)


TOKEN_LABELS = Kind(
    name="token_labels",
    config=TokenLabelConfig,
    columns={"tokens": TEXTS, "labels": TEXTS},
    contract=contract,
    check=check,
    encode=encode,
    head=lambda labels: HeadSpec("tokens", labels),
    metric="accuracy",
    deciding=deciding,
    labels=own_labels,
    words=lambda table: word_rule(table["tokens"].to_pylist()),
)

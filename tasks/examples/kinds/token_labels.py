"""Token labelling: the tokens of a text, each with its label. Accuracy over the tokens decides."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from model.config.heads import IGNORED, HeadSpec
from model.config.model_config import ModelConfig
from tasks.contracts import column, label_check, row_check
from tasks.examples.config import ConllExamples, ExamplesConfig, PythonTokenKinds, RowExamples
from tasks.examples.kinds.kind import TEXTS, EncodedExamples, Kind, LabelledExamples, Values, example_schema, id_lists
from tasks.examples.label_values import IGNORED_LABEL, Unlabelled, as_list, token_label_of
from tasks.reading.encodings import has_surrogates
from tasks.tokenizer.encoding import TextIds, encode_documents, text_ids

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


def spaced(tokens: Sequence[str]) -> list[str]:
    """Tokens with a space before each but the first, save beside wide characters, as in Chinese, and between single ones.

    So all token tables read alike: the text is the concatenation of the tokens.
    """
    if all(len(token) == 1 for token in tokens):  # tagged by character: the digits of a year are no words
        return list(tokens)
    return [token if at == 0 or _is_wide(token[0]) or _is_wide(tokens[at - 1][-1]) else " " + token for at, token in enumerate(tokens)]


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


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
        label_check("labels", None if labels is None else [*labels, IGNORED_LABEL]),
    )


def own_labels(values: Values) -> Sequence[str]:
    """The labels of an example's tokens, but for those that are not to be learnt."""
    labels = values["labels"]
    assert not isinstance(labels, str | float | int)
    return [label for label in labels if label != IGNORED_LABEL]


def token_label_row(
    words: Sequence[Sequence[int]], classes: Sequence[int], special: TextIds, shape: ModelConfig
) -> tuple[list[int], list[int]]:
    """<|bos|> and the ids of the labelled tokens, and as many targets: a token's class on its first id, nothing on the others.

    In an encoder, which was trained on whole texts, <|eos|> ends the row.
    """
    ids, targets = [special.bos], [IGNORED]
    for word, number in zip(words, classes, strict=True):
        ids.extend(word)
        targets.extend([number] + [IGNORED] * (len(word) - 1))
    if shape.is_causal:
        return ids[: shape.context], targets[: shape.context]
    room = shape.context - 1
    return [*ids[:room], special.eos], [*targets[:room], IGNORED]


def encode(examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None) -> EncodedExamples:
    """`targets`: a class for each id, IGNORED but for the first of a token."""
    special = text_ids(tokenizer, "fine-tuning")
    numbers = {IGNORED_LABEL: IGNORED, **{name: number for number, name in enumerate(examples.labels)}}
    around = len(token_label_row([], [], special, shape)[0])
    ids, targets, cut = list[list[int]](), list[list[int]](), 0
    for tokens, labels in zip(examples.table["tokens"].to_pylist(), examples.table["labels"].to_pylist(), strict=True):
        words = encode_documents(tokenizer, tokens)
        row, classes = token_label_row(words, [numbers[name] for name in labels], special, shape)
        ids.append(row)
        targets.append(classes)
        cut += around + sum(map(len, words)) > shape.context
    return EncodedExamples(pa.table({"ids": id_lists(ids), "targets": id_lists(targets)}), cut)


TOKEN_LABELS = Kind(
    name="token_labels",
    config=TokenLabelConfig,
    columns={"tokens": TEXTS, "labels": TEXTS},
    contract=contract,
    check=check,
    encode=encode,
    head=lambda labels: HeadSpec("tokens", labels),
    metric="accuracy",
    labels=own_labels,
)

"""Multiple choice: a question and several answers, one of them right. Accuracy decides."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from tasks.contracts import column, row_check, text_column
from tasks.examples.config import ExamplesConfig, RowExamples
from tasks.examples.kinds.kind import TEXT, TEXTS, EncodedExamples, Equal, Kind, LabelledExamples, Values, check_texts, example_schema
from tasks.reading.encodings import has_surrogates
from tasks.tokenizer.encoding import TextIds, encode_documents, text_ids

if TYPE_CHECKING:
    import pandera.polars as pandera
    import tokenizers


class ChoiceRows(RowExamples):
    """Rows with a question, its choices and which of them is right."""

    has_lists: ClassVar[bool] = True

    question_field: str = Field(default="question", min_length=1)
    choices_field: str = Field(default="choices", min_length=1, description="a list of answers, as many in every row")
    answer_field: str = Field(default="answer", min_length=1, description="the right one: its number from 0, or the answer itself")

    def pick(self, row: Mapping[str, object]) -> dict[str, object]:
        """Question, choices and answer."""
        return {
            "question": row.get(self.question_field),
            "choices": row.get(self.choices_field),
            "answer": row.get(self.answer_field),
        }


class ChoiceConfig(ExamplesConfig):
    """Questions, each with as many answers, of which one is right."""

    kind: Literal["multiple_choice"]
    source: Annotated[ChoiceRows, Field(discriminator="kind")]


def check(values: Mapping[str, object]) -> Values | str:
    """The question, two or more choices that differ, and the number of the right one."""
    question, choices, answer = check_texts({"question": values["question"]}), values["choices"], values["answer"]
    if isinstance(question, str):
        return question
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(one, str) for one in choices):
        return "no_list"
    texts = [str(one) for one in choices]
    if not all(text.strip() for text in texts):
        return "empty_text"
    if any(map(has_surrogates, texts)):
        return "not_utf8"
    if len(set(texts)) < len(texts):
        return "equal_choices"
    number = texts.index(answer) if isinstance(answer, str) and answer in texts else answer
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(texts):
        return "no_such_choice"
    return {**question, "choices": texts, "answer": number}


def contract(labels: Sequence[str] | None) -> "pandera.DataFrameSchema":
    """A question, two or more choices, and the number of the right one."""
    import polars as pl

    choices, answer = pl.col("choices").list, pl.col("answer")
    return example_schema(
        "ChoiceExamples",
        {"question": text_column(), "choices": column(pl.List(pl.String)), "answer": column(pl.Int64)},
        row_check((choices.len() > 1) & (choices.len() == choices.len().first()), "as many choices in every row, 2 or more"),
        row_check((answer >= 0) & (answer < choices.len()), "the number of a choice, from 0"),
    )


def count_choices(values: Values) -> int:
    """How many choices an example has."""
    choices = values["choices"]
    assert not isinstance(choices, float | int)
    return len(choices)


def choice_row(question: Sequence[int], choice: Sequence[int], special: TextIds, context: int) -> list[int]:
    """<|bos|> question <|eos|> choice <|eos|>, the last one as in `text_row`.

    Of what does not fit, the beginning of the question and the end of the choice go, each down to half of the room.
    """
    end = [] if special.eos == special.pad else [special.eos]
    room = context - 2 - len(end)
    kept = choice[: room - min(len(question), room // 2)]
    asked = question[max(0, len(question) - (room - len(kept))) :]
    return [special.bos, *asked, special.eos, *kept, *end]


def encode(examples: LabelledExamples, tokenizer: "tokenizers.Tokenizer", shape: ModelConfig, start: int | None) -> EncodedExamples:
    """`ids`: a row for each choice of each question; `label`: the number of the right one."""
    special, context = text_ids(tokenizer, "fine-tuning"), shape.context
    around = len(choice_row([], [], special, context))
    questions = encode_documents(tokenizer, examples.table["question"].to_pylist())
    rows, cut = list[list[list[int]]](), 0
    for question, texts in zip(questions, examples.table["choices"].to_pylist(), strict=True):
        choices = encode_documents(tokenizer, texts)
        rows.append([choice_row(question, choice, special, context) for choice in choices])
        cut += len(question) + max(map(len, choices)) + around > context
    ids = pa.array(rows, pa.list_(pa.list_(pa.int32())))
    return EncodedExamples(pa.table({"ids": ids, "label": examples.table["answer"].cast(pa.int32())}), cut)


MULTIPLE_CHOICE = Kind(
    name="multiple_choice",
    config=ChoiceConfig,
    columns={"question": TEXT, "choices": TEXTS, "answer": pa.int64()},
    contract=contract,
    check=check,
    encode=encode,
    head=lambda labels: HeadSpec("choice"),
    metric="accuracy",
    equal=Equal(count_choices, "other_number_of_choices"),
)

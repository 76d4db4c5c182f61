"""Multiple choice: a question and several answers, one of them right. Accuracy decides."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import pyarrow as pa
from pydantic import Field

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from tasks.contracts import column, row_check, text_column
from tasks.examples.config import ExamplesConfig, RowExamples
from tasks.examples.kinds.kind import (
    TEXT,
    TEXTS,
    EncodedExamples,
    Equal,
    Kind,
    LabelledExamples,
    Settled,
    Values,
    check_texts,
    example_schema,
)
from tasks.examples.label_values import IGNORE_INDEX, as_list
from tasks.reading.encodings import has_surrogates
from tasks.tokenizer.encoding import TextIds, encode_documents, text_ids

if TYPE_CHECKING:
    import pandera.polars as pandera
    import tokenizers

LETTER = re.compile(r"\(?([A-Za-z])[).:]?")


class ChoiceRows(RowExamples):
    """Rows with a question, its choices and which of them is right."""

    has_lists: ClassVar[bool] = True

    question_field: str = Field(default="question", min_length=1)
    choices_field: str = Field(default="choices", min_length=1, description="a list of answers, as many in every row")
    answer_field: str = Field(
        default="answer",
        min_length=1,
        description="the right one: the answer itself, its letter, or its number: from 0, or from 1 where that is all that fits",
    )

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
    """The question, two or more choices that differ, and the right one: its number, or as text a number that `settle` explains.

    Choices may be given with their names, `{"text": […], "label": ["A", …]}`.
    """
    question, (choices, names) = check_texts({"question": values["question"]}), _named_choices(values["choices"])
    if isinstance(question, str):
        return question
    if choices is None or not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in choices):
        return "no_list"
    if len(choices) < 2:
        return "one_choice"
    texts = [str(one) for one in choices]
    if not all(text.strip() for text in texts):
        return "empty_text"
    if any(map(has_surrogates, texts)):
        return "not_utf8"
    if len(set(texts)) < len(texts):
        return "equal_choices"
    answer = _answer(values["answer"], texts, names, has_numbers=any(not isinstance(one, str) for one in choices))
    return answer.reason if isinstance(answer, Unanswered) else {**question, "choices": texts, "answer": answer}


def _named_choices(cell: object) -> tuple[list[object] | None, list[str]]:
    """Choices, and what they are called where they are given with names."""
    if not isinstance(cell, dict):
        return as_list(cell), []
    told = cast("Mapping[str, object]", cell)
    choices, names = as_list(told.get("text")), as_list(told.get("label"))
    fits = choices is not None and names is not None and len(names) == len(choices)
    return (choices, [str(name) for name in names]) if fits and names is not None else (None, [])


@dataclass(frozen=True)
class Unanswered:
    """Why no choice is meant."""

    reason: Literal["no_label", "ignored_label", "no_such_choice", "unclear_choice"]


def _answer(cell: object, choices: Sequence[str], names: Sequence[str], has_numbers: bool) -> int | str | Unanswered:
    """The number of the choice that is meant; as text where a number is all that is known.

    A text that is a choice is that choice. A number counts choices, unless there are not so many; where the choices are numbers too,
    nobody knows which of both is meant.
    """
    match cell:
        case bool():
            return Unanswered("no_such_choice")
        case None:
            return Unanswered("no_label")
        case float() | Decimal() if math.isnan(cell):
            return Unanswered("no_label")
        case float() | Decimal() if math.isfinite(cell) and cell == int(cell):
            text = str(int(cell))
        case str() | int() | float() | Decimal():
            text = str(cell).strip()
        case _:
            return Unanswered("no_such_choice")
    if text in ("", str(IGNORE_INDEX)):
        return Unanswered("ignored_label" if text else "no_label")
    spelled = [choice.strip() for choice in choices]
    at = names.index(text) if text in names else spelled.index(text) if text in spelled else None
    counts = text.isdecimal() and not isinstance(cell, str) and int(text) <= len(choices) and text not in names
    if at is not None and not counts:
        return at
    if at is not None and has_numbers:
        return Unanswered("unclear_choice")
    if text.isdecimal() and text.isascii():
        return text
    letter = LETTER.fullmatch(text)
    number = -1 if letter is None else ord(letter.group(1).upper()) - ord("A")
    return number if 0 <= number < len(choices) else Unanswered("no_such_choice")


def settle(examples: Sequence[Values]) -> Settled:
    """Numbers of choices count from 1 where none is 0 and some can only be the last one's; else from 0."""
    numbers = [(int(answer), count_choices(values)) for values in examples if isinstance(answer := values["answer"], str)]
    from_one = any(number == count for number, count in numbers) and all(number > 0 for number, _ in numbers)
    settled = [_settled(values, int(from_one)) for values in examples]
    notes = {"answers_count_from_1": f"{len(numbers):,} answers are numbers, none is 0, and some are the number of choices"}
    return Settled(settled, notes if from_one else {})


def _settled(values: Values, first: int) -> Values | str:
    if not isinstance(values["answer"], str):
        return values
    number = int(values["answer"]) - first
    return {**values, "answer": number} if 0 <= number < count_choices(values) else "no_such_choice"


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
    settle=settle,
)

"""Sources of labelled examples: the standard library, or files of the user, each row checked as it is read."""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from model.config.targets import ExampleKind
from tasks.documents import stable_id
from tasks.errors import UserError
from tasks.examples.stdlib_examples import LabelledTokens, area_examples, signature_examples, token_kind_examples
from tasks.reading.csv_rows import Table
from tasks.reading.encodings import has_surrogates
from tasks.reading.faults import Fault, shown_text
from tasks.reading.files import find_files
from tasks.reading.lines import Line, read_text
from tasks.reading.records import Layout, RecordFormat, read_records
from tasks.reading.rows import Record
from tasks.settings import Placement, Section

UNREADABLE_PARTS = frozenset({"replaced", "surrogate"})  # repairs that put something else in the place of text
FIELD_KEYS: Mapping[ExampleKind, tuple[str, ...]] = {
    "instruction": ("prompt_field", "input_field", "response_field"),
    "classification": ("text_field", "label_field"),
    "multi_label": ("text_field", "labels_field"),
    "regression": ("text_field", "value_field"),
    "token_labels": ("tokens_field", "labels_field"),
    "multiple_choice": ("question_field", "choices_field", "answer_field"),
}


class PythonSignatures(Section):
    """Signature of a function of the standard library -> first paragraph of its docstring. Kind: instruction."""

    kind: Literal["python_signatures"]


class PythonAreas(Section):
    """Docstring of the standard library -> area of the library. Kind: classification."""

    kind: Literal["python_areas"]


class PythonTokenKinds(Section):
    """Token of a function of the standard library -> its kind. Kind: token_labels."""

    kind: Literal["python_token_kinds"]


class ExampleFiles(Section):
    """Labelled files of the user."""

    paths: Annotated[list[str], Placement()] = Field(min_length=1, description="files, folders, globs or URLs")
    heldout_paths: Annotated[list[str] | None, Placement()] = Field(
        default=None, min_length=1, description="files to judge on; without them a share of `paths` is held out"
    )


class RowExamples(ExampleFiles):
    """Rows of JSON Lines, JSON, CSV (or TSV by its ending) or Parquet; only the fields of the task's kind may be set."""

    kind: Literal["jsonl", "json", "csv", "parquet"]
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="CSV only; by the ending when absent"
    )
    header: bool = Field(default=True, description="CSV only; without a header, fields are named 0, 1, 2")
    group_field: str | None = Field(default=None, description="rows of one group are never split over both sides")
    prompt_field: str = Field(default="prompt", min_length=1)
    input_field: str | None = Field(
        default=None, min_length=1, description="put below the prompt where it is not empty"
    )
    response_field: str = Field(default="response", min_length=1)
    text_field: str = Field(default="text", min_length=1)
    label_field: str = Field(default="label", min_length=1)
    tokens_field: str = Field(default="tokens", min_length=1, description="a list of strings")
    labels_field: str = Field(
        default="labels", min_length=1, description="a list of labels: one a token, or those that a text has"
    )
    value_field: str = Field(default="value", min_length=1, description="a number")
    question_field: str = Field(default="question", min_length=1)
    choices_field: str = Field(default="choices", min_length=1, description="a list of answers, as many in every row")
    answer_field: str = Field(
        default="answer", min_length=1, description="the right one: its place from 0, or the answer itself"
    )


class ConllExamples(ExampleFiles):
    """A token and its label a line, columns set apart by white space, a blank line after each sentence. Kind: token_labels."""

    kind: Literal["conll"]
    token_column: int = Field(default=0, description="counted from 0; -1 is the last")
    label_column: int = Field(default=-1, description="counted from 0; -1 is the last")


ExampleSource = PythonSignatures | PythonAreas | PythonTokenKinds | RowExamples | ConllExamples


Value = str | float | Sequence[str]


@dataclass(frozen=True)
class Example:
    """A row of the table to be; `values` are its columns but for id and group."""

    group: str
    values: Mapping[str, "Value"]  # what is asked first, the answer last
    place: str

    @cached_property
    def id(self) -> str:
        """Equal for equal examples, so that copies can be found."""
        return stable_id(*map(_spelled, self.values.values()))

    @cached_property
    def question(self) -> str:
        """Equal for examples that differ in their answer alone, so that they always fall on one side."""
        return stable_id(*map(_spelled, list(self.values.values())[:-1]))

    @property
    def labels(self) -> Sequence[str]:
        """The label or labels; none for an instruction."""
        label = self.values.get("label")
        labels = [label] if isinstance(label, str) else self.values.get("labels", ())
        assert not isinstance(labels, str | float | int)
        return labels


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


def read_examples(
    place: str, kind: ExampleKind, source: ExampleSource, paths: Sequence[str]
) -> Iterator[Example | Rejected]:
    """Everything the source holds, in a fixed order; `paths` is not used for examples of the standard library."""
    match source:
        case PythonSignatures():
            for found in signature_examples():
                yield Example(found.group, {"prompt": found.text, "response": found.answer}, found.group)
        case PythonAreas():
            for found in area_examples():
                yield Example(found.group, {"text": found.text, "label": found.answer}, found.group)
        case PythonTokenKinds():
            for tokens in token_kind_examples():
                yield _token_example(tokens)
        case ConllExamples():
            for file in find_files(place, paths):
                yield from _read_conll(source, file.name, read_text(file))
        case RowExamples():
            yield from _read_rows(place, kind, source, paths)


def _token_example(found: LabelledTokens) -> Example:
    return Example(found.group, {"tokens": found.tokens, "labels": found.labels}, found.group)


def _read_conll(source: ConllExamples, name: str, lines: Iterable[Line | Fault]) -> Iterator[Example | Rejected]:
    """One example a sentence. A line with too few columns, or bytes that are no UTF-8, refuse the whole sentence."""
    held: list[Line] = []
    number = 0
    for number, line in enumerate(lines, 1):
        if isinstance(line, Fault):
            yield Rejected(f"{name}:{number}", line.reason, line.evidence)
        elif line.text.strip():
            held.append(line)
        elif held:
            yield _conll_sentence(source, f"{name}:{number - len(held)}", held)
            held = []
    if held:
        yield _conll_sentence(source, f"{name}:{number - len(held) + 1}", held)


def _conll_sentence(source: ConllExamples, place: str, lines: Sequence[Line]) -> Example | Rejected:
    text = "".join(line.text for line in lines)
    if any(UNREADABLE_PARTS.intersection(line.repairs) for line in lines):
        return Rejected(place, "not_utf8", shown_text(text))
    rows = [line.text.split() for line in lines if not line.text.startswith("-DOCSTART-")]
    least = max(column + 1 if column >= 0 else -column for column in (source.token_column, source.label_column))
    if not rows or any(len(row) < max(2, least) for row in rows):
        return Rejected(place, "malformed", shown_text(text))
    tokens = spaced([row[source.token_column] for row in rows])
    return Example("", {"tokens": tokens, "labels": [row[source.label_column] for row in rows]}, place)


def spaced(tokens: Sequence[str]) -> list[str]:
    """Tokens with a space before each but the first, save beside wide characters, as in Chinese, and between single ones.

    So all token tables read alike: the text is the concatenation of the tokens.
    """
    if all(len(token) == 1 for token in tokens):  # tagged by character: the digits of a year are no words
        return list(tokens)
    return [
        token if place == 0 or _is_wide(token[0]) or _is_wide(tokens[place - 1][-1]) else " " + token
        for place, token in enumerate(tokens)
    ]


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _read_rows(
    place: str, kind: ExampleKind, source: RowExamples, paths: Sequence[str]
) -> Iterator[Example | Rejected]:
    form: RecordFormat = source.kind
    for file in find_files(place, paths):
        wrong: list[Record] = []
        rows = 0
        layout = Layout(form, Table(source.delimiter, source.header))
        for rows, record in enumerate(read_records(file, layout), 1):
            if isinstance(record, Fault):
                yield Rejected(f"{file.name}:{rows}", record.reason, record.evidence)
                continue
            found = _whole_example(kind, source, f"{file.name}:{record.number}", record)
            if isinstance(found, Rejected) and found.reason == "missing_field":
                wrong.append(record)
            yield found
        if len(wrong) * 2 > rows:
            settings = source.model_dump()
            needed = [str(settings[key]) for key in FIELD_KEYS[kind] if key != "input_field"]
            raise UserError(
                f"{place}: {file.url}:{wrong[0].number}: {len(wrong)} of {rows} rows lack one of "
                f"{', '.join(needed)}; this row has {', '.join(map(str, wrong[0].fields)) or 'no fields'}. "
                f"Fix: set {', '.join(FIELD_KEYS[kind])} to the fields of the file."
            )


def _whole_example(kind: ExampleKind, source: RowExamples, place: str, record: Record) -> Example | Rejected:
    """The row's example, unless bytes of it could not be read: no example is trained on in part."""
    if UNREADABLE_PARTS.intersection(record.repairs):
        return Rejected(place, "not_utf8", shown_text(str(dict(record.fields))))
    return row_example(kind, source, place, record.fields)


def row_example(kind: ExampleKind, source: RowExamples, place: str, fields: Mapping[str, object]) -> Example | Rejected:
    """The example of one row, by the fields that the source names."""
    group = fields.get(source.group_field) if source.group_field else None
    match kind:
        case "instruction":
            prompt, extra = fields.get(source.prompt_field), fields.get(source.input_field or "")
            joined = (
                f"{prompt}\n{extra}" if isinstance(prompt, str) and isinstance(extra, str) and extra.strip() else prompt
            )
            values = {"prompt": joined, "response": fields.get(source.response_field)}
        case "classification":
            label = fields.get(source.label_field)
            values = {
                "text": fields.get(source.text_field),
                "label": str(label) if isinstance(label, int | str) else label,
            }
        case "multi_label":
            values = {"text": fields.get(source.text_field), "labels": fields.get(source.labels_field)}
        case "regression":
            values = {"text": fields.get(source.text_field), "value": fields.get(source.value_field)}
        case "multiple_choice":
            values = {
                "question": fields.get(source.question_field), "choices": fields.get(source.choices_field),
                "answer": fields.get(source.answer_field),
            }  # fmt: skip
        case "token_labels":
            values = {"tokens": fields.get(source.tokens_field), "labels": fields.get(source.labels_field)}
    evidence = shown_text(str(dict(fields)))
    if any(value is None for value in values.values()):
        return Rejected(place, "missing_field", evidence)
    checked = _checked_values(kind, values)
    return Rejected(place, checked, evidence) if isinstance(checked, str) else Example(str(group or ""), checked, place)


def _checked_values(kind: ExampleKind, values: Mapping[str, object]) -> Mapping[str, Value] | str:
    """The columns of an example when all can be stored, else the reason they cannot."""
    match kind:
        case "instruction" | "classification":
            return _text_values(values)
        case "multi_label":
            return _multi_label_values(values)
        case "regression":
            return _figure_values(values)
        case "multiple_choice":
            return _choice_values(values)
        case "token_labels":
            return _token_values(values)


def _text_values(values: Mapping[str, object]) -> dict[str, str] | str:
    """The values when all are texts that can be stored, else the reason they are not."""
    kept: dict[str, str] = {}
    for name, value in values.items():
        if not isinstance(value, str):
            return "not_text"
        if not value.strip():
            return "empty_text"
        if has_surrogates(value):
            return "not_utf8"
        kept[name] = value.strip() if name == "label" else value
    return kept


def _token_values(values: Mapping[str, object]) -> dict[str, list[str]] | str:
    """Tokens and labels when they are lists of the same length, of texts that can be stored, else the reason."""
    tokens, labels = values["tokens"], values["labels"]
    if not isinstance(tokens, list) or not isinstance(labels, list) or len(tokens) != len(labels):
        return "uneven_labels"
    words = [str(token) for token in tokens]
    if not words or not all(words):
        return "empty_text"
    if any(has_surrogates(word) for word in words):
        return "not_utf8"
    return {"tokens": spaced(words), "labels": [str(label) for label in labels]}


def _multi_label_values(values: Mapping[str, object]) -> Mapping[str, Value] | str:
    """The text and its labels, sorted, each once; there may be none."""
    text, labels = _text_values({"text": values["text"]}), values["labels"]
    if isinstance(text, str):
        return text
    if not isinstance(labels, list) or not all(isinstance(label, int | str) for label in labels):
        return "no_list"
    names = sorted({str(label).strip() for label in labels})
    if not all(names):
        return "empty_text"
    return "not_utf8" if any(map(has_surrogates, names)) else {**text, "labels": names}


def _figure_values(values: Mapping[str, object]) -> Mapping[str, Value] | str:
    """The text and a number; CSV spells it."""
    text, value = _text_values({"text": values["text"]}), values["value"]
    if isinstance(text, str):
        return text
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float | str) else float(value)
    except ValueError:
        number = math.nan
    return {**text, "value": number} if math.isfinite(number) else "not_a_number"


def _choice_values(values: Mapping[str, object]) -> Mapping[str, Value] | str:
    """The question, two or more choices that differ, and the place of the right one."""
    question, choices, answer = _text_values({"question": values["question"]}), values["choices"], values["answer"]
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
    place = texts.index(answer) if isinstance(answer, str) and answer in texts else answer
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(texts):
        return "no_such_choice"
    return {**question, "choices": texts, "answer": place}

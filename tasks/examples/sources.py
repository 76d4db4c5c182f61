"""Example sources: the standard library, or files of the user, each row checked as it is read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError
from tasks.examples.config import ConllExamples, ExampleSource, PythonAreas, PythonSignatures, PythonTokenKinds, RowExamples
from tasks.examples.conll import read_conll
from tasks.examples.kinds.kind import UNREADABLE_PARTS, Example, Kind, Rejected, Structure
from tasks.examples.label_values import class_names, is_padded, named
from tasks.examples.stdlib_examples import area_examples, signature_examples, token_kind_examples
from tasks.reading.csv_rows import Table
from tasks.reading.documents import is_nested_deep, shown_fields
from tasks.reading.faults import Fault
from tasks.reading.files import SourceFile, list_files, open_stored
from tasks.reading.lines import read_text
from tasks.reading.records import Layout, RecordFormat, read_records
from tasks.reading.rows import Record

WRONG_SETTINGS = {  # reason -> what it says, and the fix, where it meets a large part of the rows: a setting is wrong then, not a row
    "indicator_labels": ("have a list of 0 and 1 for labels, which names none", "write the names of those that are 1"),
    "missing_field": ("lack a field", ""),
    "nested_label": (
        "have a list or an object for a label",
        "name a field of names or numbers; several labels a text are kind: multi_label",
    ),
    "no_list": ("have no list where one is expected", "write lists; labels in one text, such as a,b, are kind: multi_label with separator"),
    "no_question": ("have an answer without a question", "name the field of the conversations, with both sides of them"),
    "no_such_choice": ("have an answer that is none of the choices", "name the field of the answer: a choice, its letter, or its number"),
    "not_a_number": ("have no number", "name a field of numbers; labels are kind: classification"),
    "not_text": ("have something other than text", "name fields that hold text"),
    "several_turns": ("have more than one question and its answer", "cut conversations into one question and its answer each"),
    "unclear_choice": ("have numbers for choices, and for the answer", "write the answer as text, or its letter"),
    "unclear_label": ("have a label such as 0.5", "figures are kind: regression; write classes as text or as whole numbers"),
    "uneven_labels": ("have not as many labels as tokens", "name fields whose lists have a label for each token"),
}
LARGE_PART = 0.5
LARGE_PARTS = {"unclear_label": 0.1}  # half-filled with fractions, a column of figures passes for classes


def read_source(place: str, kind: Kind, source: ExampleSource, paths: Sequence[str]) -> Iterator[Example | Rejected | Structure]:
    """Everything the source holds, in a fixed order; `paths` is not used for examples of the standard library."""
    match source:
        case PythonSignatures():
            for found in signature_examples():
                yield Example(found.group, {"prompt": found.text, "response": found.answer}, found.group)
        case PythonAreas():
            for found in area_examples():
                yield Example(found.group, {"text": found.text, "label": found.answer}, found.group)
        case PythonTokenKinds():
            for found in token_kind_examples():
                yield Example(found.group, {"tokens": found.tokens, "labels": found.labels}, found.group)
        case ConllExamples():
            for file in list_files(place, paths).files:
                lines = iter([Fault(file.fault, 0, file.evidence)]) if file.fault else read_text(file)
                yield from read_conll(kind, source, file.name, lines)
        case RowExamples():
            yield from _read_rows(place, kind, source, paths)


def _read_rows(place: str, kind: Kind, source: RowExamples, paths: Sequence[str]) -> Iterator[Example | Rejected]:
    form: RecordFormat = source.kind
    wrong: dict[str, list[Rejected]] = {}
    total = 0
    for file in list_files(place, paths).files:
        if file.fault:
            yield Rejected(file.name, file.fault, file.evidence)
            continue
        layout = Layout(form, Table(source.delimiter, source.header))
        names = _class_names(file) if form == "parquet" else {}
        for rows, record in enumerate(read_records(file, layout), 1):
            total += 1
            if isinstance(record, Fault):
                yield Rejected(f"{file.name}:{rows}", record.reason, record.evidence)
                continue
            found = _whole_example(kind, source, f"{file.name}:{record.place}", record, names)
            if isinstance(found, Rejected) and found.reason in WRONG_SETTINGS:
                wrong.setdefault(found.reason, []).append(found)
            yield found
    for reason, rejected in wrong.items():
        if len(rejected) > LARGE_PARTS.get(reason, LARGE_PART) * total:
            raise UserError(_wrong_setting(place, source, reason, rejected, total))


def _wrong_setting(place: str, source: RowExamples, reason: str, rejected: Sequence[Rejected], total: int) -> str:
    """What is wrong with a large part of the rows, shown by the first."""
    first, (words, fix) = rejected[0], WRONG_SETTINGS[reason]
    found = first.evidence
    if reason == "missing_field":
        words = f"lack one of {', '.join(source.needed_fields())}"
        found, fix = ", ".join(first.fields) or "no fields", source.field_fix(first.fields)
    return f"{place}: {first.place}: {len(rejected):,} of {total:,} rows {words}; this row has {found}. Fix: {fix}."


def _class_names(file: SourceFile) -> dict[str, tuple[str, ...]]:
    """Column -> names of its classes, where the library datasets wrote the file and keeps them as numbers."""
    with open_stored(file) as stream:
        try:
            told = (pq.ParquetFile(stream).schema_arrow.metadata or {}).get(b"huggingface", b"{}")
            features: object = json.loads(told).get("info", {}).get("features", {})
            named_ones = cast("dict[str, object]", features).items() if isinstance(features, dict) else ()
            found = {name: class_names(feature) for name, feature in named_ones}
        except (pa.ArrowException, OSError, ValueError, AttributeError, RecursionError):
            return {}  # what is wrong with the file, its reader tells
    return {name: names for name, names in found.items() if names}


def _whole_example(kind: Kind, source: RowExamples, place: str, record: Record, names: Mapping[str, Sequence[str]]) -> Example | Rejected:
    """The row's example, unless bytes of it could not be read: no example is trained on in part."""
    if UNREADABLE_PARTS.intersection(record.repairs):
        return Rejected(place, "not_utf8", shown_fields(record.fields))
    known = {name: named(record.fields[name], labels) for name, labels in names.items() if name in record.fields}
    return row_example(kind, source, place, {**record.fields, **known} if known else record.fields)


def row_example(kind: Kind, source: RowExamples, place: str, fields: Mapping[str, object]) -> Example | Rejected:
    """The example of one row, by the fields that the source names."""
    group = fields.get(source.group_field) if source.group_field else None
    evidence = shown_fields(fields)
    if any(name not in fields for name in source.needed_fields()):
        return Rejected(place, "missing_field", evidence, tuple(map(str, fields)))
    values = source.pick(fields)
    answer = list(values.values())[-1]
    if any(value is None for value in values.values()):
        return Rejected(place, "empty_text" if answer is not None else "no_label" if kind.labels else "no_answer", evidence)
    checked = "malformed" if is_nested_deep(group) else kind.check(values)
    if isinstance(checked, str):
        return Rejected(place, checked, evidence)
    return Example("" if group is None else str(group), checked, place, kind.labels is not None and is_padded(answer))

"""Example sources: the standard library, or files of the user, each row checked as it is read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tasks.errors import UserError
from tasks.examples.config import ConllExamples, ExampleSource, PythonAreas, PythonSignatures, PythonTokenKinds, RowExamples
from tasks.examples.kinds.kind import Example, Kind, Rejected
from tasks.examples.kinds.token_labels import spaced
from tasks.examples.stdlib_examples import area_examples, signature_examples, token_kind_examples
from tasks.reading.csv_rows import Table
from tasks.reading.faults import Fault, shown_text
from tasks.reading.files import find_files
from tasks.reading.lines import Line, read_text
from tasks.reading.records import Layout, RecordFormat, read_records
from tasks.reading.rows import Record

UNREADABLE_PARTS = frozenset({"replaced", "surrogate"})  # repairs that put something else instead of text


def read_source(place: str, kind: Kind, source: ExampleSource, paths: Sequence[str]) -> Iterator[Example | Rejected]:
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
            for file in find_files(place, paths):
                yield from _read_conll(source, file.name, read_text(file))
        case RowExamples():
            yield from _read_rows(place, kind, source, paths)


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


def _read_rows(place: str, kind: Kind, source: RowExamples, paths: Sequence[str]) -> Iterator[Example | Rejected]:
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
            keys = source.field_keys()
            needed = [str(value) for name, value in source if name in keys]
            raise UserError(
                f"{place}: {file.url}:{wrong[0].number}: {len(wrong)} of {rows} rows lack one of "
                f"{', '.join(needed)}; this row has {', '.join(map(str, wrong[0].fields)) or 'no fields'}. "
                f"Fix: set {', '.join(keys)} to the fields of the file."
            )


def _whole_example(kind: Kind, source: RowExamples, place: str, record: Record) -> Example | Rejected:
    """The row's example, unless bytes of it could not be read: no example is trained on in part."""
    if UNREADABLE_PARTS.intersection(record.repairs):
        return Rejected(place, "not_utf8", shown_text(str(dict(record.fields))))
    return row_example(kind, source, place, record.fields)


def row_example(kind: Kind, source: RowExamples, place: str, fields: Mapping[str, object]) -> Example | Rejected:
    """The example of one row, by the fields that the source names."""
    group = fields.get(source.group_field) if source.group_field else None
    values = source.pick(fields)
    evidence = shown_text(str(dict(fields)))
    if any(value is None for value in values.values()):
        return Rejected(place, "missing_field", evidence)
    checked = kind.check(values)
    return Rejected(place, checked, evidence) if isinstance(checked, str) else Example(str(group or ""), checked, place)

"""Sources: what kinds of text ingest reads, and how each becomes documents or refused records."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import Field

from tasks.characters import detect_language
from tasks.corpus import stable_id
from tasks.errors import UserError
from tasks.pieces import Split, cut_text
from tasks.records import Fault, Record, RecordFormat, Table, digest_of, find_files, read_records, read_text, text_fault
from tasks.settings import Placement, Section
from tasks.stdlib import python_digest, python_texts

Language = Literal["auto", "en", "zh", "code"]
WRONG_FIELD = ("missing_field", "not_text")  # more than half of a file's rows: the recipe names the wrong field


class Source(Section):
    """What all kinds of sources share."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="shown in every table; part of document ids")
    language: Language = Field(
        default="auto", description="auto: zh when a fifth of the letters are Han characters, else en"
    )


class FileSource(Source):
    """A source made of files."""

    paths: Annotated[list[str], Placement()] = Field(
        min_length=1, description="files, folders, globs or URLs (s3://...); .gz, .bz2, .xz and .zst are unpacked"
    )


class TextSource(FileSource):
    """Plain text files."""

    kind: Literal["text"]
    split: Split = Field(
        default="file", description="what a document is: a file, paragraphs up to window_chars, lines up to it"
    )
    window_chars: int = Field(
        default=16_000,
        ge=100,
        description="most characters of a document; longer ones are cut at line ends, too long lines inside",
    )


class RowSource(FileSource):
    """Files of rows; one of their fields holds the text."""

    text_field: str = Field(default="text", min_length=1, description="the field that holds a document's text")
    id_field: str | None = Field(
        default=None, description="a field that names a row for good; without one its position does"
    )
    meta_fields: list[str] = Field(
        default=[], description="fields kept in meta; one called group is never split over train and validation"
    )


class JsonLinesSource(RowSource):
    """One JSON object a line."""

    kind: Literal["jsonl"]


class JsonSource(RowSource):
    """A JSON list of objects, read whole."""

    kind: Literal["json"]


class CsvSource(RowSource):
    """CSV, or TSV by its ending."""

    kind: Literal["csv"]
    delimiter: str | None = Field(
        default=None, min_length=1, max_length=1, description="by the ending when absent: tab for .tsv"
    )
    header: bool = Field(default=True, description="without a header, fields are named 0, 1, 2")


class ParquetSource(RowSource):
    """Parquet tables."""

    kind: Literal["parquet"]


class HubSource(Source):
    """A data set that `datasets.load_dataset` opens: from the Hugging Face hub, or a local folder or data files."""

    kind: Literal["hub"]
    path: Annotated[str, Placement()] = Field(
        min_length=1, description="name on the hub, a folder, or a format such as json"
    )
    data_files: Annotated[list[str] | None, Placement()] = Field(
        default=None, min_length=1, description="files of a format"
    )
    subset: str | None = Field(default=None, description="the data set's configuration")
    split: str = Field(default="train", min_length=1)
    revision: str | None = Field(
        default=None, description="commit or tag; give one, or a changed data set goes unnoticed"
    )
    text_field: str = Field(default="text", min_length=1)
    streaming: Annotated[bool, Placement()] = Field(
        default=False, description="read over the network without a copy on disk"
    )
    limit: int | None = Field(default=None, ge=1, description="documents taken from the start")


class PythonSource(Source):
    """This interpreter's language reference and the docstrings and sources of its standard library."""

    kind: Literal["python"]
    name: str = Field(default="python", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    window_chars: int = Field(default=8_000, ge=500, description="most characters of a piece of source code")


AnySource = TextSource | JsonLinesSource | JsonSource | CsvSource | ParquetSource | HubSource | PythonSource


@dataclass(frozen=True)
class Found:
    """A document before it is written. `path` is the file and record it came from."""

    id: str
    text: str
    source: str
    path: str
    language: str
    meta: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Refused:
    """A record that is no document."""

    id: str
    source: str
    path: str
    fault: Fault


def digests_of(source: AnySource) -> dict[str, str]:
    """What a source holds, by file name: the identity of the input, wherever it lies."""
    match source:
        case PythonSource():
            return {source.name: python_digest()}
        case HubSource():
            return _hub_digests(source)
        case _:
            return {f"{source.name}/{file.name}": digest_of(file) for file in find_files(_place(source), source.paths)}


def _hub_digests(source: HubSource) -> dict[str, str]:
    """Local data by content; data on the hub by revision, else by name alone, for nothing else is known of it."""
    local = source.data_files or ([f"{source.path}/**/*"] if Path(source.path).is_dir() else None)
    if local:
        files = find_files(_place(source), local)
        return {f"{source.name}/{file.name}": digest_of(file) for file in files}
    named = json.dumps([source.path, source.subset, source.split, source.revision])
    return {source.name: hashlib.sha256(named.encode()).hexdigest()}


def _place(source: Source) -> str:
    return f"ingest source {source.name!r}"


def read_source(source: AnySource) -> Iterator[Found | Refused]:
    """Everything a source holds, in a fixed order: files by name, records by position."""
    match source:
        case TextSource():
            return _read_text_files(source)
        case PythonSource():
            return _read_python(source)
        case HubSource():
            return _read_hub(source)
        case _:
            return _read_row_files(source)


def _read_text_files(source: TextSource) -> Iterator[Found | Refused]:
    for file in find_files(_place(source), source.paths):
        broken: list[Fault] = []
        lines = _without_faults(read_text(file), broken)
        number = 0
        chars = source.window_chars
        for number, text in enumerate(cut_text(lines, source.split, chars), 1):
            yield _document(source, f"{file.name}:{number}", text, {}, file.name, str(number))
        for fault in broken:
            yield Refused(stable_id(source.name, file.name, "end"), source.name, f"{file.name}:{number + 1}", fault)
        if number == 0 and not broken:
            empty = Fault("empty_text", 0, "")
            yield Refused(stable_id(source.name, file.name, "0"), source.name, file.name, empty)


def _without_faults(lines: Iterable[str | Fault], broken: list[Fault]) -> Iterator[str]:
    for line in lines:
        if isinstance(line, Fault):
            broken.append(line)
        else:
            yield line


def _read_row_files(source: JsonLinesSource | JsonSource | CsvSource | ParquetSource) -> Iterator[Found | Refused]:
    table = Table(source.delimiter, source.header) if isinstance(source, CsvSource) else Table()
    kind: RecordFormat = source.kind
    seen: set[str] = set()
    for file in find_files(_place(source), source.paths):
        counts = FieldCount()
        for position, record in enumerate(read_records(_place(source), file, kind, table), 1):
            if isinstance(record, Fault):
                counts.add(record.reason, position, ())
                mark = stable_id(source.name, file.name, f"fault {position}")
                yield Refused(mark, source.name, f"{file.name}:{position}", record)
                continue
            found = _from_row(source, file.name, record, seen)
            counts.add(found.fault.reason if isinstance(found, Refused) else "", record.number, record.fields)
            yield found
        counts.check(f"{_place(source)}: {file.url}", source.text_field)


@dataclass
class FieldCount:
    """How many rows of a file lack the field that should hold the text."""

    rows: int = 0
    wrong: int = 0
    example: tuple[int, str] = (0, "")

    def add(self, reason: str, number: int, fields: Iterable[str]) -> None:
        self.rows += 1
        if reason in WRONG_FIELD:
            self.wrong += 1
            self.example = (number, ", ".join(map(str, fields))) if self.wrong == 1 else self.example

    def check(self, place: str, text_field: str) -> None:
        """UserError when most rows do: then it is the recipe that is wrong."""
        if self.wrong * 2 > self.rows:
            number, fields = self.example
            raise UserError(
                f"{place}:{number}: no text in field {text_field!r} (nor in {self.wrong - 1} other of {self.rows} rows); "
                f"the row has {fields or 'no fields'}. Fix: set text_field to the one that holds the text."
            )


def _from_row(source: RowSource, name: str, record: Record, seen: set[str]) -> Found | Refused:
    """A row's document. An id that the same source gave before is refused."""
    path = f"{name}:{record.number}"
    key = [name, str(record.number)]
    if source.id_field is not None and record.fields.get(source.id_field) not in (None, ""):
        key = ["id", str(record.fields[source.id_field])]
    fault = _field_fault(record.fields, source.text_field)
    mark = stable_id(source.name, *key)
    if fault is None and source.id_field is not None:
        fault = Fault("duplicate_id", 0, key[-1]) if mark in seen else None
        seen.add(mark)
    if fault is not None:
        return Refused(stable_id(source.name, name, f"refused {record.number}"), source.name, path, fault)
    meta = {field: str(record.fields[field]) for field in source.meta_fields if record.fields.get(field) is not None}
    return _document(source, path, cast("str", record.fields[source.text_field]), meta, *key)


def _field_fault(fields: Mapping[str, object], text_field: str) -> Fault | None:
    value = fields.get(text_field)
    shown = str(dict(fields)).encode("utf-8", "replace").decode()[:256]
    if value is None:
        return Fault("missing_field", 0, shown)
    if not isinstance(value, str):
        return Fault("not_text", 0, shown)
    return None if value.strip() else Fault("empty_text", len(value), "")


def _document(source: Source, path: str, text: str, meta: Mapping[str, str], *key: str) -> Found | Refused:
    """A document, unless its text cannot be stored. `key` is what the id is made of, beside the source's name."""
    mark = stable_id(source.name, *(part.encode("utf-8", "replace").decode() for part in key))
    fault = text_fault(text)
    if fault is not None:
        return Refused(mark, source.name, path, fault)
    language = detect_language(text) if source.language == "auto" else source.language
    return Found(mark, text, source.name, path, language, meta)


def _read_python(source: PythonSource) -> Iterator[Found | Refused]:
    numbers: Counter[str] = Counter()
    for text in python_texts(source.window_chars):
        numbers[text.path] += 1
        language = "code" if text.kind == "source" and source.language == "auto" else source.language
        meta = {"kind": text.kind} | ({"group": text.group} if text.group else {})
        declared = source.model_copy(update={"language": language})
        number = str(numbers[text.path])
        yield _document(declared, f"{text.path}:{number}", text.text, meta, text.path, number)


def _read_hub(source: HubSource) -> Iterator[Found | Refused]:
    import datasets

    try:
        rows = datasets.load_dataset(
            source.path,
            source.subset,
            split=source.split,
            revision=source.revision,
            streaming=source.streaming,
            data_files=source.data_files,
        )
    except (OSError, ValueError) as error:  # no network, no such data set, subset or split
        raise UserError(
            f"{_place(source)}: {error}. Fix: check path, subset, split, revision and the network."
        ) from error
    counts = FieldCount()
    for number, row in enumerate(cast("Iterable[Mapping[str, object]]", rows), 1):
        if source.limit is not None and number > source.limit:
            break
        fault = _field_fault(row, source.text_field)
        counts.add(fault.reason if fault else "", number, row)
        if fault is None:
            yield _document(source, str(number), cast("str", row[source.text_field]), {}, str(number))
        else:
            yield Refused(stable_id(source.name, str(number)), source.name, str(number), fault)
    counts.check(_place(source), source.text_field)

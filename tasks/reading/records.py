"""Record reader: rows of JSON Lines, JSON, CSV and TSV, Parquet; compressed or not, local or remote.

A record that cannot be read becomes a `Fault` with a reason; its neighbours are untouched. So does a whole file.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, cast

import orjson

from tasks.reading.account import Account
from tasks.reading.csv_rows import Table, read_csv
from tasks.reading.faults import Fault, shown
from tasks.reading.files import SourceFile
from tasks.reading.json_values import is_deep, parse, parse_exact, split_values
from tasks.reading.lines import MAX_DOCUMENT_BYTES, LineDecoder, Opened, no_text, open_bytes, split_lines
from tasks.reading.parquet_rows import read_parquet
from tasks.reading.rows import Record

RecordFormat = Literal["jsonl", "json", "csv", "parquet"]


PLAIN_TABLE = Table()
MARK = "\ufeff"
RECORD_SEPARATOR = b"\x1e"  # before each value of a JSON text sequence (RFC 7464)
MEETING = re.compile(rb"\}[\s,\x1e]*\{|\}\s*,\s*$|^\x1e")  # of values on one line
TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},:]', re.DOTALL)
FIRST_KEY = re.compile(rb'\{\s*"[^"\\]*"\s*:')
FIRST_BRACE = re.compile(rb"(?:\s*\n)?([ \t]*)\{")


@dataclass(frozen=True)
class Layout:
    """How a file's rows are stored, and which of their fields are wanted (all without `fields`).

    In JSON, integers beyond 64 bits are exact in wanted fields only.
    """

    kind: RecordFormat
    table: Table = PLAIN_TABLE
    encoding: str = "auto"
    max_bytes: int = MAX_DOCUMENT_BYTES
    fields: Sequence[str] = ()


def read_records(file: SourceFile, layout: Layout, total: Account | None = None) -> Iterator[Record | Fault]:
    """The records of a file in order; its bytes are added to the account of all files, but for Parquet, which has rows."""
    match layout.kind:
        case "jsonl":
            opened = open_bytes(file, layout.encoding)
            if opened.head.lstrip().startswith(b"["):  # a list where one object a line was expected
                yield from _read_json(file, layout, total)
            elif opened.fault is not None:
                yield no_text(file, opened, total)
            else:
                yield from _read_jsonl(file.url, opened, layout, total)
        case "json":
            yield from _read_json(file, layout, total)
        case "csv":
            yield from read_csv(file, layout.table, layout.encoding, layout.max_bytes, layout.fields, total)
        case "parquet":
            yield from read_parquet(file, layout.fields, layout.max_bytes)


def _read_jsonl(url: str, opened: Opened, layout: Layout, total: Account | None) -> Iterator[Record | Fault]:
    decoder = LineDecoder(opened.codec, opened.charset if opened.codec == "utf-8" else None)
    reader = _JsonReader(decoder, layout.fields)
    account = opened.account
    for number, line in enumerate(split_lines(opened.chunks, layout.max_bytes, account=account), 1):
        if isinstance(line, Fault):
            yield account.add(replace(line, number=number))
        elif line.isspace():
            account.structure += len(line)
        else:
            record = reader.record(number, line)
            if isinstance(record, Fault):
                yield from map(account.add, _salvaged(reader, number, line, layout.max_bytes, account) or (record,))
            else:
                yield account.add(record)
    account.check(url, total)


def _salvaged(reader: "_JsonReader", number: int, line: bytes, max_bytes: int, account: Account) -> Iterable[Record | Fault]:
    """What a line that is no row holds: a row beside null bytes, values one behind the other, a row behind a cut one; else nothing."""
    if b"\0" in line:
        return _without_nulls(reader, number, line)
    values = _values_of(reader, number, line, max_bytes, account) if MEETING.search(line) else ()
    return values or _behind_cut(reader, number, line)


def _values_of(reader: "_JsonReader", number: int, line: bytes, max_bytes: int, account: Account) -> Sequence[Record | Fault]:
    """The values of a line, as where a file ended without a line end and the next one followed; nothing when none is a row."""
    bare = line.translate(None, RECORD_SEPARATOR)
    between = Account(structure=len(line) - len(bare))
    parts: list[Record | Fault] = []
    for entry, value in enumerate(split_values([bare], max_bytes, between), 1):
        part = replace(value, number=number) if isinstance(value, Fault) else reader.record(number, value)
        parts.append(part if isinstance(part, Fault) else part._replace(entry=entry))
    if all(isinstance(part, Fault) for part in parts):
        return ()
    account.structure += between.structure
    return parts


def _behind_cut(reader: "_JsonReader", number: int, line: bytes) -> Sequence[Record | Fault]:
    """A row that was written behind one that breaks off, as by a writer that died; it begins with the same key."""
    first = FIRST_KEY.match(line)
    start = line.rfind(first.group(), first.end()) if first else -1
    if start <= 0 or line[:start].rstrip().endswith((b",", b":", b"[")):  # there it may be a part of the row
        return ()
    record = reader.record(number, line[start:])
    if isinstance(record, Fault):
        return ()
    return Fault("malformed", start, shown(line[:start]), number), record


def _without_nulls(reader: "_JsonReader", number: int, line: bytes) -> Iterator[Record | Fault]:
    """A row beside null bytes, and these as a fault; one fault when there is no row."""
    core = line.strip(b"\0\t\r\n ")
    record = reader.record(number, core)
    if isinstance(record, Fault):
        yield Fault("malformed", len(line), shown(core or line), number)
        return
    yield Fault("malformed", len(line) - len(core), "null bytes beside a row", number)
    yield record


def _read_json(file: SourceFile, layout: Layout, total: Account | None) -> Iterator[Record | Fault]:
    """The entries of a list, or objects one behind the other; the file is never held as a whole."""
    opened = open_bytes(file, layout.encoding, all_utf8=True)
    if opened.fault is not None:
        yield no_text(file, opened, total)
        return
    reader = _JsonReader(LineDecoder("utf-8", opened.charset), layout.fields)
    account = opened.account
    number = 1
    for value in split_values(opened.chunks, layout.max_bytes, account):
        found = (replace(value, number=number),) if isinstance(value, Fault) else _entries(reader, number, value, account)
        number += len(found)
        yield from map(account.add, found)
    account.check(file.url, total)


def _entries(reader: "_JsonReader", number: int, value: bytes, account: Account) -> Sequence[Record | Fault]:
    """The record of a value; one that is malformed is cut where the next one begins, for it may have lost its end.

    That is where objects begin in the same column as it, or where one stands in an object instead of a key.
    """
    whole = reader.record(number, value)
    if not isinstance(whole, Fault):
        return (whole,)
    first = FIRST_BRACE.match(value)
    begins = _misplaced_objects(value)
    if b"\n" in value:
        begins = [found.start() for found in re.finditer(rb"^" + (first.group(1) if first else b"") + rb"\{", value, re.MULTILINE)]
    cuts = [0, *(start for start in begins if start > (first.end() if first else 0)), len(value)]
    parts = [value[start:end].rstrip(b", \t\r\n]") for start, end in pairwise(cuts)]
    account.structure += len(value) - sum(map(len, parts))
    return [reader.record(number + at, part) for at, part in enumerate(parts)]


def _misplaced_objects(value: bytes) -> list[int]:
    """Where an object begins behind a comma that is not in a list of the value."""
    starts: list[int] = []
    opened: list[bytes] = []
    last = b""
    for token in TOKEN.finditer(value):
        mark = token.group()[:1]
        if mark == b"{" and last == b"," and opened[-1:] != [b"["]:
            starts.append(token.start())
            opened = []
        if mark in b"{[":
            opened.append(mark)
        elif mark in b"}]" and opened:
            opened.pop()
        last = mark
    return starts


_Value = tuple[object, str | None, tuple[str, ...]]  # with the charset when not UTF-8, and what was mended


class _JsonReader:
    """Turns the bytes of values into records."""

    def __init__(self, decoder: LineDecoder, fields: Sequence[str]) -> None:
        self._decoder = decoder
        self._keys = [(field, f'"{field}"'.encode()) for field in fields]
        self._is_utf8 = decoder.codec in (None, "utf-8") and decoder.decode(b"").charset is None

    def record(self, number: int, raw: bytes) -> Record | Fault:
        """The object's fields; a value of another kind is malformed."""
        read = self._read_utf8(raw) if self._is_utf8 else None
        try:
            value, charset, repairs = read or self._read_other(raw)
        except ValueError as error:
            cause = b"nested too deep: " if "nested too deep" in str(error) else b""
            return Fault("malformed", len(raw), shown(cause + raw), number)
        if not isinstance(value, dict):
            return Fault("malformed", len(raw), shown(raw), number)
        fields = cast("dict[str, object]", value)
        for name, key in self._keys:
            if raw.count(key) > 1 or _is_inexact(fields.get(name)):
                text = self._decoder.decode(raw).text.lstrip(MARK)
                if is_deep(text):
                    return self._deep(number, raw, fields, charset, repairs)
                fields, repeats = _exact(text, fields)
                repairs += repeats
                break
        return Record(number, fields, charset, repairs, len(raw))

    def _read_utf8(self, raw: bytes) -> "_Value | None":
        try:
            value: object = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return None
        if self._decoder.codec is None and not raw.isascii():
            self._decoder.codec = "utf-8"
        return value, None, ()

    def _read_other(self, raw: bytes) -> "_Value":
        """What the fast way refuses: another charset, or JSON as only others write it."""
        line = self._decoder.decode(raw)
        self._is_utf8 = self._decoder.codec in (None, "utf-8")
        text = line.text.lstrip(MARK)  # which stands where files that begin with one were put together
        value, mended = parse(text)
        return value, line.charset, (*line.repairs, *(("bom",) if len(text) < len(line.text) else ()), *mended)

    def _deep(self, number: int, raw: bytes, fields: dict[str, object], charset: str | None, repairs: tuple[str, ...]) -> Record | Fault:
        """What only the fast parser reads: as it is, unless a wanted number lost digits."""
        if any(_is_inexact(fields.get(name)) for name, _ in self._keys):
            return Fault("malformed", len(raw), shown(b"nested too deep: " + raw), number)
        return Record(number, fields, charset, repairs, len(raw))


def _exact(text: str, fields: dict[str, object]) -> tuple[dict[str, object], tuple[str, ...]]:
    """The fields with wanted numbers as they were written; `duplicate_key` when one stood twice in an object."""
    exact, twice = parse_exact(text)
    written = cast("dict[str, object]", exact)
    kept = {key: written[key] if _is_inexact(value) else value for key, value in fields.items()}
    return kept, ("duplicate_key",) if twice else ()


def _is_inexact(value: object) -> bool:
    """A number that may have lost digits on the way: two names could become one."""
    return isinstance(value, float) and (not math.isfinite(value) or abs(value) >= 2**53)

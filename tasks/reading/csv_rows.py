"""CSV and TSV, row by row: a row that goes wrong is refused, and reading starts again on the line behind its first."""

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.reading.faults import Fault, shown_text
from tasks.reading.files import SourceFile
from tasks.reading.lines import Line, read_text
from tasks.reading.rows import Record

PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
MAX_ROW_LINES = 10_000  # of a quoted field; behind a quote that nothing closes, reading starts again


@dataclass(frozen=True)
class Table:
    """How rows are laid out in CSV and TSV files."""

    delimiter: str | None = None
    header: bool = True


def read_csv(file: SourceFile, table: Table, encoding: str, max_bytes: int) -> Iterator[Record | Fault]:
    """Rows of CSV or TSV. Without a header, fields are named "0", "1", …; in TSV quotes have no meaning."""
    csv.field_size_limit(max_bytes)
    delimiter = table.delimiter or ("\t" if _ending(file.name) == ".tsv" else ",")
    names: list[str] | None = None
    for row in _rows(read_text(file, encoding, max_bytes), delimiter, max_bytes):
        if isinstance(row, Fault):
            yield row
        elif table.header and names is None:
            names = row.values
        elif row.values:
            yield _record(row, names)


def _ending(name: str) -> str:
    stem = Path(name).with_suffix("") if name.lower().endswith(PACKED_ENDINGS) else Path(name)
    return stem.suffix.lower()


@dataclass(frozen=True)
class _Row:
    """Values with the number of their last line."""

    number: int
    values: list[str]
    charset: str | None
    repairs: tuple[str, ...]


def _record(row: _Row, names: list[str] | None) -> Record | Fault:
    """A row under its names. More values than names mean that a delimiter stands in some text: which, nobody knows."""
    keys = [str(column) for column in range(len(row.values))] if names is None else names
    if len(row.values) > len(keys) and any(row.values[len(keys) :]):
        text = ",".join(row.values)
        return Fault("uneven_row", len(text.encode("utf-8", "replace")), shown_text(text), row.number)
    return Record(row.number, dict(zip(keys, row.values, strict=False)), row.charset, row.repairs)


def _rows(lines: Iterator[Line | Fault], delimiter: str, max_bytes: int) -> Iterator[_Row | Fault]:
    feed = _Feed(lines, max_bytes)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    while True:
        reader = csv.reader(feed, delimiter=delimiter, quoting=quoting)
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield from feed.refuse(str(error))
            continue
        if feed.is_cut:
            yield from feed.refuse("a quote that is never closed")
        elif values is not None:
            yield feed.row(values)
        else:
            yield from feed.faults()
            return


class _Feed:
    """Lines for the CSV reader, one row at a time; the lines of a row that went wrong can be given again."""

    def __init__(self, lines: Iterator[Line | Fault], max_bytes: int) -> None:
        self._lines, self._max_bytes = lines, max_bytes
        self._again: deque[Line] = deque()
        self._given: list[Line] = []
        self._bytes = 0
        self._number = 0
        self._faults: list[Fault] = []
        self.is_cut = False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        if self._bytes > self._max_bytes or len(self._given) >= MAX_ROW_LINES:
            self.is_cut = True
            raise StopIteration
        line = self._again.popleft() if self._again else next(self._lines, None)
        while isinstance(line, Fault):
            self._faults.append(line)
            line = next(self._lines, None)
        if line is None:
            self.is_cut = bool(self._given)
            raise StopIteration
        self._given.append(line)
        self._bytes += len(line.text)
        return line.text

    def row(self, values: list[str]) -> _Row:
        """The row that the given lines made."""
        given = self._given
        self._number += len(given)
        self._given, self._bytes = [], 0
        charset = next((line.charset for line in given if line.charset is not None), None)
        repairs = tuple(dict.fromkeys(name for line in given for name in line.repairs))
        return _Row(self._number, values, charset, repairs)

    def refuse(self, cause: str) -> Iterator[Fault]:
        """The first given line as a fault; those behind it are given again."""
        first, *rest = self._given
        self._again.extendleft(reversed(rest))
        self._number += 1
        self._given, self._bytes, self.is_cut = [], 0, False
        raw = first.text.encode("utf-8", "replace")
        is_large = "field limit" in cause
        evidence = shown_text(f"{cause}: {first.text}")
        yield Fault("too_large" if is_large else "malformed", len(raw), evidence, self._number)

    def faults(self) -> Iterator[Fault]:
        """What was wrong with lines on the way."""
        yield from self._faults
        self._faults = []

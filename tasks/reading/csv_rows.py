"""CSV and TSV, row by row: a row that goes wrong is refused, and reading starts again on the line behind its first."""

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import UserError
from tasks.reading.account import Account, whole_file
from tasks.reading.faults import UNREADABLE, Fault, shown_text
from tasks.reading.files import SourceFile
from tasks.reading.lines import Line, read_text
from tasks.reading.rows import Record

PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}  # as a message names them
AHEAD_BYTES = 1 << 18  # looked at to tell whether a TSV has quotes, or how many columns there are without a header
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?')  # with which Excel is told the delimiter
ESCAPED_QUOTE = re.compile(r'(?<!\\)((?:\\\\)*)\\"')
MAX_SHOWN_CHARS = 200


@dataclass(frozen=True)
class Table:
    """How rows are laid out in CSV and TSV files."""

    delimiter: str | None = None
    header: bool = True


def read_csv(
    file: SourceFile, table: Table, encoding: str, max_bytes: int, wanted: Sequence[str] = (), total: Account | None = None
) -> Iterator[Record | Fault]:
    """Rows of CSV or TSV. Without a header, fields are named "0", "1", …

    In TSV quotes have a meaning only where the rows themselves show that they were written so. UserError when the header says
    that the delimiter is another one, or names a wanted field twice.
    """
    csv.field_size_limit(max_bytes)
    lines = Account()
    feed = _Feed(read_text(file, encoding, max_bytes, keep_cut=False, total=lines), max_bytes)
    told = feed.told_delimiter()
    delimiter = table.delimiter or told or ("\t" if _ending(file.name) == ".tsv" else ",")
    columns = None if table.header else _Columns([str(column) for column in range(feed.commonest_width(delimiter))])
    account = feed.account
    for row in _rows(feed, delimiter, columns):
        if isinstance(row, Fault):
            if columns is None and row.reason == "malformed":
                whole_file(file.bytes).check(file.url, total)
                yield Fault(UNREADABLE, file.bytes, f"its header: {row.evidence}")
                return
            yield account.add(row)
        elif not row.values:
            account.structure += row.bytes
        elif columns is None:
            _check_header(file, row.values, delimiter, wanted)
            columns = _Columns(row.values, is_known=not wanted or wanted[0] in row.values)
            feed.width = columns.least
            account.structure += row.bytes
        else:
            yield account.add(columns.record(row, table.header))
    account.came += lines.structure  # which is in no line
    account.structure += lines.structure
    account.recoded = lines.recoded
    account.check(file.url, total)


def _ending(name: str) -> str:
    stem = Path(name).with_suffix("") if name.lower().endswith(PACKED_ENDINGS) else Path(name)
    return stem.suffix.lower()


def _check_header(file: SourceFile, names: Sequence[str], delimiter: str, wanted: Sequence[str]) -> None:
    header = delimiter.join(names)
    shown = repr(header if len(header) <= MAX_SHOWN_CHARS else f"{header[:MAX_SHOWN_CHARS]} …")
    for name in wanted or [name for name in names if name]:
        if names.count(name) > 1:
            places = " and ".join(str(column) for column, other in enumerate(names, 1) if other == name)
            raise UserError(
                f"{file.url}: columns {places} of the header {shown} are both called {name!r}, expected one. "
                "Fix: give each column its own name, or remove all but one."
            )
    if not wanted or wanted[0] in names:
        return
    for other, called in DELIMITERS.items():
        if other != delimiter and wanted[0] in [name.strip(' "') for name in header.split(other)]:
            raise UserError(
                f"{file.url}: the header {shown} has no column {wanted[0]!r} when {DELIMITERS.get(delimiter, repr(delimiter))} stands "
                f"between fields, but has one with {called}. Fix: set delimiter: {_as_yaml(other)}."
            )


def _as_yaml(delimiter: str) -> str:
    return '"\\t"' if delimiter == "\t" else f'"{delimiter}"'


@dataclass(frozen=True)
class _Row:
    """Values with the number of their last line."""

    number: int
    values: list[str]
    charset: str | None
    repairs: tuple[str, ...]
    bytes: int


class _Columns:
    """The names of a table's columns; columns without one at its end may be left out of rows.

    Where the wanted column is not known, the first line may be no header: then rows of other lengths are not uneven.
    """

    def __init__(self, names: list[str], is_known: bool = True) -> None:
        self.names, self.is_known = names, is_known
        self.least = max((column for column, name in enumerate(names, 1) if name), default=0)

    def record(self, row: _Row, has_header: bool) -> Record | Fault:
        """A row under its names. With more or fewer values than names, which text is whole nobody knows."""
        values, names = row.values, self.names
        if self.is_known and (len(values) < self.least or (len(values) > len(names) and any(values[len(names) :]))):
            text = f"{len(values)} fields for {len(names)} columns: {','.join(values)}"
            return Fault("uneven_row", row.bytes, shown_text(text), row.number)
        if has_header and values == names:  # of a file that was put behind another one
            return Fault("malformed", row.bytes, shown_text(f"the header again: {','.join(values)}"), row.number)
        return Record(row.number, dict(zip(names, values, strict=False)), row.charset, row.repairs, row.bytes)


def _rows(feed: "_Feed", delimiter: str, columns: _Columns | None) -> Iterator[_Row | Fault]:
    feed.width = columns.least if columns else 0
    is_quoted = None if delimiter == "\t" else True
    reader = feed.reader(delimiter, bool(is_quoted))
    while True:
        if is_quoted is None and (is_quoted := feed.shows_quotes(delimiter)):
            reader = feed.reader(delimiter, is_quoted)
        try:
            values = next(reader, None)
        except csv.Error as error:
            values = feed.values_with_escapes(delimiter)
            if values is None:
                yield feed.refuse(str(error))
                continue
        if values is None:
            fault = feed.take_fault()
            if fault is None:
                return
            yield fault
        else:
            yield feed.row(values)


class _Feed:
    """Lines for the CSV reader, one row at a time; the lines of a row that went wrong can be given again.

    A fault of the file ends the row in which it lies. `width` is how many values a row has at least, once that is known.
    """

    def __init__(self, lines: Iterator[Line | Fault], max_bytes: int) -> None:
        self.account = Account()
        self.width = 0
        self._lines, self._max_bytes = lines, max_bytes
        self._again: deque[Line | Fault] = deque()
        self._given: list[Line] = []
        self._bytes = 0
        self._number = 0
        self._is_escaped = False

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        if self._bytes > self._max_bytes:
            raise StopIteration
        line = self._again.popleft() if self._again else self._drawn()
        if line is None:
            raise StopIteration
        if isinstance(line, Fault):
            self._again.appendleft(line)
            raise StopIteration
        if not self._given and line.text[:1] == "\ufeff":  # of a file that was put behind another one
            line = line._replace(text=line.text[1:], repairs=(*line.repairs, "bom"))
        self._given.append(line)
        self._bytes += line.bytes
        return ESCAPED_QUOTE.sub(r'\1""', line.text) if self._is_escaped else line.text

    def _drawn(self) -> Line | Fault | None:
        line = next(self._lines, None)
        if line is not None:
            self.account.came += line.unpacked if isinstance(line, Fault) else line.bytes
        return line

    def reader(self, delimiter: str, is_quoted: bool) -> "Iterator[list[str]]":
        """Gives the next row, and ends before a fault of the file as at its end. csv.Error when quotes make no sense."""
        return csv.reader(self, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE, strict=is_quoted)

    def values_with_escapes(self, delimiter: str) -> list[str] | None:
        """The row that went wrong, read with a backslash before each quote that is text; None when that is no row either."""
        if not self._given or not any(ESCAPED_QUOTE.search(line.text) for line in self._given):
            return None
        before = self._given
        self._rewind()
        self._is_escaped = True
        try:
            values = next(self.reader(delimiter, is_quoted=True), None)
        except csv.Error:
            values = None
        self._is_escaped = False
        if values is not None and len(values) >= max(1, self.width):
            return values
        self._rewind()
        for _ in before:
            next(self)
        return None

    def _rewind(self) -> None:
        self._again.extendleft(reversed(self._given))
        self._given, self._bytes = [], 0

    def row(self, values: list[str]) -> _Row:
        """The row that the given lines made."""
        given, size = self._given, self._bytes
        self._number += len(given)
        self._given, self._bytes = [], 0
        if len(given) == 1:
            return _Row(self._number, values, given[0].charset, given[0].repairs, size)
        charset = next((line.charset for line in given if line.charset is not None), None)
        repairs = tuple(dict.fromkeys(name for line in given for name in line.repairs))
        return _Row(self._number, values, charset, repairs, size)

    def refuse(self, cause: str) -> Fault:
        """The first given line as a fault; those behind it are given again."""
        first = self._given.pop(0)
        self._rewind()
        self._number += 1
        is_large = "field limit" in cause
        told = "a quote that is never closed" if cause.startswith("unexpected end") else cause
        return Fault("too_large" if is_large else "malformed", first.bytes, shown_text(f"{told}: {first.text}"), self._number)

    def take_fault(self) -> Fault | None:
        """The fault of the file that comes next; None at its end."""
        fault = self._again.popleft() if self._again else None
        return fault if isinstance(fault, Fault) else None

    def told_delimiter(self) -> str | None:
        """That of a first line which says nothing else; it is left out."""
        first = next(iter(self._ahead(1)), None)
        told = SEPARATOR_LINE.fullmatch(first.text) if first else None
        if first is None or told is None:
            return None
        self._again.popleft()
        self._number += 1
        self.account.structure += first.bytes
        return told.group(1)

    def commonest_width(self, delimiter: str) -> int:
        """How many values most rows have, as far as can be seen from here."""
        reader = csv.reader([line.text for line in self._ahead(AHEAD_BYTES)], delimiter=delimiter)
        widths: Counter[int] = Counter()
        while True:
            try:
                values = next(reader, None)
            except csv.Error:
                continue  # a field that is too large; it goes on with the line behind
            if values is None:
                return widths.most_common(1)[0][0] if widths else 0
            widths.update([len(values)] if values else [])

    def shows_quotes(self, delimiter: str) -> bool | None:
        """Whether quotes enclose fields; None as long as no field begins with one."""
        begins = ('"', delimiter + '"')
        first = next(iter(self._ahead(1)), None)
        if first is None or not (first.text.startswith(begins[0]) or begins[1] in first.text):
            return None
        return _encloses([line.text for line in self._ahead(AHEAD_BYTES)], delimiter)

    def _ahead(self, size: int) -> Iterator[Line]:
        """The lines to come, up to a fault or so many bytes."""
        seen = at = 0
        while seen < size:
            if at == len(self._again):
                line = self._drawn()
                if line is None:
                    return
                self._again.append(line)
            line = self._again[at]
            if isinstance(line, Fault):
                return
            seen, at = seen + line.bytes, at + 1
            yield line


def _encloses(lines: Sequence[str], delimiter: str) -> bool:
    """Whether more rows need their quotes (round a line end, a delimiter, a quote or every field) than contradict them."""
    width = Counter(line.count(delimiter) for line in lines).most_common(1)[0][0]
    needed = literal = at = 0
    while at < len(lines):
        taken: list[str] = []
        try:
            values = next(csv.reader(_noted(lines, at, taken), delimiter=delimiter, strict=True), [])
        except csv.Error:
            literal += at + len(taken) < len(lines)  # the last row may just be cut here
            at += 1
            continue
        at += len(taken)
        plain = taken[0].rstrip("\r\n").split(delimiter)
        if len(taken) == 1 and plain == values:
            continue
        text = "".join(taken)
        quoted = [field for field in plain if field.startswith('"')]
        is_split = any(line.count(delimiter) != width for line in taken) if len(taken) > 1 else len(plain) != len(values)
        is_whole = len(taken) == 1 and len(quoted) == len(plain) > 1
        if is_split or is_whole or '""' in text.replace(f'{delimiter}""', ""):
            needed += 1
        elif len(taken) > 1 or "," not in text:
            literal += 1
    return needed > literal


def _noted(lines: Sequence[str], at: int, taken: list[str]) -> Iterator[str]:
    for number in range(at, len(lines)):
        taken.append(lines[number])
        yield lines[number]

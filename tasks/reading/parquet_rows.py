"""Parquet, row group by row group: a damaged one is refused, and text that is no UTF-8 is mended row by row."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError
from tasks.reading.account import Account
from tasks.reading.encodings import decode
from tasks.reading.faults import UNREADABLE, Fault, shown, shown_text
from tasks.reading.files import SourceFile, check_unchanged, open_stored, state_of
from tasks.reading.lines import too_large
from tasks.reading.rows import MANY_ROWS, Record

BATCH_BYTES = 8 * 2**20  # of values read at once, about
MAX_BATCH_ROWS = 4_096
NO_VALUE = (OverflowError, ValueError, KeyError, pa.ArrowException)  # what pyarrow raises where Python has no such value
NOT_READ = "(not read)"  # stands for the value of a column that nobody asked for


def read_parquet(file: SourceFile, fields: Sequence[str], max_bytes: int) -> Iterator[Record | Fault]:
    """The rows, with the given fields only, or all. As many as the footer counts are records or faults."""
    before = file.state or state_of(file)
    check_unchanged(file, before)
    with open_stored(file) as stream:
        try:
            table = pq.ParquetFile(stream, page_checksum_verification=True)
            names = table.schema_arrow.names
        except (pa.ArrowException, OSError) as error:
            yield Fault(UNREADABLE, file.bytes, shown(str(error).encode()))
            return
        except UnicodeDecodeError as error:
            yield Fault(UNREADABLE, file.bytes, f"the name of a column is no UTF-8: {shown(error.object)!r}")
            return
        counted, held = table.metadata.num_rows, _rows_of_groups(table)
        if counted != sum(held) or min(held, default=0) < 0:
            yield Fault(UNREADABLE, file.bytes, f"its footer counts {counted} rows, its row groups hold {sum(held)}")
            return
        twice = [name for name in fields or names if names.count(name) > 1]
        if twice:
            raise UserError(f"{file.url}: {names.count(twice[0])} columns are called {twice[0]!r}, expected one. Fix: rename all but one.")
        kept = [name for name in dict.fromkeys(fields) if name in names]
        if fields and not kept:  # none is there: the caller shows what is, and never wants more such rows than it judges by
            has = dict.fromkeys(names, NOT_READ)
            yield from (Record(number, has) for number in range(1, min(counted, MANY_ROWS) + 1))
            return
        account = Account(came=counted)
        yield from _row_groups(table, kept or names, names, max_bytes, account)
        account.check(file.url, unit="rows")
    check_unchanged(file, before)


def _rows_of_groups(table: pq.ParquetFile) -> list[int]:
    return [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]


def _row_groups(
    table: pq.ParquetFile, kept: Sequence[str], names: Sequence[str], max_bytes: int, account: Account
) -> Iterator[Record | Fault]:
    number = 0
    absent = dict.fromkeys((name for name in names if name not in kept), NOT_READ)
    for group in range(table.num_row_groups):
        about = table.metadata.row_group(group)
        rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES * about.num_rows // max(1, about.total_byte_size)))
        done = 0
        try:
            for batch in table.iter_batches(batch_size=rows, row_groups=[group], columns=list(kept)):
                for record in _records(batch, number + done, absent, max_bytes, kept[0]):
                    account.records += isinstance(record, Record)
                    account.faults += isinstance(record, Fault)
                    yield record
                done += batch.num_rows
            cause = "the row group ends before them"
        except (pa.ArrowException, OSError) as error:
            cause = str(error)
        if (lost := about.num_rows - done) > 0:
            account.faults += lost
            size = about.total_byte_size * lost // max(1, about.num_rows)
            yield Fault("damaged_rows", size, shown(f"{lost} rows from {number + done + 1} on: {cause}".encode()))
        number += about.num_rows


def _records(batch: pa.RecordBatch, number: int, absent: dict[str, str], max_bytes: int, text_field: str) -> Iterator[Record | Fault]:
    columns = {name: _values(column, max_bytes) for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    names, values = list(columns), [column for column, _ in columns.values()]
    mended = {row: repairs for _, repaired in columns.values() for row, repairs in repaired.items()}
    for row, entries in enumerate(zip(*values, strict=True)):
        faults = {name: entry for name, entry in zip(names, entries, strict=True) if isinstance(entry, Fault)}
        fault = faults.get(text_field) or next((_beside(name, entry) for name, entry in faults.items()), None)
        charset, repairs = mended.get(row, (None, ()))
        fields = {**dict(zip(names, entries, strict=True)), **absent} if absent else dict(zip(names, entries, strict=True))
        yield fault or Record(number + row + 1, fields, charset, repairs)


def _beside(name: str, fault: Fault) -> Fault:
    """The fault of a column that is not the text: it says nothing of that."""
    reason = "malformed" if fault.reason == "not_text" else fault.reason
    return replace(fault, reason=reason, evidence=shown_text(f"field {name!r}: {fault.reason}: {fault.evidence}"))


Mended = dict[int, tuple[str | None, tuple[str, ...]]]


def _values(column: pa.Array, max_bytes: int) -> tuple[Iterable[object], Mended]:
    """A column's values, and what was mended in which row. Text that is too long, or no text, is a Fault."""
    if pa.types.is_dictionary(column.type):
        column = cast("pa.DictionaryArray", column).dictionary_decode()
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    if not (is_text or is_bytes):
        return _python_values(column), {}
    raw = column.cast(pa.large_binary()) if not pa.types.is_large_string(kind) else column.view(pa.large_binary())
    longest = int(np.diff(np.frombuffer(raw.buffers()[1], np.int64)[raw.offset : raw.offset + len(raw) + 1]).max(initial=0))
    if is_text and longest <= max_bytes and _is_utf8(column):
        return column.to_pylist(), {}
    return _decoded(raw, max_bytes)


def _python_values(column: pa.Array) -> list[object]:
    """The values; what Python has no value for (a day in the year 30000, a zone nobody knows) is text, or a Fault."""
    try:
        return column.to_pylist()
    except NO_VALUE:
        return [_python_value(scalar) for scalar in column]


def _python_value(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except NO_VALUE:
        pass
    kind = scalar.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:  # of a zone that is not known here: stored as UTC
        scalar = scalar.cast(pa.timestamp(kind.unit))
    try:
        return scalar.cast(pa.string()).as_py()
    except NO_VALUE as error:
        return Fault("malformed", 0, shown(f"a value of type {scalar.type}: {error}".encode()))


def _is_utf8(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _decoded(raw: pa.Array, max_bytes: int) -> tuple[list[object], Mended]:
    values: list[object] = []
    mended: Mended = {}
    for row, value in enumerate(cast("list[bytes | None]", raw.to_pylist())):
        if value is None:
            values.append(None)
        elif len(value) > max_bytes:
            values.append(too_large(len(value), value))
        else:
            found = decode(value)
            values.append(Fault(found.fault, len(value), shown(value)) if found.fault is not None else found.text)
            charset = None if found.charset == "utf-8" else found.charset
            if charset or found.repairs:
                mended[row] = charset, found.repairs
    return values, mended

"""Benchmark files of the user, as items of text: what no training document may hold."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, cast

from pydantic import Field

from tasks.errors import UserError
from tasks.reading.faults import Fault
from tasks.reading.files import digest_of, find_files
from tasks.reading.records import Layout, read_records
from tasks.settings import Placement, Section


class Benchmark(Section):
    """Files of rows; an item is a row."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="shown in the evidence")
    kind: Literal["jsonl", "json", "csv", "parquet"]
    paths: Annotated[list[Annotated[str, Field(min_length=1)]], Placement()] = Field(min_length=1)
    fields: list[str] | None = Field(default=None, min_length=1, description="those that hold text, lists of it too; null: all")


def benchmark_digests(benchmark: Benchmark) -> dict[str, str]:
    """Content of its files."""
    files = find_files(place_of(benchmark), benchmark.paths)
    return {f"benchmark {benchmark.name}/{file.name}": digest_of(file) for file in files}


def place_of(benchmark: Benchmark) -> str:
    """How errors name it."""
    return f"decontaminate benchmark {benchmark.name!r}"


def read_benchmark(benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    """File and row of each item, and its text; a field that a row lacks is empty in it.

    UserError for a row that cannot be read, a field that no row has, and, behind the last one, where no item holds text.
    """
    files = find_files(place_of(benchmark), benchmark.paths)
    fields: dict[str, object] = {}  # all that rows have, with the last value of each
    items = texts = 0
    for file in files:
        for record in read_records(file, Layout(benchmark.kind)):
            if isinstance(record, Fault):
                raise UserError(_unreadable(benchmark, file.url, record))
            fields |= {name: value for name, value in record.fields.items() if value is not None or name not in fields}
            names = benchmark.fields or list(record.fields)
            text = "\n".join(text for name in names for text in _texts(record.fields.get(name)))
            items += 1
            texts += bool(text.strip())
            yield (f"{file.name}:{record.place}", text)
    missing = [name for name in benchmark.fields or [] if name not in fields]
    told = f"the rows have {', '.join(fields)}"
    if not items:
        raise UserError(f"{place_of(benchmark)}: found no rows in {len(files)} files, expected one an item. Fix: correct paths.")
    if missing:
        raise UserError(f"{place_of(benchmark)}: no row has a field {missing[0]!r}; {told}. Fix: correct fields.")
    if not texts:
        kinds = {name: "null" if value is None else type(value).__name__ for name, value in fields.items()}
        found = ", ".join(f"{name}: {kinds[name]}" for name in benchmark.fields or fields)
        raise UserError(
            f"{place_of(benchmark)}: found no text in {items:,} rows ({found}), expected strings; {told}. "
            "Fix: set fields to those that hold text."
        )


def _unreadable(benchmark: Benchmark, url: str, fault: Fault) -> str:
    """A benchmark is whole or refused: what is not read of it would not be kept out of training."""
    where = f"{url}:{fault.number}" if fault.number else url
    fix = "mend the row or take it out" if fault.number else f"give the file whole, as {benchmark.kind}, or correct kind"
    return f"{place_of(benchmark)}: {where}: found {fault.reason} ({fault.evidence[:80]!r}), expected a row. Fix: {fix}."


def _texts(value: object) -> Iterator[str]:
    """The strings in a value, however deep."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            left += reversed(list(cast("Mapping[str, object]", one).values()))
        elif isinstance(one, list | tuple):
            left += reversed(cast("Sequence[object]", one))

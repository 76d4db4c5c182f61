"""Benchmark files of the user, as items of text: what no training document may hold."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

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
    files = find_files(_place(benchmark), benchmark.paths)
    return {f"benchmark {benchmark.name}/{file.name}": digest_of(file) for file in files}


def _place(benchmark: Benchmark) -> str:
    return f"decontaminate benchmark {benchmark.name!r}"


def read_benchmark(benchmark: Benchmark) -> Iterator[tuple[str, str]]:
    """File and row of each item, and its text. UserError for a row that cannot be read or lacks a field."""
    for file in find_files(_place(benchmark), benchmark.paths):
        for record in read_records(file, Layout(benchmark.kind)):
            if isinstance(record, Fault):
                raise UserError(f"{_place(benchmark)}: {file.url}: {record.reason}: {record.evidence[:80]!r}. Fix the file.")
            names = benchmark.fields or list(record.fields)
            missing = [name for name in names if name not in record.fields]
            if missing:
                raise UserError(
                    f"{_place(benchmark)}: {file.url}:{record.place}: no field {missing[0]!r}; "
                    f"the row has {', '.join(record.fields)}. Fix: correct fields."
                )
            yield (f"{file.name}:{record.place}", "\n".join(text for name in names for text in _texts(record.fields[name])))


def _texts(value: object) -> Iterator[str]:
    """The strings in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)

"""Hugging Face data sets: those that `datasets` opens, from the hub or from local files."""

import hashlib
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tasks.errors import UserError
from tasks.reading.documents import MAX_SHOWN_CHARS, FieldCount, Found, Refused, document, field_fault, refused
from tasks.reading.files import SourceFile, digest_of, find_files
from tasks.reading.sources import HubSource, place_of

if TYPE_CHECKING:
    import datasets


def hub_files(source: HubSource) -> list[SourceFile]:
    """Local data by file; nothing is known of data on the hub."""
    local = source.data_files or ([f"{source.path}/**/*"] if Path(source.path).is_dir() else None)
    return find_files(place_of(source), local) if local else []


def hub_digests(source: HubSource) -> dict[str, str]:
    """Local data by content; data on the hub by revision, else by name alone, for nothing else is known of it."""
    local = hub_files(source)
    if local:
        return {f"{source.name}/{file.name}": digest_of(file) for file in local}
    named = json.dumps([source.path, source.subset, source.split, source.revision])
    return {source.name: hashlib.sha256(named.encode()).hexdigest()}


def read_hub(source: HubSource) -> Iterator[Found | Refused]:
    """The rows of the split in order, up to the limit."""
    counts = FieldCount(source.text_field)
    for number, row in enumerate(islice(_rows(source), source.limit), 1):
        fault = field_fault(row, source.text_field)
        if fault is None:
            found = document(source, str(number), cast("str", row[source.text_field]), {}, (str(number),))
        else:
            found = refused(source, str(number), fault, str(number))
        counts.add(found, row)
        yield found
    counts.check(source, source.path)


def _rows(source: HubSource) -> Iterator[Mapping[str, object]]:
    """UserError where the set does not open, or a row of it cannot be had: `datasets` gives none of those behind it."""
    number = 0
    try:
        for row in _opened(source, source.data_files):
            yield row
            number += 1
    except _errors() as error:
        place, number = _fault_place(source, number)
        mend = "mend or leave out that file" if hub_files(source) else "check the network, or give another revision"
        raise UserError(
            f"{place_of(source)}: {place}: {_cause(error)}. Found behind row {number} of the set; expected rows that `datasets` opens, all "
            f"with the columns and types of the first. Fix: {mend}, or read the files themselves (kind jsonl, json, csv or parquet), "
            "which sets single rows aside."
        ) from error


def _opened(source: HubSource, data_files: list[str] | None) -> Iterable[Mapping[str, object]]:
    import datasets
    from datasets.exceptions import DatasetGenerationError, DatasetsError

    try:
        rows = datasets.load_dataset(
            source.path,
            source.subset,
            split=source.split,
            revision=source.revision,
            streaming=source.streaming,
            data_files=data_files,
        )
    except DatasetGenerationError:  # a file that is there, but cannot be read
        raise
    except (OSError, ValueError, DatasetsError) as error:  # no network, no such set, subset or split
        raise UserError(f"{place_of(source)}: {error}. Fix: check path, subset, split, revision and the network.") from error
    return cast("Iterable[Mapping[str, object]]", _without_media(rows))


def _without_media(rows: "datasets.Dataset | datasets.IterableDataset") -> "datasets.Dataset | datasets.IterableDataset":
    """Images, sound and films as they are stored: to open them takes libraries and time, and nobody looks at them."""
    import datasets

    for name, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Image | datasets.Audio | datasets.Video | datasets.Pdf):
            rows = rows.cast_column(name, type(feature)(decode=False))
    return rows


def _errors() -> tuple[type[Exception], ...]:
    """What `datasets` raises for a file that is not what it should be: it has no error of its own for that."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    damaged = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException)
    return (*damaged, TypeError, KeyError, ImportError, RecursionError, DatasetsError)


def _cause(error: BaseException) -> str:
    """What went wrong first, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:MAX_SHOWN_CHARS]}".rstrip(". ")


def _fault_place(source: HubSource, rows: int) -> tuple[str, int]:
    """The local file that cannot be read, or the set's name when none is known, and how many rows of the set precede the fault."""
    if not source.streaming:
        source = source.model_copy(update={"streaming": True})
        rows, _ = _readable_rows(source, source.data_files)
    left = rows
    for file in [file for pattern in source.data_files or [] for file in find_files(place_of(source), [pattern])]:
        count, is_whole = _readable_rows(source, [file.url])
        if not is_whole or count > left:  # the first row behind the readable ones is in here
            return file.url, rows
        left -= count
    return source.path, rows


def _readable_rows(source: HubSource, data_files: list[str] | None) -> tuple[int, bool]:
    """How many rows can be read, and whether these are all."""
    count = 0
    try:
        for _ in _opened(source, data_files):
            count += 1
    except (*_errors(), UserError):
        return count, False
    return count, True

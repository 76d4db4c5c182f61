"""Hugging Face data sets: those that `datasets` opens, from the hub or from local files."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

from tasks.errors import UserError
from tasks.reading.documents import FieldCount, Found, Refused, document, field_fault, refused
from tasks.reading.files import SourceFile, digest_of, find_files
from tasks.reading.sources import HubSource, place_of


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
    counts = FieldCount()
    for number, row in enumerate(_rows(source), 1):
        if source.limit is not None and number > source.limit:
            break
        fault = field_fault(row, source.text_field)
        if fault is None:
            found = document(source, str(number), cast("str", row[source.text_field]), {}, (str(number),))
        else:
            found = refused(source, str(number), fault, str(number))
        counts.add(found, row)
        yield found
    counts.check(source, source.path, source.text_field)


def _rows(source: HubSource) -> Iterable[Mapping[str, object]]:
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        rows = datasets.load_dataset(
            source.path,
            source.subset,
            split=source.split,
            revision=source.revision,
            streaming=source.streaming,
            data_files=source.data_files,
        )
    except (OSError, ValueError, DatasetsError) as error:  # no network, no such set, subset or split
        raise UserError(f"{place_of(source)}: {error}. Fix: check path, subset, split, revision and the network.") from error
    return cast("Iterable[Mapping[str, object]]", rows)

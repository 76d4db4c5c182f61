"""Ingest: every source of a recipe read into document tables, each with an id that stays the same from run to run."""

from collections import Counter
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, field_validator
from tqdm import tqdm

from tasks.corpus import DropWriter, RollingWriter, outcome_of
from tasks.documents import DOCUMENTS
from tasks.errors import UserError
from tasks.ledger import StageOutcome
from tasks.settings import Section
from tasks.sources import AnySource, Found, Refused, digests_of, read_source

BATCH_DOCUMENTS = 256


class IngestConfig(Section):
    """Where the text comes from."""

    stage: ClassVar[str] = "ingest"
    revision: Literal[1] = 1
    sources: list[Annotated[AnySource, Field(discriminator="kind")]] = Field(min_length=1)

    @field_validator("sources")
    @classmethod
    def _names_differ(cls, sources: list[AnySource]) -> list[AnySource]:
        twice = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
        if twice:
            raise ValueError(f"two sources are called {twice[0]!r}; give each its own name")
        return sources


def source_digests(config: IngestConfig) -> dict[str, str]:
    """What the sources hold, by source and file name."""
    digests: dict[str, str] = {}
    for source in config.sources:
        digests |= digests_of(source)
    return digests


def _document_batch(found: list[Found]) -> pa.RecordBatch:
    columns: list[list[object]] = [
        [one.id for one in found],
        [one.text for one in found],
        [one.source for one in found],
        [one.path for one in found],
        [one.language for one in found],
        [len(one.text.encode()) for one in found],
        [sorted(one.meta.items()) for one in found],
    ]
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, DOCUMENTS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=DOCUMENTS)


def _refuse(refused: Refused, rejects: DropWriter) -> None:
    """Keeps the start of a record as evidence; `value` is its size in bytes as stored."""
    evidence = Found(refused.id, refused.fault.evidence, refused.source, refused.path, "und")
    rejects.write(_document_batch([evidence]), [refused.fault.reason], [float(refused.fault.bytes)])


def ingest(config: IngestConfig, out: Path) -> StageOutcome:
    """Reads all sources into `documents-*.parquet`; what is no document goes to `rejects.parquet` with a reason."""
    with RollingWriter(out, "documents") as documents, DropWriter(out / "rejects.parquet", "ingest") as rejects:
        for source in config.sources:
            held: list[Found] = []
            for found in tqdm(read_source(source), desc=f"ingest {source.name}", unit="doc", disable=None):
                if isinstance(found, Refused):
                    _refuse(found, rejects)
                    continue
                held.append(found)
                if len(held) == BATCH_DOCUMENTS:
                    documents.write(_document_batch(held))
                    held.clear()
            documents.write(_document_batch(held))
    if documents.rows == 0:
        reasons = ", ".join(f"{reason} {count}" for reason, count in rejects.rows.most_common())
        raise UserError(
            f"ingest: no document in {len(config.sources)} sources ({reasons or 'they are empty'}). "
            "Fix: check paths and text_field; the text must be UTF-8."
        )
    return outcome_of([documents], rejects)

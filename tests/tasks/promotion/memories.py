"""Artifacts that the tests of memories and nights begin with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.artifacts import Corpus, Examples, PretrainedModel
from tasks.documents import DOCUMENTS
from tasks.examples.kinds.kind import Example
from tasks.items import Asked, Item, ItemFigures, write_items

Labelled = tuple[str, str]  # text, label


def corpus(folder: Path, train: Mapping[str, str], validation: Mapping[str, str]) -> Corpus:
    """Documents by id."""
    folder.mkdir()
    for name, texts in (("train-000", train), ("validation", validation)):
        rows = [
            {"id": one, "text": text, "source": "s", "path": "p", "language": "en", "bytes": len(text.encode()), "meta": []}
            for one, text in texts.items()
        ]
        pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS), folder / f"{name}.parquet")
    return Corpus(str(folder), "c0")


def classified(rows: Sequence[Labelled]) -> pa.Table:
    """Texts and labels as the table of an Examples artifact."""
    columns: dict[str, list[str]] = {"id": [], "group": [], "text": [], "label": []}
    for text, label in rows:
        one = Example("", {"text": text, "label": label}, "")
        for name, value in (("id", one.id), ("group", one.id), ("text", text), ("label", label)):
            columns[name].append(value)
    schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in columns])
    return pa.table(columns, schema)


def write_tables(folder: Path, train: Sequence[Labelled], heldout: Sequence[Labelled], labels: Sequence[str]) -> Path:
    """train.parquet, heldout.parquet, labels.json."""
    folder.mkdir(parents=True)
    pq.write_table(classified(train), folder / "train.parquet")
    pq.write_table(classified(heldout), folder / "heldout.parquet")
    (folder / "labels.json").write_text(json.dumps(list(labels)))
    return folder


def examples(folder: Path, train: Sequence[Labelled], heldout: Sequence[Labelled], labels: Sequence[str]) -> Examples:
    """An artifact of classification."""
    return Examples(str(write_tables(folder, train, heldout, labels)), "e0")


def model(folder: Path) -> PretrainedModel:
    """An artifact whose model nobody opens."""
    (folder / "model").mkdir(parents=True)
    return PretrainedModel(str(folder), "m0")


def judge(folder: Path, asked: Asked, out: Path) -> None:
    """An item that tells what was asked."""
    assert asked.documents is not None
    rows = pq.read_table(asked.documents).num_rows
    write_items([Item("general", str(folder), "", "s", "en", rows, "", "")], list[ItemFigures](), out)


def texts(path: Path) -> list[str]:
    """The column text of a table."""
    return pq.read_table(path)["text"].to_pylist()

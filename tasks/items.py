"""Judged items: what each one adds to a figure of a model, kept so that two models can be compared pair by pair.

N items, C columns of a statistic, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.documents import TableWriter

Floats = NDArray[np.float64]
Statistic = Literal["ratio", "macro_f1", "pearson"]  # how sums over items become the figure: see tasks/bootstrap.py

ITEMS_FILE, FIGURES_FILE = "items.parquet", "figures.parquet"
SHOWN_CHARACTERS = 600  # of a text, an expected or a given answer
ITEMS = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("task", "item", "cluster", "source", "language")]
    + [pa.field("bytes", pa.int64(), nullable=False)]
    + [pa.field(name, pa.large_string(), nullable=False) for name in ("shown", "expected")]
)
FIGURES = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("model", "task", "metric", "statistic", "item")]
    + [pa.field("answer", pa.large_string(), nullable=False), pa.field("columns", pa.list_(pa.float64()), nullable=False)]
)


@dataclass(frozen=True)
class Item:
    """One thing that models are asked; `cluster` is its document or group, whose items are drawn together."""

    task: str  # of the suite
    item: str  # its id, which follows from its content
    cluster: str
    source: str
    language: str
    bytes: int  # of the text that is judged
    shown: str  # how the text or question begins
    expected: str  # the right answer; empty where the text itself is judged


@dataclass(frozen=True)
class ItemFigures:
    """One figure of one model: what each item of a task adds to it, in the order of the items."""

    model: str  # tasks.scores.OWN, or a baseline's name
    task: str
    metric: str  # parts of one have a colon: bits_per_byte:digits
    statistic: Statistic
    items: tuple[str, ...]
    columns: Floats  # [N, C]: ratio: numerator, denominator; macro_f1: hits, predicted, actual, K of each; pearson: found, wanted
    answers: tuple[str, ...]  # as shown; empty where the model gives none


def write_items(items: Sequence[Item], figures: Sequence[ItemFigures], folder: Path) -> None:
    """items.parquet (contract Items) and figures.parquet (contract ItemFigures)."""
    with TableWriter(folder / ITEMS_FILE, ITEMS) as writer:
        writer.write(pa.RecordBatch.from_pylist([asdict(item) for item in items], ITEMS))
    with TableWriter(folder / FIGURES_FILE, FIGURES) as writer:
        for one in figures:
            fixed = {"model": one.model, "task": one.task, "metric": one.metric, "statistic": one.statistic}
            rows = [
                {**fixed, "item": item, "answer": answer, "columns": columns}
                for item, answer, columns in zip(one.items, one.answers, one.columns.tolist(), strict=True)
            ]
            writer.write(pa.RecordBatch.from_pylist(rows, FIGURES))


def read_items(folder: Path) -> list[Item]:
    """What `write_items` wrote of the items."""
    return [Item(**row) for row in pq.read_table(folder / ITEMS_FILE).to_pylist()]


def read_figures(folder: Path) -> list[ItemFigures]:
    """What `write_items` wrote of the figures, each with its items in their order."""
    grouped: dict[tuple[str, str, str, Statistic], list[tuple[str, str, list[float]]]] = {}
    for row in pq.read_table(folder / FIGURES_FILE).to_pylist():
        key = (row["model"], row["task"], row["metric"], row["statistic"])
        grouped.setdefault(key, []).append((row["item"], row["answer"], row["columns"]))
    return [
        ItemFigures(*key, tuple(row[0] for row in rows), np.array([row[2] for row in rows], np.float64), tuple(row[1] for row in rows))
        for key, rows in grouped.items()
    ]


@dataclass(frozen=True)
class Asked:
    """One set of frozen items, as two models are asked it: of labelled examples, of documents, or those of a suite."""

    label: str  # as people read it: areas; general text; quick
    max_items: int  # those with the lowest hash
    examples: Path | None = None  # folder of an Examples artifact, or of a memory's
    documents: Path | None = None  # Parquet file of documents, to be scored in bits per byte, or by the model's objective
    suite: str | None = None  # a suite's YAML file


Judge = Callable[
    [Path, Asked, Path], None
]  # a model's folder, what it is asked, and the folder for `write_items`; UserError if it can't be

"""Packing table: how the documents of each group of each set became rows."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.histogram import Histogram

FILE = "packing.json"


@dataclass(frozen=True)
class PackingRow:
    """One group of one set."""

    split: str
    group: str
    documents: int
    pieces: int
    rows: int
    tokens: int  # of the documents; in rows, pieces of one document overlap by one more
    padding: int  # tokens of the rows that are empty
    cut_documents: int  # in more than one piece
    needless_cuts: int  # of these, such that would have fitted in a row
    lengths: Histogram  # documents by their tokens
    room: int  # tokens that the rows hold

    @property
    def fill(self) -> float:
        """Share of the rows' tokens that is no padding."""
        return (self.room - self.padding) / max(1, self.room)


def write_packing(rows: Sequence[PackingRow], folder: Path) -> None:
    """packing.json."""
    values = [{**asdict(row), "fill": round(row.fill, 6)} for row in rows]
    (folder / FILE).write_text(json.dumps(values, ensure_ascii=False) + "\n", encoding="utf-8")


def read_packing(folder: Path, context: int) -> list[PackingRow]:
    """What `write_packing` wrote for rows of `context` tokens and one more."""
    found: list[PackingRow] = []
    for values in json.loads((folder / FILE).read_text(encoding="utf-8")):
        values.pop("fill")
        values["lengths"] = Histogram(tuple(values["lengths"]["edges"]), tuple(values["lengths"]["counts"]))
        values["room"] = values["rows"] * (context + 1)  # which files of before do not tell
        found.append(PackingRow(**values))
    return found

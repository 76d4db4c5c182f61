"""Examples prepared from rows or lines that a test writes down."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from tasks.examples.examples import prepare_examples
from tasks.examples.kinds.table import AnyExamples
from tasks.ledger import StageOutcome

Row = dict[str, object]


@dataclass(frozen=True)
class Prepared:
    """What came of them: both sides together, and why others were refused, by place."""

    outcome: StageOutcome
    rows: list[Row]
    labels: list[str]
    refused: dict[str, str]

    @property
    def dropped(self) -> dict[str, int]:
        """Rows by reason."""
        return dict(self.outcome.ledger.dropped)


def prepared(folder: Path, kind: str, file: Path, **settings: object) -> Prepared:
    """The examples of a file whose ending is its kind."""
    out = folder / f"out-{len(list(folder.iterdir()))}"
    out.mkdir()
    source = {"kind": file.suffix[1:], "paths": [str(file)], **settings}
    config = TypeAdapter(AnyExamples).validate_python({"name": "task", "kind": kind, "source": source, "heldout_share": 0.3})
    outcome = prepare_examples(config, out)
    outcome.ledger.check("examples")
    rows = [row for side in ("train", "heldout") for row in pq.read_table(out / f"{side}.parquet").to_pylist()]
    refused = {row["path"]: row["reason"] for row in pq.read_table(out / "rejects.parquet").to_pylist()}
    return Prepared(outcome, rows, json.loads((out / "labels.json").read_text()), refused)


def from_rows(folder: Path, kind: str, rows: Sequence[Row], **settings: object) -> Prepared:
    """Of rows as JSON Lines; what JSON has not (NaN) is written as others write it."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return prepared(folder, kind, file, **settings)


def from_columns(folder: Path, kind: str, columns: dict[str, pa.Array], metadata: dict[str, str] | None = None) -> Prepared:
    """Of columns as Parquet."""
    file = folder / "rows.parquet"
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file)
    return prepared(folder, kind, file)


def from_lines(folder: Path, text: str, **settings: object) -> Prepared:
    """Of lines as CoNLL."""
    file = folder / "lines.conll"
    file.write_text(text, encoding="utf-8")
    return prepared(folder, "token_labels", file, **settings)

"""Score table: what an evaluation measured, a figure a row. The gate, the report and the model card read it here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.documents import TableWriter
from tasks.settings import Json

FILE = "scores.parquet"
SCORES = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("model", "suite", "task", "metric")]
    + [pa.field(name, pa.float64(), nullable=False) for name in ("value", "ci_low", "ci_high")]
    + [pa.field(name, pa.int64(), nullable=False) for name in ("n", "seed")]
)
OWN = "model"  # the model that is judged, in the column of that name; others are baselines


@dataclass(frozen=True)
class ScoreRow:
    """One figure with its 95 % interval."""

    model: str
    suite: str
    task: str
    metric: str
    value: float
    ci_low: float
    ci_high: float
    n: int
    seed: int
    subject: str = ""  # what a run calls the evaluation: base, areas; it is in no table

    def to_json(self) -> dict[str, Json]:
        """As plain JSON; the subject where there is one."""
        return {name: value for name, value in asdict(self).items() if name != "subject" or value}


def write_scores(rows: Sequence[ScoreRow], folder: Path) -> None:
    """scores.parquet (contract Scores)."""
    with TableWriter(folder / FILE, SCORES) as writer:
        writer.write(pa.RecordBatch.from_pylist([asdict(row) for row in rows], SCORES))


def read_scores(folder: Path, subject: str = "") -> list[ScoreRow]:
    """What `write_scores` wrote, in its order; each about `subject`."""
    return [ScoreRow(**row, subject=subject) for row in pq.read_table(folder / FILE).to_pylist()]

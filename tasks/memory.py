"""Model memory: held-out text, and a sample of what a model learned from, in a folder that travels with it through the registry.

memory/validation.parquet        general text that no model of this line learned from (columns of DOCUMENTS_SEEN)
memory/text.parquet              a sample of the text of its pretraining, to be replayed (the same columns)
memory/anchor/                   items and figures (tasks/items.py) of the base on that held-out text
memory/examples/<name>/          train.parquet, heldout.parquet, labels.json, as an Examples artifact has them, for each of its tasks
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from tasks.contracts import LANGUAGE, column, row_check, table_schema, text_column

if TYPE_CHECKING:
    import pandera.polars as pandera

FOLDER = "memory"
DOCUMENTS_SEEN = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),  # UTF-8 bytes of text, which may be the beginning of the document
        pa.field("text", pa.large_string(), nullable=False),
    ]
)


def seen_contract() -> "pandera.DataFrameSchema":
    """Of a table of DOCUMENTS_SEEN."""
    import pandera.polars as pandera
    import polars as pl

    columns = {
        "id": text_column("a non-empty id"),
        "source": text_column("the source's name"),
        "language": column(pl.String, pandera.Check.str_matches(LANGUAGE, error="an ISO 639 code, code or und")),
        "bytes": column(pl.Int64, pandera.Check.ge(1, error="1 or more")),
        "text": text_column(),
    }
    return table_schema("DocumentsSeen", columns, row_check(pl.col("bytes") == pl.col("text").str.len_bytes(), "the bytes of text"))


@dataclass(frozen=True)
class Memory:
    """The memory in an artifact's folder; a part that a model lacks is None."""

    folder: Path

    def _part(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.exists() else None

    @property
    def validation(self) -> Path | None:
        """General text to judge on."""
        return self._part("validation.parquet")

    @property
    def text(self) -> Path | None:
        """General text to replay."""
        return self._part("text.parquet")

    @property
    def anchor(self) -> Path | None:
        """What the base scored on the held-out text."""
        return self._part("anchor")

    @property
    def examples(self) -> dict[str, Path]:
        """Folders of labelled examples, by the name of what was learned from them."""
        return {path.name: path for path in sorted((self.folder / "examples").glob("*")) if path.is_dir()}


def memory_of(artifact: Path) -> Memory | None:
    """The memory beside a model; None where it has none, as a model from elsewhere."""
    folder = artifact / FOLDER
    return Memory(folder) if folder.is_dir() else None

"""Quality: trains a classifier of documents on labelled ones; `annotate` then gives every document its score."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from tasks.documents import text_buffers
from tasks.errors import UserError
from tasks.ledger import Ledger, StageOutcome
from tasks.reading.documents import WRONG_FIELD, Found, Refused, meta_key, refuse_field
from tasks.reading.read import digests_of, list_files, read_file
from tasks.reading.sources import CsvSource, JsonLinesSource, JsonSource, ParquetSource
from tasks.sampling import unit_hash
from tasks.settings import Section

HELDOUT = 0.1  # of the labelled documents, for the figures


class QualityConfig(Section):
    """Labelled documents, and how long to learn from them."""

    stage: ClassVar[str] = "quality"
    revision: Literal[1] = 1
    source: Annotated[JsonLinesSource | JsonSource | CsvSource | ParquetSource, Field(discriminator="kind")] = Field(
        description="rows with a text and a label"
    )
    label_field: str = Field(default="label", min_length=1)
    good: list[str] = Field(min_length=1, description="labels of what a model should read; all others are bad")
    epochs: int = Field(default=5, ge=1)
    learning_rate: float = Field(default=1.0, gt=0)
    seed: int = Field(default=1, ge=0, description="of the order of learning and of the held-out tenth")


def quality_digests(config: QualityConfig) -> dict[str, str]:
    """Content of the labelled documents."""
    return digests_of(config.source)


def _labelled(config: QualityConfig) -> Iterator[tuple[str, str, float]]:
    """Id, text and 1 for good or 0 for bad."""
    source = config.source.model_copy(update={"meta_fields": [*config.source.meta_fields, config.label_field]})
    rows, wrong = 0, list[Refused]()
    for file in list_files(source):
        for found in read_file(source, file):
            rows += 1
            if not isinstance(found, Found):
                if found.fault.reason in WRONG_FIELD:
                    wrong.append(found)
                continue
            label = found.meta.get(meta_key(config.label_field))
            if label is None:
                raise UserError(
                    f"quality: {found.path}: found no label in field {config.label_field!r}, expected one in every row. "
                    "Fix: set quality.label_field to the field that holds it, or leave the row out."
                )
            yield found.id, found.text, float(label in config.good)
    if len(wrong) * 2 > rows:
        refuse_field(source, wrong[0].path, source.text_field, len(wrong), rows, f"this row is {wrong[0].fault.evidence}")


def train_quality(config: QualityConfig, out: Path) -> StageOutcome:
    """Writes `weights.npy` and `bias.npy`; figures are those of the held-out tenth."""
    from tasks.kernels.quality_classifier import area_under_curve, train_scorer

    rows = list(_labelled(config))
    labels = np.array([label for _, _, label in rows])
    if not 0 < labels.sum() < len(labels):
        raise UserError(
            f"quality: {int(labels.sum())} of {len(labels)} labelled documents are good, expected some of each. "
            f"Fix: check quality.good ({', '.join(config.good)})."
        )
    held = np.array([unit_hash(document_id, config.seed) < HELDOUT for document_id, _, _ in rows])
    texts = [text for _, text, _ in rows]
    learnt = pa.array([text for text, is_held in zip(texts, held, strict=True) if not is_held], pa.large_string())
    scorer = train_scorer(*text_buffers(learnt), labels[~held], config.epochs, config.learning_rate, config.seed)
    scorer.save(out)
    asked = pa.array([text for text, is_held in zip(texts, held, strict=True) if is_held], pa.large_string())
    scores = scorer.score(*text_buffers(asked)) if len(asked) else np.zeros(0)
    figures = {"labelled": float(len(rows)), "heldout": float(held.sum())}
    if len(asked) and 0 < labels[held].sum() < held.sum():
        figures["accuracy"] = float(((scores >= 0.5) == (labels[held] == 1)).mean())
        figures["area_under_curve"] = area_under_curve(scores, labels[held])
    return StageOutcome(Ledger(rows_out=1), figures=figures)

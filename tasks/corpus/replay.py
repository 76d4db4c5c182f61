"""Replay text: general text of a base's memory, less what this run judges on, to be learned again beside new text.

What a model learned before is forgotten where only new text is learned; some of the old among it keeps it. Source: Ibrahim et al.,
"Simple and Scalable Strategies to Continually Pre-train Large Language Models" (arXiv 2403.08763): 5 % where new text is like the old,
25 % and more where it is another language.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from tasks.artifacts import Corpus, Examples, PretrainedModel
from tasks.contracts import check_table
from tasks.documents import DOCUMENTS, TableWriter, example_text, read_batches
from tasks.errors import UserError
from tasks.ledger import Ledger, StageOutcome
from tasks.memory import memory_of
from tasks.settings import Section

FILE = "train-00000.parquet"
NO_TEXT = "Fix: name the sources of general text in replay.sources, or set replay.share to 0, and what is not in the new text is forgotten."


class ReplayConfig(Section):
    """How much general text is learned beside the corpus, so that the base does not forget it, and where it comes from."""

    share: float = Field(default=0.1, ge=0, le=0.9, description="of the training rows, exactly; 0: none")
    sources: tuple[str, ...] = Field(
        default=(), description="those of ingest.sources that are general text; none: the text in the base's own memory"
    )

    @model_validator(mode="after")
    def _check_digits(self) -> "ReplayConfig":
        if round(self.share, 3) != self.share:
            raise ValueError(f"share {self.share:g} has more than three digits, and rows are drawn in turns of a thousand; round it")
        return self


class ReplayTextConfig(Section):
    """How the memory's text is kept clear of what is judged on: as decontaminate does it."""

    revision: Literal[1] = 1
    ngram_words: int
    ngram_han: int
    max_overlap: float | None


def take_replay(config: ReplayTextConfig, base: PretrainedModel, corpus: Corpus, examples: tuple[Examples, ...], out: Path) -> StageOutcome:
    """Write train-00000.parquet. UserError for a base that brings no text."""
    memory = memory_of(base.path)
    if memory is None or memory.text is None or not pq.read_metadata(memory.text).num_rows:
        found = "no memory" if memory is None else "a memory without text"
        raise UserError(f"replay: the base brings {found}, expected memory/text.parquet, as a registered model has it. {NO_TEXT}")
    rows: list[dict[str, object]] = pq.read_table(memory.text).to_pylist()
    judged = _overlapping(config, rows, corpus.path, examples)
    kept = [row for number, row in enumerate(rows) if number not in judged]
    if not kept:
        raise UserError(f"replay: all {len(rows):,} texts of the base's memory hold text that this run judges on. {NO_TEXT}")
    documents = [{**row, "path": "memory of the base", "meta": []} for row in kept]
    with TableWriter(out / FILE, DOCUMENTS) as file:
        file.write(pa.RecordBatch.from_pylist(documents, schema=DOCUMENTS))
    size, left = (sum(int(str(row["bytes"])) for row in part) for part in (rows, kept))
    lost = {"contaminated": len(judged)} if judged else {}
    ledger = Ledger(
        rows_in=len(rows),
        rows_out=len(kept),
        bytes_in=size,
        bytes_out=left,
        dropped=lost,
        dropped_bytes={"contaminated": size - left} if judged else {},
    )
    return StageOutcome(ledger, (check_table("Documents", out / FILE),))


def _overlapping(config: ReplayTextConfig, rows: list[dict[str, object]], corpus: Path, examples: tuple[Examples, ...]) -> frozenset[int]:
    """Numbers of the rows that hold text of the corpus' held-out documents, or of held-out examples."""
    from tasks.kernels.overlap import EvaluationBuilder, OverlapFinder

    if config.max_overlap is None:
        return frozenset()
    builder = EvaluationBuilder(config.ngram_words, config.ngram_han)
    for number, text in enumerate(_judged_texts(corpus, examples)):
        builder.add(str(number), text)
    finder = OverlapFinder(builder.build([]), config.ngram_words, config.ngram_han)
    found = ((number, finder.look(str(row["text"]))) for number, row in enumerate(rows))
    return frozenset(number for number, overlap in found if overlap is not None and overlap.share >= config.max_overlap)


def _judged_texts(corpus: Path, examples: tuple[Examples, ...]) -> Iterator[str]:
    for name in ("validation.parquet", "test.parquet"):
        for batch in read_batches(corpus, name):
            yield from batch.column("text").to_pylist()
    for artifact in examples:
        for batch in read_batches(artifact.path, "heldout.parquet"):
            yield from (example_text(example) for example in batch.to_pylist())

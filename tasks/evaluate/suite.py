"""Evaluation suite: its settings, and which documents and examples they choose."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from tasks.documents import read_batches
from tasks.errors import UserError
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.kinds.table import KINDS
from tasks.examples.rows import read_examples
from tasks.reading.stdlib import python_digest, python_texts
from tasks.sampling import HELDOUT_SEED, HELDOUT_SHARE, hash_keys, is_heldout, sample_documents
from tasks.settings import Later, Placement, Section

logger = logging.getLogger("wordmill")

TEXT_TASKS = ("bits_per_byte", "objective_loss", "samples")  # beside those of labelled examples, a task a kind

UNIGRAM_BYTES = 2_000_000  # of training text that the unigram baseline counts
PYTHON_WINDOW = 8_000  # characters of a part of the standard library


def known_task(name: str) -> str:
    """The name itself. ValueError, listing what there is, for a task that no suite has."""
    known = (*KINDS, *TEXT_TASKS)
    if name not in known:
        raise ValueError(f"task {name!r}: expected one of {', '.join(known)}")
    return name


class EvaluateConfig(Section):
    """A suite: what is asked of a model, and of how many documents and examples."""

    revision: Literal[5] = 5
    suite: str = Field(default="standard", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="Name, in the table of scores")
    tasks: list[Annotated[str, AfterValidator(known_task)]] | None = Field(
        default=None, description="None: all that suit the model and what it is given"
    )
    documents: Literal["corpus", "python"] = Field(
        default="corpus",
        description="Text for bits_per_byte and objective_loss: the corpus' validation documents, or held-out modules of this Python",
    )
    max_documents: int = Field(default=64, ge=1, description="Documents, those with the lowest hash of their id")
    document_bytes: int = Field(default=2_048, ge=64, description="UTF-8 bytes from the start of each document")
    max_examples: int = Field(default=500, ge=1, description="Held-out examples for labels and for bits per byte of responses")
    max_responses: int = Field(default=50, ge=1, description="Held-out examples that are answered and compared with the response")
    response_tokens: int = Field(default=64, ge=1, description="Tokens of an answer, at most")
    prompts: list[str] = Field(default=["", "The ", "def ", "今天"], description="Beginnings for the samples")
    samples: int = Field(default=1, ge=1, description="Continuations of each prompt")
    sample_tokens: int = Field(default=60, ge=1, description="Tokens of a continuation, at most")
    temperature: float = Field(default=0.7, ge=0, description="Of the samples; 0: the likeliest token")
    threads: Annotated[int, Placement()] = Field(default=0, ge=0, description="CPU threads of the model; 0: torch's choice")
    resamples: int = Field(default=1_000, ge=100, description="Bootstrap draws behind each 95 % interval")
    seed: int = Field(default=1, ge=0, lt=2**31, description="Chooses documents and examples, draws samples and resamples")
    heldout_share: Annotated[float, Later()] = Field(
        default=HELDOUT_SHARE, gt=0, lt=1, description="Of the modules of Python; a recipe sets it once, as heldout.share"
    )
    heldout_seed: Annotated[int, Later()] = Field(
        default=HELDOUT_SEED, ge=0, description="Of that choice; a recipe sets it once, as heldout.seed"
    )


@dataclass(frozen=True)
class HeldoutText:
    """The part of a document that is scored."""

    id: str
    source: str
    language: str
    text: str
    cluster: str  # its document, or the file that it is a part of


def suite_digests(config: EvaluateConfig) -> dict[str, str]:
    """Content digest of text from outside the workspace, to enter the fingerprint."""
    return {"python": python_digest()} if config.documents == "python" else {}


def head_of_text(text: str, size: int) -> str:
    """The first `size` UTF-8 bytes, less a character that would be cut."""
    return text.encode()[:size].decode(errors="ignore")


def heldout_texts(config: EvaluateConfig, corpus: Path | None) -> list[HeldoutText]:
    """The beginnings of the documents with the lowest hash of their id."""
    if config.documents == "python":
        texts = [
            HeldoutText(f"{text.path}:{number}", "python", "code" if text.kind == "source" else "en", text.text, text.path)
            for number, text in enumerate(python_texts(PYTHON_WINDOW))
            if text.group and is_heldout(text.group, config.heldout_share, config.heldout_seed)
        ]
        chosen = {texts[i].id for i in _lowest([text.id for text in texts], config.max_documents, config.seed)}
        return [replace(text, text=head_of_text(text.text, config.document_bytes)) for text in texts if text.id in chosen]
    assert corpus is not None
    return document_heads(config, corpus / "validation.parquet")


def document_heads(config: EvaluateConfig, path: Path) -> list[HeldoutText]:
    """The same of a Parquet file's documents (id, source, language, text); texts are read for the chosen alone."""
    with pq.ParquetFile(path) as file:
        ids = [id for batch in file.iter_batches(columns=["id"]) for id in batch.column("id").to_pylist()]
    chosen = _lowest(ids, config.max_documents, config.seed)
    kept: list[HeldoutText] = []
    start = 0
    for batch in read_batches(path.parent, path.name):
        here = chosen[(chosen >= start) & (chosen < start + batch.num_rows)] - start
        for row in batch.take(pa.array(here)).to_pylist():
            text = head_of_text(row["text"], config.document_bytes)
            kept.append(HeldoutText(row["id"], row["source"], row["language"], text, row["id"]))
        start += batch.num_rows
    return kept


def training_texts(config: EvaluateConfig, corpus: Path | None) -> Iterator[str]:
    """What the unigram baseline counts: a sample of the text that is not held out, in its natural mixture."""
    if config.documents == "python":
        left = UNIGRAM_BYTES
        for text in python_texts(PYTHON_WINDOW):
            if left <= 0:
                return
            if not (text.group and is_heldout(text.group, config.heldout_share, config.heldout_seed)):
                left -= len(text.text)
                yield text.text
    else:
        assert corpus is not None
        for document in sample_documents(corpus, "train-*.parquet", UNIGRAM_BYTES, config.seed, by_language=False):
            yield document.text


def heldout_examples(config: EvaluateConfig, folder: Path) -> LabelledExamples:
    """At most `max_examples` of them, those with the lowest hash, in that order. UserError when there are none."""
    examples = read_examples(folder, "heldout")
    if examples.table.num_rows == 0:
        raise UserError("evaluate: no held-out examples. Fix: add examples, or raise the held-out share.")
    chosen = _lowest(examples.table["id"].to_pylist(), config.max_examples, config.seed)
    if len(chosen) < examples.table.num_rows:
        logger.info(
            "evaluate: judged on %s of %s held-out examples (evaluate.max_examples)", f"{len(chosen):,}", f"{examples.table.num_rows:,}"
        )
    return LabelledExamples(examples.kind, examples.labels, examples.table.take(pa.array(chosen)))


def _lowest(ids: Sequence[str], count: int, seed: int) -> NDArray[np.int64]:
    """Places of the `count` ids with the lowest hash, lowest first."""
    return np.argsort(hash_keys(ids, seed), kind="stable")[:count]

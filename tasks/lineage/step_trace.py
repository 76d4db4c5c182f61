"""Step lineage: what a step of a pretraining saw. Nothing of it was logged: it follows from the shards, the seed and the step.

Steps are counted from 1, as in curve.jsonl: step N is the N-th optimizer step, and the first N steps are done when its
`step` says N. Rows and tokens are counted from 0, ranges are half open. A run that went back to a checkpoint left a range
of batches out: from there on a step has a later batch, its data step (model/training/left_out.py), counted from 0. By a batch
schedule a step has several data steps in a row.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.training.batch_steps import BatchSteps
from model.training.curve import CurveReader
from model.training.events import Event, read_events, skipped_steps
from model.training.left_out import LeftOut, data_step, data_steps, read_left_out, step_of_data
from tasks.artifacts import Workspace, read_manifest
from tasks.errors import UserError
from tasks.lineage.table_rows import numbered_rows
from tasks.pretrain.job import TRAINING, PretrainJob, read_job
from tasks.pretrain.start import artifact_of
from tasks.tokenizer.encoding import decode_text, load_tokenizer

if TYPE_CHECKING:
    import tokenizers

    from model.data.row_stream import RowStream

CHECKPOINTS = "checkpoints"  # in a training's folder


@dataclass(frozen=True)
class StepDocument:
    """A piece of a document in the batch of a step."""

    row: int  # among all rows of the batch
    start: int  # its tokens in the row, which has one more than the context: the last is a target alone
    end: int
    group: str  # of the shards
    shard_row: int  # among the rows of the group
    id: str
    source: str
    path: str
    url: str | None  # the document's own note (meta), if it has one
    language: str
    number: int  # of the document, among the corpus' training documents
    first: int  # its tokens in the document, whose <|bos|> is token 0
    last: int  # exclusive
    tokens: int  # of the whole document, <|bos|> and <|eos|> included
    text: str  # of exactly this piece; a character that the piece cuts is U+FFFD


@dataclass(frozen=True)
class TracedRun:
    """A pretraining that is finished, still going on or was killed."""

    workspace: Workspace
    folder: Path  # WORKSPACE/pretrain/<fingerprint>, or <fingerprint>.partial
    job: PretrainJob  # of training.json
    done: int  # steps
    left_out: tuple[LeftOut, ...] = ()  # batches that it took no more after it went back
    skipped: Mapping[int, Event] = field(default_factory=dict[int, Event])  # by step: its batch was read, and nothing learned from it

    @property
    def steps(self) -> int:
        """Steps that it has or is to have."""
        return self.job.training.steps

    @property
    def shards(self) -> Path:
        """The folder of its token shards in the workspace, wherever that lay when it trained."""
        return self.workspace.folder("shards", self.job.shards_fingerprint)

    @property
    def tokenizer(self) -> Path:
        """The folder of its tokenizer."""
        return self.workspace.folder("tokenizer", self.job.tokenizer_fingerprint)

    @property
    def batch_rows(self) -> int:
        """Rows of a data step."""
        return self.job.training.batch_rows

    @property
    def batch_steps(self) -> BatchSteps:
        """How many batches each step takes."""
        return BatchSteps(self.job.training.step_batches)

    def data_step(self, step: int) -> int:
        """Whose batch optimizer step `step` (from 1) has: the batch of a data step (from 0); of several the first."""
        return data_step(step - 1, self.left_out, self.batch_steps)

    def data_steps(self, step: int) -> range:
        """All of them."""
        return data_steps(step - 1, self.left_out, self.batch_steps)

    @property
    def read_until(self) -> int:
        """The first data step that no step so far had, nor one that was thrown away."""
        done = self.data_steps(self.done).stop if self.done else 0
        return max([done, *(one.first + one.count for one in self.left_out)])

    @property
    def begun_at(self) -> int:
        """Steps that another pretraining took, from whose checkpoint it goes on; 0: all are its own."""
        return self.job.begun_at

    @property
    def evaluated_rows(self) -> int:
        """Validation rows, from the first, that its validation loss is measured on."""
        return self.batch_rows * self.job.training.evaluate_batches


def step_documents(workspace: Workspace, pretrain_folder: Path, step: int) -> list[StepDocument]:
    """What the batch of optimizer step `step` (from 1) of a pretraining holds, row by row, in the order of the tokens.

    `pretrain_folder` may be a `.partial` one. UserError for a step that it has not, a run that cannot be traced, and
    shards, tokenizer or corpus that are no longer in the workspace.
    """
    return documents_at(read_run(workspace, pretrain_folder), step)


def documents_at(run: TracedRun, step: int) -> list[StepDocument]:
    """The same, of a run that was read."""
    return documents_of(run, batch_at(run, step))


@dataclass(frozen=True)
class ReadBatch:
    """A batch that a run read, or is to read: of a step, or of one of its data steps."""

    data_steps: range  # from 0: what it is a function of
    step: int | None  # from 1, the optimizer step that has it; None: it was left out

    @property
    def data_step(self) -> int:
        """The first."""
        return self.data_steps.start

    def is_part_of(self, run: TracedRun) -> bool:
        """Whether its step has more."""
        return self.step is not None and len(self.data_steps) < run.batch_steps.count(self.step - 1)

    def skip_of(self, run: TracedRun) -> Event | None:
        """How its step was skipped, if it was."""
        return None if self.step is None else run.skipped.get(self.step)


def batch_at(run: TracedRun, step: int) -> ReadBatch:
    """The batch of optimizer step `step` (from 1). UserError for a step that the run has not."""
    if not 1 <= step <= run.steps:
        raise UserError(f"trace: step {step} of {run.folder.name}: it has {run.steps} steps. Fix: give a step from 1 to {run.steps}.")
    return ReadBatch(run.data_steps(step), step)


def batch_of_data(run: TracedRun, data_step: int) -> ReadBatch:
    """The batch of a data step (from 0), left out or not. UserError for one that the run does not come to."""
    last = max(run.data_steps(run.steps).stop - 1, *(one.first + one.count - 1 for one in run.left_out), 0)
    if not 0 <= data_step <= last:
        raise UserError(f"trace: data step {data_step} of {run.folder.name}: it has 0 to {last}. Fix: give one of these.")
    step = step_of_data(data_step, run.left_out, run.batch_steps)
    return ReadBatch(range(data_step, data_step + 1), None if step is None else step + 1)


def batch_of_skip(run: TracedRun, skip: Event) -> ReadBatch:
    """What a step that was skipped had read, left out since or not. UserError for a step that the run has not."""
    if skip.data_step is None:
        return batch_at(run, skip.step)
    step = step_of_data(skip.data_step, run.left_out, run.batch_steps)
    end = skip.data_step + run.batch_steps.count(skip.step - 1)
    return ReadBatch(range(skip.data_step, end), None if step is None else step + 1)


def taker(run: TracedRun, batch: ReadBatch) -> TracedRun:
    """The run that read a batch: this one, or that from whose checkpoint it goes on. UserError where that one is gone."""
    start = run.job.start
    if start is None or batch.data_step >= data_step(run.begun_at, run.left_out, run.batch_steps):
        return run
    name = artifact_of(start).name.removesuffix(".partial")
    for folder in (run.workspace.folder("pretrain", name), run.workspace.folder("pretrain", f"{name}.partial"), artifact_of(start)):
        if (folder / TRAINING).is_file():
            return taker(read_run(run.workspace, folder), batch)
    raise UserError(
        f"trace: what {run.folder.name} has of its first {start.step} steps was read by pretrain {name}, from whose checkpoint it goes on, "
        f"and which is no longer in {run.workspace.root}. Fix: give back its folder, or ask for a step above {start.step}."
    )


def documents_of(run: TracedRun, batch: ReadBatch) -> list[StepDocument]:
    """What a batch holds. UserError where it cannot be told any more."""
    run = taker(run, batch)
    stream = open_run(run)
    tokenizer = load_tokenizer(finished(run.tokenizer, "to spell the tokens"))
    parts = [_documents_at(run, stream, tokenizer, at) for at in batch.data_steps]
    return [replace(one, row=number * run.batch_rows + one.row) for number, part in enumerate(parts) for one in part]


def _documents_at(run: TracedRun, stream: "RowStream", tokenizer: "tokenizers.Tokenizer", at: int) -> list[StepDocument]:
    """Of one data step."""
    tokens = stream.take(stream.rows_at(at))  # [rows, context + 1]
    segments = stream.segments(at)
    known = document_facts(run, {int(number) for row in segments for number in row.documents})
    found: list[StepDocument] = []
    for row, ((group, shard_row), pieces) in enumerate(zip(stream.locations(at), segments, strict=True)):
        starts = np.concatenate([[0], pieces.ends[:-1]])
        for start, end, number, first in zip(
            starts.tolist(), pieces.ends.tolist(), pieces.documents.tolist(), pieces.offsets.tolist(), strict=True
        ):
            facts = known[number]
            found.append(
                StepDocument(
                    row,
                    start,
                    end,
                    group,
                    shard_row,
                    facts.id,
                    facts.source,
                    facts.path,
                    facts.url,
                    facts.language,
                    number,
                    first,
                    first + end - start,
                    facts.tokens,
                    decode_text(tokenizer, tokens[row, start:end].tolist()),
                )
            )
    return found


def read_run(workspace: Workspace, folder: Path) -> TracedRun:
    """A pretraining's folder. UserError where it has no training.json, or one that cannot be read."""
    try:
        job = read_job(folder)
    except FileNotFoundError as error:
        raise UserError(
            f"trace: {folder} has no {TRAINING}: no pretraining, or one made before they could be traced. Fix: run the recipe again."
        ) from error
    except ValueError as error:
        raise UserError(f"trace: {folder / TRAINING} was altered ({error}). Fix: run the recipe again.") from error
    try:
        left_out = read_left_out(folder / CHECKPOINTS)
        skipped = skipped_steps(read_events(folder), left_out, BatchSteps(job.training.step_batches))
    except ValueError as error:
        raise UserError(f"trace: {error}. Fix: put it back as it was, or run the recipe again.") from error
    return TracedRun(workspace, folder, job, steps_done(folder, job.training.steps), left_out, skipped)


def steps_done(folder: Path, steps: int) -> int:
    """Steps of a training of `steps` that are done: of one that goes on as far as its curve tells; it may be some further."""
    manifest = read_manifest(folder)
    if manifest is not None:
        return int(manifest.figures.get("steps", steps))  # fewer where it ended early
    points = CurveReader(folder).new_points()
    return points[-1].step if points else 0


def open_run(run: TracedRun) -> "RowStream":
    """The rows of its steps. UserError where its shards are gone, altered or too old."""
    from tasks.pretrain.training_rows import open_stream

    return open_stream(run.job, "train", finished(run.shards, "to know the rows of a step"))


def finished(folder: Path, why: str) -> Path:
    """A finished artifact's folder. UserError, saying what it is needed for, where it is gone."""
    if read_manifest(folder) is None:
        raise UserError(
            f"trace: {folder.parent.name} {folder.name} is not in {folder.parents[1]}, and is needed {why}. "
            "Fix: name the workspace with --workspace DIR, or run the recipe again, which builds what is missing."
        )
    return folder


@dataclass(frozen=True)
class DocumentFacts:
    """Who a training document is."""

    id: str
    source: str
    path: str
    url: str | None
    language: str
    tokens: int


def document_facts(run: TracedRun, numbers: Collection[int]) -> dict[int, DocumentFacts]:
    """Training documents by number, from the shards' table and from the corpus that they were made of."""
    shards = read_manifest(run.shards)
    corpus = run.workspace.folder("decontaminate", "none" if shards is None else shards.inputs.get("corpus", "none"))
    tables = sorted(finished(corpus, "to know where documents came from").glob("train-*.parquet"))
    if shards is not None and "replayed" in shards.inputs:  # general text, numbered behind the corpus
        replayed = finished(run.workspace.folder("replay", shards.inputs["replayed"]), "to know what was replayed")
        tables += sorted(replayed.glob("train-*.parquet"))
    try:
        packed = numbered_rows([run.shards / "documents-train.parquet"], numbers, ["id", "source", "language", "tokens"])
        told = numbered_rows(tables, numbers, ["id", "path", "meta"])
    except (OSError, IndexError, KeyError) as error:
        raise UserError(f"trace: {run.shards} and {corpus} do not fit together ({error}). Fix: wordmill verify, then run again.") from error
    facts: dict[int, DocumentFacts] = {}
    for number, row in packed.items():
        assert row["id"] == told[number]["id"], f"document {number}: {row['id']} packed, {told[number]['id']} in the corpus"
        meta: list[tuple[str, str]] = told[number]["meta"] or []  # type: ignore[assignment]
        facts[number] = DocumentFacts(
            str(row["id"]),
            str(row["source"]),
            str(told[number]["path"]),
            dict(meta).get("url"),
            str(row["language"]),
            int(str(row["tokens"])),
        )
    return facts

"""Decontaminate: parts the corpus into training, validation and test, and rids training of text that is judged on.

Judged on are the validation and test documents, the held-out labelled examples, the benchmarks that the recipe names, and of a base
that goes on learning the held-out text that travels with it.
Overlap is counted in long n-grams, as for GPT-3 (arXiv 2005.14165, appendix C, 13 words); a single shared n-gram is no
proof, for licences and idioms recur everywhere. This stage is the only one that writes the text that models learn from.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from tasks.artifacts import AnnotatedCorpus, Examples, PretrainedModel, UniqueCorpus, file_digest
from tasks.contracts import check_table
from tasks.corpus.mixture import write_mixture
from tasks.corpus.repeated_blocks import read_cuts, without_cuts
from tasks.corpus.split import GONE, TEST, TRAIN, VALIDATION, Sides, Split, SplitConfig, choose_split
from tasks.corpus.writers import DropWriter, RollingWriter, outcome_of, split_batch
from tasks.documents import DOCUMENTS, MATCHES, TableWriter, example_text, read_batches, text_buffers
from tasks.errors import UserError
from tasks.executor.filetasks import FileTasks
from tasks.executor.parts import Part, combined, gather
from tasks.executor.tables import TableFile, TableWork, tables_of
from tasks.ledger import Ledger, Receipt, StageOutcome
from tasks.memory import memory_of
from tasks.reading.benchmarks import Benchmark, benchmark_digests, place_of, read_benchmark
from tasks.reading.given_texts import given_file, given_lines
from tasks.sampling import unit_hash
from tasks.settings import Json, Placement, Section, identity

if TYPE_CHECKING:
    from tasks.kernels.overlap import Evaluation, Overlap, OverlapFinder

SHOWN_CHARS = 1_000  # of a shared run
BATCH_ROWS = 1_000
ALLOW = "decontaminate.allow"


class MixtureShare(Section):
    """How much of a source, a language, or a language of a source is learnt from."""

    source: str | None = None
    language: str | None = None
    share: float = Field(ge=0, le=1, description="of the training documents that match, chosen by id")


class DecontaminateConfig(SplitConfig):
    """How the corpus is parted and mixed, and what counts as contaminated."""

    stage: ClassVar[str] = "decontaminate"
    revision: Literal[3] = 3
    ngram_words: int = Field(default=13, ge=2, le=100, description="words in an n-gram")
    ngram_han: int = Field(
        default=24, ge=2, le=200, description="characters in one of Chinese, Japanese, and scripts without spaces such as Thai"
    )
    benchmarks: list[Benchmark] = Field(default=[], description="evaluation sets that no training document may hold")
    action: Literal["drop", "cut", "mark"] = Field(
        default="drop", description="the document, the shared runs, or a note in its meta (contaminated)"
    )
    max_overlap: float | None = Field(
        default=0.3, ge=0, le=1, description="share of n-grams, of an item's or the document's own, from which it is acted on; null: never"
    )
    allow: Annotated[list[str], Placement()] = Field(
        default=[], description="text files whose n-grams are no contamination: licences, famous quotations"
    )
    mixture: list[MixtureShare] = Field(default=[], description="the first entry that matches a document counts")


def benchmark_and_allow_digests(config: DecontaminateConfig) -> dict[str, str]:
    """Content of the benchmarks and of the texts allowed."""
    digests = {f"allow.{number}": file_digest(given_file(ALLOW, path)) for number, path in enumerate(config.allow)}
    for benchmark in config.benchmarks:
        digests |= benchmark_digests(benchmark)
    return digests


def collect_evaluation(
    config: DecontaminateConfig,
    tables: Sequence[TableFile],
    split: Split,
    examples: tuple[Examples, ...],
    base: PretrainedModel | None = None,
) -> "Evaluation":
    """Reads all that is judged on. Memory: 16 bytes for each of its n-grams."""
    from tasks.kernels.overlap import EvaluationBuilder

    builder = EvaluationBuilder(config.ngram_words, config.ngram_han)
    for number, table in enumerate(tables):
        judged = (split.of(number) == VALIDATION) | (split.of(number) == TEST)
        for document_id, text, side in _judged_documents(table, judged, split.of(number)):
            builder.add(f"{'validation' if side == VALIDATION else 'test'}/{document_id}", text)
    for artifact in examples:
        for batch in read_batches(artifact.path, "heldout.parquet"):
            for example in batch.to_pylist():
                builder.add(f"examples/{example['id']}", example_text(example))
    memory = None if base is None else memory_of(base.path)
    if memory is not None and memory.validation is not None:
        for row in pq.read_table(memory.validation, columns=["id", "text"]).to_pylist():
            builder.add(f"base/{row['id']}", row["text"])
    for benchmark in config.benchmarks:
        items = 0
        unchecked = builder.unchecked
        for item, text in read_benchmark(benchmark):
            builder.add(f"{benchmark.name}/{item}", text)
            items += 1
        if builder.unchecked - unchecked == items:
            raise UserError(
                f"{place_of(benchmark)}: each of its {items:,} items is shorter than {_sizes(config)}, so none can be looked for. "
                "Fix: lower decontaminate.ngram_words or ngram_han, or leave the benchmark out."
            )
    return builder.build([_allowed(config, path) for path in config.allow])


def _allowed(config: DecontaminateConfig, path: str) -> str:
    """A text of the allow list. UserError for one that would allow nothing."""
    from tasks.kernels.shingles import split_units

    text = "".join(given_lines(ALLOW, path))
    units = len(split_units(text.encode()).hashes)
    if units < min(config.ngram_words, config.ngram_han):
        raise UserError(
            f"{ALLOW}: {path}: found {units} words or characters, expected at least {_sizes(config)}: it allows nothing. "
            "Fix: give a longer text, or leave the file out."
        )
    return text


def _sizes(config: DecontaminateConfig) -> str:
    return f"an n-gram ({config.ngram_words} words, {config.ngram_han} characters of Chinese and the like)"


def _judged_documents(table: TableFile, judged: npt.NDArray[np.bool_], sides: Sides) -> Iterator[tuple[str, str, int]]:
    if not judged.any():
        return
    start = 0
    with pq.ParquetFile(table.path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=["id", "text"]):
            here = judged[start : start + batch.num_rows]
            part = batch.filter(pa.array(here))
            chosen = sides[start : start + batch.num_rows][here].tolist()
            yield from zip(*(part.column(name).to_pylist() for name in ("id", "text")), chosen, strict=True)
            start += batch.num_rows


@dataclass(frozen=True)
class DecontaminateWork(TableWork):
    """One document table: what was decided on it, and what it must not hold."""

    stage: str  # fingerprint of the whole stage
    config: DecontaminateConfig
    cuts: str | None  # byte ranges that deduplication takes out of its documents
    sides: str
    first: int  # position of its first document among the sides
    evaluation: str

    def identity(self) -> dict[str, Json]:
        return {
            "stage": self.stage,
            "documents": self.table.digest,
            "config": identity(self.config),
            "first": self.first,
        }


@dataclass(frozen=True)
class Treated:
    """A batch of training documents, treated: reasons to drop, changed texts and notes, evidence."""

    documents: pa.RecordBatch
    reasons: list[str | None]
    values: list[float | None]
    matches: list[dict[str, object]]


def decontaminate_table(work: DecontaminateWork, out: Path) -> StageOutcome:
    """One table: train-, validation-, test-, dropped- and matches-000.parquet, those of them that hold something."""
    from tasks.kernels.overlap import Evaluation, OverlapFinder

    sides = np.load(work.sides, mmap_mode="r")[work.first : work.first + work.table.rows]
    finder = OverlapFinder(Evaluation.load(Path(work.evaluation)), work.config.ngram_words, work.config.ngram_han)
    cuts = read_cuts(work.cuts)
    matches: list[dict[str, object]] = []
    removed = start = 0
    with (
        RollingWriter(out, "train") as train,
        RollingWriter(out, "validation") as validation,
        RollingWriter(out, "test") as test,
        DropWriter(out, "decontaminate") as dropped,
        pq.ParquetFile(work.table.path) as file,
    ):
        for whole in file.iter_batches(batch_size=BATCH_ROWS):
            here = sides[start : start + whole.num_rows]
            batch = without_cuts(whole, {row - start: cuts[row] for row in range(start, start + whole.num_rows) if row in cuts})
            start += batch.num_rows
            removed += _bytes(whole.filter(pa.array(here != GONE))) - _bytes(batch.filter(pa.array(here != GONE)))
            hollow = (batch.column("bytes").to_numpy() == 0) & (here != GONE)
            emptied = batch.filter(pa.array(hollow))
            dropped.write(emptied, ["repeated_blocks"] * emptied.num_rows, [None] * emptied.num_rows)
            validation.write(batch.filter(pa.array((here == VALIDATION) & ~hollow)))
            test.write(batch.filter(pa.array((here == TEST) & ~hollow)))
            training = batch.filter(pa.array((here == TRAIN) & ~hollow))
            treated = treat(work.config, training, finder)
            removed += _bytes(training) - _bytes(treated.documents)
            matches += treated.matches
            split_batch(treated.documents, treated.reasons, treated.values, train, dropped)
    if matches:
        pq.write_table(pa.Table.from_pylist(matches, schema=MATCHES), out / "matches-000.parquet", compression="zstd")
    sets = {"train": train, "validation": validation, "test": test}
    figures = {f"{name}_documents": float(writer.rows) for name, writer in sets.items()}
    figures |= {f"{name}_bytes": float(writer.bytes) for name, writer in sets.items()}
    return outcome_of([train, validation, test], dropped, removed, figures)


def _bytes(batch: pa.RecordBatch) -> int:
    return int(batch.column("bytes").to_numpy().sum())


def treat(config: DecontaminateConfig, training: pa.RecordBatch, finder: "OverlapFinder") -> Treated:
    """Mixture first, then contamination."""
    documents: list[dict[str, object]] = []
    treated = Treated(training, [None] * training.num_rows, [None] * training.num_rows, [])
    columns = [training.column(name).to_pylist() for name in ("id", "source", "language")]
    for row, (document_id, source, language) in enumerate(zip(*columns, strict=True)):
        share = _share(config, source, language)
        if share < 1 and unit_hash(document_id, config.seed + 1) >= share:
            treated.reasons[row], treated.values[row] = "mixture", share
    if config.max_overlap is None:
        return treated
    hits = finder.hits(*text_buffers(training.column("text")))
    changed = False
    for row in np.flatnonzero(hits).tolist():
        text = training.column("text")[row].as_py()
        overlap = None if treated.reasons[row] else finder.look(text)
        if overlap is None or overlap.share < config.max_overlap:
            continue
        treated.matches.append(_evidence(columns[0][row], overlap, config.action))
        if config.action == "drop":
            treated.reasons[row], treated.values[row] = "contaminated", overlap.share
            continue
        documents = documents or training.to_pylist()
        changed = True
        if config.action == "cut":
            documents[row]["text"] = _cut(text, overlap)
            documents[row]["bytes"] = len(_cut(text, overlap).encode())
            if not documents[row]["text"]:
                treated.reasons[row], treated.values[row] = "contaminated", overlap.share
        else:
            meta = dict(training.column("meta")[row].as_py() or ())
            documents[row]["meta"] = sorted({**meta, "contaminated": overlap.item}.items())
    if not changed:
        return treated
    return Treated(_batch(documents), treated.reasons, treated.values, treated.matches)


def _batch(documents: list[dict[str, object]]) -> pa.RecordBatch:
    columns = [pa.array([document[name] for document in documents], DOCUMENTS.field(name).type) for name in DOCUMENTS.names]
    return pa.RecordBatch.from_arrays(columns, schema=DOCUMENTS)


def _cut(text: str, overlap: "Overlap") -> str:
    from tasks.kernels.overlap import without_spans

    return without_spans(text, overlap.spans)


def _share(config: DecontaminateConfig, source: str, language: str) -> float:
    """What the mixture leaves of a kind of document."""
    for entry in config.mixture:
        if entry.source in (None, source) and entry.language in (None, language):
            return entry.share
    return 1.0


def _evidence(document_id: str, overlap: "Overlap", action: str) -> dict[str, object]:
    return {
        "id": document_id,
        "item": overlap.item,
        "text": overlap.longest[:SHOWN_CHARS],
        "units": overlap.longest_units,
        "item_share": overlap.item_share,
        "document_share": overlap.document_share,
        "action": action,
    }


def decontaminate(
    config: DecontaminateConfig,
    clean: AnnotatedCorpus,
    unique: UniqueCorpus,
    examples: tuple[Examples, ...],
    out: Path,
    files: FileTasks,
    base: PretrainedModel | None = None,
) -> StageOutcome:
    """Writes `train-*`, `validation.parquet`, `test.parquet` (if asked for), `dropped-*`, and the evidence, `matches-*`.

    `mixture.parquet` tells how many documents and bytes of each source and language went into each. `base`: whose training goes on.
    """
    tables = tables_of(clean)
    split = choose_split(config, tables, unique)
    evaluation = collect_evaluation(config, tables, split, examples, base)
    stage = out.name.removesuffix(".partial")
    shared = files.parts / "decontaminate" / f"{stage}.shared"
    evaluation.save(shared)
    np.save(shared / "sides.npy", split.sides)
    starts = np.cumsum([0, *split.sizes]).tolist()
    works = [
        DecontaminateWork(table, stage, config, _cuts_of(unique, table), str(shared / "sides.npy"), first, str(shared))
        for table, first in zip(tables, starts, strict=False)
    ]
    parts = files.run("decontaminate", config.revision, decontaminate_table, works)
    gather(parts, ["train-*.parquet", "dropped-*.parquet", "matches-*.parquet"], out)
    outcome = combined(parts)
    sets = ("validation", "test") if config.test_share else ("validation",)
    receipts = [_merge(parts, name, out) for name in sets]
    kept_receipts = tuple(entry for entry in outcome.receipts if not entry.file.startswith(("validation-", "test-")))
    write_mixture(out)
    _check_some_left(config, outcome.ledger, outcome.figures["train_documents"])
    figures = {name: value for name, value in outcome.figures.items() if config.test_share or not name.startswith("test_")}
    figures |= {
        "evaluation_items": float(len(evaluation.names)),
        "items_too_short_to_check": float(evaluation.unchecked),
    }
    return StageOutcome(outcome.ledger, kept_receipts + tuple(receipts), figures)


def _cuts_of(unique: UniqueCorpus, table: TableFile) -> str | None:
    path = unique.path / Path(table.path).name.replace("documents", "cuts")
    return str(path) if path.exists() else None


def _merge(parts: Sequence[Part], name: str, out: Path) -> Receipt:
    """One table of a small set."""
    path = out / f"{name}.parquet"
    with TableWriter(path, DOCUMENTS) as writer:
        for part in parts:
            for batch in read_batches(part.folder, f"{name}-*.parquet"):
                writer.write(batch)
    return check_table("Documents", path)


def _check_some_left(config: DecontaminateConfig, ledger: Ledger, training: float) -> None:
    if training:
        return
    reasons = sorted(ledger.dropped, key=lambda reason: -ledger.dropped[reason])
    fixes = {
        "contaminated": f"raise decontaminate.max_overlap ({config.max_overlap}) or set decontaminate.action to mark, "
        "or take what is judged on (held-out texts, examples, benchmarks) out of the sources",
        "mixture": "raise the shares of decontaminate.mixture",
        "repeated_blocks": "leave out deduplicate.blocks, or raise deduplicate.min_block_chars",
    }
    raise UserError(
        f"decontaminate: no training document is left; {', '.join(f'{reason} dropped {ledger.dropped[reason]:,}' for reason in reasons)}. "
        f"Fix: {'; '.join(fixes[reason] for reason in reasons)}."
    )

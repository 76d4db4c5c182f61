"""Decontaminate: sets the validation documents apart, then drops from training what holds text that is judged on.

Judged on are the validation documents and the held-out labelled examples. Overlap is counted in long n-grams, as for GPT-3
(arXiv 2005.14165, appendix C, 13 words); a single shared n-gram is no proof, for licences and idioms recur everywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from tqdm import tqdm

from tasks.artifacts import Examples, UniqueCorpus
from tasks.characters import detect_language
from tasks.corpus import DropWriter, RollingWriter, outcome_of, split_batch
from tasks.documents import read_batches
from tasks.errors import UserError
from tasks.heldout import HELDOUT_SEED, HELDOUT_SHARE, is_heldout, unit_hash
from tasks.ledger import StageOutcome
from tasks.ngrams import Hashes, Units, ngram_hashes, split_units
from tasks.settings import Section

MATCHES = pa.schema(
    [
        ("id", pa.string()),  # of the training document
        ("item", pa.string()),  # what it overlaps most: validation/<id> or examples/<id>
        ("text", pa.large_string()),  # the longest shared run, as the training document has it
        ("item_share", pa.float64()),  # of the item's n-grams, those in the document
        ("document_share", pa.float64()),  # of the document's n-grams, those in any item
    ]
)
SHOWN_CHARS = 1_000  # of a shared run

Numbers = npt.NDArray[np.int64]


class DecontaminateConfig(Section):
    """How the corpus is split, and what counts as contaminated."""

    stage: ClassVar[str] = "decontaminate"
    revision: Literal[1] = 1
    validation_share: float = Field(default=0.02, gt=0, lt=1, description="of the documents that belong to no group")
    seed: int = Field(default=1, ge=0, description="of the choice by validation_share")
    heldout_share: float = Field(
        default=HELDOUT_SHARE, gt=0, lt=1, description="of the groups (meta.group); as in the examples"
    )
    heldout_seed: int = Field(
        default=HELDOUT_SEED, ge=0, description="of the choice by heldout_share; as in the examples"
    )
    ngram_words: int = Field(default=13, ge=2, le=100, description="words in an n-gram")
    ngram_han: int = Field(default=24, ge=2, le=200, description="Han characters in an n-gram of Chinese text")
    max_overlap: float | None = Field(
        default=0.3,
        ge=0,
        le=1,
        description="share of n-grams, of an item's or the document's own, from which it is dropped; null: none is",
    )


def choose_validation(config: DecontaminateConfig, unique: UniqueCorpus) -> npt.NDArray[np.bool_]:
    """True for each document of the validation set: held-out groups, and a share of what has no group, by its id.

    Where that share chooses nothing, the document with the smallest hash is taken, so that small corpora work too.
    """
    hashes: list[float] = []
    groups: list[str | None] = []
    for batch in read_batches(unique.path, "documents-*.parquet"):
        hashes += [unit_hash(mark, config.seed) for mark in batch.column("id").to_pylist()]
        groups += [dict(meta or ()).get("group") for meta in batch.column("meta").to_pylist()]
    held = {group: is_heldout(group, config.heldout_share, config.heldout_seed) for group in set(groups) if group}
    chosen = [
        held[group] if group else value < config.validation_share for group, value in zip(groups, hashes, strict=True)
    ]
    loose = [number for number, group in enumerate(groups) if not group]
    if not any(chosen) and len(loose) and len(groups) > 1:
        chosen[min(loose, key=lambda number: hashes[number])] = True
    _check_both_sides(config, sum(chosen), len(chosen), len(held))
    return np.array(chosen, dtype=np.bool_)


def _check_both_sides(config: DecontaminateConfig, validation: int, total: int, groups: int) -> None:
    if 0 < validation < total:
        return
    found = f"{validation} of {total} documents in the validation set, {total - validation} left for training"
    if total < 2:
        raise UserError(f"decontaminate: {found}. Fix: give it two documents or more.")
    more, less = f"raise decontaminate.heldout_share ({config.heldout_share})", "lower the shares"
    raise UserError(
        f"decontaminate: {found} ({groups} groups). Fix: {more if validation == 0 else less}, or choose another heldout_seed."
    )


@dataclass
class Evaluation:
    """N-grams of all that is judged on. Entry i of `ngrams`, which ascends, belongs to item `owners[i]`."""

    names: list[str]
    sizes: Numbers  # distinct n-grams of each item
    ngrams: Hashes
    owners: Numbers
    unchecked: int  # items shorter than an n-gram


@dataclass
class _Collector:
    config: DecontaminateConfig
    names: list[str] = field(default_factory=list[str])
    sets: list[Hashes] = field(default_factory=list[Hashes])
    unchecked: int = 0

    def add(self, name: str, text: str, language: str) -> None:
        ngrams = np.unique(ngram_hashes(split_units(text).hashes, ngram_units(language, self.config)))
        if len(ngrams):
            self.names.append(name)
            self.sets.append(ngrams)
        else:
            self.unchecked += 1


def ngram_units(language: str, config: DecontaminateConfig) -> int:
    """Units of an n-gram in a text of this language."""
    return config.ngram_han if language == "zh" else config.ngram_words


def collect_evaluation(
    config: DecontaminateConfig, unique: UniqueCorpus, chosen: npt.NDArray[np.bool_], examples: tuple[Examples, ...]
) -> Evaluation:
    """Reads the validation documents and the held-out examples. Memory: 16 bytes for each of their n-grams."""
    collector = _Collector(config)
    number = 0
    for batch in read_batches(unique.path, "documents-*.parquet"):
        part = batch.filter(pa.array(chosen[number : number + batch.num_rows]))
        for mark, text, language in zip(
            *(part.column(name).to_pylist() for name in ("id", "text", "language")), strict=True
        ):
            collector.add(f"validation/{mark}", text, language)
        number += batch.num_rows
    for artifact in examples:
        for batch in read_batches(artifact.path, "heldout.parquet"):
            for example in batch.to_pylist():
                text = example_text(example)
                collector.add(f"examples/{example['id']}", text, detect_language(text))
    sizes = np.array([len(ngrams) for ngrams in collector.sets], dtype=np.int64)
    ngrams = np.concatenate([*collector.sets, np.zeros(0, np.uint64)])
    order = np.argsort(ngrams, kind="stable")
    owners = np.repeat(np.arange(len(sizes)), sizes)[order]
    return Evaluation(collector.names, sizes, ngrams[order], owners, collector.unchecked)


def example_text(example: dict[str, str | list[str]]) -> str:
    """All text of a labelled example of any kind; labels and ids are none."""
    parts = [example[name] for name in ("prompt", "response", "text", "tokens") if name in example]
    return "\n".join(part if isinstance(part, str) else "".join(part) for part in parts)


@dataclass(frozen=True)
class Overlap:
    """How much of what is judged on a training document holds."""

    item: str
    item_share: float
    document_share: float
    text: str

    @property
    def share(self) -> float:
        """The larger of the two: the whole of a short item in a long document counts, and so does a part of a long item."""
        return max(self.item_share, self.document_share)


def find_overlap(text: str, language: str, evaluation: Evaluation, config: DecontaminateConfig) -> Overlap | None:
    """The item a document overlaps most; None when they share no n-gram."""
    units = split_units(text)
    best: Overlap | None = None
    for n in sorted({config.ngram_words, config.ngram_han}):
        ngrams = ngram_hashes(units.hashes, n)
        shared = _is_in(ngrams, evaluation.ngrams)
        if not shared.any():
            continue
        common = np.unique(ngrams[shared])
        owners = _owners(common, evaluation)
        counts = np.bincount(owners, minlength=len(evaluation.sizes))
        item = int(np.argmax(counts / evaluation.sizes))
        own = len(common) / len(np.unique(ngrams)) if n == ngram_units(language, config) else 0.0
        found = Overlap(
            evaluation.names[item],
            float(counts[item] / evaluation.sizes[item]),
            own,
            _longest_run(text, units, shared, n),
        )
        best = found if best is None or found.share > best.share else best
    return best


def _is_in(values: Hashes, ascending: Hashes) -> npt.NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[places] == values


def _owners(common: Hashes, evaluation: Evaluation) -> Numbers:
    """Items that hold the n-grams, one entry for each pair of n-gram and item."""
    low = np.searchsorted(evaluation.ngrams, common, side="left")
    counts = np.searchsorted(evaluation.ngrams, common, side="right") - low
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return evaluation.owners[np.repeat(low, counts) + within]


def _longest_run(text: str, units: Units, shared: npt.NDArray[np.bool_], n: int) -> str:
    """The longest stretch of text whose n-grams are all shared, as it stands in the document."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], shared.view(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return text[units.starts[starts[longest]] : units.ends[ends[longest] + n - 2]][:SHOWN_CHARS]


def _batches(unique: UniqueCorpus, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Training and validation documents of each batch."""
    number = 0
    with tqdm(desc="decontaminate", unit="doc", disable=None, total=len(chosen)) as progress:
        for batch in read_batches(unique.path, "documents-*.parquet"):
            here = chosen[number : number + batch.num_rows]
            yield batch.filter(pa.array(~here)), batch.filter(pa.array(here))
            number += batch.num_rows
            progress.update(batch.num_rows)


def _overlaps(
    training: pa.RecordBatch, evaluation: Evaluation, config: DecontaminateConfig
) -> list[tuple[str, Overlap | None]]:
    """Each document's id, and its overlap where that is enough to drop it."""
    found: list[tuple[str, Overlap | None]] = []
    for mark, text, language in zip(
        *(training.column(name).to_pylist() for name in ("id", "text", "language")), strict=True
    ):
        overlap = None if config.max_overlap is None else find_overlap(text, language, evaluation, config)
        is_contaminated = overlap is not None and config.max_overlap is not None and overlap.share >= config.max_overlap
        found.append((mark, overlap if is_contaminated else None))
    return found


def _evidence(overlap: Overlap) -> dict[str, object]:
    return {
        "item": overlap.item,
        "text": overlap.text,
        "item_share": overlap.item_share,
        "document_share": overlap.document_share,
    }


def decontaminate(
    config: DecontaminateConfig, unique: UniqueCorpus, examples: tuple[Examples, ...], out: Path
) -> StageOutcome:
    """Writes `train-*.parquet`, `validation.parquet`, `dropped.parquet` and the evidence, `matches.parquet`."""
    chosen = choose_validation(config, unique)
    evaluation = collect_evaluation(config, unique, chosen, examples)
    matches: list[dict[str, object]] = []
    with (
        RollingWriter(out, "train") as train,
        RollingWriter(out, "validation", file_bytes=None) as validation,
        DropWriter(out / "dropped.parquet", "decontaminate") as dropped,
    ):
        for training, judged in _batches(unique, chosen):
            validation.write(judged)
            found = _overlaps(training, evaluation, config)
            matches += [{"id": mark, **_evidence(overlap)} for mark, overlap in found if overlap is not None]
            reasons = [None if overlap is None else "contaminated" for _, overlap in found]
            split_batch(
                training, reasons, [None if overlap is None else overlap.share for _, overlap in found], train, dropped
            )
    pq.write_table(pa.Table.from_pylist(matches, schema=MATCHES), out / "matches.parquet", compression="zstd")
    if train.rows == 0:
        raise UserError(
            f"decontaminate: all {dropped.rows.total()} training documents hold text that is judged on. "
            f"Fix: raise decontaminate.max_overlap ({config.max_overlap}), or look for copies of the examples in the sources."
        )
    figures = {
        "train_documents": train.rows,
        "validation_documents": validation.rows,
        "train_bytes": train.bytes,
        "validation_bytes": validation.bytes,
        "evaluation_items": len(evaluation.names),
        "items_too_short_to_check": evaluation.unchecked,
    }
    return outcome_of([train, validation], dropped, figures=figures)

"""Annotate: mends every document and measures it; what the figures mean for it is for `select` to say.

Pages become their main text, characters are repaired, personal data is masked, the language is told. Beside each document
table lies one of statistics, row for row, without text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from tasks.artifacts import QualityModel, RawCorpus, file_digest
from tasks.corpus.writers import DropWriter, RollingWriter, outcome_of, split_batch
from tasks.documents import DOCUMENTS, TableWriter, bounded, text_buffers
from tasks.executor.filetasks import FileTasks
from tasks.executor.parts import combined, gather
from tasks.executor.tables import TableWork, tables_of
from tasks.kernels.statistics_columns import COUNTS, OTHERS, SHARES
from tasks.ledger import StageOutcome
from tasks.reading.given_texts import given_file, given_lines
from tasks.settings import Json, Placement, Section, identity
from tasks.text.language import LanguageConfig
from tasks.text.pii import KINDS, PiiConfig
from tasks.text.repairs import RepairConfig

if TYPE_CHECKING:
    from tasks.html.page import Page, PageFault, PageReader
    from tasks.kernels.quality_classifier import Scorer
    from tasks.text.language import Detected

STATISTICS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNTS),
        *(pa.field(name, pa.float32(), nullable=False) for name in SHARES),
        *(pa.field(name, pa.float32()) for name in OTHERS),
    ]
)
BATCH_ROWS = 1_000
BATCH_BYTES = 16 * 2**20  # of text; what is done to it takes many times as much
HEADER_CHARS = 4_000  # in which a licence header is looked for


class PageConfig(Section):
    """Limits of an HTML page. One beyond them is dropped by name; its neighbours never notice."""

    seconds: float = Field(default=10.0, gt=0, description="for one page; then its process is killed")
    max_bytes: int = Field(default=20_000_000, ge=1_000, description="of markup")
    max_depth: int = Field(default=2_000, ge=10, description="of elements in one another; parsers are quadratic in it")


class WordList(Section):
    """Words or phrases of the user's: letters of any case, whole words where words are parted by spaces."""

    words: list[str] = Field(default=[])
    paths: Annotated[list[str], Placement()] = Field(default=[], description="files with one entry a line, in any charset")


class AnnotateConfig(Section):
    """What is mended and measured in every document."""

    stage: ClassVar[str] = "annotate"
    revision: Literal[3] = 3
    pages: PageConfig = PageConfig()
    repairs: RepairConfig = RepairConfig()
    pii: PiiConfig = PiiConfig()
    language: LanguageConfig = LanguageConfig()
    toxic_words: WordList = WordList()
    licence_headers: WordList = WordList()


def list_digests(config: AnnotateConfig) -> dict[str, str]:
    """Content of the word lists' files."""
    return {
        f"{name}.{number}": file_digest(given_file(f"clean.annotate.{name}", path))
        for name, words in (("toxic_words", config.toxic_words), ("licence_headers", config.licence_headers))
        for number, path in enumerate(words.paths)
    }


@dataclass(frozen=True)
class AnnotateWork(TableWork):
    """One raw document table, and how it is annotated."""

    config: AnnotateConfig
    lists: Mapping[str, str]
    quality: str | None  # folder of the classifier
    quality_fingerprint: str | None

    def identity(self) -> dict[str, Json]:
        return {
            "documents": self.table.digest,
            "config": identity(self.config),
            "lists": identity(self.lists),
            "quality": self.quality_fingerprint,
        }


@dataclass(frozen=True)
class Mended:
    """A batch after repair: new texts, why a document goes, and counts of what was found."""

    texts: list[str]
    meta: list[list[tuple[str, str]]]
    reasons: list[str | None]
    values: list[float | None]
    pii: list[Mapping[str, int]]


class Annotator:
    """Mends and measures batches of documents; opened once for a table."""

    def __init__(self, config: AnnotateConfig, quality: str | None, pages: "PageReader") -> None:
        from tasks.text.phrases import PhraseCounter
        from tasks.text.pii import PiiMasker
        from tasks.text.repairs import Repairer

        self.config = config
        self._pages = pages
        self._repairer: Repairer = Repairer(config.repairs)
        self._masker: PiiMasker = PiiMasker(config.pii)
        self._toxic = PhraseCounter(entries_of(config.toxic_words, "clean.annotate.toxic_words"))
        self._licences = PhraseCounter(entries_of(config.licence_headers, "clean.annotate.licence_headers"))
        self._scorer = None if quality is None else _scorer(Path(quality))

    def mend(self, batch: pa.RecordBatch) -> Mended:
        """Main text of pages, repaired characters, masked personal data."""
        mended = Mended([], [], [], [], [])
        texts: list[str] = batch.column("text").to_pylist()
        metas = [dict(pairs or ()) for pairs in batch.column("meta").to_pylist()]
        pages = [row for row, meta in enumerate(metas) if meta.get("format") == "html"]
        read = dict(zip(pages, self._pages.read_all(texts[row] for row in pages), strict=True))
        for row, (text, meta) in enumerate(zip(texts, metas, strict=True)):
            reason: str | None = None
            value: float | None = None
            if row in read:
                text, reason, value = _page_text(text, read[row], meta)
            repaired = self._repairer.repair(text)
            flags = [*meta.get("repaired", "").split(","), *repaired.flags]
            if joined := ",".join(dict.fromkeys(flag for flag in flags if flag)):
                meta["repaired"] = joined
            masked = self._masker.apply(repaired.text)
            if reason is None and masked.drops:
                reason, value = f"pii_{masked.drops[0]}", float(masked.counts[masked.drops[0]])
            if reason is None and not masked.text:
                reason, value = "empty", 0.0
            mended.texts.append(masked.text)
            mended.meta.append(sorted(meta.items()))
            mended.reasons.append(reason)
            mended.values.append(value)
            mended.pii.append(masked.counts)
        return mended

    def measure(self, documents: pa.RecordBatch, pii: Sequence[Mapping[str, int]]) -> pa.RecordBatch:
        """Statistics of documents whose languages are told."""
        from tasks.kernels.statistics import measure

        data, offsets = text_buffers(documents.column("text"))
        counts, shares = measure(data, offsets)
        texts: list[str] = documents.column("text").to_pylist()
        detected = self._languages(documents.column("language").to_pylist(), texts)
        quality = [None] * len(texts) if self._scorer is None else self._scorer.score(data, offsets).tolist()
        others: dict[str, Sequence[float | None]] = {
            "language_score": [found.score for found in detected],
            "mixed": [float(found.is_mixed) for found in detected],
            **{f"pii_{kind}": [float(found.get(kind, 0)) for found in pii] for kind in KINDS},
            "toxic_words": [float(count) for count in self._toxic.count(texts)],
            "licence_headers": [float(count) for count in self._licences.count(text[:HEADER_CHARS] for text in texts)],
            "quality": quality,
        }
        columns = [
            documents.column("id"),
            documents.column("source"),
            pa.array([found.language for found in detected]),
            *(pa.array(counts[:, number]) for number in range(len(COUNTS))),
            *(pa.array(shares[:, number].astype(np.float32)) for number in range(len(SHARES))),
            *(pa.array(others[name], pa.float32()) for name in OTHERS),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=STATISTICS)

    def _languages(self, declared: list[str], texts: list[str]) -> "list[Detected]":
        """The recipe's word on a source stands; the others are told by their text."""
        from tasks.text.language import Detected, detect_languages

        open_rows = [row for row, language in enumerate(declared) if language == "und"]
        told = detect_languages([texts[row] for row in open_rows], config=self.config.language)
        found = dict(zip(open_rows, told, strict=True))
        return [found.get(row) or Detected(language, 1.0, False) for row, language in enumerate(declared)]


def _scorer(folder: Path) -> "Scorer":
    from tasks.kernels.quality_classifier import Scorer

    return Scorer.load(folder)


def _page_text(markup: str, found: "Page | PageFault", meta: dict[str, str]) -> tuple[str, str | None, float | None]:
    """A page's main text; of one that has none the start of its markup, why, and the figure behind it."""
    from tasks.html.page import PageFault

    if isinstance(found, PageFault):
        return markup[:HEADER_CHARS], found.reason, found.value
    if found.title:
        meta.setdefault("title", found.title)
    return found.text, None, None


def entries_of(words: WordList, place: str) -> list[str]:
    """The entries of a list, in order, each once."""
    lines = [line for path in words.paths for line in given_lines(place, path)]
    return list(dict.fromkeys(entry for line in [*words.words, *lines] if (entry := line.strip())))


def annotate_table(work: AnnotateWork, out: Path) -> StageOutcome:
    """One table: `documents-000.parquet`, `statistics-000.parquet`, and `dropped-000.parquet` where there is a reason to."""
    from tasks.html.page import PageReader

    limits = work.config.pages
    removed = mended_documents = 0
    statistics_path = out / "statistics-000.parquet"
    with (
        PageReader(limits.seconds, limits.max_bytes, limits.max_depth) as pages,
        RollingWriter(out, "documents", file_bytes=2**62) as kept,
        DropWriter(out, "annotate") as dropped,
        TableWriter(statistics_path, STATISTICS) as statistics,
        pq.ParquetFile(work.table.path) as file,
    ):
        annotator = Annotator(work.config, work.quality, pages)
        for batch in bounded(file.iter_batches(batch_size=BATCH_ROWS), BATCH_BYTES):
            mended = annotator.mend(batch)
            documents = _with_texts(batch, mended)
            removed += _bytes(batch) - _bytes(documents)
            before = [dict(pairs or ()).get("repaired") for pairs in batch.column("meta").to_pylist()]
            mended_documents += sum(dict(pairs).get("repaired") != was for pairs, was in zip(mended.meta, before, strict=True))
            staying = [row for row, reason in enumerate(mended.reasons) if reason is None]
            measured = annotator.measure(documents.take(pa.array(staying, pa.int64())), [mended.pii[row] for row in staying])
            statistics.write(measured)
            split_batch(_with_languages(documents, staying, measured), mended.reasons, mended.values, kept, dropped)
    figures = {"repaired_documents": float(mended_documents)}
    return outcome_of([kept], dropped, removed, figures, {statistics_path: "Statistics"})


def _bytes(batch: pa.RecordBatch) -> int:
    return int(batch.column("bytes").to_numpy().sum())


def _with_texts(batch: pa.RecordBatch, mended: Mended) -> pa.RecordBatch:
    """The batch with mended texts, their sizes and what was noted."""
    texts = pa.array(mended.texts, pa.large_string())
    _, offsets = text_buffers(texts)
    changed = {
        "text": texts,
        "bytes": pa.array(np.diff(offsets)),
        "meta": pa.array(mended.meta, DOCUMENTS.field("meta").type),
    }
    return pa.RecordBatch.from_arrays([changed.get(name, batch.column(name)) for name in DOCUMENTS.names], schema=DOCUMENTS)


def _with_languages(documents: pa.RecordBatch, staying: Sequence[int], measured: pa.RecordBatch) -> pa.RecordBatch:
    languages: list[str] = documents.column("language").to_pylist()
    for row, language in zip(staying, measured.column("language").to_pylist(), strict=True):
        languages[row] = language
    at = DOCUMENTS.get_field_index("language")
    columns = list(documents.columns)
    columns[at] = pa.array(languages, pa.string())
    return pa.RecordBatch.from_arrays(columns, schema=DOCUMENTS)


def annotate(config: AnnotateConfig, raw: RawCorpus, quality: QualityModel | None, out: Path, files: FileTasks) -> StageOutcome:
    """Mends and measures the raw documents: `documents-*`, `statistics-*` and `dropped-*.parquet`, in the order read.

    A dropped document is kept as far as it was mended.
    """
    lists = list_digests(config)
    folder, fingerprint = (None, None) if quality is None else (quality.folder, quality.fingerprint)
    works = [AnnotateWork(table, config, lists, folder, fingerprint) for table in tables_of(raw)]
    parts = files.run("annotate", config.revision, annotate_table, works)
    gather(parts, ["documents-*.parquet", "statistics-*.parquet", "dropped-*.parquet"], out)
    return combined(parts)

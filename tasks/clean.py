"""Clean: repairs what can be repaired in every document, then drops those that break a rule.

Rules look at the repaired text, in the order of `RULES`; the first one that a document breaks is its reason.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator
from tqdm import tqdm

from tasks.artifacts import RawCorpus
from tasks.characters import HAN, KINDS, LETTER, SPACE, SYMBOL, character_kinds, code_points
from tasks.corpus import DropWriter, RollingWriter, outcome_of, split_batch
from tasks.documents import DOCUMENTS, read_batches
from tasks.errors import UserError
from tasks.ledger import Ledger, StageOutcome
from tasks.ngrams import ngram_hashes, split_units
from tasks.settings import Section

REPEATED_NGRAM = 10  # units: ten words, ten Han characters
MIN_NGRAMS = 50  # in shorter texts one repeated line is a large share

# Control, zero-width, bidirectional and private characters; tab and newline stay. A joiner between letters of scripts
# that need it (U+200C, U+200D) goes too: neither English nor Chinese has a use for it.
INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
LINE_ENDS = re.compile("\r\n|[\r\x85\u2028\u2029]")
TRAILING_SPACES = re.compile("[ \t\xa0\u3000]+$", re.MULTILINE)
BLANK_LINES = re.compile("\n{4,}")
WORD = re.compile(r"[^\W\d_]+")


class CleanConfig(Section):
    """Thresholds of the rules. `null` switches a rule off; 0 is a threshold like any other. All bounds are inclusive."""

    stage: ClassVar[str] = "clean"
    revision: Literal[1] = 1
    languages: list[Literal["en", "zh", "code", "und"]] | None = Field(
        default=None, min_length=1, description="those kept; all when null"
    )
    min_chars: int | None = Field(default=100, ge=0, description="code points of a document, white space included")
    max_chars: int | None = Field(default=1_000_000, ge=1, description="code points of a document")
    min_word_chars: float | None = Field(default=2.0, ge=0, description="mean letters of a word; English only")
    max_word_chars: float | None = Field(default=12.0, ge=0, description="mean letters of a word; English only")
    min_letter_share: float | None = Field(
        default=0.3, ge=0, le=1, description="letters and Han of all characters but white space"
    )
    max_symbol_share: float | None = Field(
        default=0.25, ge=0, le=1, description="signs such as + = | < $ and emoji, of the same"
    )
    max_duplicate_line_share: float | None = Field(
        default=0.5, ge=0, le=1, description="characters in lines seen before, of all lines'"
    )
    max_repeated_ngram_share: float | None = Field(
        default=0.5, ge=0, le=1, description="runs of ten words or Han characters seen before"
    )
    max_line_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="longest line's share of a document; off, for many a sound text is one line",
    )

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> "CleanConfig":
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(
                f"min_chars ({self.min_chars}) is above max_chars ({self.max_chars}): nothing would be left"
            )
        low, high = self.min_word_chars, self.max_word_chars
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_word_chars ({low}) is above max_word_chars ({high}): no English text would be left")
        return self


def repair(text: str) -> str:
    """The text in NFC with plain line ends, without invisible characters, trailing spaces and long runs of blank lines.

    Full-width punctuation is right in Chinese and stays. At most two blank lines remain between paragraphs.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = INVISIBLE.sub("", LINE_ENDS.sub("\n", text))
    text = BLANK_LINES.sub("\n\n\n", TRAILING_SPACES.sub("", text))
    return text.strip("\n")


class Measures:
    """Figures of one text, each worked out when a rule asks for it."""

    def __init__(self, text: str, language: str) -> None:
        self.text, self.language = text, language

    @property
    def chars(self) -> float:
        """Code points."""
        return len(self.text)

    @cached_property
    def counts(self) -> list[int]:
        """Characters by kind (tasks/characters.py)."""
        return np.bincount(character_kinds(code_points(self.text)), minlength=KINDS).tolist()

    @property
    def visible(self) -> int:
        """Characters that are not white space; at least 1."""
        return max(1, len(self.text) - self.counts[SPACE])

    @property
    def letter_share(self) -> float:
        """Letters and Han characters among the visible ones."""
        return (self.counts[LETTER] + self.counts[HAN]) / self.visible

    @property
    def symbol_share(self) -> float:
        """Unicode's symbols among the visible ones; punctuation is none."""
        return self.counts[SYMBOL] / self.visible

    @cached_property
    def word_chars(self) -> float | None:
        """Mean letters of a word; None where there is no word, or where words are not set apart by spaces."""
        words = WORD.findall(self.text) if self.language == "en" else []
        return sum(map(len, words)) / len(words) if words else None

    @cached_property
    def lines(self) -> list[str]:
        """Lines that are not blank, without the white space around them."""
        return [stripped for line in self.text.split("\n") if (stripped := line.strip())]

    @property
    def duplicate_line_share(self) -> float:
        """Characters in lines that stood before, among those of all lines; short lines such as `else:` weigh little."""
        total = sum(map(len, self.lines))
        return 1 - sum(map(len, set(self.lines))) / total if total else 0.0

    @property
    def repeated_ngram_share(self) -> float:
        """Runs of ten units that stood before; 0 for a text with few of them."""
        ngrams = ngram_hashes(split_units(self.text).hashes, REPEATED_NGRAM)
        return 1 - len(np.unique(ngrams)) / len(ngrams) if len(ngrams) >= MIN_NGRAMS else 0.0

    @property
    def line_share(self) -> float:
        """Characters of the longest line among those of all lines."""
        total = sum(map(len, self.lines))
        return max(map(len, self.lines)) / total if total else 0.0


@dataclass(frozen=True)
class Rule:
    """`name` is the reason and the key of the threshold; `measure` gives None where the rule does not apply."""

    name: str
    is_minimum: bool
    threshold: Callable[[CleanConfig], float | None]
    measure: Callable[[Measures], float | None]

    def broken_by(self, measures: Measures, config: CleanConfig) -> float | None:
        """The figure that breaks the rule, or None."""
        threshold = self.threshold(config)
        if threshold is None:
            return None
        value = self.measure(measures)
        if value is None or (value >= threshold if self.is_minimum else value <= threshold):
            return None
        return value


RULES = (
    Rule("min_chars", True, lambda c: c.min_chars, lambda m: m.chars),
    Rule("max_chars", False, lambda c: c.max_chars, lambda m: m.chars),
    Rule("min_letter_share", True, lambda c: c.min_letter_share, lambda m: m.letter_share),
    Rule("max_symbol_share", False, lambda c: c.max_symbol_share, lambda m: m.symbol_share),
    Rule("min_word_chars", True, lambda c: c.min_word_chars, lambda m: m.word_chars),
    Rule("max_word_chars", False, lambda c: c.max_word_chars, lambda m: m.word_chars),
    Rule("max_line_share", False, lambda c: c.max_line_share, lambda m: m.line_share),
    Rule("max_duplicate_line_share", False, lambda c: c.max_duplicate_line_share, lambda m: m.duplicate_line_share),
    Rule("max_repeated_ngram_share", False, lambda c: c.max_repeated_ngram_share, lambda m: m.repeated_ngram_share),
)


def judge(text: str, language: str, config: CleanConfig) -> tuple[str | None, float | None]:
    """The reason to drop a repaired text and the figure behind it; (None, None) keeps it. A text of nothing is `empty`."""
    if not text:
        return "empty", 0.0
    if config.languages is not None and language not in config.languages:
        return "languages", None
    measures = Measures(text, language)
    broken = ((rule.name, rule.broken_by(measures, config)) for rule in RULES)
    return next(((name, value) for name, value in broken if value is not None), (None, None))


def _repaired(batch: pa.RecordBatch, texts: list[str]) -> pa.RecordBatch:
    """The batch with new texts and their sizes."""
    sizes = [len(text.encode()) for text in texts]
    changed = {"text": pa.array(texts, pa.large_string()), "bytes": pa.array(sizes, pa.int64())}
    return pa.RecordBatch.from_arrays(
        [changed.get(name, batch.column(name)) for name in DOCUMENTS.names], schema=DOCUMENTS
    )


def _batches(raw: RawCorpus) -> Iterator[pa.RecordBatch]:
    with tqdm(desc="clean", unit="doc", disable=None, total=raw.ledger.rows_out or None) as progress:
        for batch in read_batches(raw.path, "documents-*.parquet"):
            yield batch
            progress.update(batch.num_rows)


def clean_documents(config: CleanConfig, raw: RawCorpus, out: Path) -> StageOutcome:
    """Repairs and sifts the raw documents: `documents-*.parquet` in the order read, `dropped.parquet` beside.

    A dropped document is kept as repaired, for that is the text the rule saw.
    """
    repaired_bytes = 0
    with RollingWriter(out, "documents") as kept, DropWriter(out / "dropped.parquet", "clean") as dropped:
        for batch in _batches(raw):
            texts = [repair(text) for text in batch.column("text").to_pylist()]
            judged = [judge(*pair, config) for pair in zip(texts, batch.column("language").to_pylist(), strict=True)]
            repaired = _repaired(batch, texts)
            repaired_bytes += sum(batch.column("bytes").to_pylist()) - sum(repaired.column("bytes").to_pylist())
            split_batch(repaired, [reason for reason, _ in judged], [value for _, value in judged], kept, dropped)
    outcome = outcome_of([kept], dropped, repaired_bytes)
    _check_some_left(config, outcome.ledger)
    return outcome


def _check_some_left(config: CleanConfig, ledger: Ledger) -> None:
    """UserError that names the rule to loosen when no document passed."""
    if ledger.rows_out:
        return
    if not ledger.dropped:
        raise UserError("clean: found no documents to read, expected at least one. Fix: check the sources.")
    rule, count = max(ledger.dropped.items(), key=lambda entry: entry[1])
    setting = config.model_dump().get(rule)
    fix = {"languages": "add to", "empty": "give text to"}.get(rule, "lower" if rule.startswith("min") else "raise")
    place = "the sources" if rule == "empty" else f"clean.{rule}"
    shown = "" if setting is None else f" ({setting})"
    raise UserError(
        f"clean: 0 of {ledger.rows_in} documents left; {rule}{shown} dropped {count} of them. "
        f"Fix: {fix} {place}{'' if rule in ('languages', 'empty') else ', or set it to null'}."
    )

"""Tokenizer quality by language and domain, beside others that are measured on the same documents."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.kernels.characters import HAN, LETTER, character_kinds, code_points
from tasks.sampling import SampledDocument
from tasks.tokenizer.encoding import Encoder

if TYPE_CHECKING:
    import tokenizers

FILE = "quality.json"
THIS = "this"  # the tokenizer itself in a table of several
LONGEST_SHOWN = 20
MEASURED_AT_ONCE = 256  # documents


@dataclass(frozen=True)
class FitRow:
    """What a tokenizer makes of the held-out documents of one language and source."""

    tokenizer: str  # THIS or the name of a reference
    language: str
    domain: str  # the documents' source
    documents: int
    bytes: int
    tokens: int
    bytes_per_token: float | None  # None: no tokens
    tokens_per_word: float | None  # None: no words
    tokens_per_han: float | None  # None: no Han characters
    unknown: int  # tokens that stand for what the vocabulary cannot spell
    inexact: int  # documents that do not decode to themselves


@dataclass(frozen=True)
class TokenizerQuality:
    """How well a tokenizer fits."""

    vocab_size: int
    algorithm: str
    trainer: str | None  # None: it was not trained here
    encoder: str
    sample_documents: int
    sample_bytes: int
    bytes_per_token: Mapping[str, float]  # by language, on held-out text
    never_used: int  # entries that do not occur in a sample of the training text
    inexact_round_trips: int  # documents
    longest_tokens: tuple[str, ...]  # decoded text, longest first
    table: tuple[FitRow, ...]


def write_quality(quality: TokenizerQuality, folder: Path) -> None:
    """quality.json."""
    text = json.dumps(asdict(quality), ensure_ascii=False, indent=1)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_quality(folder: Path) -> TokenizerQuality:
    """What `write_quality` wrote."""
    values = json.loads((folder / FILE).read_text(encoding="utf-8"))
    values["longest_tokens"] = tuple(values["longest_tokens"])
    values["table"] = tuple(FitRow(**row) for row in values["table"])
    return TokenizerQuality(**values)


@dataclass
class Counts:
    """Over the documents of one language and domain."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    words: int = 0  # runs of letters other than Han characters
    han: int = 0  # Han characters
    unknown: int = 0  # tokens that stand for text the vocabulary does not have
    inexact: int = 0  # documents that did not come back the same

    def row(self, tokenizer: str, language: str, domain: str) -> FitRow:
        """Tokens go by words or by Han characters, whichever the text has more of."""
        by_word, by_han = self.words > self.han, self.han > 0 and self.han >= self.words
        return FitRow(
            tokenizer,
            language,
            domain,
            self.documents,
            self.bytes,
            self.tokens,
            round(self.bytes / self.tokens, 4) if self.tokens else None,
            round(self.tokens / self.words, 4) if by_word else None,
            round(self.tokens / self.han, 4) if by_han else None,
            self.unknown,
            self.inexact,
        )


@dataclass
class Measured:
    """Counts by language and domain (the documents' source)."""

    counts: dict[tuple[str, str], Counts] = field(default_factory=dict[tuple[str, str], Counts])

    def total(self, name: str) -> int:
        """Of one of the counts."""
        return sum(int(vars(counts)[name]) for counts in self.counts.values())

    def bytes_per_token(self) -> dict[str, float]:
        """By language: the more, the shorter the sequences."""
        sizes, tokens = dict[str, int](), dict[str, int]()
        for (language, _), counts in self.counts.items():
            sizes[language] = sizes.get(language, 0) + counts.bytes
            tokens[language] = tokens.get(language, 0) + counts.tokens
        return {name: sizes[name] / tokens[name] for name in sorted(tokens) if tokens[name]}

    def table(self, tokenizer: str) -> list[FitRow]:
        """In order of language and domain."""
        return [self.counts[key].row(tokenizer, *key) for key in sorted(self.counts)]


def measure(encoder: Encoder, unknown: int | None, documents: Iterable[SampledDocument]) -> Measured:
    """How well the encoder's tokenizer does; `unknown` is the id of its token for what it does not know."""
    quality = Measured()
    for batch in batched(documents):
        for document, ids in zip(batch, encoder.encode([document.text for document in batch]), strict=True):
            counts = quality.counts.setdefault((document.language, document.source), Counts())
            words, han = count_words(document.text)
            counts.documents += 1
            counts.bytes += len(document.text.encode())
            counts.tokens += len(ids)
            counts.words += words
            counts.han += han
            counts.unknown += 0 if unknown is None else int((ids == unknown).sum())
            counts.inexact += encoder.tokenizer.decode(ids.tolist(), skip_special_tokens=False) != document.text
    return quality


def batched(documents: Iterable[SampledDocument]) -> Iterator[list[SampledDocument]]:
    """Documents by the 256."""
    batch = list[SampledDocument]()
    for document in documents:
        batch.append(document)
        if len(batch) == MEASURED_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def count_words(text: str) -> tuple[int, int]:
    """Runs of letters other than Han, and Han characters."""
    kinds = character_kinds(code_points(text))
    letters = kinds == LETTER
    starts = letters & ~np.concatenate([[False], letters[:-1]])
    return int(starts.sum()), int((kinds == HAN).sum())


def never_used(encoder: Encoder, plain: Sequence[int], training: Iterable[SampledDocument]) -> int:
    """How many of the `plain` ids a sample of the training text does not contain."""
    used: NDArray[np.bool_] = np.zeros(encoder.vocab_size, dtype=np.bool_)
    for batch in batched(training):
        for ids in encoder.encode([document.text for document in batch]):
            used[ids] = True
    return int((~used[list(plain)]).sum())


def longest_tokens(tokenizer: "tokenizers.Tokenizer", plain: Sequence[int]) -> list[str]:
    """The longest in bytes, white space at their ends aside."""
    spelled = [(tokenizer.decode([number], skip_special_tokens=False), number) for number in plain]
    longest = sorted(spelled, key=lambda item: (-len(item[0].strip().encode()), item[1]))
    return [text for text, _ in longest[:LONGEST_SHOWN]]

"""How well a tokenizer does, by language and domain, beside others that are measured on the same documents."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.kernels.characters import HAN, LETTER, character_kinds, code_points
from tasks.sampling import SampledDocument
from tasks.settings import Json
from tasks.tokenizer.encoding import Encoder

if TYPE_CHECKING:
    import tokenizers

LONGEST_SHOWN = 20
MEASURED_AT_ONCE = 256  # documents


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

    def row(self, tokenizer: str, language: str, domain: str) -> dict[str, Json]:
        """As the table of quality.json has it. Tokens go by words or by Han characters, whichever the text has more of."""
        by_word, by_han = self.words > self.han, self.han > 0 and self.han >= self.words
        return {
            "tokenizer": tokenizer,
            "language": language,
            "domain": domain,
            "documents": self.documents,
            "bytes": self.bytes,
            "tokens": self.tokens,
            "bytes_per_token": round(self.bytes / self.tokens, 4) if self.tokens else None,
            "tokens_per_word": round(self.tokens / self.words, 4) if by_word else None,
            "tokens_per_han": round(self.tokens / self.han, 4) if by_han else None,
            "unknown": self.unknown,
            "inexact": self.inexact,
        }


@dataclass
class Quality:
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

    def table(self, tokenizer: str) -> list[Json]:
        """Rows of quality.json, in order of language and domain."""
        return [self.counts[key].row(tokenizer, *key) for key in sorted(self.counts)]


def measure(encoder: Encoder, unknown: int | None, documents: Iterable[SampledDocument]) -> Quality:
    """How well the encoder's tokenizer does; `unknown` is the id of its token for what it does not know."""
    quality = Quality()
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


def quality_report(
    quality: Quality, references: Mapping[str, Quality], longest: Sequence[str], unused: int, known: Mapping[str, Json]
) -> dict[str, Json]:
    """Content of quality.json; `known` is what the tokenizer's making tells of it."""
    rows = quality.table("this")
    for name, reference in references.items():
        rows += reference.table(name)
    return {
        **known,
        "sample_documents": quality.total("documents"),
        "sample_bytes": quality.total("bytes"),
        "bytes_per_token": {name: round(rate, 4) for name, rate in quality.bytes_per_token().items()},
        "never_used": unused,
        "inexact_round_trips": quality.total("inexact"),
        "longest_tokens": list(longest),
        "table": rows,
    }

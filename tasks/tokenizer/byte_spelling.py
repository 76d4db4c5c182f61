"""Byte spelling: how much of a text a tokenizer spells in single bytes, in parts of characters, or not at all.

What it does not know comes out so: a language that a vocabulary was not made for takes a token a byte. It is told by language and
source, beside the bytes a token.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.sampling import SampledDocument
from tasks.tokenizer.byte_pairs import byte_letters
from tasks.tokenizer.encoding import Encoder
from tasks.tokenizer.tokenizer_quality import batched

if TYPE_CHECKING:
    import tokenizers

FILE = "fit.json"
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")  # of SentencePiece, for what has no other token
MARKS = ("##", "▁", "Ġ")  # that begin or continue a word, and stand for no letter


@dataclass(frozen=True)
class Fit:
    """What a tokenizer makes of the text of one language and source; of all sources where `source` is empty."""

    language: str
    source: str
    bytes: int
    tokens: int
    in_bytes: int  # bytes of text in tokens of a single byte, or of a part of a character
    unknown: int  # bytes of text that no token stands for

    @property
    def bytes_per_token(self) -> float:
        """0 where there are no tokens."""
        return self.bytes / self.tokens if self.tokens else 0.0

    @property
    def share(self) -> float:
        """Of the text, what is spelled in bytes or not known."""
        return (self.in_bytes + self.unknown) / self.bytes if self.bytes else 0.0


def single_bytes(tokenizer: "tokenizers.Tokenizer", size: int) -> NDArray[np.int64]:
    """[size]: of each id, the bytes of its token if that is one byte, or no whole character; else 0."""
    values = {letter: byte for byte, letter in enumerate(byte_letters())}
    definition = json.loads(tokenizer.to_str())
    is_bytes = '"ByteLevel"' in json.dumps([definition["decoder"], definition["pre_tokenizer"]])
    found = np.zeros(size, np.int64)
    for token, number in definition_vocabulary(definition).items():
        if is_bytes and all(letter in values for letter in token):
            spelled = bytes(values[letter] for letter in token)
            found[number] = len(spelled) if len(spelled) == 1 or not _is_text(spelled) else 0
        else:
            found[number] = int(BYTE_TOKEN.fullmatch(token) is not None or len(_plain(token).encode()) == 1)
    return found


def definition_vocabulary(definition: Mapping[str, dict[str, object]]) -> dict[str, int]:
    """Token -> id of a tokenizer.json's model, special tokens aside that are added to it alone."""
    vocabulary = definition["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary
    assert isinstance(vocabulary, list)
    return {token: number for number, (token, _) in enumerate(vocabulary)}


def _plain(token: str) -> str:
    for mark in MARKS:
        token = token.removeprefix(mark)
    return token


def _is_text(spelled: bytes) -> bool:
    try:
        spelled.decode()
    except UnicodeDecodeError:
        return False
    return True


def measure_fit(encoder: Encoder, unknown: int | None, documents: Iterable[SampledDocument]) -> tuple[Fit, ...]:
    """Of each language and source in their order, then of each language. `unknown`: the id that stands for what is not known."""
    sums: dict[tuple[str, str], NDArray[np.int64]] = {}
    table = single_bytes(encoder.tokenizer, encoder.vocab_size)
    for batch in batched(documents):
        for document, ids in zip(batch, encoder.encode([one.text for one in batch]), strict=True):
            lost = 0 if unknown is None or not (ids == unknown).any() else _unknown_bytes(encoder.tokenizer, unknown, document.text)
            counts = np.array([len(document.text.encode()), len(ids), int(table[ids].sum()), lost])
            for key in ((document.language, document.source), (document.language, "")):
                sums[key] = sums.get(key, np.zeros(4, np.int64)) + counts
    keys = sorted(sums, key=lambda key: (not key[1], key))
    return tuple(Fit(*key, *sums[key].tolist()) for key in keys)


def _unknown_bytes(tokenizer: "tokenizers.Tokenizer", unknown: int, text: str) -> int:
    tokenizer.encode_special_tokens = True
    encoding = tokenizer.encode(text, add_special_tokens=False)
    spans = (span for number, span in zip(encoding.ids, encoding.offsets, strict=True) if number == unknown)
    return sum(len(text[start:end].encode()) for start, end in spans)


def write_fit(fit: Sequence[Fit], folder: Path) -> None:
    """fit.json."""
    (folder / FILE).write_text(json.dumps([asdict(one) for one in fit], ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_fit(folder: Path) -> tuple[Fit, ...]:
    """What `write_fit` wrote."""
    return tuple(Fit(**one) for one in json.loads((folder / FILE).read_text(encoding="utf-8")))

"""Kinds of byte: what of a text's nats falls on letters, Han, digits, white space, signs and the rest.

T tokens, N characters, K kinds.
"""

import json
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.items import Floats

if TYPE_CHECKING:
    import tokenizers

ByteKind = Literal["letters", "han", "digits", "space", "punctuation", "other"]
BYTE_KINDS: tuple[ByteKind, ...] = ("letters", "han", "digits", "space", "punctuation", "other")
BY_CATEGORY: dict[str, ByteKind] = {"L": "letters", "M": "letters", "N": "digits", "Z": "space", "P": "punctuation", "S": "punctuation"}
Spans = tuple[NDArray[np.int64], NDArray[np.int64]]  # first character of each token, and the one behind its last: [T] each


def byte_kind(character: str) -> ByteKind:
    """Of all bytes of a character."""
    if character.isspace():
        return "space"
    if unicodedata.name(character, "").startswith("CJK ") and unicodedata.category(character) == "Lo":
        return "han"
    return BY_CATEGORY.get(unicodedata.category(character)[0], "other")


@lru_cache(maxsize=65_536)
def _kind_number(code: int) -> int:
    return BYTE_KINDS.index(byte_kind(chr(code)))


def encode_with_spans(tokenizer: "tokenizers.Tokenizer", texts: Sequence[str]) -> tuple[list[list[int]], list[Spans]]:
    """Ids of each text as `encode_documents` gives them, and the characters that each token stands for."""
    import tokenizers

    definition = json.loads(tokenizer.to_str())
    definition["post_processor"] = None  # it may move the ends of a token behind its space
    whole = tokenizers.Tokenizer.from_str(json.dumps(definition))
    whole.encode_special_tokens = True
    encodings = whole.encode_batch(list(texts), add_special_tokens=False)
    pairs = [np.array(encoding.offsets, np.int64).reshape(-1, 2) for encoding in encodings]
    return [encoding.ids for encoding in encodings], [(pair[:, 0], pair[:, 1]) for pair in pairs]


def nats_by_kind(text: str, spans: Spans, nats: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Nats that fall on each kind of byte [K], and how many bytes there are of it [K]; they add up to all of the text's.

    Each token's nats, [T], are shared out evenly over the bytes of its characters. What the tokenizer drops before a token, as white
    space, is the token's too; a token that stands for no character shares the one where it is.
    """
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    known, places = np.unique(codes, return_inverse=True)
    numbers = np.array([_kind_number(code) for code in known.tolist()], np.int64)[places]
    before = np.zeros((len(BYTE_KINDS), len(codes) + 1), np.int64)  # bytes of each kind before each character
    before[numbers, np.arange(1, len(codes) + 1)] = widths
    np.cumsum(before, axis=1, out=before)
    starts, ends = _without_gaps(*spans, len(codes))
    inside = before[:, ends] - before[:, starts]  # (K, T)
    return (inside / inside.sum(axis=0)) @ nats, before[:, -1]


def _without_gaps(starts: NDArray[np.int64], ends: NDArray[np.int64], size: int) -> Spans:
    """Each from where those before it have ended, and not empty."""
    reached = np.maximum.accumulate(np.concatenate([[0], ends]))
    starts = np.minimum(np.minimum(starts, reached[:-1]), size - 1)
    return starts, np.maximum(ends, starts + 1)

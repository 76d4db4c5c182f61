"""Units of text (a word, or one Han character) and hashes of their n-grams, the same in every run.

Offsets count code points. Python's own `hash` is salted per process, so it cannot serve here.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.characters import DIGIT, HAN, LETTER, Codes, character_kinds, code_points

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

BASE = 0x9E3779B97F4A7C15  # odd, hence invertible modulo 2**64
INVERSE = pow(BASE, -1, 2**64)


@dataclass(frozen=True)
class Units:
    """The words and Han characters of a text in order; `text[starts[i]:ends[i]]` is unit i."""

    hashes: Hashes
    starts: Offsets
    ends: Offsets


def split_units(text: str) -> Units:
    """Each Han character is a unit, each run of other letters and digits is one; case is ignored."""
    codes = code_points(_lower(text))
    kinds = character_kinds(codes)
    han = kinds == HAN
    inside = (kinds == LETTER) | (kinds == DIGIT)
    before = np.concatenate(([False], inside[:-1]))
    starts = np.flatnonzero(han | (inside & ~before))
    after = np.concatenate((inside[1:], [False]))
    ends = np.flatnonzero(han | (inside & ~after)) + 1
    return Units(_span_hashes(codes, starts, ends), starts, ends)


def ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    """One hash for each run of `n` units: entry i covers units i to i + n - 1. Empty when there are fewer than n."""
    count = len(hashes) - n + 1
    if count <= 0:
        return np.zeros(0, dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for offset in range(n):
        total = total * np.uint64(BASE) + hashes[offset : offset + count]
    return _mix(total + np.uint64(n))


def _span_hashes(codes: Codes, starts: Offsets, ends: Offsets) -> Hashes:
    """Polynomial hashes of many spans at once, from prefix sums: sum of code[j] * BASE**(j - start), modulo 2**64."""
    powers, inverses = _powers(1 << max(12, len(codes).bit_length()))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum((codes.astype(np.uint64) + 1) * powers[: len(codes)])))
    return _mix((sums[ends] - sums[starts]) * inverses[starts])


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """BASE**j and its inverse for j below `count`, modulo 2**64."""
    powers = np.multiply.accumulate(np.r_[np.uint64(1), np.full(count - 1, BASE, np.uint64)])
    inverses = np.multiply.accumulate(np.r_[np.uint64(1), np.full(count - 1, INVERSE, np.uint64)])
    return powers, inverses


def _mix(values: Hashes) -> Hashes:
    """Spreads every bit over the word. Source: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _lower(text: str) -> str:
    """Lower case, one character for one, so that offsets still hold in the text itself."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(small if len(small := character.lower()) == 1 else character for character in text)

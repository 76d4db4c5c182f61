"""Character properties of a text, as arrays: the ground that rules on text stand on."""

import functools
import unicodedata
from typing import Literal

import numpy as np
import numpy.typing as npt

SPACE, LETTER, HAN, DIGIT, PUNCTUATION, SYMBOL, OTHER = range(7)
KINDS = 7
LAST_KNOWN = 0x33FFF  # no assigned letters beyond; higher code points count as OTHER
HAN_RANGES = ((0x3007, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
HAN_SHARE = 0.2  # of letters: from here on a text is Chinese

Codes = npt.NDArray[np.uint32]
Kinds = npt.NDArray[np.uint8]


def code_points(text: str) -> Codes:
    """One number a character. UnicodeEncodeError for lone surrogates."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def character_kinds(codes: Codes) -> Kinds:
    """SPACE, LETTER (marks included, Han not), HAN, DIGIT, PUNCTUATION, SYMBOL or OTHER, one a character."""
    return _table()[np.minimum(codes, LAST_KNOWN)]


def detect_language(text: str) -> Literal["en", "zh"]:
    """`zh` when at least a fifth of the letters are Han characters, else `en`."""
    if text.isascii():
        return "en"
    counts = np.bincount(character_kinds(code_points(text)), minlength=KINDS)
    letters = int(counts[LETTER]) + int(counts[HAN])
    return "zh" if letters and int(counts[HAN]) >= HAN_SHARE * letters else "en"


@functools.cache
def _table() -> Kinds:
    first = {"Z": SPACE, "L": LETTER, "M": LETTER, "N": DIGIT, "P": PUNCTUATION, "S": SYMBOL}
    kinds = [first.get(unicodedata.category(chr(code))[0], OTHER) for code in range(LAST_KNOWN + 1)]
    table = np.array(kinds, dtype=np.uint8)
    table[[9, 10, 11, 12, 13]] = SPACE  # control characters by category, white space by use
    for low, high in HAN_RANGES:
        table[low : high + 1] = HAN
    table[LAST_KNOWN] = OTHER
    return table

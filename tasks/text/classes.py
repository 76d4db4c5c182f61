"""Character classes: what each code point is, as one byte, for the kernels that read UTF-8 themselves."""

import functools
import unicodedata

import numpy as np
import numpy.typing as npt

from tasks.characters import HAN_RANGES, LAST_KNOWN

OTHER, SPACE, NEWLINE, LATIN, HAN, KANA, HANGUL, CYRILLIC, ARABIC, LETTER, DIGIT, PUNCTUATION, SYMBOL = range(13)
CLASSES = 13
_SCRIPTS = (
    (LATIN, ((0x41, 0x24F), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF), (0xFF21, 0xFF5A))),
    (KANA, ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F))),
    (HANGUL, ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF))),
    (CYRILLIC, ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F))),
    (ARABIC, ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFF))),
)


@functools.cache
def class_table() -> npt.NDArray[np.uint8]:
    """Class of each code point up to LAST_KNOWN; what lies beyond counts as OTHER.

    Letters and marks are told apart by script; Han and kana characters each count as a word later on.
    """
    first = {"Z": SPACE, "L": LETTER, "M": LETTER, "N": DIGIT, "P": PUNCTUATION, "S": SYMBOL}
    table = np.array(
        [first.get(unicodedata.category(chr(code))[0], OTHER) for code in range(LAST_KNOWN + 1)], dtype=np.uint8
    )
    for script, ranges in _SCRIPTS:
        for low, high in ranges:
            part = table[low : high + 1]
            part[part == LETTER] = script
    table[[9, 11, 12, 13]] = SPACE  # control characters by category, white space by use
    table[10] = NEWLINE
    for low, high in HAN_RANGES:
        table[low : high + 1] = HAN
    table[LAST_KNOWN] = OTHER
    return table


@functools.cache
def lower_table() -> npt.NDArray[np.uint16]:
    """Simple lower case of each code point of the first plane, full-width letters and digits as plain ones."""
    table = np.arange(0x10000, dtype=np.uint16)
    for code in range(0x2D30):
        small = chr(code).lower()
        if len(small) == 1 and ord(small) < 0x10000:
            table[code] = ord(small)
    table[0xFF10:0xFF1A] = np.arange(0x30, 0x3A)
    table[0xFF21:0xFF3B] = table[0xFF41:0xFF5B] = np.arange(0x61, 0x7B)
    return table

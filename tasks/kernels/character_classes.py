"""Character classes: what each code point is, as one byte, for the kernels that read UTF-8 themselves."""

import functools
import unicodedata

import numpy as np
import numpy.typing as npt

from tasks.kernels.characters import HAN_RANGES, LAST_KNOWN

OTHER, SPACE, NEWLINE, LATIN, HAN, KANA, HANGUL, CYRILLIC, ARABIC, LETTER, DIGIT, PUNCTUATION, SYMBOL = range(13)
CLASSES = 13
EAST_WEIGHT = 4  # Latin letters that say as much as one character of Han, kana or Hangul
SPACELESS, SPACELESS_MARK = 13, 14  # of unit_table alone: a letter of a script without spaces, and a mark on one
_WITHOUT_SPACES = (  # Thai and Lao, Burmese, Khmer, Tai, Yi, Balinese, Javanese; Tibetan parts its syllables by points
    *((0xE01, 0xEDF), (0x1000, 0x109F), (0x1780, 0x17DD), (0x1950, 0x19DF), (0x1A20, 0x1AAD), (0x1B05, 0x1B4C), (0xA000, 0xA48C)),
    *((0xA984, 0xA9C0), (0xA9E0, 0xA9FE), (0xAA60, 0xAADF)),
)
_SCRIPTS = (
    (LATIN, ((0x41, 0x24F), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA720, 0xA7FF), (0xFF21, 0xFF5A))),
    (KANA, ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F))),
    (HANGUL, ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF))),
    (CYRILLIC, ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F))),
    (ARABIC, ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFF))),
)
_SENTENCE_ENDS = (  # Unicode's property Sentence_Terminal (PropList.txt) of the first plane, first and last
    *((0x21, 0x21), (0x2E, 0x2E), (0x3F, 0x3F), (0x589, 0x589), (0x61D, 0x61F), (0x6D4, 0x6D4), (0x700, 0x702)),
    *((0x7F9, 0x7F9), (0x837, 0x837), (0x839, 0x839), (0x83D, 0x83E), (0x964, 0x965), (0x104A, 0x104B)),
    *((0x1362, 0x1362), (0x1367, 0x1368), (0x166E, 0x166E), (0x1735, 0x1736), (0x17D4, 0x17D5), (0x1803, 0x1803)),
    *((0x1809, 0x1809), (0x1944, 0x1945), (0x1AA8, 0x1AAB), (0x1B5A, 0x1B5B), (0x1B5E, 0x1B5F), (0x1B7D, 0x1B7E)),
    *((0x1C3B, 0x1C3C), (0x1C7E, 0x1C7F), (0x203C, 0x203D), (0x2047, 0x2049), (0x2E2E, 0x2E2E), (0x2E3C, 0x2E3C)),
    *((0x2E53, 0x2E54), (0x3002, 0x3002), (0xA4FF, 0xA4FF), (0xA60E, 0xA60F), (0xA6F3, 0xA6F3), (0xA6F7, 0xA6F7)),
    *((0xA876, 0xA877), (0xA8CE, 0xA8CF), (0xA92F, 0xA92F), (0xA9C8, 0xA9C9), (0xAA5D, 0xAA5F), (0xAAF0, 0xAAF1)),
    *((0xABEB, 0xABEB), (0xFE52, 0xFE52), (0xFE56, 0xFE57), (0xFF01, 0xFF01), (0xFF0E, 0xFF0E), (0xFF1F, 0xFF1F)),
    (0xFF61, 0xFF61),
)


@functools.cache
def class_table() -> npt.NDArray[np.uint8]:
    """Class of each code point up to LAST_KNOWN; what lies beyond counts as OTHER.

    Letters and marks are told apart by script; Han and kana characters each count as a word later on.
    """
    first = {"Z": SPACE, "L": LETTER, "M": LETTER, "N": DIGIT, "P": PUNCTUATION, "S": SYMBOL}
    table = np.array([first.get(unicodedata.category(chr(code))[0], OTHER) for code in range(LAST_KNOWN + 1)], dtype=np.uint8)
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
def unit_table() -> npt.NDArray[np.uint8]:
    """As `class_table`, but letters and marks of scripts without spaces are told apart, so that each letter with its marks is a unit."""
    table = class_table().copy()
    for low, high in _WITHOUT_SPACES:
        for code in range(low, high + 1):
            if table[code] == LETTER:
                table[code] = SPACELESS_MARK if unicodedata.category(chr(code))[0] == "M" else SPACELESS
    return table


@functools.cache
def sentence_ends() -> npt.NDArray[np.bool_]:
    """Whether each code point of the first plane ends a sentence."""
    table = np.zeros(0x10000, dtype=np.bool_)
    for low, high in _SENTENCE_ENDS:
        table[low : high + 1] = True
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

"""Repair scan: one pass over UTF-8 bytes that says which repairs a text needs; most need none. Imports numba: import it late."""

import functools
import unicodedata

import numpy as np
import numpy.typing as npt

from tasks.kernels.machine_code import numba

LINE_END, INVISIBLE, TRAILING, BLANK, MOJIBAKE, MARKS, PRIVATE, INDENT = (1 << bit for bit in range(8))
SPACE_BEFORE = " \t\xa0\u3000"  # what is trailing white space at the end of a line

_MARK, _SPACE, _LEAD, _TRAIL = 1 << 8, 1 << 9, 1 << 10, 1 << 11
_TABLE_END = 0x20000  # planes 0 and 1; tags, private planes and noncharacters are told by their numbers

Table = npt.NDArray[np.uint16]


@functools.cache
def character_table() -> Table:
    """What each character of planes 0 and 1 calls for, as bits."""
    table = np.zeros(_TABLE_END, np.uint16)
    for code in range(_TABLE_END):
        category = unicodedata.category(chr(code))
        if category in ("Mn", "Me"):
            table[code] |= _MARK
        elif category == "Co":
            table[code] |= PRIVATE
    for first, last in INVISIBLE_RANGES:
        table[first : min(last + 1, _TABLE_END)] |= INVISIBLE
    table[[ord(c) for c in "\r\x0b\x0c\x85\u2028\u2029"]] = LINE_END
    table[[ord(c) for c in SPACE_BEFORE]] |= _SPACE
    table[0xC2:0xF5] |= _LEAD
    table[0x80:0xC0] |= _TRAIL
    table[[ord(c) for c in "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"]] |= _TRAIL
    table[[code for code in range(0x80, 0xA0) if code != 0x85]] |= MOJIBAKE  # controls nobody means
    return table


# First and last: controls, soft hyphen, zero width, bidirectional, tags, noncharacters. Joiners are judged in context.
INVISIBLE_RANGES = (
    (0x00, 0x08),
    (0x0E, 0x1F),
    (0x7F, 0x84),
    (0x86, 0x9F),
    (0xAD, 0xAD),
    (0x061C, 0x061C),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0xFDD0, 0xFDEF),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFC),
    (0xFFFE, 0xFFFF),
    (0x1FFFE, 0x1FFFF),
    (0xE0000, 0xE007F),
)


def needed_repairs(data: bytes, table: Table, max_newlines: int, max_marks: int) -> int:
    """Bits of what `data`, valid UTF-8, needs: a run of more newlines or marks than the maxima is one need of its own.

    A bit set in vain costs time only; a bit not set in vain would leave damage, so doubt sets it.
    """
    return _needs(np.frombuffer(data, np.uint8), table, max_newlines, max_marks)


@numba.njit(cache=True, nogil=True)
def _needs(data, table, max_newlines, max_marks):  # pyright: ignore
    """What makes it fast: eight plain ASCII bytes are one comparison, Han is stepped over by its first byte, and state is
    kept as positions, so that ordinary characters change none. Indices are unsigned: no test for negative ones.
    """
    found = 0
    words = data[: len(data) & ~7].view(np.uint64)
    zero, one, two, three, four = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    size = np.uint64(len(data))
    newline_end, mark_end, lead_end = zero, size + one, size + one
    newlines, marks = 0, 0
    start = zero
    while start < size:
        if start & np.uint64(7) == zero:
            word = start >> three
            while word < np.uint64(len(words)) and _is_plain(words[word]):
                word += one
            start = word << three
            if start >= size:
                break
        byte = data[start]
        if np.uint8(byte - np.uint8(0x20)) < np.uint8(0x5F):
            start += one
            continue
        if np.uint8(byte - np.uint8(0xE4)) < np.uint8(6):  # U+4000 to U+9FFF
            start += three
            continue
        if byte == np.uint8(0x0A):
            newlines = newlines + 1 if newline_end == start else 1
            if newlines > max_newlines:
                found |= BLANK
            if start > zero and _ends_in_space(data, start):
                found |= TRAILING
            start += one
            newline_end = start
            continue
        if byte < np.uint8(0x80):
            code, end = np.uint64(byte), start + one
        elif byte < np.uint8(0xE0):
            code = (np.uint64(byte & 0x1F) << np.uint64(6)) | np.uint64(data[start + one] & 0x3F)
            end = start + two
        elif byte < np.uint8(0xF0):
            code = (np.uint64(byte & 0x0F) << np.uint64(12)) | (np.uint64(data[start + one] & 0x3F) << np.uint64(6))
            code |= np.uint64(data[start + two] & 0x3F)
            end = start + three
        else:
            code = (np.uint64(byte & 0x07) << np.uint64(18)) | (np.uint64(data[start + one] & 0x3F) << np.uint64(12))
            code |= (np.uint64(data[start + two] & 0x3F) << np.uint64(6)) | np.uint64(data[start + three] & 0x3F)
            end = start + four
        bits = int(table[code]) if code < np.uint64(_TABLE_END) else _beyond_table(int(code))
        if bits:
            found |= bits & 0xFF
            if bits & _MARK:
                marks = marks + 1 if mark_end == start else 1
                mark_end = end
                if marks > max_marks:
                    found |= MARKS
            if bits & _TRAIL and lead_end == start:
                found |= MOJIBAKE
            if bits & _LEAD:
                lead_end = end
            if code == np.uint64(0x3000) and newline_end == start:
                found |= INDENT
        start = end
    if size > zero and _ends_in_space(data, size):
        found |= TRAILING
    return found


@numba.njit(cache=True, nogil=True)
def _is_plain(word):  # pyright: ignore
    """Whether all eight bytes are printable ASCII. A borrow or carry can only make a plain byte look like none."""
    above = word | (word + np.uint64(0x0101010101010101))
    return (above | (word - np.uint64(0x2020202020202020))) & np.uint64(0x8080808080808080) == np.uint64(0)


@numba.njit(cache=True, nogil=True)
def _ends_in_space(data, end):  # pyright: ignore
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    last = data[end - one]
    if last == 0x20 or last == 0x09:
        return True
    if last == 0xA0:
        return end >= two and data[end - two] == 0xC2
    return last == 0x80 and end >= three and data[end - two] == 0x80 and data[end - three] == 0xE3


@numba.njit(cache=True, nogil=True)
def _beyond_table(code):  # pyright: ignore
    if 0xE0100 <= code <= 0xE01EF:
        return _MARK
    return INVISIBLE | PRIVATE if code >= 0xE0000 or (code & 0xFFFE) == 0xFFFE else 0

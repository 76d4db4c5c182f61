"""Repeated blocks: lines and paragraphs of an earlier document, boilerplate that whole-document comparison cannot see."""

import numpy as np
import numpy.typing as npt

from tasks.kernels.machine_code import numba
from tasks.kernels.shingles import Bytes, Hashes, Offsets

PRIME = np.uint64(0x100000001B3)  # of FNV-1a
SEED = np.uint64(0xCBF29CE484222325)
SPREAD = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(cache=True, nogil=True)
def _blocks(
    data: Bytes, offsets: Offsets, by_paragraph: bool, min_chars: int, rows: Offsets, starts: Offsets, ends: Offsets, hashes: Hashes
) -> int:
    """Fills row, byte range and hash of each block that is long enough; gives their number. Blank ends are left out."""
    count = 0
    for doc in range(len(offsets) - 1):
        begin, end = offsets[doc], offsets[doc + 1]
        start = begin
        while start < end:
            stop = start
            while stop < end and not (data[stop] == 10 and (not by_paragraph or stop + 1 == end or data[stop + 1] == 10)):
                stop += 1
            first, last = start, stop
            while first < last and data[first] <= 32:
                first += 1
            while last > first and data[last - 1] <= 32:
                last -= 1
            value = SEED
            chars = 0
            for at in range(first, last):
                byte = data[at]
                value = (value ^ np.uint64(byte)) * PRIME
                if byte & 0xC0 != 0x80:
                    chars += 1
            if chars >= min_chars:
                rows[count], starts[count], ends[count] = doc, first - begin, last - begin
                value = (value ^ (value >> np.uint64(32))) * SPREAD
                hashes[count] = value ^ (value >> np.uint64(29))
                count += 1
            start = stop + 1
    return count


def find_blocks(data: Bytes, offsets: Offsets, by_paragraph: bool, min_chars: int) -> tuple[Offsets, Offsets, Offsets, Hashes]:
    """Document row, start and end in bytes of the document, and hash, of each line or paragraph of `min_chars` or more."""
    size = int(offsets[-1] - offsets[0]) if len(offsets) else 0
    room = size // max(1, min_chars) + 1
    rows, starts, ends = (np.empty(room, np.int64) for _ in range(3))
    hashes = np.empty(room, np.uint64)
    count = _blocks(data, offsets, by_paragraph, min_chars, rows, starts, ends, hashes)
    return rows[:count], starts[:count], ends[:count], hashes[:count]


def repeated(hashes: Hashes, documents: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """True for each block that stood in a document with a smaller number; repeats inside one document are its own affair."""
    order = np.lexsort((documents, hashes))
    ranked, numbers = hashes[order], documents[order]
    is_first = np.concatenate(([True], ranked[1:] != ranked[:-1])) if len(ranked) else np.zeros(0, np.bool_)
    first_document = numbers[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]] if len(ranked) else numbers
    found = np.zeros(len(hashes), np.bool_)
    found[order] = numbers > first_document
    return found

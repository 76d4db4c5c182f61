"""Shingles and MinHash signatures, compiled by numba: units of text (a word, or one Han or kana character) and hashes of their runs.

A unit is a run of letters and digits, one Han or kana character, or one letter of a script without spaces (Thai, Khmer) with its
marks. Letters are lower-cased, full-width forms are plain, punctuation is left out. Digits count as 0 or as they are: `Digits`.
Sources: Broder, "On the resemblance and containment of documents" (1997).
Measured (benchmarks/RESULTS.md, rows `minhash-en` and `minhash-zh`). The plain version is in tests/tasks/kernels/plain_shingles.py.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.kernels.character_classes import (
    DIGIT,
    HAN,
    KANA,
    LATIN,
    LETTER,
    NEWLINE,
    OTHER,
    SPACE,
    SPACELESS,
    SPACELESS_MARK,
    lower_table,
    unit_table,
)
from tasks.kernels.machine_code import numba
from tasks.kernels.utf8 import PRIME, SEED, SPREAD, Bytes, Hashes, Offsets, code_at, mix, most_units

Signatures = npt.NDArray[np.uint32]

OTHER_SPREAD = np.uint64(0xC2B2AE3D27D4EB4F)
ZERO = np.uint32(48)

Digits = Literal["auto", "fold", "keep"]
FIGURES_SHARE = 0.1  # of a text's units hold a digit: from here on, with `auto`, figures are what it is about


@numba.njit(cache=True, nogil=True)
def units_of(
    data: Bytes, start: int, end: int, table: Bytes, lower: npt.NDArray[np.uint16],
    hashes: Hashes, starts: Offsets, ends: Offsets, key: Hashes, keeps_digits: bool = False,
) -> int:  # fmt: skip
    """Fills hashes and byte spans of the units of one text; `key` gets 128 bits over the text.

    With `class_table` a run of Thai is one unit, with `unit_table` each letter with its marks. Letters
    of any case are alike to the key, and so is white space of any kind and length; at the ends it does not count.
    """
    count = 0
    unit = SEED
    unit_start = -1
    run, other_run = SEED, SPREAD  # two, since a Chinese text may be one run: 64 bits would not tell a billion apart
    one, other = SEED, SPREAD
    pending = False
    is_spaceless = False
    last = len(table) - 1
    at = start
    while at < end:
        code, width = code_at(data, at)
        kind = table[code] if code < last else np.uint8(OTHER)
        if code < 0x10000:
            code = np.uint32(lower[code])
        if kind == SPACE or kind == NEWLINE:
            if pending:
                one = mix((one ^ run) * SPREAD)
                other = mix((other + other_run) * OTHER_SPREAD)
                run, other_run = SEED, SPREAD
                pending = False
        else:
            run = (run ^ np.uint64(code)) * PRIME
            other_run = (other_run + np.uint64(code)) * OTHER_SPREAD
            pending = True
        is_letter = (LATIN <= kind <= LETTER or kind == DIGIT) and kind != HAN and kind != KANA
        if is_letter and not is_spaceless:
            if unit_start < 0:
                unit_start = at
                unit = SEED
            unit = (unit ^ np.uint64(ZERO if kind == DIGIT and not keeps_digits else code)) * PRIME
        elif kind == SPACELESS_MARK and unit_start >= 0:
            unit = (unit ^ np.uint64(code)) * PRIME
        else:
            is_spaceless = False
            if unit_start >= 0:
                hashes[count] = mix(unit)
                starts[count], ends[count] = unit_start, at
                count += 1
                unit_start = -1
            if kind == HAN or kind == KANA:
                hashes[count] = mix((SEED ^ np.uint64(code)) * SPREAD)
                starts[count], ends[count] = at, at + width
                count += 1
            elif is_letter or kind >= SPACELESS:
                unit_start = at
                unit = (SEED ^ np.uint64(ZERO if kind == DIGIT and not keeps_digits else code)) * PRIME
                is_spaceless = kind >= SPACELESS
        at += width
    if unit_start >= 0:
        hashes[count] = mix(unit)
        starts[count], ends[count] = unit_start, end
        count += 1
    if pending:
        one = mix((one ^ run) * SPREAD)
        other = mix((other + other_run) * OTHER_SPREAD)
    key[0], key[1] = one, other
    return count


@numba.njit(cache=True, nogil=True)
def _figures_share(data: Bytes, count: int, starts: Offsets, ends: Offsets, table: Bytes) -> float:
    """Units that hold a digit, of all units."""
    figures = 0
    last = len(table) - 1
    for unit in range(count):
        at = starts[unit]
        while at < ends[unit]:
            if data[at] < 0x80:
                is_digit, width = np.uint8(data[at] - 48) < 10, 1
            else:
                code, width = code_at(data, at)
                is_digit = code < last and table[code] == DIGIT
            if is_digit:
                figures += 1
                break
            at += width
    return figures / count if count else 0.0


@numba.njit(cache=True, nogil=True, inline="always")
def _weight(power: int) -> np.uint64:
    weight = np.uint64(1)
    for _ in range(power):
        weight *= SPREAD
    return weight


@numba.njit(cache=True, nogil=True, inline="always")
def _first_run(hashes: Hashes, count: int, n: int) -> np.uint64:
    """Polynomial over the first `n` hashes, modulo 2**64; the next one follows from it in constant time."""
    value = np.uint64(0)
    for j in range(min(n, count)):
        value = value * SPREAD + hashes[j]
    return value


@numba.njit(cache=True, nogil=True)
def _sign(
    data: Bytes, offsets: Offsets, table: Bytes, lower: npt.NDArray[np.uint16], n: int, multipliers: Signatures,
    addends: Signatures, keys: Hashes, units: Offsets, signatures: Signatures, keep_from: float,
) -> None:  # fmt: skip
    room = most_units(offsets)
    hashes = np.empty(room, np.uint64)
    starts = np.empty(room, np.int64)
    ends = np.empty(room, np.int64)
    smallest = np.empty(len(multipliers), np.uint32)
    gone = _weight(n - 1)
    for doc in range(len(offsets) - 1):
        start, end = offsets[doc], offsets[doc + 1]
        count = units_of(data, start, end, table, lower, hashes, starts, ends, keys[doc], keep_from <= 0)
        if 0 < keep_from <= 1 and _figures_share(data, count, starts, ends, table) >= keep_from:
            units_of(data, start, end, table, lower, hashes, starts, ends, keys[doc], True)
        units[doc] = count
        smallest[:] = np.uint32(0xFFFFFFFF)
        value = _first_run(hashes, count, n)
        for first in range(count - n + 1):
            if first:
                value = (value - hashes[first - 1] * gone) * SPREAD + hashes[first + n - 1]
            low = np.uint32(mix(value) >> np.uint64(32))
            for k in range(len(smallest)):
                smallest[k] = min(smallest[k], np.uint32(multipliers[k] * low + addends[k]))
        signatures[doc] = smallest


@numba.njit(cache=True, nogil=True)
def _keys(data: Bytes, offsets: Offsets, table: Bytes, lower: npt.NDArray[np.uint16], keys: Hashes, units: Offsets) -> None:
    room = most_units(offsets)
    hashes = np.empty(room, np.uint64)
    starts = np.empty(room, np.int64)
    ends = np.empty(room, np.int64)
    for doc in range(len(offsets) - 1):
        units[doc] = units_of(data, offsets[doc], offsets[doc + 1], table, lower, hashes, starts, ends, keys[doc])


@dataclass(frozen=True)
class Signed:
    """Per document: 128-bit key (texts that differ in case and runs of white space share one), units, MinHash signature."""

    keys: Hashes  # [documents, 2]
    units: Offsets  # [documents]
    signatures: Signatures  # [documents, slots]; all ones where a text is shorter than a shingle


def hash_functions(slots: int, seed: int) -> tuple[Signatures, Signatures]:
    """Odd multipliers and addends of `slots` functions h -> multiplier * h + addend modulo 2**32."""
    drawn = np.random.Generator(np.random.PCG64(seed)).integers(0, 2**32, size=(2, slots), dtype=np.uint32)
    return drawn[0] | np.uint32(1), drawn[1]


def sign(data: Bytes, offsets: Offsets, n: int, slots: int, seed: int, digits: Digits = "fold") -> Signed:
    """Keys and signatures over runs of `n` units; document i is `data[offsets[i]:offsets[i + 1]]`, valid UTF-8.

    `slots` 0 gives keys alone. `auto` keeps the digits of texts of whose units FIGURES_SHARE hold one.
    """
    keep_from = {"keep": 0.0, "auto": FIGURES_SHARE, "fold": 2.0}[digits]
    count = len(offsets) - 1
    signed = Signed(np.zeros((count, 2), np.uint64), np.zeros(count, np.int64), np.zeros((count, slots), np.uint32))
    if slots:
        _sign(
            data, offsets, unit_table(), lower_table(), n, *hash_functions(slots, seed),
            signed.keys, signed.units, signed.signatures, keep_from,
        )  # fmt: skip
    else:
        _keys(data, offsets, unit_table(), lower_table(), signed.keys, signed.units)
    return signed


@numba.njit(cache=True, nogil=True)
def _gram_hashes(hashes: Hashes, count: int, n: int, grams: Hashes) -> None:
    gone = _weight(n - 1)
    value = _first_run(hashes, count, n)
    for first in range(count - n + 1):
        if first:
            value = (value - hashes[first - 1] * gone) * SPREAD + hashes[first + n - 1]
        grams[first] = mix(value + np.uint64(n))


@dataclass(frozen=True)
class Units:
    """The units of one text in order; unit i is `text_bytes[starts[i]:ends[i]]`."""

    hashes: Hashes
    starts: Offsets
    ends: Offsets


def split_units(text: bytes) -> Units:
    """The units of a UTF-8 text, with their spans in bytes."""
    data = np.frombuffer(text, np.uint8)
    room = len(data) + 1
    hashes, starts, ends = np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
    count = units_of(data, 0, len(data), unit_table(), lower_table(), hashes, starts, ends, np.zeros(2, np.uint64))
    return Units(hashes[:count].copy(), starts[:count].copy(), ends[:count].copy())


def gram_hashes(units: Units, n: int) -> Hashes:
    """One hash for each run of `n` units: entry i covers units i to i + n - 1. Empty when there are fewer."""
    grams = np.zeros(max(0, len(units.hashes) - n + 1), np.uint64)
    _gram_hashes(units.hashes, len(units.hashes), n, grams)
    return grams


@numba.njit(cache=True, nogil=True)
def _table_of(values: Hashes, slots: Hashes) -> None:
    mask = np.uint64(len(slots) - 1)
    for value in values:
        slot = mix(value) & mask
        while slots[slot] != np.uint64(0) and slots[slot] != value:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = value


@numba.njit(cache=True, nogil=True)
def _hits(
    data: Bytes, offsets: Offsets, table: Bytes, lower: npt.NDArray[np.uint16], sizes: Offsets, slots: Hashes,
    hits: Offsets,
) -> None:  # fmt: skip
    room = most_units(offsets)
    hashes = np.empty(room, np.uint64)
    starts = np.empty(room, np.int64)
    ends = np.empty(room, np.int64)
    key = np.zeros(2, np.uint64)
    mask = np.uint64(len(slots) - 1)
    for doc in range(len(offsets) - 1):
        count = units_of(data, offsets[doc], offsets[doc + 1], table, lower, hashes, starts, ends, key)
        for n in sizes:
            gone = _weight(n - 1)
            running = _first_run(hashes, count, n)
            for first in range(count - n + 1):
                if first:
                    running = (running - hashes[first - 1] * gone) * SPREAD + hashes[first + n - 1]
                value = mix(running + np.uint64(n))
                slot = mix(value) & mask
                while slots[slot] != np.uint64(0) and slots[slot] != value:
                    slot = (slot + np.uint64(1)) & mask
                if slots[slot] == value:
                    hits[doc] += 1


class GramSet:
    """A set of n-gram hashes, asked in bulk."""

    def __init__(self, values: Hashes, sizes: tuple[int, ...]) -> None:
        """`sizes` are the n of the n-grams that `values` were made of."""
        room = 1024
        while room < 2 * len(values) + 2:
            room *= 2
        self._slots = np.zeros(room, np.uint64)
        self._sizes = np.array(sorted(set(sizes)), np.int64)
        _table_of(values, self._slots)

    def hits(self, data: Bytes, offsets: Offsets) -> Offsets:
        """How many runs of each document are in the set."""
        found = np.zeros(len(offsets) - 1, np.int64)
        _hits(data, offsets, unit_table(), lower_table(), self._sizes, self._slots, found)
        return found

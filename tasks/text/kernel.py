"""Statistics of many documents in one pass over their UTF-8 bytes, compiled by numba.

A word is a run of characters between white space, or one Han or kana character. Lines and paragraphs are runs between one
newline and two. Measured (benchmarks/RESULTS.md, rows `filters-en` and `filters-zh`): two orders of magnitude faster than
the same figures from Python strings. The plain version is in tests/tasks/text/plain_figures.py.

Sources of the figures: Gopher, arXiv 2112.11446, table A1 and section A.1.1; C4, JMLR 21 (2020) 140, section 2.2;
FineWeb, arXiv 2406.17557, section 3.6.
"""

import numba
import numpy as np
import numpy.typing as npt

from tasks.text.classes import (
    CLASSES,
    DIGIT,
    HAN,
    HANGUL,
    KANA,
    LATIN,
    LETTER,
    NEWLINE,
    OTHER,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    class_table,
)
from tasks.text.names import COUNTS, SHARES

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]

PRIME = np.uint64(0x100000001B3)  # of FNV-1a
SEED = np.uint64(0xCBF29CE484222325)
SPREAD = np.uint64(0x9E3779B97F4A7C15)
SHORT_LINE = 30  # code points; FineWeb
LONG_WORD = 1000  # code points; C4
C4_MIN_WORDS = 3

(C_BYTES, C_CHARS, C_WORDS, C_LINES, C_PARAGRAPHS, C_STOP_EN, C_STOP_ZH, C_HAN, C_SENTENCES, C_BRACKETS, C_LOREM,
 C_REPLACED) = range(len(COUNTS))  # fmt: skip
(S_WORD_CHARS, S_HASH, S_ELLIPSIS, S_BULLET, S_ELLIPSIS_LINES, S_ALPHA, S_DUP_LINES, S_DUP_LINE_CHARS, S_DUP_PARAGRAPHS,
 S_DUP_PARAGRAPH_CHARS, S_TOP2, S_TOP3, S_TOP4, S_DUP5, S_DUP6, S_DUP7, S_DUP8, S_DUP9, S_DUP10, S_PUNCTUATED, S_SHORT,
 S_NEWLINES, S_LETTERS, S_SYMBOLS, S_DIGITS, S_HAN, S_LATIN, S_KANA, S_HANGUL, S_OTHER_SCRIPTS,
 S_LONGEST_LINE) = range(len(SHARES))  # fmt: skip

STOP_EN = ("the", "be", "to", "of", "and", "that", "have", "with")
STOP_ZH = "的一是不了在有我他这這个個们們中为為和也就"


def _fnv(word: str) -> int:
    value = int(SEED)
    for character in word:
        value = ((value ^ ord(character)) * int(PRIME)) % 2**64
    return value


_STOPS_EN = np.array([_fnv(word) for word in STOP_EN], dtype=np.uint64)
_STOPS_ZH = np.array([ord(character) for character in STOP_ZH], dtype=np.uint32)
_TERMINALS = np.array([ord(c) for c in ".?!。！？；…⁇⁈⁉．｡؟۔।॥‼"], dtype=np.uint32)
_PHRASES = b"lorem ipsum\0javascript\0terms of use\0privacy policy\0cookie policy\0uses cookies\0use of cookies\0use cookies\0"
_PHRASE_BYTES = np.frombuffer(_PHRASES, dtype=np.uint8)
_PHRASE_STARTS = np.array([0] + [i + 1 for i, byte in enumerate(_PHRASES) if byte == 0][:-1], dtype=np.int64)
_PHRASE_TRIGGER = np.zeros(128, dtype=np.bool_)
for _start in _PHRASE_STARTS:
    _PHRASE_TRIGGER[_PHRASES[_start]] = True
    _PHRASE_TRIGGER[_PHRASES[_start] - 32] = True


@numba.njit(cache=True, nogil=True, inline="always")
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(32))) * SPREAD
    return value ^ (value >> np.uint64(29))


@numba.njit(cache=True, nogil=True)
def _phrase_at(data: Bytes, start: int, end: int, phrases: Bytes, starts: Offsets) -> int:
    """Number of the phrase that begins here, letters of any case, or -1."""
    for number in range(len(starts)):
        place = starts[number]
        at = start
        while phrases[place] != 0:
            if at >= end:
                break
            byte = data[at]
            if 65 <= byte <= 90:
                byte += np.uint8(32)
            if byte != phrases[place]:
                break
            place += 1
            at += 1
        if phrases[place] == 0:
            return number
    return -1


@numba.njit(cache=True, nogil=True)
def _duplicates(hashes: Hashes, chars: Counts, count: int, keys: Hashes, stamps: Counts, stamp: int) -> tuple[int, int]:
    """How many of `count` elements stood before, and their characters."""
    mask = np.uint64(len(keys) - 1)
    twice = 0
    characters = 0
    for i in range(count):
        value = hashes[i]
        slot = _mix(value) & mask
        while stamps[slot] == stamp and keys[slot] != value:
            slot = (slot + np.uint64(1)) & mask
        if stamps[slot] == stamp:
            twice += 1
            characters += chars[i]
        else:
            stamps[slot] = stamp
            keys[slot] = value
    return twice, characters


@numba.njit(cache=True, nogil=True)
def _repetition(
    words: Hashes, ends: Counts, letters: Counts, count: int, rolling: Hashes, places: Counts, slots: Counts,
    keys: Hashes, stamps: Counts, tally: Counts, stamp: int, out: Counts,
) -> int:  # fmt: skip
    """Characters of the most frequent 2- to 4-gram and of repeated 5- to 10-grams, into `out[2..10]`.

    An n-gram can only recur where both its (n-1)-grams do, so each pass looks at the places that are left of the one
    before. Repeated n-grams are counted from left to right without overlap; of equally frequent ones the first counts.
    Gives the last stamp used.
    """
    mask = np.uint64(len(keys) - 1)
    left = count - 1
    for i in range(left):
        places[i] = i
        rolling[i] = _mix(words[i] * SPREAD + words[i + 1])
    for n in range(2, 11):
        if n > 2:
            kept = 0
            for j in range(left - 1):  # both neighbours recur: `places` ascends
                here = places[j]
                if places[j + 1] == here + 1 and here + n <= count:
                    rolling[here] = _mix(rolling[here] * SPREAD + words[here + n - 1])
                    places[kept] = here
                    kept += 1
            left = kept
        if left <= 0:
            break
        stamp += 1
        for j in range(left):
            value = rolling[places[j]]
            slot = _mix(value) & mask
            while stamps[slot] == stamp and keys[slot] != value:
                slot = (slot + np.uint64(1)) & mask
            if stamps[slot] != stamp:
                stamps[slot] = stamp
                keys[slot] = value
                tally[slot] = 0
            tally[slot] += 1
            slots[j] = slot
        if n <= 4:
            most, first = 1, 0
            for j in range(left):
                if tally[slots[j]] > most:
                    most = tally[slots[j]]
                    first = places[j]
            if most > 1:
                before = ends[first]
                out[n] = most * (ends[first + n] - before - (1 if _is_spaced(ends, letters, first) else 0))
        else:
            out[n] = _repeated_chars(places, slots, tally, left, letters, n)
        kept = 0
        for j in range(left):
            if tally[slots[j]] != 1 and tally[slots[j]] != -1:
                places[kept] = places[j]
                kept += 1
        left = kept
    return stamp


@numba.njit(cache=True, nogil=True, inline="always")
def _is_spaced(ends: Counts, letters: Counts, word: int) -> bool:
    """Whether white space stands before a word."""
    return ends[word + 1] - ends[word] > letters[word + 1] - letters[word]


@numba.njit(cache=True, nogil=True)
def _repeated_chars(places: Counts, slots: Counts, tally: Counts, left: int, letters: Counts, n: int) -> int:
    """Characters of n-grams that stood before, left to right, skipping behind each. A seen n-gram's tally turns negative."""
    total = 0
    free = 0
    for j in range(left):
        here = places[j]
        slot = slots[j]
        if here < free or tally[slot] == 1:
            continue
        if tally[slot] < 0:
            total += letters[here + n] - letters[here]
            free = here + n
        else:
            tally[slot] = -tally[slot]
            free = here + 1
    return total


@numba.njit(cache=True, nogil=True)
def _measure(
    data: Bytes, offsets: Offsets, table: Bytes, stops_en: Hashes, stops_zh: npt.NDArray[np.uint32],
    terminals: npt.NDArray[np.uint32], phrases: Bytes, phrase_starts: Offsets, trigger: npt.NDArray[np.bool_],
    counts: Counts, shares: Shares,
) -> None:  # fmt: skip
    longest = 0
    for doc in range(len(offsets) - 1):
        longest = max(longest, offsets[doc + 1] - offsets[doc])
    room = longest // 2 + 4
    words = np.empty(room, np.uint64)
    ends = np.zeros(room + 1, np.int64)  # characters up to each word, one for the white space before it included
    letters = np.zeros(room + 1, np.int64)  # the same without white space
    rolling = np.empty(room, np.uint64)
    places = np.empty(room, np.int64)
    slots = np.empty(room, np.int64)
    lines = np.empty(room, np.uint64)
    line_chars = np.empty(room, np.int64)
    paragraphs = np.empty(room, np.uint64)
    paragraph_chars = np.empty(room, np.int64)
    size = 64
    while size < 2 * room:
        size *= 2
    keys = np.empty(size, np.uint64)
    stamps = np.zeros(size, np.int64)
    tally = np.empty(size, np.int64)
    stamp = 0
    kinds = np.zeros(CLASSES, np.int64)
    grams = np.zeros(11, np.int64)
    last_table = len(table) - 1
    for doc in range(len(offsets) - 1):
        start, end = offsets[doc], offsets[doc + 1]
        kinds[:] = 0
        n_words = n_lines = n_paragraphs = 0
        word_hash = SEED
        word_chars = 0
        word_has_letter = word_has_content = False
        word_spaced = 0
        spaced = False
        alpha_words = content_words = content_chars = 0
        hashes = ellipses = 0
        stop_en = stop_zh = 0
        line_hash = paragraph_hash = SEED
        line_length = paragraph_length = longest_line = 0
        line_words = 0
        line_blank = True
        line_bullet = line_long_word = line_phrase = line_lorem = line_bracket = False
        line_sentences = 0
        last = before_last = before_that = np.uint32(0)  # characters of the line that are not white space
        gap = 0  # white space behind `last`
        bullets = ellipsis_lines = punctuated = short = 0
        newline_run = 0
        newlines = 0
        sentences = brackets = lorem = 0
        replaced = 0
        place = start
        while place <= end:
            if place == end:
                code = np.uint32(10)
                kind = NEWLINE
                width = 1
            else:
                byte = data[place]
                if byte < 0x80:
                    code = np.uint32(byte)
                    width = 1
                elif byte < 0xE0:
                    code = (np.uint32(byte & 0x1F) << np.uint32(6)) | np.uint32(data[place + 1] & 0x3F)
                    width = 2
                elif byte < 0xF0:
                    code = (
                        (np.uint32(byte & 0x0F) << np.uint32(12))
                        | (np.uint32(data[place + 1] & 0x3F) << np.uint32(6))
                        | np.uint32(data[place + 2] & 0x3F)
                    )
                    width = 3
                else:
                    code = (
                        (np.uint32(byte & 0x07) << np.uint32(18))
                        | (np.uint32(data[place + 1] & 0x3F) << np.uint32(12))
                        | (np.uint32(data[place + 2] & 0x3F) << np.uint32(6))
                        | np.uint32(data[place + 3] & 0x3F)
                    )
                    width = 4
                kind = table[code] if code < last_table else OTHER
                kinds[kind] += 1
            is_unit = kind == HAN or kind == KANA
            if word_chars > 0 and (is_unit or kind == SPACE or kind == NEWLINE):
                words[n_words] = word_hash
                ends[n_words + 1] = ends[n_words] + word_chars + word_spaced
                letters[n_words + 1] = letters[n_words] + word_chars
                n_words += 1
                line_words += 1
                line_hash = _mix(line_hash * SPREAD + word_hash)
                if word_has_letter:
                    alpha_words += 1
                if word_has_content:
                    content_words += 1
                    content_chars += word_chars
                if word_chars > LONG_WORD:
                    line_long_word = True
                if word_chars <= 4:
                    for number in range(len(stops_en)):
                        if stops_en[number] == word_hash:
                            stop_en |= 1 << number
                word_hash = SEED
                word_chars = 0
                word_has_letter = word_has_content = False
                spaced = False
            if kind == NEWLINE:
                if place < end:
                    newlines += 1
                if not line_blank:
                    lines[n_lines] = line_hash
                    line_chars[n_lines] = line_length
                    n_lines += 1
                    longest_line = max(longest_line, line_length)
                    if line_bullet:
                        bullets += 1
                    three = last == 46 and before_last == 46 and before_that == 46
                    if last == 0x2026 or three:
                        ellipsis_lines += 1
                    is_terminal = False
                    for number in range(len(terminals)):
                        if terminals[number] == last:
                            is_terminal = True
                    if is_terminal:
                        punctuated += 1
                    if line_length <= SHORT_LINE:
                        short += 1
                    closes = is_terminal or last == 34 or last == 39 or last == 0x201D or last == 0x2019
                    if closes and not three and not line_long_word and line_words >= C4_MIN_WORDS:
                        if line_lorem:
                            lorem += 1
                        elif not line_phrase:
                            if line_bracket:
                                brackets += 1
                            sentences += max(line_sentences, 1)
                    paragraph_hash = _mix(paragraph_hash * SPREAD + line_hash)
                    paragraph_length += line_length + (1 if paragraph_length else 0)
                newline_run += 1
                if (newline_run == 2 or place == end) and paragraph_length:
                    paragraphs[n_paragraphs] = paragraph_hash
                    paragraph_chars[n_paragraphs] = paragraph_length
                    n_paragraphs += 1
                    paragraph_hash = SEED
                    paragraph_length = 0
                line_hash = SEED
                line_length = line_words = line_sentences = 0
                line_blank = True
                line_bullet = line_long_word = line_phrase = line_lorem = line_bracket = False
                last = before_last = before_that = np.uint32(0)
                gap = 0
                spaced = True
                place += width
                continue
            newline_run = 0
            line_length += 1
            if kind == SPACE:
                line_hash = (line_hash ^ np.uint64(code)) * PRIME
                spaced = True
                gap += 1
                place += width
                continue
            if line_blank:
                line_blank = False
                line_bullet = code == 45 or code == 0x2022
            if gap and (last == 46 or last == 63 or last == 33):
                line_sentences += 1  # a sentence ended before this white space
            gap = 0
            before_that, before_last, last = before_last, last, code
            if is_unit:
                value = _mix(np.uint64(code) * SPREAD)
                words[n_words] = value
                extra = 1 if spaced and n_words > 0 else 0
                ends[n_words + 1] = ends[n_words] + 1 + extra
                letters[n_words + 1] = letters[n_words] + 1
                n_words += 1
                line_words += 1
                alpha_words += 1
                content_words += 1
                content_chars += 1
                line_hash = _mix(line_hash * SPREAD + value)
                spaced = False
                for number in range(len(stops_zh)):
                    if stops_zh[number] == code:
                        stop_zh |= 1 << number
            else:
                if word_chars == 0:
                    word_spaced = 1 if spaced and n_words > 0 else 0
                word_hash = (word_hash ^ np.uint64(code)) * PRIME
                word_chars += 1
                if LATIN <= kind <= LETTER:
                    word_has_letter = word_has_content = True
                    if code < 128 and word_chars == 1 and trigger[code]:
                        phrase = _phrase_at(data, place, end, phrases, phrase_starts)
                        if phrase == 0:
                            line_lorem = True
                        elif phrase > 0:
                            line_phrase = True
                elif kind == PUNCTUATION or kind == SYMBOL:
                    if code == 35:
                        hashes += 1
                    elif code == 0x2026:
                        ellipses += 1
                    elif code == 123:
                        line_bracket = True
                    elif code == 46 and before_last == 46 and before_that == 46:
                        ellipses += 1
                        last = np.uint32(0x2026)  # three points are one sign: a fourth begins another
                    elif code == 0x3002 or code == 0xFF01 or code == 0xFF1F:
                        line_sentences += 1
                else:
                    word_has_content = True
                    if code == 0xFFFD:
                        replaced += 1
            place += width
        counts[doc, C_BYTES] = end - start
        chars = newlines
        for k in range(CLASSES):
            chars += kinds[k]
        chars -= newlines  # newlines are among the kinds
        letter_total = 0
        for k in range(LATIN, LETTER + 1):
            letter_total += kinds[k]
        visible = max(1, chars - kinds[SPACE] - kinds[NEWLINE])
        counts[doc, C_CHARS] = chars
        counts[doc, C_WORDS] = n_words
        counts[doc, C_LINES] = n_lines
        counts[doc, C_PARAGRAPHS] = n_paragraphs
        counts[doc, C_STOP_EN] = _bits(stop_en)
        counts[doc, C_STOP_ZH] = _bits(stop_zh)
        counts[doc, C_HAN] = kinds[HAN]
        counts[doc, C_SENTENCES] = sentences
        counts[doc, C_BRACKETS] = brackets
        counts[doc, C_LOREM] = lorem
        counts[doc, C_REPLACED] = replaced
        per_word = 1.0 / max(1, n_words)
        per_line = 1.0 / max(1, n_lines)
        per_char = 1.0 / max(1, chars)
        per_letter = 1.0 / max(1, letter_total)
        shares[doc, S_WORD_CHARS] = content_chars / max(1, content_words)
        shares[doc, S_HASH] = hashes * per_word
        shares[doc, S_ELLIPSIS] = ellipses * per_word
        shares[doc, S_BULLET] = bullets * per_line
        shares[doc, S_ELLIPSIS_LINES] = ellipsis_lines * per_line
        shares[doc, S_ALPHA] = alpha_words * per_word
        stamp += 1
        twice, characters = _duplicates(lines, line_chars, n_lines, keys, stamps, stamp)
        shares[doc, S_DUP_LINES] = twice * per_line
        shares[doc, S_DUP_LINE_CHARS] = characters / max(1, chars - newlines)
        stamp += 1
        twice, characters = _duplicates(paragraphs, paragraph_chars, n_paragraphs, keys, stamps, stamp)
        shares[doc, S_DUP_PARAGRAPHS] = twice / max(1, n_paragraphs)
        shares[doc, S_DUP_PARAGRAPH_CHARS] = characters * per_char
        grams[:] = 0
        stamp = _repetition(words, ends, letters, n_words, rolling, places, slots, keys, stamps, tally, stamp, grams)
        for n in range(2, 11):
            shares[doc, S_TOP2 + n - 2] = min(1.0, grams[n] * per_char)
        shares[doc, S_PUNCTUATED] = punctuated * per_line
        shares[doc, S_SHORT] = short * per_line
        shares[doc, S_NEWLINES] = newlines * per_word
        shares[doc, S_LETTERS] = letter_total / visible
        shares[doc, S_SYMBOLS] = kinds[SYMBOL] / visible
        shares[doc, S_DIGITS] = kinds[DIGIT] / visible
        shares[doc, S_HAN] = kinds[HAN] * per_letter
        shares[doc, S_LATIN] = kinds[LATIN] * per_letter
        shares[doc, S_KANA] = kinds[KANA] * per_letter
        shares[doc, S_HANGUL] = kinds[HANGUL] * per_letter
        others = letter_total - kinds[HAN] - kinds[LATIN] - kinds[KANA] - kinds[HANGUL]
        shares[doc, S_OTHER_SCRIPTS] = others * per_letter
        shares[doc, S_LONGEST_LINE] = longest_line * per_char


@numba.njit(cache=True, nogil=True, inline="always")
def _bits(value: int) -> int:
    total = 0
    while value:
        total += value & 1
        value >>= 1
    return total


def measure(data: Bytes, offsets: Offsets) -> tuple[Counts, Shares]:
    """Counts [documents, len(COUNTS)] and shares [documents, len(SHARES)]; document i is `data[offsets[i]:offsets[i + 1]]`.

    The bytes are valid UTF-8. A text of nothing has zeros everywhere; no figure is ever NaN or infinite.
    """
    counts = np.zeros((len(offsets) - 1, len(COUNTS)), np.int64)
    shares = np.zeros((len(offsets) - 1, len(SHARES)), np.float64)
    if len(offsets) > 1:
        _measure(
            data, offsets, class_table(), _STOPS_EN, _STOPS_ZH, _TERMINALS, _PHRASE_BYTES, _PHRASE_STARTS,
            _PHRASE_TRIGGER, counts, shares,
        )  # fmt: skip
    return counts, shares

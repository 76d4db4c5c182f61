"""Document statistics in one pass over UTF-8 bytes, compiled by numba.

A word is a run of characters between white space, or one Han or kana character. Lines are runs between newlines, those of
white space alone left out; paragraphs are runs of lines between two or more newlines. Measured (benchmarks/RESULTS.md, rows
`filters-en` and `filters-zh`): two orders of magnitude faster than the same figures from Python strings. The plain version,
which says in short what each figure is, is in tests/tasks/kernels/plain_figures.py.

Sources of the figures: Gopher, arXiv 2112.11446, table A1 and section A.1.1; C4, JMLR 21 (2020) 140, section 2.2;
FineWeb, arXiv 2406.17557, section 3.6.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.kernels.character_classes import (
    CLASSES,
    DIGIT,
    EAST_WEIGHT,
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
    sentence_ends,
)
from tasks.kernels.machine_code import numba
from tasks.kernels.statistics_columns import COUNTS, SHARES
from tasks.kernels.utf8 import PRIME, SEED, SPREAD, Bytes, Hashes, Offsets, code_at, mix, most_units

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SHORT_LINE = 30  # code points; FineWeb
LONG_WORD = 1000  # code points; C4
C4_MIN_WORDS = 3
LONGEST_STOP = 4  # code points of the longest English stop word

(C_BYTES, C_CHARS, C_LENGTH, C_WORDS, C_LINES, C_PARAGRAPHS, C_STOP_EN, C_STOP_ZH, C_HAN, C_SENTENCES, C_BRACKETS, C_LOREM,
 C_REPLACED) = range(len(COUNTS))  # fmt: skip
(S_WORD_CHARS, S_HASH, S_ELLIPSIS, S_BULLET, S_ELLIPSIS_LINES, S_ALPHA, S_DUP_LINES, S_DUP_LINE_CHARS, S_DUP_PARAGRAPHS,
 S_DUP_PARAGRAPH_CHARS, S_TOP2, S_TOP3, S_TOP4, S_DUP5, S_DUP6, S_DUP7, S_DUP8, S_DUP9, S_DUP10, S_PUNCTUATED, S_SHORT,
 S_NEWLINES, S_LETTERS, S_SYMBOLS, S_DIGITS, S_HAN, S_LATIN, S_KANA, S_HANGUL, S_OTHER_SCRIPTS,
 S_LONGEST_LINE) = range(len(SHARES))  # fmt: skip

STOP_EN = ("the", "be", "to", "of", "and", "that", "have", "with")
STOP_ZH = "的一是不了在有我他这這个個们們中为為和也就"
LOREM, JAVASCRIPT = 0, 1  # numbers of the first two phrases; those behind them are C4's policy phrases
PHRASES = (
    b"lorem ipsum",
    b"javascript",
    b"terms of use",
    b"privacy policy",
    b"cookie policy",
    b"uses cookies",
    b"use of cookies",
    b"use cookies",
)
END_BEFORE_SPACE, END = 1, 2  # what sentence punctuation asks for before the next sentence begins; 0: none stood before


class Lookup(NamedTuple):
    """What the scan looks up."""

    classes: Bytes
    ends: Flags  # code point -> whether it ends a sentence
    stops_en: Hashes
    stops_zh: npt.NDArray[np.uint32]
    phrases: Bytes  # each closed by a zero
    phrase_starts: Offsets
    phrase_thirds: Bytes  # low five bits of a phrase's first two letters -> those of its third; 0 where none begins so


class Room(NamedTuple):
    """Working arrays, for the longest document of a batch."""

    words: Hashes
    ends: Counts  # characters up to each word, one for the white space before each included
    letters: Counts  # the same without white space
    rolling: Hashes
    positions: Counts
    slots: Counts
    lines: Hashes
    line_chars: Counts
    paragraphs: Hashes
    paragraph_chars: Counts
    keys: Hashes  # of the hash table, where an entry is in use when its stamp is that of the pass
    stamps: Counts
    tally: Counts


def _fnv(word: str) -> int:
    value = int(SEED)
    for character in word:
        value = ((value ^ ord(character)) * int(PRIME)) % 2**64
    return value


def _lookup() -> Lookup:
    thirds = np.zeros(1024, dtype=np.uint8)
    for phrase in PHRASES:  # no two begin with the same two letters and go on with another
        thirds[(phrase[0] & 31) * 32 + (phrase[1] & 31)] = phrase[2] & 31
    return Lookup(
        classes=class_table(),
        ends=sentence_ends(),
        stops_en=np.array([_fnv(word) for word in STOP_EN], dtype=np.uint64),
        stops_zh=np.array([ord(character) for character in STOP_ZH], dtype=np.uint32),
        phrases=np.frombuffer(b"".join(phrase + b"\0" for phrase in PHRASES), dtype=np.uint8),
        phrase_starts=np.cumsum([0, *(len(phrase) + 1 for phrase in PHRASES[:-1])], dtype=np.int64),
        phrase_thirds=thirds,
    )


@numba.njit(cache=True, nogil=True)
def _room(words: int) -> Room:
    size = _table_size(words)
    return Room(
        np.empty(words, np.uint64), np.zeros(words + 1, np.int64), np.zeros(words + 1, np.int64),
        np.empty(words, np.uint64), np.empty(words, np.int64), np.empty(words, np.int64),
        np.empty(words, np.uint64), np.empty(words, np.int64), np.empty(words, np.uint64), np.empty(words, np.int64),
        np.empty(size, np.uint64), np.zeros(size, np.int64), np.empty(size, np.int64),
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _table_size(entries: int) -> int:
    """A power of two, at most half of it filled. Small for a small document, whatever the batch's longest one is."""
    size = 64
    while size < 2 * entries:
        size *= 2
    return size


@numba.njit(cache=True, nogil=True)
def _phrase_at(data: Bytes, start: int, end: int, lookup: Lookup) -> int:
    """Number of the phrase that begins here, ASCII letters of any case, or -1."""
    for number in range(len(lookup.phrase_starts)):
        letter = lookup.phrase_starts[number]
        at = start
        while at < end and lookup.phrases[letter] != 0:
            byte = data[at]
            if 65 <= byte <= 90:
                byte += np.uint8(32)
            if byte != lookup.phrases[letter]:
                break
            letter += 1
            at += 1
        if lookup.phrases[letter] == 0:
            return number
    return -1


@numba.njit(cache=True, nogil=True)
def _duplicates(hashes: Hashes, chars: Counts, count: int, room: Room, stamp: int) -> tuple[int, int]:
    """How many of `count` elements stood before, and their characters."""
    keys, stamps = room.keys, room.stamps
    mask = np.uint64(_table_size(count) - 1)
    twice = 0
    characters = 0
    for i in range(count):
        value = hashes[i]
        slot = mix(value) & mask
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
def _repetition(count: int, room: Room, stamp: int, out: Counts) -> int:
    """Characters of the most frequent 2- to 4-gram and of repeated 5- to 10-grams, into `out[2..10]`.

    An n-gram can only recur where both its (n-1)-grams do, so each pass looks at the positions that are left of the one
    before. Repeated n-grams are counted from left to right without overlap; of equally frequent ones the first counts.
    Gives the last stamp used.
    """
    words, ends, letters, rolling = room.words, room.ends, room.letters, room.rolling
    positions, slots, keys, stamps, tally = room.positions, room.slots, room.keys, room.stamps, room.tally
    mask = np.uint64(_table_size(count) - 1)
    left = count - 1
    for i in range(left):
        positions[i] = i
        rolling[i] = mix(np.uint64(words[i] * SPREAD + words[i + 1]))
    for n in range(2, 11):
        if n > 2:
            kept = 0
            for j in range(left - 1):  # both neighbours recur: `positions` ascends
                here = positions[j]
                if positions[j + 1] == here + 1:
                    rolling[here] = mix(np.uint64(rolling[here] * SPREAD + words[here + n - 1]))
                    positions[kept] = here
                    kept += 1
            left = kept
        if left <= 0:
            break
        stamp += 1
        for j in range(left):
            value = np.uint64(rolling[positions[j]])
            slot = mix(value) & mask
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
                    first = positions[j]
            if most > 1:
                space_before = ends[first + 1] - ends[first] - (letters[first + 1] - letters[first])
                out[n] = most * (ends[first + n] - ends[first] - space_before)
        else:
            out[n] = _repeated_chars(left, n, room)
        kept = 0
        for j in range(left):
            if tally[slots[j]] != 1:
                positions[kept] = positions[j]
                kept += 1
        left = kept
    return stamp


@numba.njit(cache=True, nogil=True)
def _repeated_chars(left: int, n: int, room: Room) -> int:
    """Characters of n-grams that stood before, left to right, going on behind each. A seen n-gram's tally turns negative."""
    total = 0
    free = 0
    for j in range(left):
        here = room.positions[j]
        slot = room.slots[j]
        if here < free or room.tally[slot] == 1:
            continue
        if room.tally[slot] < 0:
            total += room.letters[here + n] - room.letters[here]
            free = here + n
        else:
            room.tally[slot] = -room.tally[slot]
    return int(total)


@numba.njit(cache=True, nogil=True)
def _scan(data: Bytes, start: int, end: int, lookup: Lookup, room: Room, counts: Counts, shares: Shares) -> int:
    """One document's counts, and its shares but for those on repetition; its words, lines and paragraphs, into `room`.

    Gives the number of its newlines.
    """
    classes, words, ends, letters = lookup.classes, room.words, room.ends, room.letters
    last_class = len(classes) - 1
    kinds = np.zeros(CLASSES, np.int64)
    n_words = n_lines = n_paragraphs = 0
    word_hash = SEED
    word_chars = word_spaced = 0
    word_has_letter = word_has_content = False
    spaced = False  # white space since the last word
    alpha_words = content_words = content_chars = 0
    hashes = ellipses = replaced = 0
    stop_en = stop_zh = 0  # one bit a stop word
    line_hash = paragraph_hash = SEED
    line_length = line_words = line_sentences = paragraph_length = longest_line = 0
    line_blank = True
    line_bullet = line_long_word = line_lorem = line_javascript = line_policy = line_bracket = False
    ending = 0
    last = np.uint32(0)  # character of the line that is not white space
    gap = False  # white space behind `last`
    points = 0  # full stops in a row up to `last`
    bullets = ellipsis_lines = punctuated = short = 0
    newline_run = 0
    sentences = brackets = lorem = 0
    at = start
    while at <= end:
        if at == end:  # as if the text ended in a newline
            code, width = np.uint32(10), 1
            kind = np.uint8(NEWLINE)
        else:
            code, width = code_at(data, at)
            kind = classes[code] if code < last_class else np.uint8(OTHER)
            kinds[kind] += 1
        is_unit = kind == HAN or kind == KANA
        if word_chars > 0 and (is_unit or kind == SPACE or kind == NEWLINE):
            words[n_words] = word_hash
            ends[n_words + 1] = ends[n_words] + word_chars + word_spaced
            letters[n_words + 1] = letters[n_words] + word_chars
            n_words += 1
            line_words += 1
            line_hash = mix(line_hash * SPREAD + word_hash)
            if word_has_letter:
                alpha_words += 1
            if word_has_content:
                content_words += 1
                content_chars += word_chars
            if word_chars > LONG_WORD:
                line_long_word = True
            if word_chars <= LONGEST_STOP:
                for number in range(len(lookup.stops_en)):
                    if lookup.stops_en[number] == word_hash:
                        stop_en |= 1 << number
            word_hash = SEED
            word_chars = 0
            word_has_letter = word_has_content = False
            spaced = False
        if kind == NEWLINE:
            if not line_blank:
                room.lines[n_lines] = line_hash
                room.line_chars[n_lines] = line_length
                n_lines += 1
                longest_line = max(longest_line, line_length)
                if line_bullet:
                    bullets += 1
                if last == 0x2026 or points >= 3:
                    ellipsis_lines += 1
                is_ended = lookup.ends[last] if last < len(lookup.ends) else False
                if is_ended:
                    punctuated += 1
                if line_length <= SHORT_LINE:
                    short += 1
                is_closed = is_ended or last == 34 or last == 39 or last == 0x201D or last == 0x2019
                if is_closed and points < 3 and not line_long_word and line_words >= C4_MIN_WORDS:
                    if line_lorem:
                        lorem += 1
                    elif not line_javascript:
                        if line_bracket:
                            brackets += 1
                        if not line_policy:
                            sentences += line_sentences + 1
                paragraph_hash = mix(paragraph_hash * SPREAD + line_hash)
                paragraph_length += line_length + (1 if paragraph_length else 0)
            newline_run += 1
            if (newline_run == 2 or at == end) and paragraph_length:
                room.paragraphs[n_paragraphs] = paragraph_hash
                room.paragraph_chars[n_paragraphs] = paragraph_length
                n_paragraphs += 1
                paragraph_hash = SEED
                paragraph_length = 0
            line_hash = SEED
            line_length = line_words = line_sentences = 0
            line_blank = True
            line_bullet = line_long_word = line_lorem = line_javascript = line_policy = line_bracket = False
            ending = points = 0
            gap = False
            spaced = True
            at += 1
            continue
        newline_run = 0
        line_length += 1
        if kind == SPACE:
            line_hash = (line_hash ^ np.uint64(code)) * PRIME
            spaced = gap = True
            at += width
            continue
        if line_blank:
            line_blank = False
            line_bullet = code == 45 or code == 0x2022
        if kind != PUNCTUATION:
            points = 0
            if ending == END or (ending and gap and not 97 <= code <= 122):  # no sentence begins with a small letter
                line_sentences += 1
            ending = 0
        if is_unit:
            value = mix(np.uint64(code) * SPREAD)
            words[n_words] = value
            ends[n_words + 1] = ends[n_words] + (2 if spaced and n_words > 0 else 1)
            letters[n_words + 1] = letters[n_words] + 1
            n_words += 1
            line_words += 1
            alpha_words += 1
            content_words += 1
            content_chars += 1
            line_hash = mix(line_hash * SPREAD + value)
            spaced = False
            for number in range(len(lookup.stops_zh)):
                if lookup.stops_zh[number] == code:
                    stop_zh |= 1 << number
        else:
            if word_chars == 0:
                word_spaced = 1 if spaced and n_words > 0 else 0
            word_hash = (word_hash ^ np.uint64(code)) * PRIME
            word_chars += 1
            if LATIN <= kind <= LETTER:
                word_has_letter = word_has_content = True
                if code < 128 and at + 2 < end:
                    third = lookup.phrase_thirds[(code & 31) * 32 + (data[at + 1] & 31)]
                    if third and third == data[at + 2] & 31:
                        phrase = _phrase_at(data, at, end, lookup)
                        line_lorem |= phrase == LOREM
                        line_javascript |= phrase == JAVASCRIPT
                        line_policy |= phrase > JAVASCRIPT
            elif kind == PUNCTUATION:
                is_end = lookup.ends[code] if code < len(lookup.ends) else False
                if ending and not is_end and (gap or not _closes(code)):
                    if gap or ending == END:
                        line_sentences += 1
                    ending = 0
                if is_end:
                    ending = END_BEFORE_SPACE if code < 128 else END
                points = (1 if gap else points + 1) if code == 46 else 0
                if code == 0x2026 or (points and points % 3 == 0):
                    ellipses += 1
                elif code == 35:
                    hashes += 1
                elif code == 123:
                    line_bracket = True
            elif kind == SYMBOL:
                if code == 0xFFFD:
                    replaced += 1
            else:
                word_has_content = True
        last = code
        gap = False
        at += width
    chars = letter_total = 0
    for kind in range(CLASSES):
        chars += kinds[kind]
        if LATIN <= kind <= LETTER:
            letter_total += kinds[kind]
    counts[C_BYTES] = end - start
    counts[C_CHARS] = chars
    counts[C_LENGTH] = chars + (EAST_WEIGHT - 1) * (kinds[HAN] + kinds[KANA] + kinds[HANGUL])
    counts[C_WORDS] = n_words
    counts[C_LINES] = n_lines
    counts[C_PARAGRAPHS] = n_paragraphs
    counts[C_STOP_EN] = _bits(stop_en)
    counts[C_STOP_ZH] = _bits(stop_zh)
    counts[C_HAN] = kinds[HAN]
    counts[C_SENTENCES] = sentences
    counts[C_BRACKETS] = brackets
    counts[C_LOREM] = lorem
    counts[C_REPLACED] = replaced
    # Divided, not multiplied by 1 / n: 3 of 10 is the 0.3 of a rule, 3 * (1 / 10) is above it.
    shares[S_WORD_CHARS] = content_chars / max(1, content_words)
    per_word = max(1, n_words)
    shares[S_HASH] = hashes / per_word
    shares[S_ELLIPSIS] = ellipses / per_word
    shares[S_ALPHA] = alpha_words / per_word
    shares[S_NEWLINES] = kinds[NEWLINE] / per_word
    per_line = max(1, n_lines)
    shares[S_BULLET] = bullets / per_line
    shares[S_ELLIPSIS_LINES] = ellipsis_lines / per_line
    shares[S_PUNCTUATED] = punctuated / per_line
    shares[S_SHORT] = short / per_line
    shares[S_LONGEST_LINE] = longest_line / max(1, chars)
    visible = max(1, chars - kinds[SPACE] - kinds[NEWLINE])
    shares[S_LETTERS] = letter_total / visible
    shares[S_SYMBOLS] = kinds[SYMBOL] / visible
    shares[S_DIGITS] = kinds[DIGIT] / visible
    per_letter = max(1, letter_total)
    shares[S_HAN] = kinds[HAN] / per_letter
    shares[S_LATIN] = kinds[LATIN] / per_letter
    shares[S_KANA] = kinds[KANA] / per_letter
    shares[S_HANGUL] = kinds[HANGUL] / per_letter
    others = letter_total - kinds[HAN] - kinds[LATIN] - kinds[KANA] - kinds[HANGUL]
    shares[S_OTHER_SCRIPTS] = others / per_letter
    return kinds[NEWLINE]


@numba.njit(cache=True, nogil=True, inline="always")
def _closes(code: np.uint32) -> bool:
    """Whether a quote or bracket may stand between a sentence's punctuation and its end: ) ] " ' ’ ” 」 』 】 》 ）."""
    return (
        code == 41 or code == 93 or code == 34 or code == 39 or code == 0x2019 or code == 0x201D
        or code == 0x300D or code == 0x300F or code == 0x3011 or code == 0x300B or code == 0xFF09
    )  # fmt: skip


@numba.njit(cache=True, nogil=True, inline="always")
def _bits(value: int) -> int:
    total = 0
    while value:
        total += value & 1
        value >>= 1
    return total


@numba.njit(cache=True, nogil=True)
def _measure(data: Bytes, offsets: Offsets, lookup: Lookup, counts: Counts, shares: Shares) -> None:
    room = _room(most_units(offsets))
    grams = np.zeros(11, np.int64)
    stamp = 0
    for doc in range(len(offsets) - 1):
        count, share = counts[doc], shares[doc]
        newlines = _scan(data, offsets[doc], offsets[doc + 1], lookup, room, count, share)
        stamp += 1
        twice, characters = _duplicates(room.lines, room.line_chars, count[C_LINES], room, stamp)
        share[S_DUP_LINES] = twice / max(1, count[C_LINES])
        share[S_DUP_LINE_CHARS] = characters / max(1, count[C_CHARS] - newlines)
        stamp += 1
        twice, characters = _duplicates(room.paragraphs, room.paragraph_chars, count[C_PARAGRAPHS], room, stamp)
        share[S_DUP_PARAGRAPHS] = twice / max(1, count[C_PARAGRAPHS])
        chars = max(1, count[C_CHARS])
        share[S_DUP_PARAGRAPH_CHARS] = characters / chars
        grams[:] = 0
        stamp = _repetition(count[C_WORDS], room, stamp, grams)
        for n in range(2, 11):  # "a a a a": the 2-grams of a run lie over one another and could be more than all
            share[S_TOP2 + n - 2] = min(1.0, grams[n] / chars)


def measure(data: Bytes, offsets: Offsets) -> tuple[Counts, Shares]:
    """Counts [documents, len(COUNTS)] and shares [documents, len(SHARES)]; document i is `data[offsets[i]:offsets[i + 1]]`.

    The bytes are valid UTF-8. A text of nothing has zeros everywhere; no figure is ever NaN or infinite.
    """
    counts = np.zeros((len(offsets) - 1, len(COUNTS)), np.int64)
    shares = np.zeros((len(offsets) - 1, len(SHARES)), np.float64)
    if len(offsets) > 1:
        _measure(data, offsets, _lookup(), counts, shares)
    return counts, shares

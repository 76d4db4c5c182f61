"""Mojibake: UTF-8 that was read as Latin-1 or Windows-1252, found by what no language writes, and put right.

A sequence is what the two to four bytes of one character became: `é` is `Ã©`, `’` is `â€™`. Some of them cannot be language;
these are put right wherever they stand in prose. Others can: `Â` before a blank or `²` is an operator, `Ã” ` the end of a
Portuguese quotation, `à «` French. They follow only where the rest of the text gives evidence: sequences of the first kind,
and next to no letter that was read rightly. Code is left alone, for what it spells is meant.
"""

import bisect
import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

HEALTHY_SHARE = 0.1  # of letters that were read rightly, to sequences that prove damage: above it the text is a mixed one
WEAK_TIMES = 4  # as many doubtful sequences as sure ones are believed; Czech and Polish need three, see the tests

_CP1252 = {byte: bytes([byte]).decode("cp1252", "replace") for byte in range(0x80, 0xC0)}
_TRAILS = {byte: character if character != "\ufffd" else chr(byte) for byte, character in _CP1252.items()}
_BYTES = {character: byte for byte, character in _TRAILS.items()} | {chr(code): code for code in range(0x80, 0x100)}
_AS_BYTES = str.maketrans({character: chr(byte) for character, byte in _BYTES.items()})
# Written behind a letter, and before a blank or a letter, in one language or another: quotes, dashes, footnotes, guillemets.
_TYPOGRAPHIC = "‚„‘’“”‹›«»–—…•·\xa0\xad²³¹±°®™"
_OPENING = "‚„‘“‹"  # stand before a word: not between two letters
_COMMON_C2 = "¡¢£¤¥¦§¨©¬®¯´µ¶¸¼½¾¿°"  # of U+00A0 to U+00BF: those that no one writes behind a capital Â
LATER_LETTERS = ("É™", "Æ¡", "Æ°", "È™", "È›", "Èš")  # ə, ơ, ư, ș, ț, Ț: Azerbaijani, Vietnamese, Romanian

LOSSY = re.compile("(?<=[^\\s\"'“‘«(\\[])Â(?= )|(?<![A-ZÀ-Þ])Ã (?= )|(?<![A-ZÀ-Þ])Ã(?= [^A-ZÀ-Þ])")  # whose no-break space became a blank
LOST_QUOTE = re.compile("â€\ufffd|â€(?=[\\s.,;:!?)\\]]|$)")
STRAY_CONTROL = re.compile("[\x80\x82-\x84\x86-\x8c\x8e\x91-\x9c\x9e\x9f]")  # Windows-1252 read as Latin-1; NEL is a line end
CODE_CHARS = 1_000  # a longer line is a paragraph
FENCE = re.compile(" {0,3}(`{3,}|~{3,})")
INLINE_CODE = re.compile("(`+)[^`]+\\1")
INDENTED = re.compile(r"(?: {4}| {0,3}\t)[ \t]*\S")
PROMPT = re.compile(r"\s*(?:>>> |\.\.\. |\$ |In \[\d+\]: )")
CODE = re.compile(
    r"""\s*(?:def|class|import|from|return|if|elif|for|while|assert|print|raise|with|const|let|var|function|public|private|static
    |case|fn|func|echo|printf|\#include|\#define)\b[^.?!]*[({:;="'][^.?!]*["'({:;)]\s*$
    | \s*[\w.\[\]"'$]+\s*(?:[-+*/|&.]?=|==|!=|:=|=>)\s*[rbfu]{0,2}["'\[({]
    | .*[\w\])](?:\(|\[)[rbfu]{0,2}["'].*["'][\])]
    | \s*["'][^"']*["']\s*[:,]\s*(?:["'\[{\d].*)?[,}\]]?\s*$
    | .*["']\s*(?:==|!=|\+|=>)\s*[rbfu]?["'\w]
    | .*[=(].*;\s*$
    | .*[)=\w]\s*\{\s*$
    | \s*[{(\[]\s*["'].*["'].*[})\]]\s*,?\s*$""",
    re.VERBOSE,
)


class Damage(NamedTuple):
    """`text[start:end]` stands for `character`; `is_sure` says that it cannot be language, `is_likely` that it may be damage."""

    start: int
    end: int
    character: str
    is_sure: bool
    is_likely: bool = True


def without_mojibake(text: str) -> str:
    """The text with its damage put right, one layer of it: what was damaged twice wants another call."""
    found = list(_sequences(text))
    if not any(damage.is_sure for damage in found):
        return STRAY_CONTROL.sub(_as_windows, text)
    code = _Spans(_code_spans(text))
    found = [damage for damage in found if damage.start not in code]
    sure = sum(damage.is_sure for damage in found)
    scripts = {_script(damage.character) for damage in found if damage.is_sure}
    found = [damage for damage in found if damage.is_likely or _script(damage.character) in scripts]
    lossy = [match for pattern in (LOSSY, LOST_QUOTE) for match in pattern.finditer(text) if match.start() not in code] if sure else []
    doubtful = len(found) - sure + len(lossy)
    if sure and doubtful and doubtful <= WEAK_TIMES * sure and _healthy(text, found, lossy, code) <= HEALTHY_SHARE * sure:
        chosen = [*found, *(Damage(match.start(), match.end(), _restored(match[0]), False) for match in lossy)]
    else:
        chosen = [damage for damage in found if damage.is_sure]
    parts: list[str] = []
    last = 0
    for start, end, character, *_ in sorted(chosen):
        parts += (text[last:start], character)
        last = end
    return STRAY_CONTROL.sub(_as_windows, "".join(parts) + text[last:])


def _restored(lossy: str) -> str:
    return {"Â": "", "Ã": "à", "Ã ": "à"}.get(lossy, "”")  # the blank behind Â is what the no-break space became


def _as_windows(match: re.Match[str]) -> str:
    return bytes([ord(match[0])]).decode("cp1252")


@functools.cache
def _sequence() -> re.Pattern[str]:
    """One character of two to four bytes, as UTF-8 allows them (RFC 3629).

    It begins with one set of characters, which `re` looks for by itself: three times as fast as a choice of beginnings.
    """

    def byte(first: int, last: int) -> str:
        spelled = {_TRAILS[code] for code in range(first, last + 1)} | {chr(code) for code in range(first, last + 1)}
        return "[" + re.escape("".join(sorted(spelled))) + "]"

    trail = byte(0x80, 0xBF)
    return re.compile(
        f"[\xc2-\xf4](?={trail})(?:(?<=[\xc2-\xdf]){trail}"
        f"|(?<=\xe0){byte(0xA0, 0xBF)}{trail}|(?<=[\xe1-\xec\xee\xef]){trail}{{2}}|(?<=\xed){byte(0x80, 0x9F)}{trail}"
        f"|(?<=\xf0){byte(0x90, 0xBF)}{trail}{{2}}|(?<=[\xf1-\xf3]){trail}{{3}}|(?<=\xf4){byte(0x80, 0x8F)}{trail}{{2}})"
    )


def _sequences(text: str) -> Iterator[Damage]:
    """Those that stand for a character that a text can have."""
    run: list[re.Match[str]] = []
    for match in _sequence().finditer(text):
        if run and run[-1].end() != match.start():
            yield from _judged(text, run)
            run = []
        run.append(match)
    yield from _judged(text, run)


def _judged(text: str, run: list[re.Match[str]]) -> Iterator[Damage]:
    """Sequences side by side prove one another, if they spell letters of one script; `Ä…Ä…` is stammered."""
    spelled = [_spelled(match[0]) for match in run]
    is_word = (
        len(run) > 1
        and len({letter.script for letter in spelled if letter.is_letter}) <= 1
        and any(trail not in _TYPOGRAPHIC for match in run for trail in match[0][1:])
    )
    for match, letter in zip(run, spelled, strict=True):
        if letter.is_possible:
            start, end = match.span()
            is_sure = is_word or _cannot_be_language(text[start - 1 : start], match[0], text[end : end + 1])
            yield Damage(start, end, letter.character, is_sure, is_sure or letter.is_plausible)


class _Spelled(NamedTuple):
    """What a sequence stands for, whatever is around it."""

    character: str
    script: str
    is_letter: bool
    is_possible: bool
    is_plausible: bool


@functools.lru_cache(maxsize=10_000)
def _spelled(sequence: str) -> _Spelled:
    character = sequence.translate(_AS_BYTES).encode("latin-1").decode()
    kind = unicodedata.category(character)
    return _Spelled(character, _script(character), kind[0] in "LM", kind not in ("Cn", "Co", "Cc"), _is_plausible(character))


def _script(character: str) -> str:
    name = unicodedata.name(character, "").split(" ")[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "BOPOMOFO") else "MARK" if name == "COMBINING" else name


def _is_plausible(character: str) -> bool:
    """Whether it stands alone in a text of Latin letters: one of them, or punctuation, a symbol, a mark on them."""
    code, kind = ord(character), unicodedata.category(character)
    if kind[0] == "L" and kind != "Lm":
        return (
            0xC0 <= code <= 0x2AF or 0x1E00 <= code <= 0x1EFF or 0xFB00 <= code <= 0xFB06 or character in "ªº" or 0x2100 <= code <= 0x214F
        )
    return kind[0] in "PSNZ" or kind in ("Lm", "Cf") or 0x300 <= code <= 0x36F or code == 0xFE0F


@functools.lru_cache(maxsize=10_000)
def _cannot_be_language(before: str, sequence: str, after: str) -> bool:
    lead, trails = sequence[0], sequence[1:]
    character, *_, is_plausible = _spelled(sequence)
    if not is_plausible:
        return False
    if any("\x80" <= trail <= "\x9f" and trail != "\x85" for trail in trails):
        return lead in "ÂÃÄÅâï" or len(trails) > 1
    if len(trails) > 1:
        return sequence.startswith(("â€", "ðŸ")) or not all(trail in _TYPOGRAPHIC for trail in trails)
    if lead == "Â":
        if character in _COMMON_C2 and (character not in "°®" or not before.isupper()):
            return character not in "°®" or before.isdigit() or before.islower()
        if character in "²³":
            return before == "m"
        return character == "\xa0" and (before.islower() or before.isdigit() or before in tuple(".,;:!?)"))
    if lead not in "ÃÄÅ":
        return sequence in LATER_LETTERS and (before.islower() or after.islower())
    if trails not in _TYPOGRAPHIC:
        return trails not in "ŠšŽž" or lead == "Ã" or (lead in "ÄÅ" and trails in "šž")
    if (lead == "Å" and trails in "²³±·–—°…") or trails in "–—…":
        return before.islower() and after.islower()
    return before.islower() or (trails in _OPENING and after.isalpha()) or (trails not in "’·®™" and after.islower())


def _healthy(text: str, found: list[Damage], lossy: list[re.Match[str]], code: "_Spans") -> int:
    """Letters beyond ASCII that belong to no sequence."""
    taken = {position for damage in found for position in range(damage.start, damage.end)} | {match.start() for match in lossy}
    return sum(
        match.start() not in taken and match[0].isalpha() and match.start() not in code for match in re.finditer("[^\x00-\x7f]", text)
    )


class _Spans:
    """Positions from a start to an end, in order; none overlaps another."""

    def __init__(self, spans: list[tuple[int, int]]) -> None:
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]

    def __contains__(self, position: int) -> bool:
        at = bisect.bisect(self._starts, position)
        return at > 0 and position < self._ends[at - 1]


def _code_spans(text: str) -> list[tuple[int, int]]:
    """Fenced and indented blocks, spans in backquotes, lines at a prompt, and lines that read as source code.

    A paragraph of prose may begin with an indent: a block is one only where the next line is indented too, or empty.
    """
    spans: list[tuple[int, int]] = []
    fence, start, is_block, was_empty = "", 0, False, True
    lines = text.split("\n")
    is_all_indented = all(INDENTED.match(line) for line in lines if line.strip())
    for number, line in enumerate(lines):
        end = start + len(line) + 1
        mark = FENCE.match(line)
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if fence:
            spans.append((start, end))
            fence = "" if mark and mark[1].startswith(fence) and not line[mark.end() :].strip() else fence
        elif mark:
            fence = mark[1]
            spans.append((start, end))
        elif (
            not is_all_indented
            and INDENTED.match(line)
            and (is_block or (was_empty and (not following.strip() or INDENTED.match(following))))
        ):
            is_block = True
            spans.append((start, end))
        else:
            is_block = is_block and not line.strip()
            if PROMPT.match(line) or (len(line) <= CODE_CHARS and CODE.match(line)):
                spans.append((start, end))
            else:
                spans.extend((start + code.start(), start + code.end()) for code in INLINE_CODE.finditer(line))
        was_empty = not line.strip()
        start = end
    return spans

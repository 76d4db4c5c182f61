"""Text repairs: characters that came in damaged, and those that nobody is meant to see.

Most texts need none. One pass over the bytes (tasks/kernels/repair_scan.py) says which steps a text needs; only those run.
"""

import functools
import re
import unicodedata
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from pydantic import Field

from tasks.settings import Section
from tasks.text.lines import LineConfig, LineFilter
from tasks.text.mojibake import without_mojibake
from tasks.text.words import WordConfig, WordRemover

LINE_ENDS = ("\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029")  # as Unicode has them
LINE_SPACE = " \t\xa0\u3000"
INDENT = re.compile("^\u3000[\u3000 \t\xa0]*", re.MULTILINE)
ANY_SCRIPT = re.compile(
    "[\u0300-\u034e\u0350-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe2f\U000e0100-\U000e01ef]"
)
PRIVATE_USE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")
NONE_DROPPED: Mapping[str, int] = MappingProxyType({})
PASSES = 8  # one repair can lay another bare, such as mojibake torn apart by a zero-width space

# What is spelled with characters that nobody sees; elsewhere they are dirt. A joiner (U+200C, U+200D) stands between two
# emoji of one picture (family, flag, profession), or beside a letter of a script that joins: Malayalam's chillu ends in one,
# and Persian puts one between a Latin word and its ending. A zero-width space (U+200B) parts words of scripts without spaces.
JOINED_EMOJI = "©®\u2190-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff"
JOINED_SCRIPTS = (
    "\u0590-\u0dff\u0f00-\u109f\u1780-\u18af\u1a20-\u1aaf\u1b00-\u1bff\ua800-\ua82f\ua8e0-\ua8ff\ua980-\uaaff"
    "\uabc0-\uabff\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc\U00011000-\U00011fff\U0001e900-\U0001e95f"
)
WITHOUT_SPACES = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9ff\uaa00-\uaadf"
MONGOLIAN = "\u1820-\u18aa"  # its vowel separator, U+180E
FLAG = "\U0001f3f4[\U000e0061-\U000e007a]{2}[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,4}\U000e007f"  # England, Texas: emoji tags
TERMINAL = (
    "\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b\n]*(?:\x07|\x1b\\\\))"  # colours and titles of a terminal (ECMA-48), as logs keep them
)
DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202c\u2066-\u2069"  # marks, embeddings, isolates; an override is never meant
HELD_IN_PLACES = ((0x061C, 0x061C), (0x180E, 0x180E), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F))  # see _invisible
RIGHT_TO_LEFT = re.compile("[\u0590-\u061b\u061d-\u08ff\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")

# Letters and marks that the composed form takes apart, puts into another order, or gives another shape: Hebrew points, Arabic
# vowels, Tibetan stacks, Burmese marks, letters of India that Unicode never composes, ideographs of compatibility.
UNCOMPOSED = re.compile(
    "[\u0591-\u05c7\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06ed\u08d3-\u08ff\u0958-\u095f\u09dc-\u09df\u0a33\u0a36\u0a59-\u0a5e"
    "\u0b5c\u0b5d\u0f00-\u0fff\u1037-\u103a\uf900-\ufaff\ufb1d-\ufb4f\U0002f800-\U0002fa1f]+"
)


class RepairConfig(Section):
    """Each step can be switched off; `null` takes a limit away. With all off a text is left as it is."""

    line_ends: bool = Field(default=True, description="CRLF, CR, NEL, LS, PS, VT and FF become a line feed")
    mojibake: bool = Field(default=True, description="UTF-8 that was read as Latin-1 or Windows-1252, once or twice")
    nfc: bool = Field(
        default=True,
        description="Unicode's composed form, where it composes; full-width characters, quotes and the order of Hebrew, Arabic "
        "and Tibetan marks stay",
    )
    invisible: bool = Field(
        default=True,
        description="control, bidirectional, zero-width and tag characters, soft hyphens and noncharacters are removed; joiners stay "
        "where a script or an emoji is spelled with them",
    )
    private_use: bool = Field(default=False, description="private-use characters are removed")
    max_marks: int | None = Field(
        default=4, ge=1, description="combining marks on one character; twice as many of Hebrew, Tibetan and others"
    )
    trailing_spaces: bool = Field(default=True, description="white space before a line end is removed")
    ideographic_indent: bool = Field(default=False, description="U+3000 at the start of a line is removed")
    max_blank_lines: int | None = Field(default=2, ge=0, le=100, description="blank lines in a row; none at a text's two ends")
    words: WordConfig = WordConfig()
    lines: LineConfig = LineConfig()


class Repaired(NamedTuple):
    """`flags` name what was mended besides white space: bidi, control, invisible, marks, mojibake, noncharacter, nul,
    private_use, surrogate. `dropped_lines`: reason -> lines."""

    text: str
    flags: tuple[str, ...] = ()
    dropped_lines: Mapping[str, int] = NONE_DROPPED


class Repairer:
    """Repairs texts. `repair(repair(text).text).text` is `repair(text).text`; lone surrogates become U+FFFD."""

    def __init__(self, config: RepairConfig) -> None:
        from tasks.kernels import repair_scan as scan

        self._scan, self._table = scan, scan.character_table()
        self._config = config
        self._max_newlines = 2**62 if config.max_blank_lines is None else config.max_blank_lines + 1
        self._max_marks = 2**62 if config.max_marks is None else config.max_marks
        self._too_many = None if config.max_blank_lines is None else "\n" * (self._max_newlines + 1)
        self._words = WordRemover(config.words) if config.words != WordConfig() else None
        self._lines = LineFilter(config.lines) if config.lines != LineConfig() else None
        off = 0 if config.line_ends else scan.LINE_END
        off |= 0 if config.mojibake else scan.MOJIBAKE
        off |= 0 if config.invisible else scan.INVISIBLE
        off |= 0 if config.private_use else scan.PRIVATE
        off |= 0 if config.trailing_spaces else scan.TRAILING
        off |= 0 if config.ideographic_indent else scan.INDENT
        self._wanted = 0xFF & ~off

    def repair(self, text: str) -> Repaired:
        """The text after all steps that are switched on."""
        flags: set[str] = set()
        text = self._characters(text, flags)
        if not flags and self._words is None and self._lines is None:
            return Repaired(text)
        if self._words is None and self._lines is None:
            return Repaired(text, tuple(sorted(flags)))
        dropped: dict[str, int] = {}
        for _ in range(PASSES):
            before = text
            text = self._characters(self._words.remove(text), flags) if self._words else text
            if self._lines:
                filtered = self._lines.filter(text)
                dropped = {reason: dropped.get(reason, 0) + lines for reason, lines in filtered.dropped.items()} | {
                    reason: lines for reason, lines in dropped.items() if reason not in filtered.dropped
                }
                text = self._characters(filtered.text, flags)
            if text == before:
                break
        return Repaired(text, tuple(sorted(flags)), dropped)

    def _characters(self, text: str, flags: set[str]) -> str:
        for _ in range(PASSES):
            mended, is_final = self._pass(text, flags)
            if is_final or mended == text:
                return mended
            text = mended
        return text

    def _pass(self, text: str, flags: set[str]) -> tuple[str, bool]:
        """The text after each step it needs, and whether no step can have laid bare another need."""
        scan = self._scan
        if self._too_many:
            text = text.strip("\n")
        try:
            data = text.encode()
        except UnicodeEncodeError:
            flags.add("surrogate")
            text = _without_surrogates(text)
            data = text.encode()
        needs = scan.needed_repairs(data, self._table, self._max_newlines, self._max_marks) & self._wanted
        composed = not self._config.nfc or text.isascii() or unicodedata.is_normalized("NFC", text)
        if not needs and composed:
            return text, True
        is_final = composed and not needs & ~(scan.LINE_END | scan.TRAILING | scan.BLANK)
        if not is_final:
            text = self._mend(text, needs, composed, flags)
        return self._mend_space(text, needs), is_final

    def _mend(self, text: str, needs: int, composed: bool, flags: set[str]) -> str:
        """The steps on characters."""
        scan = self._scan
        if needs & scan.MOJIBAKE:
            text = _noted(text, without_mojibake(text), "mojibake", flags)
        if needs & scan.INVISIBLE:
            text = _without_invisible(text, flags)
        if needs & scan.PRIVATE:
            text = _noted(text, PRIVATE_USE.sub("", text), "private_use", flags)
        if self._config.nfc and not (composed and text.isascii()):
            text = _composed(text)
        if needs & scan.MARKS:
            text = _noted(text, _tower(self._max_marks).sub(partial(_cut, self._max_marks), text), "marks", flags)
        return text

    def _mend_space(self, text: str, needs: int) -> str:
        scan = self._scan
        if needs & scan.LINE_END:
            for line_end in LINE_ENDS:
                text = text.replace(line_end, "\n")
        if needs & scan.INDENT:
            text = INDENT.sub("", text)
        if needs & (scan.TRAILING | scan.LINE_END) and self._config.trailing_spaces:
            text = "\n".join([line.rstrip(LINE_SPACE) for line in text.split("\n")])
        if self._too_many:
            text = text.strip("\n")
            if self._too_many in text:
                parts = (part.lstrip("\n") for part in text.split(self._too_many))
                text = ("\n" * self._max_newlines).join(part for part in parts if part)
        return text


def _noted(text: str, mended: str, flag: str, flags: set[str]) -> str:
    if mended != text:
        flags.add(flag)
    return mended


def _without_surrogates(text: str) -> str:
    """Pairs become the character they stand for, lone ones U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _composed(text: str) -> str:
    if not UNCOMPOSED.search(text):
        return unicodedata.normalize("NFC", text)
    parts: list[str] = []
    last = 0
    for kept in UNCOMPOSED.finditer(text):
        parts += (unicodedata.normalize("NFC", text[last : kept.start()]), kept[0])
        last = kept.end()
    return "".join(parts) + unicodedata.normalize("NFC", text[last:])


def _without_invisible(text: str, flags: set[str]) -> str:
    """Line by line where direction marks may be meant: beside letters that run from right to left."""
    if not re.search(f"[{DIRECTIONS}]", text) or not RIGHT_TO_LEFT.search(text):
        return _removed(_invisible(), text, flags)
    lines = text.split("\n")
    return "\n".join(_removed(_invisible(bool(RIGHT_TO_LEFT.search(line))), line, flags) for line in lines)


def _removed(pattern: re.Pattern[str], text: str, flags: set[str]) -> str:
    def gone(match: re.Match[str]) -> str:
        if match[0][0] == "\U0001f3f4":
            return match[0]
        flags.add(_kind_of_invisible(match[0][0]))
        return ""

    return pattern.sub(gone, text)


@functools.cache
def _invisible(are_directions_meant: bool = False) -> re.Pattern[str]:
    """A flag that is spelled in tags, to be kept, or what is to go."""
    from tasks.kernels.repair_scan import INVISIBLE_RANGES

    planes = [(plane * 0x10000 + 0xFFFE, plane * 0x10000 + 0xFFFF) for plane in range(1, 17)]
    ranges = [pair for pair in (*INVISIBLE_RANGES, *planes) if pair not in HELD_IN_PLACES]
    always = (
        "\u202d\u202e\u206a-\u206f\u2060-\u2065"
        + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
        + ("" if are_directions_meant else DIRECTIONS)
    )
    joiner, emoji, script = "[\u200c\u200d]", f"[{JOINED_EMOJI}]", f"[{JOINED_SCRIPTS}]"
    return re.compile(
        f"{FLAG}|{TERMINAL}|[{always}]"
        f"|(?<!{script}){joiner}(?!{script})(?:(?<!{emoji}.)|(?!{emoji}))"
        f"|(?<![{WITHOUT_SPACES}])\u200b(?![{WITHOUT_SPACES}])"
        f"|(?<![{MONGOLIAN}])\u180e|\u180e(?![{MONGOLIAN}])"
    )


def _kind_of_invisible(character: str) -> str:
    code = ord(character)
    if code == 0:
        return "nul"
    if code < 0xA0:
        return "control"
    if code in (0x61C, 0x200E, 0x200F) or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069:
        return "bidi"
    return "noncharacter" if 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE else "invisible"


@functools.cache
def _tower(max_marks: int) -> re.Pattern[str]:
    """More marks than that on one character."""
    codes = (code for code in range(0x300, 0xE01F0) if unicodedata.category(chr(code)) in ("Mn", "Me"))
    marks = "".join(f"\\U{code:08x}" for code in codes)
    return re.compile(f"[{marks}]{{{max_marks + 1},}}")


def _cut(max_marks: int, tower: re.Match[str]) -> str:
    """A script's own marks may be twice as many: seven of Tibetan, five of Hebrew are spelled."""
    return tower[0][: max_marks if ANY_SCRIPT.search(tower[0]) else 2 * max_marks]

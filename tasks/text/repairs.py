"""Text repairs: characters that came in damaged, and those that nobody is meant to see.

Most texts need none. One pass over the bytes (tasks/kernels/repair_scan.py) says which steps a text needs; only those run.
"""

import functools
import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pydantic import Field

from tasks.settings import Section
from tasks.text.lines import LineConfig, LineFilter
from tasks.text.words import WordConfig, WordRemover

LINE_ENDS = ("\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029")  # as Unicode has them
LINE_SPACE = " \t\xa0\u3000"
INDENT = re.compile("^\u3000[\u3000 \t\xa0]*", re.MULTILINE)
PRIVATE_USE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")
# What ftfy sees at once: it reads a text many times over, at 2 MB/s. Cut between two words of plain ASCII.
SEGMENT = re.compile("(?s).{500,}?(?<=[!-~] )(?=[!-~])|.+")
NONE_DROPPED: Mapping[str, int] = MappingProxyType({})
PASSES = 8  # one repair can lay another bare, such as mojibake torn apart by a zero-width space

# What may hold a joiner (U+200C, U+200D): the emoji that make one picture (family, flag, profession), and the scripts
# that spell with it (Arabic, those of India, Tibetan, Burmese, Khmer, Mongolian). Any other joiner is dirt.
JOINED_EMOJI = "©®\u2190-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff"
JOINED_SCRIPTS = "\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc"


class RepairConfig(Section):
    """Each step can be switched off; `null` takes a limit away. With all off a text is left as it is."""

    line_ends: bool = Field(default=True, description="CRLF, CR, NEL, LS, PS, VT and FF become a line feed")
    mojibake: bool = Field(default=True, description="UTF-8 that was read as Latin-1 or Windows-1252, once or twice")
    nfc: bool = Field(default=True, description="Unicode's composed form; full-width characters and quotes stay")
    invisible: bool = Field(
        default=True, description="control, bidirectional, zero-width and tag characters, soft hyphens and noncharacters are removed"
    )
    private_use: bool = Field(default=False, description="private-use characters are removed")
    max_marks: int | None = Field(default=4, ge=1, description="combining marks on one character; scripts need three")
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
            text = _noted(text, _without_mojibake(text), "mojibake", flags)
        if needs & scan.INVISIBLE:
            flags.update(map(_kind_of_invisible, set(_invisible().findall(text))))
            text = _invisible().sub("", text)
        if needs & scan.PRIVATE:
            text = _noted(text, PRIVATE_USE.sub("", text), "private_use", flags)
        if self._config.nfc and not (composed and text.isascii()):
            text = unicodedata.normalize("NFC", text)
        if needs & scan.MARKS:
            text = _noted(text, _tower(self._max_marks).sub(r"\1", text), "marks", flags)
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


def _without_mojibake(text: str) -> str:
    """ftfy's decoding alone: none of its other repairs, which would turn Chinese punctuation into ASCII."""
    lines = text.split("\n")
    suspicious = _mojibake()
    for index, line in enumerate(lines):
        if suspicious.search(line):
            lines[index] = "".join(map(_decoded_again, SEGMENT.findall(line)))
    return "\n".join(lines)


def _decoded_again(text: str) -> str:
    import ftfy

    return ftfy.fix_encoding(text) if _mojibake().search(text) else text


@functools.cache
def _mojibake() -> re.Pattern[str]:
    """A character that a UTF-8 lead byte becomes, then those that trailing bytes become; or a control nobody means.

    Quotes, dashes and ellipses alone prove nothing: é”“ and Ü“ are ends and beginnings of quotations.
    """
    typographic = "‚„‘’“”–—…•\xa0«»"
    trailing = "\x80-\x9f\xa1-\xaa\xac-\xba\xbc-\xbf€ƒ†‡ˆ‰Š‹ŒŽ˜™š›œžŸ"
    return re.compile(f"[\xc2-\xf4][{typographic}]{{0,2}}[{trailing}]|[ÂÃ] |[\x80-\x84\x86-\x9f]")


@functools.cache
def _invisible() -> re.Pattern[str]:
    from tasks.kernels.repair_scan import INVISIBLE_RANGES

    planes = [(plane * 0x10000 + 0xFFFE, plane * 0x10000 + 0xFFFF) for plane in range(1, 17)]
    ranges = [pair for pair in (*INVISIBLE_RANGES, *planes) if pair != (0x200B, 0x200F)]
    always = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges) + "\u200b\u200e\u200f"
    joiner = "|".join(
        f"(?<![{held}])[\u200c\u200d](?![{held}])|(?<=[{held}])[\u200c\u200d](?![{held}])|(?<![{held}])[\u200c\u200d](?=[{held}])"
        for held in (JOINED_EMOJI + JOINED_SCRIPTS,)
    )
    return re.compile(f"[{always}]|{joiner}")


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
    """Marks beyond the first `max_marks` on one character."""
    codes = (code for code in range(0x300, 0xE01F0) if unicodedata.category(chr(code)) in ("Mn", "Me"))
    marks = "".join(f"\\U{code:08x}" for code in codes)
    return re.compile(f"([{marks}]{{{max_marks}}})[{marks}]+")

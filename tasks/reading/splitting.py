"""Text splitting: long text becomes documents at headings and blank lines where asked, else at line ends."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Split = Literal["file", "blank_lines", "heading", "window"]
MAX_BLANK_LINES = 100  # kept of a run inside a part, so that a million of them take no memory


@dataclass(frozen=True)
class TextPart:
    """A document's text and where it was cut from: characters of the input, the last exclusive."""

    text: str
    start: int
    end: int


def cut_text(lines: Iterable[str], split: Split, window_chars: int, heading: str | None = None) -> Iterator[str]:
    """The texts of `cut_parts`."""
    for part in cut_parts(lines, split, window_chars, heading):
        yield part.text


def cut_parts(lines: Iterable[str], split: Split, window_chars: int, heading: str | None = None) -> Iterator[TextPart]:
    """Parts of at most `window_chars` characters; blank lines around a part are left out.

    `lines` keep their line ends. `window` and `file` fill each part with lines; `blank_lines` fills it with whole
    paragraphs, and cuts only a paragraph that is longer than a part; `heading` also starts a part at each line in
    which the expression is found.
    """
    starts_part = re.compile(heading) if split == "heading" and heading is not None else None
    cutter = _Cutter(window_chars)
    for line in lines:
        if not line.strip():
            yield from cutter.add_blank(line)
            continue
        if starts_part is not None and starts_part.search(line.rstrip("\r\n")):
            yield from cutter.flush()
        elif split != "blank_lines" or cutter.blank_lines:
            cutter.close_block()
        yield from cutter.add(line)
    yield from cutter.flush()


class _Cutter:
    """What is held of a part: whole blocks, which stay together with what follows only if it fits, and an open one."""

    def __init__(self, window_chars: int) -> None:
        self.window_chars = window_chars
        self.blank_lines = 0  # since the last line with text
        self._position = 0
        self._whole: list[str] = []
        self._open: list[str] = []
        self._whole_chars = self._open_chars = 0
        self._start = 0  # of the first held line

    def add_blank(self, line: str) -> Iterator[TextPart]:
        """A blank line belongs to what precedes it; before a part it is left out."""
        self.blank_lines += 1
        if (self._whole or self._open) and self.blank_lines <= MAX_BLANK_LINES:
            if len(line) > self.window_chars:
                yield from self.flush()
            else:
                self._open.append(line)
                self._open_chars += len(line)
        self._position += len(line)

    def close_block(self) -> None:
        """What is open is a whole block from here on."""
        self._whole += self._open
        self._whole_chars += self._open_chars
        self._open, self._open_chars = [], 0

    def add(self, line: str) -> Iterator[TextPart]:
        """A line with text, cut where it is longer than a part."""
        self.blank_lines = 0
        if len(line) <= self.window_chars:
            yield from self._add_fitting(line)
        else:
            for start in range(0, len(line), self.window_chars):
                yield from self._add_fitting(line[start : start + self.window_chars])

    def _add_fitting(self, text: str) -> Iterator[TextPart]:
        chars = len(text.rstrip())
        if self._whole and self._whole_chars + self._open_chars + chars > self.window_chars:
            yield from self._emit_whole()
        if self._open and self._open_chars + chars > self.window_chars:
            yield from self.flush()
        if not self._whole and not self._open:
            self._start = self._position
        if chars or self._whole or self._open:
            self._open.append(text)
            self._open_chars += len(text)
        self._position += len(text)

    def _emit_whole(self) -> Iterator[TextPart]:
        end = self._position - self._open_chars
        yield from self._part(self._whole, end)
        self._whole, self._whole_chars, self._start = [], 0, end

    def flush(self) -> Iterator[TextPart]:
        """All that is held, as a part."""
        yield from self._part(self._whole + self._open, self._position)
        self._whole, self._open = [], []
        self._whole_chars = self._open_chars = 0

    def _part(self, lines: list[str], end: int) -> Iterator[TextPart]:
        text = "".join(lines).rstrip()
        if text:
            yield TextPart(text, self._start, end)

"""Cutting long text into documents: at blank lines where possible, else at line ends, inside a line only when it is too long."""

from collections.abc import Iterable, Iterator
from typing import Literal

Split = Literal["file", "blank_lines", "window"]


def cut_text(lines: Iterable[str], split: Split, window_chars: int) -> Iterator[str]:
    """Pieces of at most `window_chars` characters; blank lines around a piece are left out.

    `lines` keep their line ends. `window` and `file` fill each piece with lines; `blank_lines` fills it with whole
    paragraphs, and cuts only a paragraph that is longer than a piece.
    """
    blocks = _paragraphs(lines) if split == "blank_lines" else ([line] for line in lines)
    held: list[str] = []
    held_chars = 0
    for block in blocks:
        chars = sum(map(len, block))
        if held and held_chars + len("".join(block).rstrip()) > window_chars:
            yield from _stripped(held)
            held, held_chars = [], 0
        if chars <= window_chars or not block[0].strip():
            held += block
            held_chars += chars
        else:
            *whole, held = list(_cut_lines(block, window_chars))
            held_chars = sum(map(len, held))
            for lines_of_piece in whole:
                yield from _stripped(lines_of_piece)
    yield from _stripped(held)


def _paragraphs(lines: Iterable[str]) -> Iterator[list[str]]:
    """Runs of lines that each end with the blank lines behind them; nothing is lost."""
    block: list[str] = []
    for line in lines:
        if block and line.strip() and not block[-1].strip():
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _cut_lines(lines: list[str], window_chars: int) -> Iterator[list[str]]:
    """Groups of lines of at most `window_chars` characters each; a longer line is cut."""
    held: list[str] = []
    chars = 0
    for line in lines:
        for start in range(0, len(line), window_chars):
            part = line[start : start + window_chars]
            if held and chars + len(part) > window_chars:
                yield held
                held, chars = [], 0
            held.append(part)
            chars += len(part)
    if held:
        yield held


def _stripped(lines: list[str]) -> Iterator[str]:
    """The lines as one text without blank lines at its start or white space at its end; nothing when all are blank."""
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is not None:
        yield "".join(lines[first:]).rstrip()

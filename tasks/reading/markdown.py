"""Markdown front matter: what stands between fences at the start of a file is about the text, not part of it."""

import re
from collections.abc import Iterator
from itertools import chain

from tasks.reading.faults import Fault
from tasks.reading.lines import Line

MAX_LINES = 200  # a fence that is not closed within them, or within so much text, is a rule across the page
MAX_CHARS = 65_536
FENCES = {"---": ("---", "..."), "+++": ("+++",)}
KEYED = re.compile(
    r"""(?:[ \t]*(?:#.*)?\n)*[ \t]*(?:["']?[\w.-]+["']?[ \t]*[:=]|[\[{]|\Z)"""
)  # begins as YAML or TOML does; else it is prose
TITLE = re.compile(r"^title[ \t]*[:=][ \t]*(\S.*)$", re.MULTILINE)


def front_matter(lines: Iterator[Line | Fault]) -> tuple[dict[str, str], Iterator[Line | Fault]]:
    """`front_matter` as it is written (YAML or TOML) and its `title`, and the lines that follow."""
    held: list[Line | Fault] = []
    ends: tuple[str, ...] = ()
    for line in lines:
        held.append(line)
        if isinstance(line, Fault):
            break
        fence = line.text.rstrip()
        if len(held) == 1:
            ends = FENCES.get(fence, ())
            if not ends:
                break
        elif fence in ends:
            text = "".join(line.text for line in held[1:-1] if isinstance(line, Line)).strip()
            if not KEYED.match(text):
                break
            title = TITLE.search(text)
            return {"front_matter": text} | ({"title": _unquoted(title.group(1).strip())} if title else {}), lines
        elif len(held) > MAX_LINES or sum(len(line.text) for line in held if isinstance(line, Line)) > MAX_CHARS:
            break
    return {}, chain(held, lines)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 2 and value[0] == value[-1] and value[0] in "\"'" else value

"""Excerpts: who a document is, and a part of its text around what matters."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PROBE_CHARS = 30  # of a main text, looked for in the page it came from


@dataclass(frozen=True)
class Document:
    """A row of a document table."""

    id: str
    source: str
    path: str
    language: str
    bytes: int
    text: str
    meta: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Shown:
    """A document as far as it is shown. `marked` are the characters of `text` from and to which it matters, if any do."""

    id: str
    source: str
    path: str
    language: str
    bytes: int
    text: str
    starts_inside: bool
    ends_inside: bool
    value: float | None = None  # the figure that it is shown for
    marked: tuple[int, int] | None = None


def excerpt(document: Document, chars: int, around: int = 0, marked: int = 0, value: float | None = None) -> Shown:
    """At most `chars` characters with position `around` in the first quarter; `marked` characters from there matter."""
    start = 0 if around <= chars // 4 else around - chars // 4
    text = document.text[start : start + chars]
    span = (around - start, min(around - start + marked, len(text))) if marked else None
    return Shown(
        document.id,
        document.source,
        document.path,
        document.language,
        document.bytes,
        text,
        start > 0,
        start + chars < len(document.text),
        value,
        span,
    )


def difference(one: str, other: str) -> int:
    """The first character in which two texts differ."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def start_in_page(markup: str, text: str) -> int:
    """Where a page's main text begins in its markup, as far as it can be found; else 0."""
    probes = [line.strip()[:PROBE_CHARS] for line in text.splitlines() if len(line.strip()) >= PROBE_CHARS]
    found = [at for probe in probes[:5] if (at := markup.rfind(probe)) >= 0]
    return found[0] if found else 0

"""Web pages as they were served: markup kept as text, in the charset that is true."""

import re
from dataclasses import dataclass

from tasks.reading.encodings import BOMS, Decoded, decode, known_codec

META_BYTES = 2048  # of a page, in which its charset must be declared; browsers look at 1,024
META_CHARSET = re.compile(
    rb"<meta\b[^>]*?\bcharset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)|<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([A-Za-z0-9_.:-]+)", re.IGNORECASE
)


@dataclass(frozen=True)
class Page:
    """A page's text with its markup, or plain text."""

    decoded: Decoded
    is_html: bool
    bytes: int


def html_page(raw: bytes, declared: str | None = None) -> Page:
    """A page read by its byte order mark, else the charset of its HTTP header, else the one in its markup, else by looks."""
    own = META_CHARSET.search(raw[:META_BYTES])
    inside = (own.group(1) or own.group(2)).decode("ascii") if own else None
    if inside is not None and (known_codec(inside) or "").startswith(("utf-16", "utf-32")):
        inside = "utf-8"  # who reads this in ASCII does not read UTF-16
    found = decode(raw, declared if declared is not None else inside)
    if "wrong_charset" in found.repairs and declared is not None and inside is not None and not _is_marked(raw):
        second = decode(raw, inside)
        if "wrong_charset" not in second.repairs:
            return Page(Decoded(second.text, second.charset, ("wrong_charset", *second.repairs), second.is_text), True, len(raw))
    return Page(found, True, len(raw))


def plain_page(raw: bytes, declared: str | None = None) -> Page:
    """Plain text that was served as such."""
    return Page(decode(raw, declared), False, len(raw))


def _is_marked(raw: bytes) -> bool:
    return any(raw.startswith(mark) for mark, _ in BOMS)

"""Web pages as they were served: markup kept as text, in the charset that is true."""

import re
from dataclasses import dataclass

from tasks.reading.encodings import BOMS, Decoded, decode, known_codec

META_BYTES = 2**16  # of a page, in which its charset must be declared; browsers look at 1,024, and on while the head lasts
META_CHARSET = re.compile(rb"<meta\b[^<>]*?\bcharset\s*=\s*[\"']?\s*([A-Za-z0-9_.:+-]+)", re.IGNORECASE)
XML_CHARSET = re.compile(rb"\s*<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([A-Za-z0-9_.:+-]+)", re.IGNORECASE)
NO_MARKUP = re.compile(
    rb"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL
)  # what is written in it declares nothing


@dataclass(frozen=True)
class Page:
    """A page's text with its markup, or plain text."""

    decoded: Decoded
    is_html: bool
    bytes: int


def html_page(raw: bytes, declared: str | None = None) -> Page:
    """A page read by its byte order mark, else the charset of its HTTP header, else the one in its markup, else by looks."""
    claims = [*([declared] if declared is not None else []), *_declared_inside(raw)]
    first: Decoded | None = None
    for number, claim in enumerate(claims):
        found = decode(raw, claim)
        if "wrong_charset" not in found.repairs:
            repairs = ("wrong_charset", *found.repairs) if number and known_codec(claim) != known_codec(claims[0]) else found.repairs
            return Page(Decoded(found.text, found.charset, repairs, found.fault), True, len(raw))
        first = first or found
        if _is_marked(raw):
            break
    return Page(first or decode(raw), True, len(raw))


def _declared_inside(raw: bytes) -> list[str]:
    """The charsets that a page's <meta> and its XML declaration name."""
    head = raw[:META_BYTES]
    found = (META_CHARSET.search(NO_MARKUP.sub(b"", head) if META_CHARSET.search(head) else b""), XML_CHARSET.match(head))
    labels = [match.group(1).decode("ascii") for match in found if match is not None]
    # who reads a declaration in ASCII does not read UTF-16
    return ["utf-8" if (known_codec(label) or "").startswith(("utf-16", "utf-32")) else label for label in labels]


def plain_page(raw: bytes, declared: str | None = None) -> Page:
    """Plain text that was served as such."""
    return Page(decode(raw, declared), False, len(raw))


def _is_marked(raw: bytes) -> bool:
    return any(raw.startswith(mark) for mark, _ in BOMS)

"""HTML input: what a page must be before it is parsed, without impossible characters and not nested without end."""

import re
from typing import Final

OPENINGS: Final = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
# Elements without content, or that the next of their kind ends: they do not nest however many are left open.
FLAT_TAGS: Final = frozenset(
    b"area base br col embed hr img input link meta source track wbr param p li dt dd option optgroup tr td th thead tbody tfoot "
    b"colgroup rp rt path circle rect line polygon polyline ellipse stop use".split()
)
VOID_TAGS: Final = frozenset(b"area base basefont br col embed frame hr img input link meta param source track wbr".split())
XHTML_BYTES: Final = 4096
XHTML: Final = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<\?xml\b|<!doctype\b[^>]*\bxhtml\b|<html\b[^>]*\bxmlns\s*=", re.IGNORECASE)
XML_ONLY: Final = re.compile(  # comments, scripts and styles are passed over: what looks like a tag in them is none
    rb"<!--.*?-->|<!\[CDATA\[(?P<data>.*?)\]\]>"
    rb"|<(?P<raw>script|style)\b(?:[^<>\"'/]|\"[^\"<]*\"|'[^'<]*'|/(?!>))*+>.*?</(?P=raw)\b"
    rb"|<(?P<tag>[a-z][a-z0-9]*)\b(?P<attributes>(?:[^<>\"'/]|\"[^\"<]*\"|'[^'<]*'|/(?!>))*+)/>",
    re.IGNORECASE | re.DOTALL,
)
REFERENCE: Final = re.compile(rb"&#(?:[xX]([0-9a-fA-F]+)|([0-9]+));?")
LONGEST_NUMBER: Final = 7  # digits of the last character, 1114111


def as_html(page: bytes) -> bytes:
    """A page written as XML, by its beginning, with what HTML has no word for said as HTML says it: <a/>, CDATA."""
    return XML_ONLY.sub(html_said, page) if XHTML.search(page[:XHTML_BYTES]) else page


def html_said(found: re.Match[bytes]) -> bytes:
    """A self-closed element as an empty one, CDATA as text; all else as it stands."""
    tag, attributes, data = found.group("tag", "attributes", "data")
    if data is not None:
        return data.replace(b"&", b"&amp;").replace(b"<", b"&lt;")
    return found.group() if tag is None or tag.lower() in VOID_TAGS else b"<%b%b></%b>" % (tag, attributes, tag)


def without_bad_characters(html: bytes) -> bytes:
    """Without NUL, and without the character references for it, for surrogates and for numbers that are no character."""
    return REFERENCE.sub(reference_kept, html.replace(b"\x00", b""))


def reference_kept(found: re.Match[bytes]) -> bytes:
    """The reference as it stands, unless it names no character."""
    base, digits = (16, found.group(1)) if found.group(1) else (10, found.group(2))
    digits = digits.lstrip(b"0")
    if len(digits) > LONGEST_NUMBER:
        return b""
    number = int(digits or b"0", base)
    return b"" if number == 0 or 0xD800 <= number <= 0xDFFF or number > 0x10FFFF else found.group()


def depth(html: bytes, limit: int) -> int:
    """Levels of nesting, by tags opened and not closed; stops counting above `limit`.

    Parsing takes time quadratic in the depth. Tags in comments and scripts count too, so this is an upper guess. A page
    with fewer opening tags than `limit` (most are, by thousands) is not looked at: 0.
    """
    if html.count(b"<") - html.count(b"</") <= limit:
        return 0
    still_open: dict[bytes, int] = {}
    level = deepest = 0
    for found in OPENINGS.finditer(html):
        closing, tag = found.groups()
        tag = tag.lower()
        if tag in FLAT_TAGS:
            continue
        count = still_open.get(tag, 0)
        if not closing:
            still_open[tag] = count + 1
            level += 1
            if level > deepest:
                deepest = level
                if deepest > limit:
                    break
        elif count:  # a closing tag closes one of its own kind only: others cannot hide the depth
            still_open[tag] = count - 1
            level -= 1
    return deepest

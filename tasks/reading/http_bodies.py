"""HTTP bodies: chunks put together, packing undone and media types told, by what is inside wherever a header and its body differ.

Archives often keep the headers of a body that they have unpacked, and servers send headers that were never true.
"""

import io
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tasks.reading.encodings import MAX_CONTROLS, decode
from tasks.reading.faults import Fault, shown
from tasks.reading.unpack import MAGIC, unpacked

PACKED = tuple(MAGIC.values())
CHUNK_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
CUT_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{0,8}\r?\Z")
LINE_END = re.compile(rb"\r?\n")
TRAILERS = re.compile(rb"(?:[!-9;-~]+:[^\n]*\n)*[\r\n]*\Z")
MIN_PROOF_BYTES = 64  # in whole chunks, that prove a body which breaks off to be made of chunks: not a line or two of figures

MEDIA_TYPE = re.compile(r"[\w!#$%&'*+.^`|~-]+/[\w!#$%&'*+.^`|~-]+")
CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\s;,\"']+)", re.IGNORECASE)
UNKNOWN_TYPES = ("unknown/unknown", "application/unknown", "*/*")  # https://mimesniff.spec.whatwg.org
HTML, XHTML, PLAIN = "text/html", "application/xhtml+xml", "text/plain"
XML_TYPES = ("text/xml", "application/xml")
SNIFFED_BYTES = 1445  # as browsers do
WHITE = b"\t\n\x0c\r "
HTML_START = re.compile(
    rb"(?:<!doctype html|<(?:html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p))[\s>]|<!--", re.IGNORECASE
)
XHTML_ROOT = re.compile(rb"<html[\s>]", re.IGNORECASE)
UNICODE_MARKS = (b"\xef\xbb\xbf", b"\xfe\xff", b"\xff\xfe")
BINARY_BYTES = bytes(code for code in range(32) if code not in (9, 10, 12, 13, 27))


@dataclass(frozen=True)
class Content:
    """A body as its author wrote it. `repairs` say what was lost of it: `truncated`, `trailing_junk`, `wrong_checksum`."""

    data: bytes
    repairs: tuple[str, ...] = ()


def content_of(fields: Mapping[str, str], body: bytes, max_bytes: int) -> Content | Fault:
    """The body without chunks and packing. What does not unpack, though its header says that it is packed, stands as it is."""
    content = Content(body)
    if "chunked" in fields.get("transfer-encoding", "").lower():
        content = _dechunked(body) or content
    tokens = _packing_tokens(fields)
    packed = content.data
    for token in (*reversed(tokens), ""):
        match token:
            case "br":
                undone = _by_header(content, _unbrotlied, max_bytes)
            case "deflate":
                undone = _by_header(content, _inflated, max_bytes)
            case _:
                undone = _by_magic(content, max_bytes)
        if isinstance(undone, Fault):
            return undone
        content = undone
    if tokens and content.data is packed and not _is_text(packed):
        return Fault("unknown_encoding", len(body), shown(", ".join(tokens).encode()))
    return content if len(content.data) <= max_bytes else Fault("too_large", len(body), shown(content.data))


def _packing_tokens(fields: Mapping[str, str]) -> list[str]:
    """What the header says the body was packed with, in that order."""
    named = f"{fields.get('content-encoding', '')},{fields.get('transfer-encoding', '')}".lower().split(",")
    return [token for part in named if (token := part.split(";")[0].strip()) not in ("", "identity", "chunked")]


def media_type(kind: str) -> tuple[str, str | None]:
    """The last type that a header names, in lower case, and its charset; no type ("") for what is none or says nothing."""
    essence, charset = "", None
    for part in kind.split(","):
        named = part.split(";")[0].strip().lower()
        if not MEDIA_TYPE.fullmatch(named) or named in UNKNOWN_TYPES:
            continue
        found = CHARSET.search(part)
        if found or named != essence:
            charset = found[1] if found else None
        essence = named
    return essence, charset


def sniffed_type(body: bytes) -> str:
    """What a browser takes a body for whose header names no type; no type ("") for what is neither page nor text."""
    head = body[:SNIFFED_BYTES]
    start = head.removeprefix(UNICODE_MARKS[0]).lstrip(WHITE)
    if HTML_START.match(start):
        return HTML
    if start.startswith(b"<?xml"):
        return XHTML if XHTML_ROOT.search(head) else ""
    if head.startswith(UNICODE_MARKS):
        return PLAIN
    is_binary = start.startswith((b"%PDF-", b"%!PS-Adobe-")) or len(head.translate(None, BINARY_BYTES)) < len(head)
    return "" if is_binary else PLAIN


def _is_text(data: bytes) -> bool:
    """Whether a body makes sense as it stands. Packed bytes have controls among them: one in ten, or so."""
    controls = len(data) - len(data.translate(None, BINARY_BYTES))
    return data.startswith(UNICODE_MARKS) or (controls <= MAX_CONTROLS * len(data) and decode(data).is_text)


def _by_magic(content: Content, max_bytes: int) -> Content | Fault:
    """Taken out of gzip, zstd and the like, which their first bytes tell, whatever the header says."""
    if not any(magic.match(content.data) for magic in PACKED):
        return content
    parts: list[bytes] = []
    size = 0
    told = ""  # of the last fault
    repairs = list(content.repairs)
    for part in unpacked(io.BytesIO(content.data)):
        if isinstance(part, Fault):
            if part.reason == "bomb":
                return Fault("too_large", len(content.data), part.evidence)
            told = f"{part.reason}: {part.evidence}"
            repairs.append("truncated" if part.reason.startswith(("trunc", "damag")) else part.reason)
            continue
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            return Fault("too_large", len(content.data), shown(parts[0]))
    if not size and told:
        return Fault("damaged_record", len(content.data), shown(told.encode()))
    return Content(b"".join(parts), tuple(dict.fromkeys(repairs)))


Unpacker = Callable[[bytes, int], tuple[bytes, bool]]  # what came out, at most so many bytes or a few more, and whether to the end


def _by_header(content: Content, unpack: Unpacker, max_bytes: int) -> Content | Fault:
    """Taken out of a packing that only the header tells: proven by its end, or, where it breaks off, by more than went in.

    A body that is text by itself stands as it is.
    """
    data, is_whole = unpack(content.data, max_bytes + 1)
    if len(data) > max_bytes:
        return Fault("too_large", len(content.data), shown(data))
    if data and is_whole:
        return Content(data, content.repairs)
    is_cut = len(data) > len(content.data) and not _is_text(content.data)
    return Content(data, (*content.repairs, "truncated")) if is_cut else content


def _unbrotlied(data: bytes, limit: int) -> tuple[bytes, bool]:
    import brotli

    decoder = brotli.Decompressor()
    try:
        return decoder.process(data, output_buffer_limit=limit), decoder.is_finished()
    except brotli.error:
        return b"", False


def _inflated(data: bytes, limit: int) -> tuple[bytes, bool]:
    """With zlib's frame, as the standard has it, or without, as some servers send it."""
    is_framed = len(data) > 1 and data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0
    decoder = zlib.decompressobj(zlib.MAX_WBITS if is_framed else -zlib.MAX_WBITS)
    try:
        return decoder.decompress(data, limit), decoder.eof and (is_framed or not decoder.unused_data.strip())
    except zlib.error:
        return b"", False


def _dechunked(body: bytes) -> Content | None:
    """The chunks put together; None unless the whole body is made of them, or breaks off behind enough that is."""
    parts: list[bytes] = []
    at = whole = 0
    while at < len(body) and (size := CHUNK_SIZE.match(body, at)):
        length = int(size[1], 16)
        if length == 0:
            return Content(b"".join(parts)) if parts and TRAILERS.match(body, size.end()) else None
        at = size.end() + length
        parts.append(body[size.end() : at])
        if at >= len(body):
            break
        end = LINE_END.match(body, at)
        if end is None:
            return None
        whole += length
        at = end.end()
    breaks_off = at >= len(body) or CUT_CHUNK_SIZE.match(body, at) is not None
    return Content(b"".join(parts), ("truncated",)) if breaks_off and whole >= MIN_PROOF_BYTES else None

"""WARC, record by record: pages and plain text out of responses, whatever lies between them.

A record that is damaged is one Fault, and reading goes on at the next that begins as one must: libraries for WARC stop or
skip in silence there, which is why this one is ours.
"""

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tasks.reading.faults import Fault, shown
from tasks.reading.pages import Page, html_page, plain_page

RECORD_START = re.compile(rb"WARC/[01]\.\d+\r?\n")
NEXT_RECORD = re.compile(rb"\n(?=WARC/[01]\.\d+\r?\n)")
MAX_HEADER_BYTES = 1 << 18
PAGE_TYPES = ("text/html", "application/xhtml+xml")
TEXT_TYPES = ("text/plain",)
HTML_START = re.compile(rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']+)", re.IGNORECASE)


@dataclass(frozen=True)
class Archived:
    """A record's page with the address it came from; `number` counts the file's records from 1."""

    number: int
    page: Page
    url: str


def read_warc(chunks: Iterator[bytes | Fault], max_bytes: int) -> Iterator[Archived | Fault]:
    """Documents of the responses and resources; records of other types are passed over."""
    reader = _Bytes(chunks)
    number = 0
    while True:
        reader.skip_blank()
        head = reader.peek(16)
        if not head:
            yield from reader.faults
            if not reader.next_part():
                return
            continue
        if not RECORD_START.match(head):
            if size := reader.skip_to_record():
                yield Fault("damaged_record", size, shown(head))
            continue
        number += 1
        yield from _read_record(reader, number, max_bytes)


def _read_record(reader: "_Bytes", number: int, max_bytes: int) -> Iterator[Archived | Fault]:
    header = reader.take_header()
    fields = _header_fields(header) if header is not None else {}
    length = fields.get("content-length", "")
    url = fields.get("warc-target-uri", "").strip("<>")
    if header is None or not (length.isascii() and length.isdigit()):
        yield Fault("damaged_record", reader.skip_to_record(), shown((header or b"")[:256]))
        return
    size = int(length)
    if size > max_bytes:
        passed = reader.skip_record(size)
        yield Fault("too_large", passed, shown(url.encode("utf-8", "replace")))
        return
    block = reader.take(size)
    if len(block) < size or not reader.at_record_end():
        if reader.is_broken() and not NEXT_RECORD.search(block):
            lost = Fault("truncated_record", len(block), shown(url.encode("utf-8", "replace")))
            yield reader.cause_of(lost)
            return
        reader.give_back(block)  # the length is wrong: the next record may lie inside the block, or far behind it
        yield Fault("damaged_record", reader.skip_to_record(), shown(url.encode("utf-8", "replace")))
        return
    found = _document(fields, block, max_bytes)
    if isinstance(found, Page):
        yield Archived(number, found, url)
    elif found is not None:
        yield found


def _header_fields(header: bytes) -> dict[str, str]:
    """Names in lower case; of a name that stands twice the last one counts. Lines that continue one are joined to it."""
    fields: dict[str, str] = {}
    name = ""
    for line in header.decode("utf-8", "replace").splitlines()[1:]:
        if line[:1] in " \t" and name:
            fields[name] += " " + line.strip()
        elif ":" in line:
            name, value = line.split(":", 1)
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _document(fields: Mapping[str, str], block: bytes, max_bytes: int) -> Page | Fault | None:
    """The page of a response or resource; None for a record that is neither."""
    kind = fields.get("warc-type", "").lower()
    if kind == "resource":
        return _page(fields.get("content-type", ""), block)
    if kind != "response":
        return None
    url = fields.get("warc-target-uri", "")
    if not fields.get("content-type", "application/http").lower().startswith("application/http"):
        return Fault("not_text_type", len(block), shown(f"{fields['content-type']} {url}".encode()))
    header, separator, body = block.partition(b"\r\n\r\n")
    if not separator:
        header, separator, body = block.partition(b"\n\n")
    status = header.split(None, 2)[1:2]
    if not header.startswith(b"HTTP/") or not status:
        return Fault("damaged_record", len(block), shown(block))
    if not status[0].startswith(b"2"):
        return Fault("http_status", len(block), shown(header.split(b"\r\n")[0] + b" " + url.encode()))
    http = _header_fields(header)
    kind = http.get("content-type", "")
    if not _is_text_type(kind, b""):
        return Fault("not_text_type", len(block), shown(f"{kind} {url}".encode()))
    content = _content(http, body, max_bytes)
    return content if isinstance(content, Fault) else _page(kind, content)


def _is_text_type(kind: str, body: bytes) -> bool:
    essence = kind.split(";")[0].strip().lower()
    return essence in (*PAGE_TYPES, *TEXT_TYPES) or (not essence and (not body or HTML_START.match(body) is not None))


def _page(kind: str, body: bytes) -> Page | Fault:
    essence = kind.split(";")[0].strip().lower()
    if not _is_text_type(kind, body or b"?"):
        return Fault("not_text_type", len(body), shown(kind.encode()))
    charset = CHARSET.search(kind)
    declared = charset.group(1) if charset else None
    return plain_page(body, declared) if essence in TEXT_TYPES else html_page(body, declared)


def _content(http: Mapping[str, str], body: bytes, max_bytes: int) -> bytes | Fault:
    """The payload without its transfer and content encodings; archives often keep the headers and drop the encoding."""
    if "chunked" in http.get("transfer-encoding", "").lower():
        body = _dechunked(body)
    encoding = http.get("content-encoding", "").strip().lower()
    try:
        if encoding in ("gzip", "x-gzip") and body.startswith(b"\x1f\x8b"):
            body = _bounded(gzip.GzipFile(fileobj=io.BytesIO(body)), max_bytes)
        elif encoding == "deflate":
            body = _inflated(body, max_bytes)
        elif encoding not in ("", "identity", "gzip", "x-gzip"):
            return Fault("unknown_encoding", len(body), shown(encoding.encode()))
    except (OSError, EOFError, zlib.error) as error:
        return Fault("damaged_record", len(body), shown(f"{encoding}: {error}".encode()))
    return body if len(body) <= max_bytes else Fault("too_large", len(body), shown(body))


def _bounded(stream: gzip.GzipFile, max_bytes: int) -> bytes:
    """What comes out, up to one byte more than is allowed."""
    return stream.read(max_bytes + 1)


def _inflated(body: bytes, max_bytes: int) -> bytes:
    for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(bits).decompress(body, max_bytes + 1)
        except zlib.error:
            continue
    return body


def _dechunked(body: bytes) -> bytes:
    """The chunks put together; the body as it is when it is not made of chunks after all."""
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        end = body.find(b"\n", at)
        size = body[at:end].split(b";")[0].strip() if end >= 0 else b""
        if not size or re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size) is None:
            return b"".join(parts) if parts else body
        length = int(size, 16)
        if length == 0:
            break
        parts.append(body[end + 1 : end + 1 + length])
        at = end + 1 + length
        at += 2 if body[at : at + 2] == b"\r\n" else 1
    return b"".join(parts)


@dataclass
class _Bytes:
    """A look at the chunks as one text that ends where a fault of the stream lies; `next_part` goes on behind it."""

    chunks: Iterator[bytes | Fault]
    faults: list[Fault] = field(default_factory=list[Fault])
    _held: bytes = b""
    _ended: bool = False  # of the part before a fault
    _done: bool = False

    def _fill(self, size: int) -> None:
        parts = [self._held]
        held = len(self._held)
        while held < size and not self._ended:
            chunk = next(self.chunks, None)
            if isinstance(chunk, bytes):
                parts.append(chunk)
                held += len(chunk)
            else:
                self._ended = True
                self._done = chunk is None
                self.faults += [chunk] if chunk is not None else []
        self._held = b"".join(parts) if len(parts) > 1 else self._held

    def next_part(self) -> bool:
        """Goes on behind a fault; False at the end of the file."""
        self._ended, self.faults = self._done, []
        return not self._done

    def is_broken(self) -> bool:
        """Whether all that is left before a fault, or the end of the file, has been read."""
        return self._ended and not self._held

    def cause_of(self, lost: Fault) -> Fault:
        """The fault of the stream that cost a record, with the record's size; the record's own when the file just ends."""
        return replace(self.faults.pop(), bytes=lost.bytes, evidence=lost.evidence) if self.faults else lost

    def peek(self, size: int) -> bytes:
        self._fill(size)
        return self._held[:size]

    def take(self, size: int) -> bytes:
        self._fill(size)
        data, self._held = self._held[:size], self._held[size:]
        return data

    def give_back(self, data: bytes) -> None:
        self._held = data + self._held

    def skip_blank(self) -> None:
        """Leaves out line ends between records."""
        while self.peek(1) in (b"\r", b"\n"):
            self._held = self._held.lstrip(b"\r\n")

    def take_header(self) -> bytes | None:
        """Up to the first empty line; None when there is none near."""
        self._fill(1 << 12)
        for size in (1 << 12, MAX_HEADER_BYTES):
            self._fill(size)
            found = re.search(rb"\r?\n\r?\n", self._held[:size])
            if found:
                return self.take(found.end())[: found.start()]
        return None

    def at_record_end(self) -> bool:
        """Whether what comes next is what a record ends with: an empty line, or the end of the file."""
        head = self.peek(4)
        return head[:2] in (b"\r\n", b"\n\n", b"\n") or (not head and self._ended)

    def skip_to_record(self) -> int:
        """Leaves out bytes up to the next start of a record; how many."""
        skipped = 0
        while True:
            self._fill(1 << 20)
            found = NEXT_RECORD.search(self._held)
            size = found.end() if found else len(self._held) if self._ended else len(self._held) - 16
            self._held = self._held[size:]
            skipped += size
            if found or self._ended:
                return skipped

    def skip_record(self, size: int) -> int:
        """Leaves out a block that is not wanted, but not the record that lies in it when its length is wrong."""
        skipped = 0
        while skipped < size:
            self._fill(min(1 << 20, size - skipped))
            window = self._held[: size - skipped]
            found = re.search(rb"\n\r?\n(?=WARC/[01]\.\d+\r?\n)", window)
            if found:
                self._held = self._held[found.end() :]
                return skipped + found.end()
            if not window:
                break
            keep = 0 if len(window) == size - skipped or self._ended else 16
            self._held = self._held[len(window) - keep :]
            skipped += len(window) - keep
        return skipped

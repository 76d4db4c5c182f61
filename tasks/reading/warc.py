"""WARC, record by record: pages and plain text out of responses, resources and conversions (WET), whatever lies between them.

A record that is damaged is one Fault, and reading goes on at the next that begins as one must: libraries for WARC stop or
skip in silence there, which is why this one is ours. Every byte of the file is part of what is given: `bytes` says how many.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tasks.reading.faults import UNREADABLE, Fault, shown
from tasks.reading.http_answers import STATUS_LINE, header_fields, read_answer
from tasks.reading.http_bodies import HTML, PLAIN, XHTML, XHTML_ROOT, XML_TYPES, content_of, media_type, sniffed_type
from tasks.reading.pages import Page, html_page, plain_page

RECORD_START = re.compile(rb"WARC/\d{1,3}\.\d{1,3}[ \t]{0,8}\r{0,2}\n(?=[!-9;-~]{1,64}[ \t]{0,8}:)")
START_BYTES = 128  # at most, of what makes a start of a record
HEADER_END = re.compile(rb"\n\r*\n")
MAX_HEADER_BYTES = 1 << 18
MAX_LENGTH_DIGITS = 18
ARC_START = re.compile(rb"filedesc://\S+ \S+ \d{8,17} \S+ \d+\s*\n")
IS_ARC = "this is ARC, the format before WARC. Fix: convert it, for instance with `warcio recompress old.arc.gz new.warc.gz`"
PASSED_OVER = ("warcinfo", "request", "metadata")  # of the making of an archive: they never hold a document
HEAD_TYPE_BYTES = 4096  # of XML, in which its root tells a page


@dataclass(frozen=True)
class Archived:
    """A record's page with the address it came from; `number` counts the file's records from 1, `bytes` are the record's.

    `language` is what the record names (WET: codes parted by commas), `notes` say what was lost of it.
    """

    number: int
    page: Page
    url: str
    bytes: int = 0
    language: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PassedOver:
    """A record that holds no document by its type; without a kind the empty lines around records."""

    kind: str
    bytes: int


def read_warc(chunks: Iterator[bytes | Fault], max_bytes: int) -> Iterator[Archived | PassedOver | Fault]:
    """Documents of the responses, resources and conversions; what else there is as what it is."""
    reader = _Bytes(chunks)
    number = 0
    if reader.peek(3) == BOM_UTF8:
        yield PassedOver("", reader.skip(3))
    if ARC_START.match(reader.peek(1024)):
        size = reader.skip_part()
        yield Fault(UNREADABLE, size, IS_ARC, cut=size)
    while True:
        if blank := reader.skip_blank():
            yield PassedOver("", blank)
        head = reader.peek(START_BYTES)
        if not head:
            yield from reader.faults
            if not reader.next_part():
                return
        elif reader.at_record():
            number += 1
            yield _read_record(reader, number, max_bytes)
        else:
            size = reader.skip_to_record()
            is_other = number == 0 and reader.at_end() and not reader.faults and not head.startswith(b"WARC/")
            yield Fault(UNREADABLE, size, _no_warc(head), cut=size) if is_other else Fault("damaged_record", size, shown(head))


def _no_warc(head: bytes) -> str:
    return f"expected WARC records, found none; it begins with {shown(head[:40])!r}"


def _read_record(reader: "_Bytes", number: int, max_bytes: int) -> Archived | PassedOver | Fault:
    header = reader.header()
    fields = _record_fields(header)
    length = _length(fields)
    url = fields.get("warc-target-uri", "").strip("<>")
    if length is None:
        evidence = shown(header or reader.peek(256))
        return Fault("damaged_record", reader.skip_to_record(), evidence)
    size = len(header) + length
    if length > max_bytes:
        return Fault("too_large", reader.skip_large(size), shown(url.encode()))
    end = reader.end_of(size)
    if end == "wrong":  # the next record may lie inside the block, or far behind it
        lost = Fault("damaged_record", reader.skip_to_record(), shown(url.encode()))
        return reader.cause_of(replace(lost, reason="truncated_record")) if reader.at_end() and lost.bytes < size else lost
    block = reader.peek(size)[len(header) :]
    size = reader.skip(size) + reader.skip_blank()
    found = _document(fields, block, max_bytes)
    if isinstance(found, Fault):
        return replace(found, bytes=size)
    if isinstance(found, str):
        return PassedOver(found, size)
    page, repairs = found
    is_cut = end == "doubtful" or "warc-truncated" in fields
    notes = tuple(dict.fromkeys((*repairs, *(("truncated",) if is_cut else ()))))
    return Archived(number, page, url, size, fields.get("warc-identified-content-language", ""), notes)


def _record_fields(header: bytes) -> dict[str, str]:
    return header_fields(header.partition(b"\n")[2])


def _length(fields: Mapping[str, str]) -> int | None:
    """The block's bytes; None when the record does not say. One that says it twice must mean the same."""
    said = {value.strip() for value in fields.get("content-length", "").split(",")}
    length = said.pop()
    is_number = not said and length.isascii() and length.isdigit() and len(length) <= MAX_LENGTH_DIGITS
    return int(length) if is_number else None


Found = tuple[Page, tuple[str, ...]]


def _document(fields: Mapping[str, str], block: bytes, max_bytes: int) -> Found | Fault | str:
    """The page with what was lost of it, or the kind of a record that holds none by its type."""
    kind = fields.get("warc-type", "").partition(",")[0].strip().lower()
    named = fields.get("content-type", "")
    shown_url = shown(f"{kind} {fields.get('warc-target-uri', '')}".encode())
    if not kind and named.lower().startswith("application/http"):
        kind = "request" if "request" in named.lower() else "response"
    if kind in PASSED_OVER:
        return kind
    if kind == "revisit":
        return Fault("revisit", 0, shown_url)
    if kind == "continuation" or "warc-segment-number" in fields:
        return Fault("segment", 0, shown_url)
    is_http = named.lower().startswith("application/http")
    if (kind == "response" and (is_http or not named or STATUS_LINE.match(block))) or (kind == "resource" and is_http):
        return _answered(fields, block, max_bytes)
    if kind in ("response", "resource", "conversion"):
        found = _page(named, block, fields)
        return found if isinstance(found, Fault) else (found, ())
    return Fault("unknown_record" if kind else "damaged_record", 0, shown_url)


def _answered(fields: Mapping[str, str], block: bytes, max_bytes: int) -> Found | Fault:
    """The page that an HTTP answer brought."""
    url = fields.get("warc-target-uri", "")
    answer = read_answer(block)
    if answer is None:
        if sniffed_type(block) != HTML:  # else a server so old that it sends no header
            return Fault("damaged_record", 0, shown(block))
        return html_page(block), ()
    if not answer.status.startswith("2"):
        return Fault("http_status", 0, shown(f"{answer.status} {url}".encode()))
    kind = answer.fields.get("content-type", "")
    if not _may_be_text(kind, fields):
        return Fault("not_text_type", 0, shown(f"{kind} {url}".encode()))
    content = content_of(answer.fields, answer.body, max_bytes)
    if isinstance(content, Fault):
        return content
    page = _page(kind, content.data, fields)
    return page if isinstance(page, Fault) else (page, content.repairs)


def _may_be_text(kind: str, fields: Mapping[str, str]) -> bool:
    """Whether a body is worth unpacking."""
    essence, _ = _named_type(kind, fields)
    return essence in ("", HTML, XHTML, PLAIN, *XML_TYPES)


def _named_type(kind: str, fields: Mapping[str, str]) -> tuple[str, str | None]:
    """The type that the answer names, else the one that the archive found out."""
    essence, charset = media_type(kind)
    return (essence, charset) if essence else media_type(fields.get("warc-identified-payload-type", ""))


def _page(kind: str, body: bytes, fields: Mapping[str, str]) -> Page | Fault:
    essence, charset = _named_type(kind, fields)
    if not essence:
        essence = sniffed_type(body)
    elif essence in XML_TYPES and XHTML_ROOT.search(body, 0, HEAD_TYPE_BYTES):
        essence = XHTML
    match essence:
        case "text/html" | "application/xhtml+xml":
            return html_page(body, charset)
        case "text/plain":
            return plain_page(body, charset)
        case _:
            return Fault("not_text_type", 0, shown(f"{kind or 'no type'} {fields.get('warc-target-uri', '')}".encode()))


@dataclass
class _Bytes:
    """A look at the chunks as one text that ends where a fault of the stream lies; `next_part` goes on behind it."""

    chunks: Iterator[bytes | Fault]
    faults: list[Fault] = field(default_factory=list[Fault])
    _held: bytes = b""
    _at: int = 0  # in what is held
    _ended: bool = False  # of the part before a fault
    _done: bool = False

    def _fill(self, size: int) -> None:
        held = len(self._held) - self._at
        if held >= size or self._ended:
            return
        parts = [self._held[self._at :]]
        while held < size and not self._ended:
            chunk = next(self.chunks, None)
            if isinstance(chunk, bytes):
                parts.append(chunk)
                held += len(chunk)
            else:
                self._ended = True
                self._done = chunk is None
                self.faults += [chunk] if chunk is not None else []
        self._held, self._at = b"".join(parts), 0

    def next_part(self) -> bool:
        """Goes on behind a fault; False at the end of the file."""
        self._ended, self.faults = self._done, []
        return not self._done

    def at_end(self) -> bool:
        """Whether all that is left before a fault, or the end of the file, has been read."""
        return not self.peek(1)

    def cause_of(self, lost: Fault) -> Fault:
        """The fault of the stream that cost a record, with the record's size; the record's own when the file just ends."""
        return replace(self.faults.pop(), bytes=lost.bytes, cut=lost.bytes, evidence=lost.evidence) if self.faults else lost

    def peek(self, size: int) -> bytes:
        """The next bytes without taking them; fewer only at the end of the part."""
        self._fill(size)
        return self._held[self._at : self._at + size]

    def skip(self, size: int) -> int:
        """Leaves out bytes that are held; how many."""
        self._at += size
        return size

    def skip_blank(self) -> int:
        """Leaves out line ends between records; how many bytes."""
        skipped = 0
        while (head := self.peek(64)) and (blank := len(head) - len(head.lstrip(b"\r\n"))):
            skipped += self.skip(blank)
        return skipped

    def skip_part(self) -> int:
        """Leaves out all that precedes a fault or the end of the file; how many bytes."""
        skipped = 0
        while head := self.peek(1 << 20):
            skipped += self.skip(len(head))
        return skipped

    def at_record(self) -> bool:
        self._fill(START_BYTES)
        return RECORD_START.match(self._held, self._at) is not None

    def header(self) -> bytes:
        """The record's lines with the empty one behind them; nothing when there is none near, or in another record only."""
        for size in (1 << 12, MAX_HEADER_BYTES):
            self._fill(size)
            found = HEADER_END.search(self._held, self._at, self._at + size)
            if found:
                header = self._held[self._at : found.end()]
                return header if RECORD_START.search(header, 1) is None else b""
            if RECORD_START.search(self._held, self._at + 1, self._at + size):
                break
        return b""

    def end_of(self, size: int) -> Literal["sound", "doubtful", "wrong"]:
        """What follows a record of this size: another or the end; the empty line of a record's end, but none; or neither."""
        self._fill(size + START_BYTES + 4)
        behind = self._held[self._at + size : self._at + size + START_BYTES + 4]
        if len(self._held) - self._at < size:
            return "wrong"
        following = behind.lstrip(b"\r\n\0")  # zeros fill up a block of a disk
        if not following or RECORD_START.match(following):
            return "sound"
        return "doubtful" if behind.startswith((b"\r\n\r\n", b"\n\n")) else "wrong"

    def skip_to_record(self) -> int:
        """Leaves out bytes up to the next start of a record behind this place; how many."""
        return self._skip_to(None)

    def skip_large(self, size: int) -> int:
        """Leaves out a record that is not wanted, but not one that lies in it or behind it when its length is wrong."""
        skipped = self._skip_to(size)
        is_sound = skipped < size or self.end_of(0) != "wrong"
        return skipped + (self.skip_blank() if is_sound else self.skip_to_record())

    def _skip_to(self, most: int | None) -> int:
        skipped = 0
        while most is None or skipped < most:
            self._fill(1 << 20)
            window = len(self._held) - self._at
            end = window if most is None else min(window, most - skipped)
            found = RECORD_START.search(self._held, self._at + (skipped == 0), self._at + end + (START_BYTES if most is None else 0))
            if found:
                return skipped + self.skip(found.start() - self._at)
            if end == 0:
                break
            step = end if self._ended or end < window else max(1, end - START_BYTES)
            skipped += self.skip(step)
        return skipped

"""Line reader: lines out of a file's bytes, unpacked, of bounded length, decoded one by one so that a bad one leaves the others alone."""

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from tasks.errors import UserError
from tasks.reading.account import Account, whole_file
from tasks.reading.encodings import MAX_REPLACED, STATEFUL, charset_name, decode, detect, is_rather_utf8, known_codec, strip_mark
from tasks.reading.faults import Fault, shown
from tasks.reading.files import SourceFile, check_unchanged, open_stored, state_of
from tasks.reading.unpack import unpacked

HEAD_BYTES = 1 << 18  # looked at to tell a file's charset
MAX_DOCUMENT_BYTES = 64 * 2**20  # of a line, row or page, unless a source sets another limit
NULLS = re.compile(rb"\x00{16,}")
STREAM_ENDS = ("truncated_stream", "damaged_stream", "bomb")  # what precedes them is cut anywhere


def read_chunks(file: SourceFile) -> Iterator[bytes | Fault]:
    """The file's unpacked bytes. UserError when it was written to in the meantime: its documents would be of two files."""
    before = file.state or state_of(file)
    check_unchanged(file, before)
    with open_stored(file) as stored:
        try:
            for chunk in unpacked(stored):
                if isinstance(chunk, Fault) and chunk.reason in ("archive", "other_format"):
                    chunk = replace(chunk, bytes=file.bytes, cut=file.bytes)
                yield chunk
        except OSError as error:
            raise UserError(f"{file.url}: {error.strerror or error}. Fix: check the disk or the network.") from error
    check_unchanged(file, before)


@dataclass(frozen=True)
class Opened:
    """A file's bytes, turned into UTF-8 where they were UTF-16 or the like, and what its head tells.

    `codec` is None as long as all is ASCII; `fault` says why the head is no text. Who reads the chunks tells the account
    what became of them.
    """

    chunks: Iterator[bytes | Fault]
    head: bytes
    codec: str | None
    fault: str | None
    has_mark: bool
    charset: str | None  # as stored; None while unknown
    account: Account


def open_bytes(file: SourceFile, encoding: str = "auto", all_utf8: bool = False) -> Opened:
    """Looks at the head. With `all_utf8` every charset is turned into UTF-8, for readers that look for single bytes."""
    chunks = read_chunks(file)
    head, first = _head(chunks)
    declared = None if encoding == "auto" else known_codec(encoding)
    body, marked = strip_mark(head)
    sample = NULLS.sub(b"", head)  # which a writer that crashed leaves behind
    codec = marked or declared or detect(sample)
    wide = codec is not None and codec.startswith(STATEFUL)
    is_sure = codec == "utf-8" or wide or declared is not None or (sample.isascii() and codec is None)
    fault = None if is_sure else decode(_whole_lines(sample)).fault
    if fault == "unknown_charset" and _is_mostly_utf8(sample):
        codec, fault = "utf-8", None  # the lines that are none are judged one by one
    fault = fault if wide or (_few_controls(sample) and (sample != b"" or not head)) else "not_text"
    stream: Iterator[bytes | Fault] = chain([body] if body else [], first, chunks)
    account = Account(came=len(head) - len(body), structure=len(head) - len(body))
    name = charset_name(codec) if codec else None
    if codec is not None and (wide or all_utf8) and codec != "utf-8":
        stream, codec = _transcoded(stream, codec, account), "utf-8"
    return Opened(account.counted(stream), body, codec, fault, marked is not None, name, account)


def _head(chunks: Iterator[bytes | Fault]) -> tuple[bytes, list[Fault]]:
    """The first bytes, and the fault that ended them early."""
    head: list[bytes] = []
    size = 0
    for chunk in chunks:
        if isinstance(chunk, Fault):
            return b"".join(head), [chunk]
        head.append(chunk)
        size += len(chunk)
        if size >= HEAD_BYTES:
            break
    return b"".join(head), []


def _whole_lines(head: bytes) -> bytes:
    return head[: head.rfind(b"\n") + 1] or head


def _is_mostly_utf8(head: bytes) -> bool:
    """Whether more than half of the lines are UTF-8."""
    lines = _whole_lines(head).splitlines()
    return 2 * sum(_is_utf8(line) for line in lines) > len(lines)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _few_controls(head: bytes) -> bool:
    sample = head[:HEAD_BYTES]
    return len(sample) - len(sample.translate(None, BINARY)) <= max(8, len(sample) // 20)


BINARY = bytes(code for code in range(32) if code not in (8, 9, 10, 12, 13, 27))


def _transcoded(chunks: Iterable[bytes | Fault], codec: str, account: Account) -> Iterator[bytes | Fault]:
    """The same text as UTF-8. A fault resets the decoder: what follows it is read from its own beginning."""
    decoder = codecs.getincrementaldecoder(codec)("replace")
    for chunk in chunks:
        if isinstance(chunk, Fault):
            decoder.reset()
            yield chunk
            continue
        text = decoder.decode(chunk).encode("utf-8", "replace")
        account.recoded += len(chunk) - len(text)
        if text:
            yield text
    if rest := decoder.decode(b"", final=True).encode("utf-8", "replace"):
        account.recoded -= len(rest)
        yield rest


def split_lines(
    chunks: Iterable[bytes | Fault], max_bytes: int, keep_cut: bool = False, account: Account | None = None
) -> Iterator[bytes | Fault]:
    r"""Lines with their ends (\n, \r\n or \r; \r\r\n, which is \r\n written in text mode twice, becomes that again).

    One longer than `max_bytes` is a Fault `too_large`, never held as a whole.

    Where the stream breaks off, the line that is cut becomes part of the fault, or a line before it with `keep_cut`.
    """
    held = _HeldLine(max_bytes)
    for chunk in _with_whole_ends(chunks):
        if isinstance(chunk, Fault):
            yield from held.end_by(chunk, keep_cut)
            continue
        if held.size and held.last == b"\r" and not chunk.startswith(b"\n"):
            yield held.taken()
        lines = chunk.splitlines(keepends=True)
        if b"\r\n" in lines:  # alone in its line, which may be the second end of the one before
            lines = _without_doubled_ends(lines, account)
        last = None if chunk.endswith(b"\n") else lines.pop()
        if held.size and lines:
            held.add(lines[0])
            yield held.taken()
            del lines[0]
        if lines and len(chunk) > max_bytes:
            yield from (line if len(line) <= max_bytes else too_large(len(line), line) for line in lines)
        else:
            yield from lines
        if last is not None:
            held.add(last)
    if held.size:
        yield held.taken()


def _with_whole_ends(chunks: Iterable[bytes | Fault]) -> Iterator[bytes | Fault]:
    """The same bytes; the last carriage returns of a chunk come with the next, for a line feed may follow."""
    carried = b""
    for chunk in chunks:
        if not isinstance(chunk, Fault):
            chunk = carried + chunk if carried else chunk
            carried = b"\r\r" if chunk.endswith(b"\r\r") else b"\r" if chunk.endswith(b"\r") else b""
            chunk = chunk[: -len(carried)] if carried else chunk
            if chunk:
                yield chunk
            continue
        if carried:
            yield carried
        carried = b""
        yield chunk
    if carried:
        yield carried


def _without_doubled_ends(lines: Sequence[bytes], account: Account | None) -> list[bytes]:
    r"""The lines, `\r\r\n` being one end; what is left out is told to the account."""
    joined: list[bytes] = []
    for line in lines:
        if line == b"\r\n" and joined and joined[-1].endswith(b"\r"):
            joined[-1] += b"\n"
            if account is not None:
                account.structure += 1
        else:
            joined.append(line)
    return joined


def too_large(size: int, start: bytes) -> Fault:
    """The fault of a record that is longer than its source allows."""
    return Fault("too_large", size, shown(start))


class _HeldLine:
    """A line that goes on in the next chunk; of one that is too long only the first part and the size are kept."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        self.last = b""
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        self.size += len(part)
        self.last = part[-1:]
        self._parts.append(part)
        if self.size > self.max_bytes:
            self._parts = [self._parts[0][:1024]]

    def taken(self) -> bytes | Fault:
        line = b"".join(self._parts) if self.size <= self.max_bytes else too_large(self.size, self._parts[0])
        self.size, self._parts = 0, []
        return line

    def end_by(self, fault: Fault, keep_cut: bool) -> Iterator[bytes | Fault]:
        """The line before a fault: whole unless the stream broke off in it."""
        if not self.size:
            yield fault
        elif keep_cut or fault.reason not in STREAM_ENDS:
            yield self.taken()
            yield fault
        else:
            line, size = self._parts[0], self.size
            self.taken()
            yield Fault(fault.reason, fault.bytes + size, shown(line), cut=size)


class Line(NamedTuple):
    """A decoded line, the charset it was read in when not UTF-8, what was mended in it, and its bytes as they came."""

    text: str
    charset: str | None = None
    repairs: tuple[str, ...] = ()
    bytes: int = 0

    @property
    def replaced(self) -> int:
        """Characters that stand for bytes without a meaning."""
        return self.text.count("\ufffd") if "replaced" in self.repairs else 0


class LineDecoder:
    """Decodes a file's lines in the file's charset; one that is not in it is read in a second one that fits.

    A file that began in plain ASCII takes the charset of its first line that is not.
    """

    def __init__(self, codec: str | None, charset: str | None = None) -> None:
        self.codec = codec
        self._is_plain = codec == "utf-8" and charset in (None, "utf-8")
        self._second: str | None = None
        self._charset = None if charset in ("utf-8", "ascii") else charset  # as stored, of a stream turned into UTF-8

    def decode(self, raw: bytes) -> Line:
        """One line, whole."""
        if raw.isascii():
            return Line(raw.decode("ascii"), self._charset, (), len(raw))
        if self._is_plain:
            try:
                return Line(raw.decode(), None, (), len(raw))
            except UnicodeDecodeError:
                pass
        return self._decode_mixed(raw)._replace(bytes=len(raw))

    def _decode_mixed(self, raw: bytes) -> Line:
        codec = self.codec or "utf-8"
        if codec != "utf-8" and is_rather_utf8(raw, codec):
            return Line(raw.decode(), None, ("mixed_encodings",))
        try:
            text = raw.decode(codec)
        except UnicodeDecodeError:
            return self._decode_other(raw)
        self.codec = codec
        replaced = ("replaced",) if self._charset is not None and "\ufffd" in text else ()
        return Line(text, self._name(codec), replaced)

    def _name(self, codec: str) -> str | None:
        name = self._charset or charset_name(self.codec or codec)
        return None if name in ("utf-8", "ascii") else name

    def _decode_other(self, raw: bytes) -> Line:
        if self._second is not None:
            try:
                return Line(raw.decode(self._second), self._name("utf-8"), ("mixed_encodings",))
            except UnicodeDecodeError:
                pass
        found = decode(raw)
        other = known_codec(found.charset) or "utf-8"
        if not found.is_text or "replaced" in found.repairs or other in ("utf-8", self.codec):
            repairs = found.repairs if found.is_text and other == "utf-8" and found.repairs else ("replaced",)
            mended = repairs == found.repairs
            return Line(found.text if mended else raw.decode(self.codec or "utf-8", "replace"), self._name("utf-8"), repairs)
        if self.codec is None:
            self.codec = other
            return Line(found.text, self._name(other), found.repairs)
        self._second = other
        return Line(found.text, self._name("utf-8"), ("mixed_encodings", *found.repairs))


def too_much_replaced(text: str, replaced: int) -> bool:
    """Whether so many characters stand for unreadable bytes that the rest is not worth keeping."""
    return replaced > MAX_REPLACED * len(text)


def read_text(
    file: SourceFile, encoding: str = "auto", max_bytes: int = MAX_DOCUMENT_BYTES, keep_cut: bool = True, total: Account | None = None
) -> Iterator[Line | Fault]:
    """A text file's lines with their ends; its bytes are added to the account of all files. A binary file is one Fault."""
    opened = open_bytes(file, encoding)
    if opened.fault is not None:
        yield no_text(file, opened, total)
        return
    decoder = LineDecoder(opened.codec, opened.charset if opened.codec == "utf-8" else None)
    account, read = opened.account, 0
    repairs = ("bom",) if opened.has_mark and opened.charset == "utf-8" else ()
    for line in split_lines(opened.chunks, max_bytes, keep_cut, account):
        if isinstance(line, Fault):
            yield account.add(line)
            continue
        decoded = decoder.decode(line)
        read += decoded.bytes
        if repairs:
            decoded, repairs = decoded._replace(repairs=(*repairs, *decoded.repairs)), ()
        yield decoded
    account.records = read
    account.check(file.url, total)


def no_text(file: SourceFile, opened: Opened, total: Account | None) -> Fault:
    """The fault of a file that is no text, or whose charset nobody can tell."""
    whole_file(file.bytes).check(file.url, total)
    return Fault(opened.fault or "not_text", file.bytes, shown(opened.head))

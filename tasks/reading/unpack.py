"""Decompression by content: gzip, bzip2, xz and zstd streams, whole, concatenated, cut short or damaged.

Everything that came out before a break is kept, and whole streams behind a damaged one are read; each loss is one Fault.
Memory is bounded by a chunk.
"""

import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, cast

from tasks.reading.faults import Fault, shown

if TYPE_CHECKING:
    from backports.zstd import ZstdDict

INPUT_BYTES = 1 << 16
OUTPUT_BYTES = 1 << 20  # of one chunk, at most
MAX_LAYERS = 2  # a file packed twice by mistake is read, one packed three times is not
BOMB_RATIO = 250  # out over in; text that repeats itself reaches about 100, the formats go from 1,032 to far above
BOMB_FREE_BYTES = 64 * 2**20  # come out before the ratio counts
ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")
PACKED_DOCUMENTS = {  # zip files by what stands at the start of them
    b"[Content_Types].xml": "an office document (DOCX, XLSX, PPTX)",
    b"_rels/.rels": "an office document (DOCX, XLSX, PPTX)",
    b"word/": "an office document (DOCX)",
    b"application/epub+zip": "a book (EPUB)",
    b"application/vnd.oasis.opendocument": "an office document (ODT, ODS, ODP)",
}
DOCUMENTS = {  # of other programs; their own words would pass as text
    re.compile(rb"(?:\xef\xbb\xbf)?\s*%PDF-\d"): "a PDF document",
    re.compile(rb"(?:\xef\xbb\xbf)?\s*\{\\rtf\d"): "an RTF document",
    re.compile(rb"%!PS-Adobe"): "a PostScript document",
    re.compile(rb"From: <Saved by |(?:[a-z-]+: [^\n]*\n(?:[ \t][^\n]*\n)*)*?Content-Type: multipart/", re.IGNORECASE): (
        "a web page or mail in MIME parts (MHTML, EML)"
    ),
    re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"): "an office document of before 2007 (DOC, XLS, PPT)",
}
SALVAGE_BYTES = 64  # step in which the input around a fault is fed again

Packing = Literal["gz", "bz2", "xz", "zst"]
MAGIC: dict[Packing, re.Pattern[bytes]] = {
    "gz": re.compile(rb"\x1f\x8b\x08"),
    "bz2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00\x00"),
    "zst": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}
AFTER_FAULT = MAGIC | {  # strict enough to be looked for in noise: one false hit in some GB
    "gz": re.compile(rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04]", re.DOTALL)
}
WINDOW_ERROR = "too much memory"  # as zstd says it
LARGE_WINDOW = "a zstd window of more than 128 MB, which takes that much memory: pack it again without --long, or with --long=27"
MAGIC_BYTES = 16  # longer than any of them
DICTIONARY_MAGIC = b"\x5d\x2a\x4d\x18"  # of the first frame of a .warc.zst: https://iipc.github.io/warc-specifications
MAX_DICTIONARY_BYTES = 16 * 2**20
DICTIONARY_ERROR = "Dictionary mismatch"  # as zstd says it
NO_DICTIONARY = (
    "packed with a zstd dictionary that does not stand at the start of the file. Fix: unpack it with `zstd -d -D DICTIONARY`, "
    "or fetch the file as a whole"
)


def unpacked(stored: BinaryIO) -> Iterator[bytes | Fault]:
    """The file's bytes in chunks of at most 1 MB, unpacked when they are packed, whatever the file is called.

    A loss is a Fault where it lies; chunks may follow it. An archive, which holds files, is one Fault.
    """
    source = _Input(_filled(stored))
    head = source.peek(512)
    kind = _packing(head)
    if kind is None:
        yield from _plain(head, iter(lambda: source.take(OUTPUT_BYTES), b""))
    else:
        yield from _unpacked_layer(kind, source, 1)


def _unpacked_layer(kind: Packing, source: "_Input", layer: int) -> Iterator[bytes | Fault]:
    """One layer of packing taken off, and the next one too when the file was packed twice."""
    chunks = _limited(_streams(kind, source), source)
    early: list[Fault] = []
    first = b""
    for chunk in chunks:
        if isinstance(chunk, bytes):
            first = chunk
            break
        early.append(chunk)
    yield from early
    inner = _packing(first)
    if inner is None:
        yield from _plain(first, chain([first] if first else [], chunks))
    elif layer == MAX_LAYERS:
        yield Fault("archive", 0, f"packed more than {MAX_LAYERS} times")
    else:
        late: list[Fault] = []
        packed = chain([first], _without_faults(chunks, late))
        yield from _unpacked_layer(inner, _Input(_chunk_reader(packed)), layer + 1)
        yield from late


def _packing(head: bytes) -> Packing | None:
    return next((kind for kind, magic in MAGIC.items() if magic.match(head)), None)


def _plain(head: bytes, chunks: Iterator[bytes | Fault]) -> Iterator[bytes | Fault]:
    if head.startswith(ARCHIVES) or head[257:262] == b"ustar":
        yield Fault("archive", 0, _archive_name(head))
    elif (told := next((name for sign, name in DOCUMENTS.items() if sign.match(head)), None)) is not None:
        yield Fault("other_format", 0, f"{told}: extract its text first")
    else:
        yield from chunks


def _archive_name(head: bytes) -> str:
    """What an archive is, where its first entry tells, and what to do with it."""
    told = next((name for sign, name in PACKED_DOCUMENTS.items() if sign in head[:512]), None)
    return f"{told}: extract its text first" if told else "an archive is never opened: unpack it first"


def _without_faults(chunks: Iterator[bytes | Fault], faults: list[Fault]) -> Iterator[bytes]:
    for chunk in chunks:
        if isinstance(chunk, Fault):
            faults.append(chunk)
        else:
            yield chunk


def _filled(stored: BinaryIO) -> Callable[[int], bytes]:
    """Reads exactly the size asked for unless the file ends, so that chunks do not depend on how it is stored."""

    def read(size: int) -> bytes:
        data = stored.read(size) or b""
        while 0 < len(data) < size and (more := stored.read(size - len(data))):
            data += more
        return data

    return read


def _chunk_reader(chunks: Iterator[bytes]) -> Callable[[int], bytes]:
    stream = io.BufferedReader(cast("io.RawIOBase", _ChunkStream(chunks)), OUTPUT_BYTES)
    return stream.read


class _ChunkStream(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._held = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not self._held:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._held = memoryview(chunk)
        size = min(len(buffer), len(self._held))
        buffer[:size] = self._held[:size]
        self._held = self._held[size:]
        return size


class _Decoder(Protocol):
    """What the decompressors of bz2, lzma and zstd offer in the same words."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Input:
    """Bytes to come, with a look ahead and a count of those taken."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read, self._held, self.taken = read, b"", 0

    def peek(self, size: int) -> bytes:
        """The next bytes without taking them; fewer only at the end."""
        while len(self._held) < size and (more := self._read(max(INPUT_BYTES, size - len(self._held)))):
            self._held += more
        return self._held[:size]

    def take(self, size: int) -> bytes:
        """The next bytes, up to `size`; none only at the end."""
        if self._held:
            data, self._held = self._held[:size], self._held[size:]
        else:
            data = self._read(size)
        self.taken += len(data)
        return data

    def give_back(self, data: bytes) -> None:
        """Puts bytes that were taken in front again."""
        self._held = data + self._held
        self.taken -= len(data)

    def skip_zeros(self) -> bool:
        """Leaves out the zeros that come next. Whether there were any."""
        was = self.taken
        while (window := self.peek(INPUT_BYTES)) and not window[0]:
            self.take(len(window) - len(window.lstrip(b"\0")))
        return self.taken > was

    def skip_to(self, magic: re.Pattern[bytes]) -> tuple[int, bytes]:
        """Leaves out bytes up to the next match, or all. How many, and the first of them."""
        skipped, evidence = 0, b""
        while True:
            window = self.peek(INPUT_BYTES)
            found = magic.search(window)
            whole = len(window) if len(window) < INPUT_BYTES else len(window) - MAGIC_BYTES
            size = found.start() if found else whole
            evidence = (evidence + self.take(size))[:256]
            skipped += size
            if found or not self.peek(1):
                return skipped, evidence


def _limited(chunks: Iterator[bytes | Fault], source: _Input) -> Iterator[bytes | Fault]:
    """The chunks up to where they are out of all proportion to what was read for them."""
    came_out = 0
    for chunk in chunks:
        if isinstance(chunk, bytes):
            came_out += len(chunk)
            if came_out > BOMB_FREE_BYTES and came_out > BOMB_RATIO * source.taken:
                yield Fault("bomb", came_out, f"{came_out} bytes came out of {source.taken}")
                return
        yield chunk


def _streams(kind: Packing, source: _Input) -> Iterator[bytes | Fault]:
    """All streams that lie one behind the other, and what lies between and behind them."""
    magic = MAGIC[kind]
    dictionary = _dictionary(source) if kind == "zst" else None
    while source.peek(1):
        if source.skip_zeros():  # which fill up a block of a tape or disk
            continue
        if not magic.match(source.peek(MAGIC_BYTES)):
            size, junk = source.skip_to(AFTER_FAULT[kind])
            yield Fault("trailing_junk", size, shown(junk))
            continue
        match kind:
            case "gz":
                yield from _gzip_stream(source)
            case "bz2":
                yield from _block_stream(kind, bz2.BZ2Decompressor(), source)
            case "xz":
                yield from _block_stream(kind, lzma.LZMADecompressor(lzma.FORMAT_XZ), source)
            case "zst":
                from backports import zstd

                yield from _block_stream(kind, zstd.ZstdDecompressor(dictionary), source)


def _dictionary(source: _Input) -> "ZstdDict | None":
    """What all frames were packed with, where the first, which holds nothing else, has it; it may be packed itself."""
    from backports import zstd

    head = source.peek(8)
    size = int.from_bytes(head[4:], "little")
    if not head.startswith(DICTIONARY_MAGIC) or size > MAX_DICTIONARY_BYTES:
        return None
    held = source.peek(8 + size)[8:]
    try:
        packed = MAGIC["zst"].match(held)
        found = zstd.ZstdDict(zstd.ZstdDecompressor().decompress(held, MAX_DICTIONARY_BYTES) if packed else held)
        zstd.ZstdDecompressor(found)  # which looks at the dictionary
    except (zstd.ZstdError, ValueError):
        return None  # a frame of another use
    return found


def _broken(source: _Input, kind: Packing, cause: str) -> Fault:
    """The fault of a stream that cannot be read on; the input is left at the next one."""
    size, _ = source.skip_to(AFTER_FAULT[kind])
    return Fault("damaged_stream", size, cause)


def _gzip_stream(source: _Input) -> Iterator[bytes | Fault]:
    """One member: raw deflate, so that all that was read before a break comes out, and the checksum is ours to judge."""
    if not _take_gzip_header(source):
        yield Fault("truncated_stream", 0, "in the header")
        return
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    checksum = 0
    while not inflate.eof:
        data = source.take(INPUT_BYTES)
        if not data:
            yield inflate.flush()
            yield Fault("truncated_stream", 0, "the file ends inside the stream")
            return
        while data and not inflate.eof:
            before = inflate.copy()
            try:
                chunk = inflate.decompress(data, OUTPUT_BYTES)
            except zlib.error as error:
                good, salvaged = _salvage(before, data)
                yield from salvaged
                source.give_back(data[good:])
                yield _broken(source, "gz", str(error))
                return
            checksum = zlib.crc32(chunk, checksum)
            data = inflate.unconsumed_tail
            yield chunk
    source.give_back(inflate.unused_data)
    trailer = source.peek(8)
    source.take(len(trailer))
    if len(trailer) < 8:
        yield Fault("truncated_stream", 0, "in the checksum")
    elif int.from_bytes(trailer[:4], "little") != checksum:
        yield Fault("wrong_checksum", 0, f"{checksum:08x} computed, {trailer[3::-1].hex()} stored")


def _salvage(inflate: "zlib._Decompress", data: bytes) -> tuple[int, list[bytes]]:  # pyright: ignore[reportPrivateUsage]
    """How much of `data` lies before the fault in it, and what comes out of that: at most some MB."""
    chunks: list[bytes] = []
    for start in range(0, len(data), SALVAGE_BYTES):
        try:
            chunks.append(inflate.decompress(data[start : start + SALVAGE_BYTES]))
        except zlib.error:
            return start, chunks
    return len(data), chunks


def _take_gzip_header(source: _Input) -> bool:
    """Takes a member's header; False when the file ends in it."""
    head = source.peek(INPUT_BYTES)
    flags, size = head[3] if len(head) > 3 else 0, 10
    if flags & 4:  # extra field
        size += 2 + int.from_bytes(head[10:12], "little")
    for flag in (8, 16):  # name, comment
        if flags & flag:
            size = head.find(b"\0", size) + 1 or len(head) + 1
    size += 2 if flags & 2 else 0  # checksum of the header
    source.take(size)
    return size <= len(head)


def _decoder_errors() -> tuple[type[Exception], ...]:
    from backports import zstd

    return OSError, lzma.LZMAError, zstd.ZstdError


def _block_stream(kind: Packing, decoder: "_Decoder", source: _Input) -> Iterator[bytes | Fault]:
    """One bzip2 or xz stream, or one zstd frame."""
    fed = b""
    while not decoder.eof:
        data = source.take(INPUT_BYTES // 4) if decoder.needs_input else b""
        fed = data or fed
        if decoder.needs_input and not data:
            yield Fault("truncated_stream", 0, "the file ends inside the stream")
            return
        try:
            chunk = decoder.decompress(data, OUTPUT_BYTES)
        except _decoder_errors() as error:
            source.give_back(fed[1:])  # behind the magic bytes of this stream, if it is in there
            fault = _broken(source, kind, str(error))
            if WINDOW_ERROR in str(error):
                fault = replace(fault, reason="large_window", evidence=LARGE_WINDOW)
            elif DICTIONARY_ERROR in str(error):
                fault = replace(fault, reason="no_dictionary", evidence=NO_DICTIONARY)
            yield fault
            return
        if chunk:
            yield chunk
    source.give_back(decoder.unused_data)

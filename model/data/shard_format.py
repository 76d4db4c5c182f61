"""Token shard format: what a file says of itself, and where its rows lie in it.

Parquet that any tool reads, laid out so that it is also a memory map. The required column `tokens` is fixed_size_binary of
(T + 1) * item_bytes: little-endian unsigned token ids, one more than the context, so that a row holds its own targets. It is
PLAIN, uncompressed, one data page per row group: its values lie one after another at the end of the column chunk. Each page
has a checksum. In any language a row is decoded by one line: `np.frombuffer(row["tokens"], "<u2")`, or "<u4" where
item_bytes is 4.

Beside it, compressed and not needed to train, stand the row's segments: `ends` (positions behind each segment, in the
row), `documents` (numbers) and `offsets` (position of the segment's first token in its document).
"""

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.data.shard_cache import ShardCache, is_url, read_tail

FORMAT = 2
ROW_GROUP_ROWS = 4096
ROW_GROUP_BYTES = 2**28  # of tokens at most: a page must stay below 2 GiB
SCHEMA_KEY = b"wordmill"
COLUMN = "tokens"
SEGMENT_FIELDS = (
    pa.field("ends", pa.list_(pa.int32())),
    pa.field("documents", pa.list_(pa.int64())),
    pa.field("offsets", pa.list_(pa.int64())),
)

TokenArray = NDArray[np.uint16] | NDArray[np.uint32]
Codec = Literal["none", "zstd"]


@dataclass(frozen=True)
class ShardHeader:
    """What a file says about its rows, as JSON under the schema key `wordmill`."""

    context: int  # tokens a model reads: each row holds one more
    item_bytes: int  # 2 or 4
    vocab_size: int
    tokenizer: str  # fingerprint
    rows: int  # of this file
    packing: str = "concatenate"  # how documents became rows: best_fit, concatenate, documents
    bos: int | None = None  # ids around each document and behind the last; None where rows have no such token
    eos: int | None = None
    pad: int | None = None
    seed: int | None = None  # of the shuffle; None for rows that nobody shuffled
    parent: str | None = None  # fingerprint of the corpus; None for rows from elsewhere
    format: int = FORMAT

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return (self.context + 1) * self.item_bytes

    @property
    def group_rows(self) -> int:
        """Rows of a row group, as written: the last of a file may hold fewer."""
        return max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES // self.row_bytes))


@dataclass(frozen=True)
class ShardFile:
    """A shard as its footer describes it."""

    path: str  # or URL
    header: ShardHeader
    group_rows: NDArray[np.int64]
    pages: NDArray[np.int64] | None  # [groups, 2]: where each group's only page begins and ends; None when compressed


def parse_header(place: str, values: Mapping[str, object], rows: int) -> ShardHeader:
    """What a file says of its `rows` rows. Raises ValueError, naming `place` and key, for what is no header."""
    if values.get("format", 1) != FORMAT:
        raise ValueError(f"{place}: token shard of format {values.get('format', 1)}, expected {FORMAT}; write the shards again")
    tokenizer = _said(place, values, "tokenizer")
    if tokenizer is None:
        raise ValueError(f"{place}: shard metadata: tokenizer is None, expected a fingerprint")
    header = ShardHeader(
        _number(place, values, "context"),
        _number(place, values, "item_bytes"),
        _number(place, values, "vocab_size"),
        tokenizer,
        rows,
        _said(place, values, "packing") or "concatenate",
        *(None if values.get(key) is None else _number(place, values, key) for key in ("bos", "eos", "pad", "seed")),
        parent=_said(place, values, "parent"),
    )
    if header.item_bytes not in (2, 4):
        raise ValueError(f"{place}: shard metadata: item_bytes is {header.item_bytes}, expected 2 or 4")
    return header


def _number(place: str, values: Mapping[str, object], key: str) -> int:
    value = values.get(key)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{place}: shard metadata: {key} is {value!r}, expected a whole number")
    return value


def _said(place: str, values: Mapping[str, object], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{place}: shard metadata: {key} is {value!r}, expected a text")
    return value


def open_bytes(path: str, cache: ShardCache | None) -> BinaryIO:
    """The file at a path, or of a URL, to read. Raises ValueError for one that is no longer there."""
    if not is_url(path):
        try:
            return Path(path).open("rb")
        except FileNotFoundError as error:
            raise ValueError(f"{path}: it was there when the shards were opened; write the shards again") from error
    assert cache is not None, "open() refuses URLs without a cache"
    return cache.open(path)


def open_file(path: str, cache: ShardCache | None) -> ShardFile:
    """What the footer says; no rows are read."""
    if is_url(path) and cache is None:
        raise ValueError(f"{path}: a URL needs a cache to read through; give TokenRows.open(…, cache=ShardCache(…))")
    try:
        metadata = pq.read_metadata(pa.BufferReader(read_tail(path)) if is_url(path) else path)
        header = _read_header(path, metadata)
    except (OSError, pa.ArrowInvalid, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a whole token shard ({error}); write the shards again") from error
    group_rows: list[int] = []
    pages: list[tuple[int, int]] = []
    is_plain = True
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        column = group.column(0)
        is_plain = is_plain and column.compression == "UNCOMPRESSED" and not column.has_dictionary_page
        group_rows.append(group.num_rows)
        pages.append((column.data_page_offset, column.data_page_offset + column.total_compressed_size))
    return ShardFile(path, header, np.array(group_rows, np.int64), np.array(pages, np.int64).reshape(-1, 2) if is_plain else None)


def _read_header(place: str, metadata: pq.FileMetaData) -> ShardHeader:
    text = (metadata.metadata or {}).get(SCHEMA_KEY)
    if text is None:
        raise ValueError(f"{place}: not a token shard: its schema has no {SCHEMA_KEY.decode()!r} metadata")
    header = parse_header(place, json.loads(text), metadata.num_rows)
    column = metadata.schema.to_arrow_schema().field(0)
    if column.name != COLUMN or column.type != pa.binary(header.row_bytes) or column.nullable:
        raise ValueError(f"{place}: the first column is {column}, expected required {COLUMN!r} of {header.row_bytes} bytes")
    return header


def map_groups(file: ShardFile, stream: BinaryIO) -> list[memoryview] | None:
    """Each row group's values in the mapped file; None when a group is not one plain, uncompressed page."""
    if file.pages is None:
        return None
    mapped = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    views: list[memoryview] = []
    for rows, (start, end) in zip(file.group_rows.tolist(), file.pages.tolist(), strict=True):
        size = rows * file.header.row_bytes
        if end > len(mapped):
            raise ValueError(f"{file.path}: not a whole token shard (cut off); write the shards again")
        if _plain_page_bytes(bytes(mapped[start : start + 32])) != size:
            return None
        views.append(mapped[end - size : end])
    return views


def decode_group(file: ShardFile, stream: BinaryIO, group: int) -> memoryview:
    """A row group's values, decompressed, its checksum verified. Raises ValueError for a damaged one."""
    try:
        with pq.ParquetFile(stream, page_checksum_verification=True) as parquet:
            column = parquet.read_row_group(group, columns=[COLUMN], use_threads=False).column(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{file.path}: row group {group} is damaged ({error}); write the shards again") from error
    values = pa.concat_arrays(column.chunks)
    size = file.header.row_bytes
    return memoryview(values.buffers()[1])[values.offset * size : (values.offset + len(values)) * size]


def _plain_page_bytes(page_header: bytes) -> int | None:
    """Bytes of the values in a version 1 data page, from the Thrift header in front of it; None for another page.

    The header's first fields are the page type, the uncompressed and the compressed size, each a zigzag varint behind
    the byte 0x15. Source: parquet.thrift, struct PageHeader, in Thrift's compact protocol.
    """
    fields: list[int] = []
    position = 0
    for _ in range(3):
        if page_header[position : position + 1] != b"\x15":
            return None
        value, shift, byte = 0, 0, 0x80
        while byte & 0x80:
            position += 1
            if position >= len(page_header):
                return None
            byte = page_header[position]
            value |= (byte & 0x7F) << shift
            shift += 7
        position += 1
        fields.append((value >> 1) ^ -(value & 1))
    page_type, uncompressed, compressed = fields
    return compressed if page_type == 0 and uncompressed == compressed else None

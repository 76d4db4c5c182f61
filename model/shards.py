"""Rows of tokens on disk: Parquet that any tool reads, laid out so that it is also a memory map.

The required column `tokens` is fixed_size_binary of (T + 1) * item_bytes: little-endian unsigned token ids, one more
than the context, so that a row holds its own targets. It is PLAIN, uncompressed, one data page per row group: its
values lie one after another at the end of the column chunk.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

ROW_GROUP_ROWS = 4096
SCHEMA_KEY = b"wordmill"
COLUMN = "tokens"

TokenArray = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True)
class ShardHeader:
    """What a file says about its rows, as JSON under the schema key `wordmill`."""

    context: int  # tokens a model reads: each row holds one more
    item_bytes: int  # 2 or 4
    vocab_size: int
    tokenizer: str  # fingerprint
    rows: int  # of this file

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return (self.context + 1) * self.item_bytes


def write_token_shard(path: Path, rows: TokenArray, extra: pa.Table | None, metadata: Mapping[str, int | str]) -> None:
    """Writes rows [n, T + 1], of uint16 or uint32, and the columns of `extra` beside them, compressed.

    `metadata` holds at least vocab_size and tokenizer; context, item_bytes and rows are filled in. Raises ValueError
    for input that does not fit, and OSError when the file does not read back as the same rows through the map.
    """
    header = _new_header(path, rows, extra, metadata)
    row_type = pa.binary(header.row_bytes)
    little_endian = np.ascontiguousarray(rows, dtype=f"<u{header.item_bytes}")
    values = pa.Array.from_buffers(row_type, header.rows, [None, pa.py_buffer(little_endian)])
    fields, columns = [pa.field(COLUMN, row_type, nullable=False)], [values]
    extra_names: list[str] = []
    if extra is not None:
        extra_names = list(extra.column_names)
        fields.extend(extra.schema)
        columns.extend(column.combine_chunks() for column in extra.columns)
    described = {**metadata, "context": header.context, "item_bytes": header.item_bytes, "rows": header.rows}
    schema = pa.schema(fields, metadata={SCHEMA_KEY: json.dumps(described, sort_keys=True).encode()})
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema),
        path,
        row_group_size=ROW_GROUP_ROWS,
        compression={COLUMN: "NONE", **dict.fromkeys(extra_names, "ZSTD")},  # pyright: ignore[reportArgumentType]
        use_dictionary=False,
        write_statistics=False,
        data_page_size=(ROW_GROUP_ROWS + 1) * header.row_bytes,
        data_page_version="1.0",
    )
    _check_written(path, little_endian)


class TokenRows:
    """The rows of several shards, in file order, mapped into memory; nothing is read until it is taken."""

    def __init__(self, header: ShardHeader, groups: Sequence[TokenArray]) -> None:
        self.context = header.context
        self.vocab_size = header.vocab_size
        self.tokenizer = header.tokenizer
        self._groups = groups
        self._starts = np.cumsum([0, *(len(group) for group in groups)])
        self.rows = int(self._starts[-1])

    @classmethod
    def open(cls, paths: Sequence[Path | str]) -> "TokenRows":
        """Maps the shards at `paths`, in this order. A file rewritten with compression is decoded into memory instead.

        Raises ValueError naming the file that is missing, cut off, foreign, or of another context or tokenizer.
        """
        if not paths:
            raise ValueError("no token shards were given")
        groups: list[TokenArray] = []
        first: ShardHeader | None = None
        for path in map(Path, paths):
            header, file_groups = _open_shard(path)
            first = first or header
            _check_same_kind(path, header, first)
            groups.extend(file_groups)
        assert first is not None
        if not any(len(group) for group in groups):
            raise ValueError(f"{paths[0]}: the {len(paths)} token shards hold no rows")
        return cls(first, groups)

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows number `indices` [n], in that order: [n, T + 1]. Raises IndexError outside of [0, rows)."""
        if indices.size and (indices.min() < 0 or indices.max() >= self.rows):
            raise IndexError(f"row numbers {indices.min()} to {indices.max()} are not all within 0 to {self.rows - 1}")
        taken = np.empty((len(indices), self.context + 1), dtype=np.int64)
        group_numbers = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(group_numbers):
            here = np.flatnonzero(group_numbers == number)
            taken[here] = self._groups[number][indices[here] - self._starts[number]]
        return taken


def _new_header(path: Path, rows: TokenArray, extra: pa.Table | None, metadata: Mapping[str, int | str]) -> ShardHeader:
    if rows.ndim != 2 or rows.shape[1] < 2 or rows.dtype.kind != "u" or rows.dtype.itemsize not in (2, 4):
        raise ValueError(f"{path}: rows of {rows.dtype} {rows.shape}, expected uint16 or uint32 [n, context + 1]")
    if extra is not None and (extra.num_rows != len(rows) or COLUMN in extra.column_names):
        raise ValueError(
            f"{path}: the extra columns have {extra.num_rows} rows for {len(rows)}, or a column {COLUMN!r}"
        )
    found = {"context": rows.shape[1] - 1, "item_bytes": rows.dtype.itemsize, "rows": len(rows)}
    for key, value in found.items():
        if metadata.get(key, value) != value:
            raise ValueError(f"{path}: metadata says {key} {metadata[key]}, but the rows have {value}")
    header = _parse_header(path, {**metadata, **found})
    if rows.size and int(rows.max()) >= header.vocab_size:
        raise ValueError(f"{path}: token id {rows.max()} is outside of the vocabulary of {header.vocab_size}")
    return header


def _parse_header(path: Path, values: Mapping[str, object]) -> ShardHeader:
    numbers: dict[str, int] = {}
    for key in ("context", "item_bytes", "vocab_size", "rows"):
        value = values.get(key)
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{path}: shard metadata: {key} is {value!r}, expected a whole number")
        numbers[key] = value
    tokenizer = values.get("tokenizer")
    if not isinstance(tokenizer, str):
        raise ValueError(f"{path}: shard metadata: tokenizer is {tokenizer!r}, expected a fingerprint")
    if numbers["item_bytes"] not in (2, 4):
        raise ValueError(f"{path}: shard metadata: item_bytes is {numbers['item_bytes']}, expected 2 or 4")
    return ShardHeader(tokenizer=tokenizer, **numbers)


def _read_header(path: Path, file: pq.ParquetFile) -> ShardHeader:
    text = (file.schema_arrow.metadata or {}).get(SCHEMA_KEY)
    if text is None:
        raise ValueError(f"{path}: not a token shard: its schema has no {SCHEMA_KEY.decode()!r} metadata")
    header = _parse_header(path, json.loads(text))
    column = file.schema_arrow.field(0)
    if column.name != COLUMN or column.type != pa.binary(header.row_bytes) or column.nullable:
        raise ValueError(
            f"{path}: the first column is {column}, expected required {COLUMN!r} of {header.row_bytes} bytes"
        )
    if header.rows != file.metadata.num_rows:
        raise ValueError(f"{path}: its metadata says {header.rows} rows, but it holds {file.metadata.num_rows}")
    return header


def _open_shard(path: Path) -> tuple[ShardHeader, list[TokenArray]]:
    try:
        with pq.ParquetFile(path) as file:
            header = _read_header(path, file)
            metadata = file.metadata
            offsets = _map_offsets(path, metadata, header)
            if offsets is None:
                decoded = file.read(columns=[COLUMN]).column(COLUMN).combine_chunks()
                return header, [_view(np.frombuffer(decoded.buffers()[1], np.uint8), 0, header.rows, header)]
    except (OSError, pa.ArrowInvalid, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not a whole token shard ({error}); write the shards again") from error
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    counts = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return header, [_view(mapped, offset, count, header) for offset, count in zip(offsets, counts, strict=True)]


def _view(data: NDArray[np.uint8], offset: int, count: int, header: ShardHeader) -> TokenArray:
    values = np.frombuffer(data, dtype=f"<u{header.item_bytes}", count=count * (header.context + 1), offset=offset)
    return values.reshape(count, header.context + 1)


def _map_offsets(path: Path, metadata: pq.FileMetaData, header: ShardHeader) -> list[int] | None:
    """Where each row group's values begin; None when a row group is not one plain, uncompressed page."""
    offsets: list[int] = []
    with path.open("rb") as stream:
        for number in range(metadata.num_row_groups):
            column = metadata.row_group(number).column(0)
            value_bytes = metadata.row_group(number).num_rows * header.row_bytes
            if column.compression != "UNCOMPRESSED" or column.has_dictionary_page:
                return None
            stream.seek(column.data_page_offset)
            if _plain_page_bytes(stream.read(32)) != value_bytes:
                return None
            offsets.append(column.data_page_offset + column.total_compressed_size - value_bytes)
    return offsets


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
            byte = page_header[position]
            value |= (byte & 0x7F) << shift
            shift += 7
        position += 1
        fields.append((value >> 1) ^ -(value & 1))
    page_type, uncompressed, compressed = fields
    return compressed if page_type == 0 and uncompressed == compressed else None


def _check_written(path: Path, rows: NDArray[np.unsignedinteger]) -> None:
    with pq.ParquetFile(path) as file:
        metadata = file.metadata
        if _map_offsets(path, metadata, _read_header(path, file)) is None:
            raise OSError(
                f"{path}: this pyarrow ({pa.__version__}) does not write {COLUMN!r} as one plain page per row group"
            )
    _, groups = _open_shard(path)
    if not np.array_equal(np.concatenate([np.empty((0, rows.shape[1]), rows.dtype), *groups]), rows):
        raise OSError(f"{path}: the rows read back differ from those written; check the disk and write the shard again")


def _check_same_kind(path: Path, header: ShardHeader, first: ShardHeader) -> None:
    for name, found, expected in (
        ("context", header.context, first.context),
        ("vocab_size", header.vocab_size, first.vocab_size),
        ("tokenizer", header.tokenizer, first.tokenizer),
        ("item_bytes", header.item_bytes, first.item_bytes),
    ):
        if found != expected:
            raise ValueError(f"{path}: {name} is {found}, but the first shard has {expected}; give shards of one run")

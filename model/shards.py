"""Rows of tokens on disk: Parquet that any tool reads, laid out so that it is also a memory map.

The required column `tokens` is fixed_size_binary of (T + 1) * item_bytes: little-endian unsigned token ids, one more
than the context, so that a row holds its own targets. It is PLAIN, uncompressed, one data page per row group: its
values lie one after another at the end of the column chunk. Each page has a checksum. In any language a row is decoded by
one line: `np.frombuffer(row["tokens"], "<u2")`, or "<u4" where item_bytes is 4.

Beside it, compressed and not needed to train, stand the row's segments: `ends` (positions behind each segment, in the
row), `documents` (numbers) and `offsets` (place of the segment's first token in its document).
"""

import json
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.shard_cache import ShardCache, is_url, read_tail

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
MAPPED_FILES = 512  # each holds a file descriptor
KEPT_GROUPS = 16  # row groups kept when they had to be decoded

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
class RowSegments:
    """The pieces of documents in a row, from its start: piece i ends before token ends[i]; padding may follow the last."""

    ends: NDArray[np.int64]
    documents: NDArray[np.int64]
    offsets: NDArray[np.int64]  # of the piece's first token in its document, whose <|bos|> is token 0


def write_token_shard(
    path: Path,
    rows: TokenArray,
    beside: pa.Table | None,
    metadata: Mapping[str, int | str | None],
    codec: Codec = "none",
) -> None:
    """Writes rows [n, T + 1], of uint16 or uint32, and the columns of `beside` next to them, compressed.

    `metadata` holds what ShardHeader has, at least vocab_size and tokenizer; context, item_bytes and rows are filled in.
    With `codec` zstd the tokens are compressed too: an archive, which is decoded to be read. The file appears under its
    name when it is whole. Raises ValueError for input that does not fit, and OSError when the file does not read back as
    the same rows.
    """
    header = _new_header(path, rows, beside, metadata)
    little_endian = np.ascontiguousarray(rows, dtype=f"<u{header.item_bytes}")
    table = _table(header, little_endian, beside)
    names = table.column_names[1:]
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        pq.write_table(
            table,
            temporary,
            row_group_size=header.group_rows,
            compression={COLUMN: codec.upper(), **dict.fromkeys(names, "ZSTD")},  # pyright: ignore[reportArgumentType]
            use_dictionary=False,
            write_statistics=False,
            data_page_size=(header.group_rows + 1) * header.row_bytes,
            data_page_version="1.0",
            write_page_checksum=True,
        )
        _check_written(temporary, little_endian, is_mapped=codec == "none")
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


class TokenRows:
    """The rows of several shards, in file order. Nothing is read until it is taken.

    Rows come straight from the mapped files, nearly as fast as from a flat array however many shards there are
    (benchmarks/RESULTS.md, `batches-vs-memmap`). Files that were compressed are decoded, a row group at a time.
    """

    def __init__(self, files: "Sequence[_File]", cache: ShardCache | None) -> None:
        self.header = files[0].header
        self.context, self.vocab_size = self.header.context, self.header.vocab_size
        self.tokenizer = self.header.tokenizer
        self.group_rows = np.concatenate([file.group_rows for file in files])
        self._starts = np.concatenate([[0], np.cumsum(self.group_rows)])
        self._first_groups = np.cumsum([0, *(len(file.group_rows) for file in files)])
        self.rows = int(self._starts[-1])
        self._files, self._cache = files, cache
        self._dtype = np.dtype(f"<u{self.header.item_bytes}")
        self._lock = threading.Lock()
        self._mapped: dict[int, memoryview] = {}  # row group -> its rows
        self._mapped_files: OrderedDict[int, None] = OrderedDict()  # oldest first
        self._decoded: OrderedDict[int, memoryview] = OrderedDict()
        self._segments: OrderedDict[int, tuple[pa.Array, pa.Array, pa.Array]] = OrderedDict()

    @classmethod
    def open(
        cls,
        paths: Sequence[Path | str],
        *,
        tokenizer: str | None = None,
        vocab_size: int | None = None,
        check_pages: bool = False,
        cache: ShardCache | None = None,
    ) -> "TokenRows":
        """The shards at `paths`, in this order; paths may be URLs, whose files are then read through `cache`.

        `tokenizer` (fingerprint) and `vocab_size` are what the rows must have been made with; `check_pages` reads every
        page and compares its checksum. Raises ValueError naming the file that is missing, cut off, damaged, foreign, or of
        another context, tokenizer or vocabulary.
        """
        if not paths:
            raise ValueError("no token shards were given")
        files = [_open_file(str(path), cache) for path in paths]
        for file in files:
            _check_wanted(file, tokenizer, vocab_size)
            _check_same_kind(file, files[0])
        if not any(file.header.rows for file in files):
            raise ValueError(f"{paths[0]}: the {len(paths)} token shards hold no rows")
        if check_pages:
            for file in files:
                _check_pages(file, cache)
        return cls(files, cache)

    def __reduce__(self) -> tuple[object, ...]:
        """A copy in another process opens the files anew."""
        return _reopen, ([file.place for file in self._files], self._cache)

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows number `indices` [n], in that order: [n, T + 1]. Raises IndexError outside of [0, rows)."""
        groups, places = self._locate(indices)
        size = self.header.row_bytes
        starts = places * size
        try:
            mapped = self._mapped
            cells = [
                mapped[group][start : start + size]
                for group, start in zip(groups.tolist(), starts.tolist(), strict=True)
            ]
        except KeyError:
            cells = self._cells_by_group(groups, starts)
        return np.frombuffer(b"".join(cells), self._dtype).reshape(len(indices), self.context + 1).astype(np.int64)

    def segments(self, indices: NDArray[np.int64]) -> list[RowSegments]:
        """The segments of rows number `indices`, in that order. Raises ValueError for shards that do not tell them."""
        groups, places = self._locate(indices)
        found: dict[int, RowSegments] = {}
        for group in np.unique(groups).tolist():
            ends, documents, offsets = self._group_segments(group)
            for row in np.flatnonzero(groups == group).tolist():
                place = int(places[row])
                found[row] = RowSegments(*(_cell(column, place) for column in (ends, documents, offsets)))
        return [found[row] for row in range(len(indices))]

    def _locate(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row group of each row and its place therein."""
        if indices.size and (indices.min() < 0 or indices.max() >= self.rows):
            raise IndexError(f"row numbers {indices.min()} to {indices.max()} are not all within 0 to {self.rows - 1}")
        groups = np.searchsorted(self._starts, indices, side="right") - 1
        return groups, indices - self._starts[groups]

    def _cells_by_group(self, groups: NDArray[np.int64], starts: NDArray[np.int64]) -> list[bytes | memoryview]:
        """Like the short way in `take`, for row groups that are not mapped, or not yet: each is fetched once."""
        size = self.header.row_bytes
        cells: list[bytes | memoryview] = [b""] * len(groups)
        for group in np.unique(groups).tolist():
            values = self._group(group)
            for row in np.flatnonzero(groups == group).tolist():
                cells[row] = bytes(values[starts[row] : starts[row] + size])
        return cells

    def _group(self, group: int) -> memoryview:
        """All rows of a row group."""
        values = self._mapped.get(group)
        if values is not None:
            return values
        number = int(np.searchsorted(self._first_groups, group, side="right")) - 1
        file, first = self._files[number], int(self._first_groups[number])
        with self._lock:
            if group in self._decoded:
                self._decoded.move_to_end(group)
                return self._decoded[group]
            with _open_bytes(file.place, self._cache) as stream:
                views = _map_groups(file, stream)
                if views is None:
                    self._decoded[group] = _decode_group(file, stream, group - first)
                    if len(self._decoded) > KEPT_GROUPS:
                        self._decoded.popitem(last=False)
                    return self._decoded[group]
            if is_url(file.place):  # what the cache gave up must not be held by a map
                return views[group - first]
            self._mapped.update({first + index: view for index, view in enumerate(views)})
            self._mapped_files[number] = None
            if len(self._mapped_files) > MAPPED_FILES:
                oldest, _ = self._mapped_files.popitem(last=False)
                for index in range(int(self._first_groups[oldest]), int(self._first_groups[oldest + 1])):
                    del self._mapped[index]
            return views[group - first]

    def _group_segments(self, group: int) -> tuple[pa.Array, pa.Array, pa.Array]:
        with self._lock:
            if group not in self._segments:
                number = int(np.searchsorted(self._first_groups, group, side="right")) - 1
                file = self._files[number]
                with _open_bytes(file.place, self._cache) as stream:
                    self._segments[group] = _read_segments(file, stream, group - int(self._first_groups[number]))
                if len(self._segments) > KEPT_GROUPS:
                    self._segments.popitem(last=False)
            self._segments.move_to_end(group)
            return self._segments[group]


def artifact_shards(folder: Path, split: str) -> dict[str, list[Path]]:
    """Group -> files of `split` ("train", "validation"), by the manifest of a token shards artifact.

    Raises ValueError for a folder without one, a split without shards, and a file that is missing or of another size.
    """
    try:
        entries = json.loads((folder / "manifest.json").read_text())["files"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: no finished token shards ({error}); write the shards again") from error
    found: dict[str, list[Path]] = {}
    for entry in sorted(entries, key=lambda entry: entry["path"]):
        place = Path(entry["path"])
        if len(place.parts) != 3 or place.parts[0] != split or place.suffix != ".parquet":
            continue
        path = folder / place
        size = path.stat().st_size if path.exists() else None
        if size != entry["bytes"]:
            state = "is missing" if size is None else f"has {size} bytes, the manifest says {entry['bytes']}"
            raise ValueError(f"{path} {state}; write the shards again")
        found.setdefault(place.parts[1], []).append(path)
    if not found:
        raise ValueError(f"{folder}: its manifest lists no {split} shards; write the shards again")
    return found


@dataclass(frozen=True)
class _File:
    """A shard as its footer describes it."""

    place: str  # path or URL
    header: ShardHeader
    group_rows: NDArray[np.int64]
    pages: NDArray[np.int64] | None  # [groups, 2]: where each group's only page begins and ends; None when compressed


def _reopen(places: list[str], cache: ShardCache | None) -> TokenRows:
    return TokenRows.open(places, cache=cache)


def _new_header(
    path: Path, rows: TokenArray, beside: pa.Table | None, metadata: Mapping[str, int | str | None]
) -> ShardHeader:
    if rows.ndim != 2 or rows.shape[1] < 2 or rows.dtype.kind != "u" or rows.dtype.itemsize not in (2, 4):
        raise ValueError(f"{path}: rows of {rows.dtype} {rows.shape}, expected uint16 or uint32 [n, context + 1]")
    if beside is not None and (beside.num_rows != len(rows) or COLUMN in beside.column_names):
        raise ValueError(
            f"{path}: the columns beside have {beside.num_rows} rows for {len(rows)}, or a column {COLUMN!r}"
        )
    found = {"context": rows.shape[1] - 1, "item_bytes": rows.dtype.itemsize, "rows": len(rows), "format": FORMAT}
    for key, value in found.items():
        if metadata.get(key, value) != value:
            raise ValueError(f"{path}: metadata says {key} {metadata[key]}, but the rows have {value}")
    header = _parse_header(str(path), {**metadata, **found})
    if rows.size and int(rows.max()) >= header.vocab_size:
        raise ValueError(f"{path}: token id {rows.max()} is outside of the vocabulary of {header.vocab_size}")
    return header


def _table(header: ShardHeader, rows: TokenArray, beside: pa.Table | None) -> pa.Table:
    row_type = pa.binary(header.row_bytes)
    values = pa.Array.from_buffers(row_type, header.rows, [None, pa.py_buffer(rows)])
    fields, columns = [pa.field(COLUMN, row_type, nullable=False)], [values]
    if beside is not None:
        fields.extend(beside.schema)
        columns.extend(column.combine_chunks() for column in beside.columns)
    described = json.dumps(asdict(header), sort_keys=True).encode()
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata={SCHEMA_KEY: described}))


def _parse_header(place: str, values: Mapping[str, object]) -> ShardHeader:
    if values.get("format", 1) != FORMAT:
        raise ValueError(
            f"{place}: token shard of format {values.get('format', 1)}, expected {FORMAT}; write the shards again"
        )
    tokenizer = _said(place, values, "tokenizer")
    if tokenizer is None:
        raise ValueError(f"{place}: shard metadata: tokenizer is None, expected a fingerprint")
    header = ShardHeader(
        _number(place, values, "context"), _number(place, values, "item_bytes"), _number(place, values, "vocab_size"),
        tokenizer, _number(place, values, "rows"), _said(place, values, "packing") or "concatenate",
        *(None if values.get(key) is None else _number(place, values, key) for key in ("bos", "eos", "pad", "seed")),
        parent=_said(place, values, "parent"),
    )  # fmt: skip
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


def _open_bytes(place: str, cache: ShardCache | None) -> BinaryIO:
    if not is_url(place):
        try:
            return Path(place).open("rb")
        except FileNotFoundError as error:
            raise ValueError(f"{place}: it was there when the shards were opened; write the shards again") from error
    assert cache is not None, "open() refuses URLs without a cache"
    return cache.open(place)


def _open_file(place: str, cache: ShardCache | None) -> _File:
    """What the footer says; no rows are read."""
    if is_url(place) and cache is None:
        raise ValueError(f"{place}: a URL needs a cache to read through; give TokenRows.open(…, cache=ShardCache(…))")
    try:
        metadata = pq.read_metadata(pa.BufferReader(read_tail(place)) if is_url(place) else place)
        header = _read_header(place, metadata)
    except (OSError, pa.ArrowInvalid, json.JSONDecodeError) as error:
        raise ValueError(f"{place}: not a whole token shard ({error}); write the shards again") from error
    group_rows: list[int] = []
    pages: list[tuple[int, int]] = []
    is_plain = True
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        column = group.column(0)
        is_plain = is_plain and column.compression == "UNCOMPRESSED" and not column.has_dictionary_page
        group_rows.append(group.num_rows)
        pages.append((column.data_page_offset, column.data_page_offset + column.total_compressed_size))
    return _File(
        place, header, np.array(group_rows, np.int64), np.array(pages, np.int64).reshape(-1, 2) if is_plain else None
    )


def _read_header(place: str, metadata: pq.FileMetaData) -> ShardHeader:
    text = (metadata.metadata or {}).get(SCHEMA_KEY)
    if text is None:
        raise ValueError(f"{place}: not a token shard: its schema has no {SCHEMA_KEY.decode()!r} metadata")
    header = _parse_header(place, json.loads(text))
    column = metadata.schema.to_arrow_schema().field(0)
    if column.name != COLUMN or column.type != pa.binary(header.row_bytes) or column.nullable:
        raise ValueError(
            f"{place}: the first column is {column}, expected required {COLUMN!r} of {header.row_bytes} bytes"
        )
    if header.rows != metadata.num_rows:
        raise ValueError(f"{place}: its metadata says {header.rows} rows, but it holds {metadata.num_rows}")
    return header


def _map_groups(file: _File, stream: BinaryIO) -> list[memoryview] | None:
    """Each row group's values in the mapped file; None when a group is not one plain, uncompressed page."""
    if file.pages is None:
        return None
    mapped = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    views: list[memoryview] = []
    for rows, (start, end) in zip(file.group_rows.tolist(), file.pages.tolist(), strict=True):
        size = rows * file.header.row_bytes
        if end > len(mapped):
            raise ValueError(f"{file.place}: not a whole token shard (cut off); write the shards again")
        if _plain_page_bytes(bytes(mapped[start : start + 32])) != size:
            return None
        views.append(mapped[end - size : end])
    return views


def _decode_group(file: _File, stream: BinaryIO, group: int) -> memoryview:
    try:
        with pq.ParquetFile(stream, page_checksum_verification=True) as parquet:
            column = parquet.read_row_group(group, columns=[COLUMN], use_threads=False).column(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{file.place}: row group {group} is damaged ({error}); write the shards again") from error
    values = pa.concat_arrays(column.chunks)
    size = file.header.row_bytes
    return memoryview(values.buffers()[1])[values.offset * size : (values.offset + len(values)) * size]


def _read_segments(file: _File, stream: BinaryIO, group: int) -> tuple[pa.Array, pa.Array, pa.Array]:
    names = [field.name for field in SEGMENT_FIELDS]
    try:
        with pq.ParquetFile(stream, page_checksum_verification=True) as parquet:
            missing = [name for name in names if name not in parquet.schema_arrow.names]
            if missing:
                raise ValueError(f"{file.place}: no column {', '.join(missing)}: this shard does not tell its segments")
            table = parquet.read_row_group(group, columns=names, use_threads=False)
    except OSError as error:
        raise ValueError(f"{file.place}: row group {group} is damaged ({error}); write the shards again") from error
    ends, documents, offsets = (pa.concat_arrays(table[name].chunks) for name in names)
    return ends, documents, offsets


def _cell(column: pa.Array, row: int) -> NDArray[np.int64]:
    return column[row].values.to_numpy(zero_copy_only=False).astype(np.int64)


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


def _check_written(path: Path, rows: TokenArray, is_mapped: bool) -> None:
    file = _open_file(str(path), None)
    with path.open("rb") as stream:
        views = _map_groups(file, stream)
        if is_mapped and views is None:
            raise OSError(
                f"{path}: this pyarrow ({pa.__version__}) does not write {COLUMN!r} as one plain page per row group"
            )
        start = 0
        for group, count in enumerate(file.group_rows.tolist()):
            values = views[group] if views is not None else _decode_group(file, stream, group)
            if not np.array_equal(np.frombuffer(values, rows.dtype), rows[start : start + count].ravel()):
                raise OSError(f"{path}: the rows read back differ from those written; check the disk and try again")
            start += count


def _check_pages(file: _File, cache: ShardCache | None) -> None:
    with _open_bytes(file.place, cache) as stream:
        try:
            with pq.ParquetFile(stream, page_checksum_verification=True) as parquet:
                for group in range(parquet.num_row_groups):
                    parquet.read_row_group(group)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(f"{file.place}: a page is damaged ({error}); write the shards again") from error


def _check_wanted(file: _File, tokenizer: str | None, vocab_size: int | None) -> None:
    header = file.header
    if tokenizer is not None and header.tokenizer != tokenizer:
        raise ValueError(
            f"{file.place}: its rows were made with tokenizer {header.tokenizer}, but this run's is {tokenizer}; "
            "write the shards again with that one, or train with the tokenizer they were made with"
        )
    if vocab_size is not None and header.vocab_size != vocab_size:
        raise ValueError(
            f"{file.place}: its rows have ids of a vocabulary of {header.vocab_size}, but this run's has {vocab_size}; "
            "write the shards again with that tokenizer, or train with the one they were made with"
        )


def _check_same_kind(file: _File, first: _File) -> None:
    expected = vars(first.header)
    for name, found in vars(file.header).items():
        if name not in ("rows", "packing", "seed", "parent") and found != expected[name]:
            raise ValueError(
                f"{file.place}: {name} is {found}, but the first shard has {expected[name]}; give shards of one run"
            )

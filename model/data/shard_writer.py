"""Token shard writer, a row group at a time. Layout: model/data/shard_format.py."""

import json
import os
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from model.data.shard_format import COLUMN, FORMAT, SCHEMA_KEY, Codec, TokenArray, decode_group, map_groups, open_file, parse_header

Metadata = Mapping[str, int | str | None]


def write_token_shard(path: Path, rows: TokenArray, beside: pa.Table | None, metadata: Metadata, codec: Codec = "none") -> None:
    """Writes rows [n, T + 1] and the columns of `beside` next to them: `TokenShardWriter` for rows that are all there."""
    if rows.ndim != 2 or rows.dtype.kind != "u" or rows.dtype.itemsize not in (2, 4):
        raise ValueError(f"{path}: rows of {rows.dtype} {rows.shape}, expected uint16 or uint32 [n, context + 1]")
    fields = () if beside is None else tuple(beside.schema)
    with TokenShardWriter(path, rows.shape[-1], rows.dtype.itemsize, fields, metadata, codec) as writer:
        writer.write(rows, beside)


class TokenShardWriter:
    """One shard, holding no more than a row group. It appears under its name when it is whole and was read back."""

    def __init__(self, path: Path, width: int, item_bytes: int, beside: Sequence[pa.Field], metadata: Metadata, codec: Codec) -> None:
        """For rows of `width` tokens (T + 1) of `item_bytes`, with columns `beside` next to them, compressed.

        `metadata` holds what ShardHeader has, at least vocab_size and tokenizer; context and item_bytes are filled in. With
        `codec` zstd the tokens are compressed too: an archive, which is decoded to be read. Raises ValueError for metadata
        that does not fit.
        """
        self.path, self.rows = path, 0
        found = {"context": width - 1, "item_bytes": item_bytes, "format": FORMAT}
        for key, value in found.items():
            if metadata.get(key, value) != value:
                raise ValueError(f"{path}: metadata says {key} {metadata[key]}, but the rows have {value}")
        self.header = parse_header(str(path), {**metadata, **found}, 0)
        if width < 2:
            raise ValueError(f"{path}: rows of {width} tokens, expected 2 or more: a context and its targets")
        self._is_mapped = codec == "none"
        self._names = [field.name for field in beside]
        self._checksum = 0
        self._waiting: list[TokenArray] = []
        self._beside: list[pa.Table] = []
        self._temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        self._file = pq.ParquetWriter(
            self._temporary,
            self._schema(beside),
            compression={COLUMN: codec.upper(), **dict.fromkeys(self._names, "ZSTD")},  # pyright: ignore[reportArgumentType]
            use_dictionary=False,
            write_statistics=False,
            data_page_size=(self.header.group_rows + 1) * self.header.row_bytes,
            data_page_version="1.0",
            write_page_checksum=True,
        )

    def write(self, rows: TokenArray, beside: pa.Table | None) -> None:
        """Adds rows [n, width]. Raises ValueError for rows of another kind, or with an id outside of the vocabulary."""
        self._check(rows, beside)
        start = 0
        while start < len(rows):
            stop = min(len(rows), start + self.header.group_rows - sum(map(len, self._waiting)))
            self._waiting.append(rows[start:stop])
            if beside is not None:
                self._beside.append(beside.slice(start, stop - start))
            start = stop
            if sum(map(len, self._waiting)) == self.header.group_rows:
                self._write_group()

    def _check(self, rows: TokenArray, beside: pa.Table | None) -> None:
        header = self.header
        expected = (header.context + 1, header.item_bytes, "u")
        if rows.ndim != 2 or (rows.shape[1], rows.dtype.itemsize, rows.dtype.kind) != expected:
            raise ValueError(
                f"{self.path}: rows of {rows.dtype} {rows.shape}, expected unsigned [n, {header.context + 1}] of {header.item_bytes} bytes"
            )
        names = [] if beside is None else beside.column_names
        if names != self._names or (beside is not None and beside.num_rows != len(rows)):
            count = 0 if beside is None else beside.num_rows
            raise ValueError(f"{self.path}: columns beside {names} of {count} rows, expected {self._names} of {len(rows)}")
        if rows.size and int(rows.max()) >= header.vocab_size:
            raise ValueError(f"{self.path}: token id {rows.max()} is outside of the vocabulary of {header.vocab_size}")

    def _schema(self, beside: Sequence[pa.Field]) -> pa.Schema:
        if COLUMN in self._names:
            raise ValueError(f"{self.path}: a column beside is called {COLUMN!r}; give it another name")
        described = {key: value for key, value in asdict(self.header).items() if key != "rows"}
        fields = [pa.field(COLUMN, pa.binary(self.header.row_bytes), nullable=False), *beside]
        return pa.schema(fields, metadata={SCHEMA_KEY: json.dumps(described, sort_keys=True).encode()})

    def _write_group(self) -> None:
        if not self._waiting:
            return
        rows = np.ascontiguousarray(np.concatenate(self._waiting), dtype=f"<u{self.header.item_bytes}")
        self._checksum = zlib.crc32(rows.data, self._checksum)
        columns: list[pa.Array] = [pa.Array.from_buffers(pa.binary(self.header.row_bytes), len(rows), [None, pa.py_buffer(rows)])]
        if self._beside:
            columns += [column.combine_chunks() for column in pa.concat_tables(self._beside).columns]
        self._waiting, self._beside = [], []
        self._file.write_table(pa.Table.from_arrays(columns, schema=self._file.schema), row_group_size=len(rows))
        self.rows += len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._write_group()
            self._file.close()
            if kind is None:
                self._read_back()
                self._temporary.rename(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _read_back(self) -> None:
        """Raises OSError when the file does not hold the same rows, or not as a map where it should be one."""
        file = open_file(str(self._temporary), None)
        checksum = 0
        with self._temporary.open("rb") as stream:
            views = map_groups(file, stream) if len(file.group_rows) else []
            if self._is_mapped and views is None:
                raise OSError(f"{self.path}: this pyarrow ({pa.__version__}) does not write {COLUMN!r} as one plain page per row group")
            for group in range(len(file.group_rows)):
                values = views[group] if views is not None else decode_group(file, stream, group)
                checksum = zlib.crc32(values, checksum)
        if (file.header.rows, checksum) != (self.rows, self._checksum):
            raise OSError(f"{self.path}: the rows read back differ from those written; check the disk and try again")

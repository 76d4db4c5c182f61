"""Token shard reader: rows by number, from local files, archives and URLs. Layout: model/data/shard_format.py."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.data.shard_cache import ShardCache, is_url
from model.data.shard_format import SEGMENT_FIELDS, ShardFile, decode_group, map_groups, open_bytes, open_file

MAPPED_FILES = 512  # each holds a file descriptor
KEPT_GROUPS = 16  # row groups kept when they had to be decoded


@dataclass(frozen=True)
class RowSegments:
    """The pieces of documents in a row, from its start: piece i ends before token ends[i]; padding may follow the last."""

    ends: NDArray[np.int64]
    documents: NDArray[np.int64]
    offsets: NDArray[np.int64]  # of the piece's first token in its document, whose <|bos|> is token 0


class TokenRows:
    """The rows of several shards, in file order. Nothing is read until it is taken.

    Rows come straight from the mapped files, nearly as fast as from a flat array however many shards there are
    (benchmarks/RESULTS.md, `batches-vs-memmap`). Files that were compressed are decoded, a row group at a time.
    """

    def __init__(self, files: "Sequence[ShardFile]", cache: ShardCache | None) -> None:
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
        files = [open_file(str(path), cache) for path in paths]
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
        return _reopen, ([file.path for file in self._files], self._cache)

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows number `indices` [n], in that order: [n, T + 1]. Raises IndexError outside of [0, rows)."""
        groups, numbers = self._locate(indices)
        size = self.header.row_bytes
        starts = numbers * size
        try:
            mapped = self._mapped
            cells = [mapped[group][start : start + size] for group, start in zip(groups.tolist(), starts.tolist(), strict=True)]
        except KeyError:
            cells = self._cells_by_group(groups, starts)
        return np.frombuffer(b"".join(cells), self._dtype).reshape(len(indices), self.context + 1).astype(np.int64)

    def segments(self, indices: NDArray[np.int64]) -> list[RowSegments]:
        """The segments of rows number `indices`, in that order. Raises ValueError for shards that do not tell them."""
        groups, numbers = self._locate(indices)
        found: dict[int, RowSegments] = {}
        for group in np.unique(groups).tolist():
            ends, documents, offsets = self._group_segments(group)
            for row in np.flatnonzero(groups == group).tolist():
                at = int(numbers[row])
                found[row] = RowSegments(*(_cell(column, at) for column in (ends, documents, offsets)))
        return [found[row] for row in range(len(indices))]

    def _locate(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row group of each row and its number therein."""
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
            with open_bytes(file.path, self._cache) as stream:
                views = map_groups(file, stream)
                if views is None:
                    self._decoded[group] = decode_group(file, stream, group - first)
                    if len(self._decoded) > KEPT_GROUPS:
                        self._decoded.popitem(last=False)
                    return self._decoded[group]
            if is_url(file.path):  # what the cache gave up must not be held by a map
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
                with open_bytes(file.path, self._cache) as stream:
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
        relative = Path(entry["path"])
        if len(relative.parts) != 3 or relative.parts[0] != split or relative.suffix != ".parquet":
            continue
        path = folder / relative
        size = path.stat().st_size if path.exists() else None
        if size != entry["bytes"]:
            state = "is missing" if size is None else f"has {size} bytes, the manifest says {entry['bytes']}"
            raise ValueError(f"{path} {state}; write the shards again")
        found.setdefault(relative.parts[1], []).append(path)
    if not found:
        raise ValueError(f"{folder}: its manifest lists no {split} shards; write the shards again")
    return found


def _reopen(paths: list[str], cache: ShardCache | None) -> TokenRows:
    return TokenRows.open(paths, cache=cache)


def _read_segments(file: ShardFile, stream: BinaryIO, group: int) -> tuple[pa.Array, pa.Array, pa.Array]:
    names = [field.name for field in SEGMENT_FIELDS]
    try:
        with pq.ParquetFile(stream, page_checksum_verification=True) as parquet:
            missing = [name for name in names if name not in parquet.schema_arrow.names]
            if missing:
                raise ValueError(f"{file.path}: no column {', '.join(missing)}: this shard does not tell its segments")
            table = parquet.read_row_group(group, columns=names, use_threads=False)
    except OSError as error:
        raise ValueError(f"{file.path}: row group {group} is damaged ({error}); write the shards again") from error
    ends, documents, offsets = (pa.concat_arrays(table[name].chunks) for name in names)
    return ends, documents, offsets


def _cell(column: pa.Array, row: int) -> NDArray[np.int64]:
    return column[row].values.to_numpy(zero_copy_only=False).astype(np.int64)


def _check_pages(file: ShardFile, cache: ShardCache | None) -> None:
    with open_bytes(file.path, cache) as stream:
        try:
            with pq.ParquetFile(stream, page_checksum_verification=True) as parquet:
                for group in range(parquet.num_row_groups):
                    parquet.read_row_group(group)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(f"{file.path}: a page is damaged ({error}); write the shards again") from error


def _check_wanted(file: ShardFile, tokenizer: str | None, vocab_size: int | None) -> None:
    header = file.header
    if tokenizer is not None and header.tokenizer != tokenizer:
        raise ValueError(
            f"{file.path}: its rows were made with tokenizer {header.tokenizer}, but this run's is {tokenizer}; "
            "write the shards again with that one, or train with the tokenizer they were made with"
        )
    if vocab_size is not None and header.vocab_size != vocab_size:
        raise ValueError(
            f"{file.path}: its rows have ids of a vocabulary of {header.vocab_size}, but this run's has {vocab_size}; "
            "write the shards again with that tokenizer, or train with the one they were made with"
        )


def _check_same_kind(file: ShardFile, first: ShardFile) -> None:
    expected = vars(first.header)
    for name, found in vars(file.header).items():
        if name not in ("rows", "packing", "seed", "parent") and found != expected[name]:
            raise ValueError(f"{file.path}: {name} is {found}, but the first shard has {expected[name]}; give shards of one run")

"""Reading records from files of the user: text, JSON Lines, JSON, CSV and TSV, Parquet; compressed or not, local or remote.

A record that cannot be read becomes a `Fault` with a reason; its neighbours are untouched. What makes a whole file
unreadable is a UserError that names it.
"""

import bz2
import csv
import glob
import gzip
import hashlib
import io
import json
import lzma
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError

RecordFormat = Literal["jsonl", "json", "csv", "parquet"]
EVIDENCE_CHARS = 256
CHUNK_BYTES = 1 << 18
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
MAX_FIELD_CHARS = 1 << 27  # of a CSV field; Python's own limit is 131072


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `name` is relative to the folder that all files of the source share; `url` may be a path."""

    name: str
    url: str


@dataclass(frozen=True)
class Fault:
    """A record that could not be taken: why, its size in bytes as stored, and how it begins."""

    reason: str
    bytes: int
    evidence: str


@dataclass(frozen=True)
class Record:
    """A record's fields as they were stored. `number` counts from 1: a line, a row or an entry of its file."""

    number: int
    fields: Mapping[str, object]


@dataclass(frozen=True)
class Table:
    """How rows are laid out in CSV and TSV files."""

    delimiter: str | None = None
    header: bool = True


def find_files(place: str, patterns: Sequence[str]) -> list[SourceFile]:
    """The files that paths, folders, globs and URLs name, sorted, each once. UserError where one names nothing."""
    urls = sorted({url for pattern in patterns for url in _matches(place, pattern)})
    folders = [url.split("/")[:-1] for url in urls]
    shared = len(os.path.commonprefix(folders))  # noqa: RUF071 - of lists of names, so name by name
    return [SourceFile("/".join(url.split("/")[shared:]), url) for url in urls]


def digest_of(file: SourceFile) -> str:
    """SHA-256 of the file as stored, compressed or not."""
    digest = hashlib.sha256()
    with _open_stored(file) as stream:
        while chunk := stream.read(CHUNK_BYTES * 4):
            digest.update(chunk)
    return digest.hexdigest()


def read_lines(file: SourceFile) -> Iterator[bytes | Fault]:
    """Lines with their line ends; a byte order mark is left out. A stream that breaks off ends with one Fault."""
    held: list[bytes] = []
    first = True
    for chunk in _chunks(file):
        if isinstance(chunk, Fault):
            rest = b"".join(held)
            yield Fault(chunk.reason, len(rest), rest[:EVIDENCE_CHARS].decode("utf-8", "replace"))
            return
        if first:
            chunk, first = chunk.removeprefix(b"\xef\xbb\xbf"), False
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            yield b"".join((*held, line, b"\n")) if held else line + b"\n"
            held.clear()
        if rest:
            held.append(rest)
    if held:
        yield b"".join(held)


def read_records(place: str, file: SourceFile, kind: RecordFormat, table: Table) -> Iterator[Record | Fault]:
    """The records of a file in order."""
    match kind:
        case "jsonl":
            yield from _read_jsonl(file)
        case "json":
            yield from _read_json(place, file)
        case "csv":
            yield from _read_csv(place, file, table)
        case "parquet":
            yield from _read_parquet(place, file)


def read_text(file: SourceFile) -> Iterator[str | Fault]:
    """Lines as text. Bytes that are not UTF-8 become lone surrogates, which `text_fault` finds later."""
    for line in read_lines(file):
        yield line if isinstance(line, Fault) else line.decode("utf-8", "surrogateescape")


def text_fault(text: str) -> Fault | None:
    """What keeps a text from being stored as UTF-8: bytes that were no UTF-8, or a lone surrogate from JSON."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        escaped = all("\udc80" <= character <= "\udcff" for character in text[error.start : error.end])
        raw = text.encode("utf-8", "surrogatepass" if not escaped else "surrogateescape")
        return Fault("not_utf8" if escaped else "lone_surrogate", len(raw), shown(raw))
    return None


def shown(raw: bytes) -> str:
    """The start of a record as text that can be stored."""
    return raw[: EVIDENCE_CHARS * 4].decode("utf-8", "replace")[:EVIDENCE_CHARS]


def _read_jsonl(file: SourceFile) -> Iterator[Record | Fault]:
    for number, line in enumerate(read_lines(file), 1):
        if isinstance(line, Fault):
            yield line
        elif line.strip():
            yield _json_record(number, line)


def _json_record(number: int, line: bytes) -> Record | Fault:
    try:
        value: object = json.loads(line.decode())
    except UnicodeDecodeError:
        return Fault("not_utf8", len(line), shown(line))
    except (json.JSONDecodeError, RecursionError):
        return Fault("malformed", len(line), shown(line))
    return _as_record(number, value, line)


def _as_record(number: int, value: object, raw: bytes) -> Record | Fault:
    if not isinstance(value, dict):
        return Fault("malformed", len(raw), shown(raw))
    return Record(number, cast("dict[str, object]", value))


def _read_json(place: str, file: SourceFile) -> Iterator[Record | Fault]:
    """A list of objects, or one object. The whole file is held in memory: JSON Lines are the format for large data."""
    lines = list(read_lines(file))
    if lines and isinstance(lines[-1], Fault):
        raise UserError(f"{place}: {file.url}: the file breaks off ({lines[-1].reason}). Fix: fetch it again.")
    try:
        value: object = json.loads(b"".join(line for line in lines if isinstance(line, bytes)).decode())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{place}: {file.url}:{error.lineno}:{error.colno}: {error.msg}, expected a JSON list of objects. "
            "Fix: repair the file; for one object a line use kind: jsonl."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{place}: {file.url}: byte {error.start} is not UTF-8. Fix: convert the file to UTF-8."
        ) from error
    entries = cast("list[object]", value) if isinstance(value, list) else [value]
    for number, entry in enumerate(entries, 1):
        yield _as_record(number, entry, b"" if isinstance(entry, dict) else json.dumps(entry).encode())


def _read_csv(place: str, file: SourceFile, table: Table) -> Iterator[Record | Fault]:
    """Rows of CSV or TSV. Without a header, fields are named "0", "1", …; in TSV quotes have no meaning."""
    csv.field_size_limit(MAX_FIELD_CHARS)
    stem = Path(file.name).with_suffix("") if file.name.endswith(COMPRESSIONS) else Path(file.name)
    delimiter = table.delimiter or ("\t" if stem.suffix == ".tsv" else ",")
    broken: list[Fault] = []
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    rows = csv.reader(_whole_lines(file, broken), delimiter=delimiter, quoting=quoting)
    names = next(rows, None) if table.header else None
    if table.header and names is None:
        raise UserError(
            f"{place}: {file.url}: the file is empty, expected a header line. Fix: leave it out or fill it."
        )
    while True:
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            yield Fault("malformed", 0, str(error))
            continue
        if row:
            keys = [str(column) for column in range(len(row))] if names is None else names
            yield Record(rows.line_num, dict(zip(keys, row, strict=False)))
    yield from broken


def _whole_lines(file: SourceFile, broken: list[Fault]) -> Iterator[str]:
    """The file's lines for the CSV reader; a fault of the stream is put aside."""
    for line in read_text(file):
        if isinstance(line, Fault):
            broken.append(line)
        else:
            yield line


def _read_parquet(place: str, file: SourceFile) -> Iterator[Record | Fault]:
    with _open_stored(file) as stream:
        try:
            table = pq.ParquetFile(stream)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{place}: {file.url}: {error}, expected a Parquet file. Fix: name Parquet files only."
            ) from error
        number = 0
        for batch in table.iter_batches(batch_size=1_000):
            for fields in batch.to_pylist():
                number += 1
                yield Record(number, fields)


def _chunks(file: SourceFile) -> Iterator[bytes | Fault]:
    """The unpacked bytes; where the stream breaks off, what came before it and then a Fault."""
    with _open_stored(file) as stored:
        stream = _unpacked(file, stored)
        started = False
        while True:
            try:
                chunk = stream.read1(CHUNK_BYTES)
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                if not started and not isinstance(error, EOFError):  # not even its head is what the ending says
                    raise UserError(
                        f"{file.url}: cannot be unpacked ({error}). Fix: fetch the file again, or correct its ending."
                    ) from error
                yield Fault("truncated_stream", 0, "")
                return
            if not chunk:
                return
            started = True
            yield chunk


def _unpacked(file: SourceFile, stored: BinaryIO) -> io.BufferedIOBase:
    match Path(file.url).suffix:
        case ".gz":
            return gzip.GzipFile(fileobj=stored)
        case ".bz2":
            return bz2.BZ2File(stored)
        case ".xz":
            return lzma.LZMAFile(stored)
        case ".zst":
            return _ArrowStream(pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), "zstd"))
        case _:
            return io.BufferedReader(cast("io.RawIOBase", stored), CHUNK_BYTES)


class _ArrowStream(io.BufferedIOBase):
    """Arrow's zstd reader with the one method we need."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream

    def read1(self, size: int = -1, /) -> bytes:
        return self._stream.read(size)


def _open_stored(file: SourceFile) -> BinaryIO:
    try:
        if "://" not in file.url:
            return Path(file.url).open("rb", buffering=0)
        import fsspec

        files, path = fsspec.core.url_to_fs(file.url)
        return files.open(path, "rb")
    except OSError as error:
        raise UserError(f"{file.url}: {error.strerror or error}. Fix: check the path and who may read it.") from error


def _matches(place: str, pattern: str) -> list[str]:
    found = _remote_matches(place, pattern) if "://" in pattern else _local_matches(pattern)
    if not found:
        raise UserError(
            f"{place}: {pattern!r} matches no file. {_beside(pattern)}Fix: correct the path or the pattern."
        )
    return found


def _local_matches(pattern: str) -> list[str]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        names = [str(entry) for entry in path.iterdir() if not entry.name.startswith(".")]
    elif path.exists():
        names = [str(path)]  # also when its name holds characters that mean something in a glob
    else:
        names = glob.glob(str(path), recursive=True)
    return [Path(name).absolute().as_posix() for name in names if Path(name).is_file()]


def _remote_matches(place: str, pattern: str) -> list[str]:
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(pattern)
        names = files.find(path, maxdepth=1) if files.isdir(path) else files.glob(path)
        return [files.unstrip_protocol(name) for name in names if files.isfile(name)]
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{place}: {pattern!r}: {error}. Fix: install the package that reads this kind of address."
        ) from error
    except OSError as error:
        raise UserError(
            f"{place}: {pattern!r}: {error}. Fix: check the address, the network and the credentials."
        ) from error


def _beside(pattern: str) -> str:
    """What lies in the nearest folder above a local pattern that exists."""
    if "://" in pattern:
        return ""
    folder = Path(pattern).expanduser().absolute()
    folder = next(above for above in (folder, *folder.parents) if above.is_dir())
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{folder} holds {listed or 'nothing'}. "

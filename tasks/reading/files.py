"""File discovery: by path, folder, glob or URL, and the opening of files as they lie."""

import functools
import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from model.data.remote_files import open_remote
from tasks.errors import UserError
from tasks.reading.listing import (
    GLOB_CHARACTERS,
    HIDDEN,
    SUBFOLDER,
    SUBFOLDER_TOLD,
    TWICE,
    Beside,
    Match,
    beside,
    local_matches,
    local_pattern,
    local_state,
)
from tasks.reading.remote import answering, read_remote

DIGEST_CHUNK_BYTES = 1 << 20
MANY_FILES = 10_000  # of a folder that is not read; counting ends there


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `name` is relative to the folder that the source's patterns share; `url` may be a path.

    The name depends on the recipe alone, not on which other files were found; `bytes` is the size as stored. `state` is that
    of a local file when it was found: what is read later must be what was found then. `fault` says why it is no file that
    can be read, if it is none, and `evidence` what it is.
    """

    name: str
    url: str
    bytes: int = 0
    state: str = ""
    fault: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class Listing:
    """What patterns name, faults among it, and what they passed over."""

    files: list[SourceFile]
    passed_over: list[Beside]


def find_files(place: str, patterns: Sequence[str]) -> list[SourceFile]:
    """The files that paths, folders, globs and URLs name, sorted, each once even behind links.

    UserError where a pattern names nothing, or what is no file.
    """
    files = list_files(place, patterns).files
    wrong = [file for file in files if file.fault]
    if wrong:
        others = f" (and {len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
        raise UserError(f"{place}: {wrong[0].url}{others}: {wrong[0].evidence}; expected a file. Fix: correct the path, or mend the link.")
    return files


def list_files(place: str, patterns: Sequence[str]) -> Listing:
    """The same, with what is named and cannot be read as files with a `fault`. UserError where a pattern names nothing."""
    found: dict[str, Match] = {}
    passed_over: dict[Beside, None] = {}
    for pattern in patterns:
        for one in _matches(place, pattern):
            if isinstance(one, Beside):
                passed_over[one] = None
            else:
                found[one.url] = one
    folders = {match.real.rpartition("/")[0] for match in found.values() if not match.fault}
    named = [match for match in found.values() if match.fault != SUBFOLDER or not _is_read(match.real, folders)]
    nearest_first = sorted(named, key=lambda match: (match.url.count("/"), match.url))
    once: dict[str, Match] = {}
    for match in nearest_first:
        if once.setdefault(match.real, match) is not match:
            passed_over[Beside(TWICE, match.url)] = None
    shared = _shared_depth(patterns)
    files = sorted(once.values(), key=lambda match: match.url)
    return Listing(
        [
            SourceFile(
                _storable("/".join(file.url.split("/")[shared:])), file.url, file.bytes, file.state, file.fault, _storable(file.evidence)
            )
            for file in files
        ],
        [one for one in passed_over if one.kind == TWICE or one.url not in found],
    )


def left_aside(listing: Listing) -> list[str]:
    """A sentence, with a count, on each kind of thing that lies among the files of a listing and is not read."""
    kinds: dict[str, list[str]] = {}
    for file in listing.files:
        if file.fault == SUBFOLDER:
            kinds.setdefault("subfolders left out (a path that ends in /** reads them too)", []).append(_counted(file.url))
        elif file.fault:
            kinds.setdefault("names of what is no file", []).append(f"{file.name}, {file.evidence}")
    told = {HIDDEN: "hidden names left out", TWICE: "second names of files that are read once"}
    for one in listing.passed_over:
        kinds.setdefault(told.get(one.kind, "links to what is not there"), []).append(_storable(one.url.rpartition("/")[2]))
    return [f"{kind}: {len(names)} ({'; '.join(names[:3])}{' …' if len(names) > 3 else ''})" for kind, names in kinds.items()]


def _counted(url: str) -> str:
    """A folder's name and how many files lie in it, counted up to a limit."""
    name = _storable(url.rpartition("/")[2])
    if "://" in url:
        return f"{name}/"
    count = 0
    for _, _, files in os.walk(url):
        count += len(files)
        if count >= MANY_FILES:
            return f"{name}/ with more than {MANY_FILES:,} files"
    return f"{name}/ with {count} file{'s' if count != 1 else ''}"


def _is_read(folder: str, folders: Collection[str]) -> bool:
    """Whether files in or below a folder are read by another pattern."""
    return any(f"{read}/".startswith(f"{folder}/") for read in folders)


def _storable(name: str) -> str:
    """The name as text; bytes of it that are no UTF-8 are written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def digest_of(file: SourceFile) -> str:
    """SHA-256 of the file as stored, compressed or not. A local file that did not change is read once a process.

    Of what cannot be read, of what is told of it.
    """
    if file.fault:
        return hashlib.sha256(f"{file.fault}: {file.evidence}".encode()).hexdigest()
    return _known_digest(file) if file.state else _digest(file)


@functools.lru_cache(maxsize=1 << 20)
def _known_digest(file: SourceFile) -> str:
    return _digest(file)


def _digest(file: SourceFile) -> str:
    digest = hashlib.sha256()
    with open_stored(file) as stream:
        try:
            while chunk := stream.read(DIGEST_CHUNK_BYTES):
                digest.update(chunk)
        except OSError as error:
            raise UserError(f"{file.url}: {error.strerror or error}. Fix: check the disk or the network.") from error
    return digest.hexdigest()


def open_stored(file: SourceFile) -> BinaryIO:
    """The file's bytes as stored. UserError, which names it, when it is gone or may not be read."""
    if "://" in file.url:
        with answering("", file.url):
            return read_remote(file.url)
    try:
        return Path(file.url).open("rb", buffering=0)
    except OSError as error:
        raise UserError(f"{file.url}: {error.strerror or error}. Fix: check the path and who may read it.") from error


def state_of(file: SourceFile) -> str:
    """Differs when the file was written in between: size and time of change, or what the remote store says of it."""
    if "://" in file.url:
        with answering("", file.url):
            files, path = open_remote(file.url)
            files.invalidate_cache(path)
            return str(files.ukey(path))
    try:
        return local_state(Path(file.url).stat())
    except OSError as error:
        raise UserError(f"{file.url}: {error.strerror or error}. Fix: check the path and who may read it.") from error


def check_unchanged(file: SourceFile, state: str) -> None:
    """UserError when the file is not in this state: its documents would be of two files, or of another than was noted."""
    if state_of(file) != state:
        raise UserError(f"{file.url}: changed while it was read. Fix: run again when nothing writes to it.")


def _shared_depth(patterns: Sequence[str]) -> int:
    """How many leading parts of every file's URL are left out of its name: those that all patterns share literally."""
    return len(os.path.commonprefix([_base(pattern).split("/") for pattern in patterns]))  # noqa: RUF071


def _base(pattern: str) -> str:
    """The folder that a pattern starts from: a folder itself, else what precedes the first part with a wildcard."""
    if "://" not in pattern:
        return local_pattern(pattern).folder
    with answering("", pattern):
        files, path = open_remote(pattern)
        url = str(files.unstrip_protocol(path)).rstrip("/")
        if not GLOB_CHARACTERS.search(url) and files.isdir(path):
            return url
    parts = url.split("/")
    first = next((number for number, part in enumerate(parts[:-1]) if GLOB_CHARACTERS.search(part)), len(parts) - 1)
    return "/".join(parts[:first])


def _matches(place: str, pattern: str) -> list[Match | Beside]:
    try:
        found = _remote_matches(place, pattern) if "://" in pattern else list(local_matches(pattern))
    except UserError as error:
        raise error if str(error).startswith(f"{place}: ") else UserError(f"{place}: {error}") from error
    except OSError as error:
        where = f": {error.filename}" if error.filename and str(error.filename) != pattern else ""
        raise UserError(
            f"{place}: {pattern[:200]!r}{where}: {error.strerror or error}. Fix: correct the path, or let this account read it."
        ) from error
    if not any(isinstance(one, Match) for one in found):
        hint = "" if "://" in pattern else beside(pattern)
        raise UserError(f"{place}: {pattern[:200]!r} matches no file. {hint}Fix: correct the path or the pattern.")
    return found


def _remote_matches(place: str, pattern: str) -> list[Match | Beside]:
    with answering(place, pattern):
        files, path = open_remote(pattern)
        if files.isdir(path):
            listed = files.ls(path, detail=False)
        elif GLOB_CHARACTERS.search(path) and not files.exists(path):
            listed = files.glob(path)
        else:
            listed = [path]
        found: list[Match | Beside] = []
        for name in sorted(map(str, listed)):
            info = files.info(name)
            url = str(files.unstrip_protocol(name))
            if info["type"] == "file":
                found.append(Match(url, url, int(info.get("size") or 0)))
            elif name.rstrip("/") != str(path).rstrip("/"):
                found.append(Match(url, url, fault=SUBFOLDER, evidence=SUBFOLDER_TOLD))
        return found

"""File discovery: by path, folder, glob or URL, and the opening of files as they lie."""

import functools
import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from tasks.errors import UserError

DIGEST_CHUNK_BYTES = 1 << 20
GLOB_CHARACTERS = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class SourceFile:
    """One file of a source. `name` is relative to the folder that the source's patterns share; `url` may be a path.

    The name depends on the recipe alone, not on which other files were found; `bytes` is the size as stored. `state` is that
    of a local file when it was found: what is read later must be what was found then.
    """

    name: str
    url: str
    bytes: int = 0
    state: str = ""


@dataclass(frozen=True)
class Match:
    """A file that a pattern names: where it lies, what it is behind all links, its size and its state."""

    url: str
    real: str
    bytes: int
    state: str = ""


def find_files(place: str, patterns: Sequence[str]) -> list[SourceFile]:
    """The files that paths, folders, globs and URLs name, sorted, each once even behind links.

    UserError where a pattern names nothing.
    """
    found = {match.url: match for pattern in patterns for match in _matches(place, pattern)}
    nearest_first = sorted(found.values(), key=lambda match: (match.url.count("/"), match.url))
    once: dict[str, Match] = {}
    for match in nearest_first:
        once.setdefault(match.real, match)
    shared = _shared_depth(patterns)
    files = sorted(once.values(), key=lambda match: match.url)
    return [SourceFile(_storable("/".join(file.url.split("/")[shared:])), file.url, file.bytes, file.state) for file in files]


def _storable(name: str) -> str:
    """The name as text; bytes of it that are no UTF-8 are written out."""
    return name.encode("utf-8", "backslashreplace").decode()


def digest_of(file: SourceFile) -> str:
    """SHA-256 of the file as stored, compressed or not. A local file that did not change is read once a process."""
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
    try:
        if "://" not in file.url:
            return Path(file.url).open("rb", buffering=0)
        import fsspec

        files, path = fsspec.core.url_to_fs(file.url)
        return files.open(path, "rb")
    except OSError as error:
        raise UserError(f"{file.url}: {error.strerror or error}. Fix: check the path and who may read it.") from error


def state_of(file: SourceFile) -> str:
    """Differs when the file was written in between: size and time of change, or what the remote store says of it."""
    try:
        if "://" not in file.url:
            return _local_state(Path(file.url).stat())
        import fsspec

        files, path = fsspec.core.url_to_fs(file.url)
        files.invalidate_cache(path)
        return str(files.ukey(path))
    except OSError as error:
        raise UserError(f"{file.url}: {error.strerror or error}. Fix: check the path and who may read it.") from error


def _local_state(stat: os.stat_result) -> str:
    return f"{stat.st_size} bytes, changed at {stat.st_mtime_ns}"


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
        path = Path(pattern).expanduser().absolute()
        if path.is_dir():
            return path.as_posix()
        pattern = path.as_posix()
        if path.exists():
            return path.parent.as_posix()
    else:
        pattern, is_folder = _remote_form(pattern)
        if is_folder:
            return pattern
    parts = pattern.split("/")
    first = next((number for number, part in enumerate(parts[:-1]) if GLOB_CHARACTERS.search(part)), len(parts) - 1)
    return "/".join(parts[:first])


def _remote_form(pattern: str) -> tuple[str, bool]:
    """The pattern in the form that found files have, and whether it is a folder."""
    import fsspec

    files, path = fsspec.core.url_to_fs(pattern)
    return str(files.unstrip_protocol(path)).rstrip("/"), not GLOB_CHARACTERS.search(pattern) and bool(files.isdir(path))


def _matches(place: str, pattern: str) -> list[Match]:
    try:
        found = _remote_matches(place, pattern) if "://" in pattern else _local_matches(pattern)
    except OSError as error:
        raise UserError(f"{place}: {pattern[:200]!r}: {error.strerror or error}. Fix: correct the path.") from error
    if not found:
        raise UserError(f"{place}: {pattern!r} matches no file. {_beside(pattern)}Fix: correct the path or the pattern.")
    return found


def _local_matches(pattern: str) -> list[Match]:
    path = Path(pattern).expanduser().absolute()
    if path.is_dir():
        names = [str(entry) for entry in path.iterdir() if not entry.name.startswith(".")]
    elif path.exists():
        names = [str(path)]  # also when its name holds characters that mean something in a glob
    elif "**" in path.parts:
        names = list(_walk_matches(path))
    else:
        names = glob.glob(str(path))
    return [match for name in names if (match := _local_match(Path(name))) is not None]


def _local_match(path: Path) -> Match | None:
    """The file, if it is one and still there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    is_file = S_ISREG(stat.st_mode)
    return Match(path.as_posix(), os.path.realpath(path), stat.st_size, _local_state(stat)) if is_file else None


def _walk_matches(pattern: Path) -> Iterator[str]:
    """What a pattern with `**` matches. Links to folders are followed, but no folder is entered twice."""
    base = _base(pattern.as_posix())
    wanted = re.compile(pattern_regex(pattern.as_posix()[len(base) :].lstrip("/")))
    entered = {os.path.realpath(base)}
    for folder, below, names in os.walk(base, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        real = {name: os.path.realpath(Path(folder) / name) for name in below}
        below[:] = [name for name in below if real[name] not in entered and not entered.add(real[name])]
        for name in names:
            path = (Path(folder) / name).as_posix()
            if not name.startswith(".") and wanted.fullmatch(path[len(base) :].lstrip("/")):
                yield path


def pattern_regex(pattern: str) -> str:
    """A glob as a regular expression over a relative path; `**` stands for any number of folders, also none."""
    parts = pattern.split("/")
    regex = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            regex += ".*" if last else "(?:[^/]+/)*"
        else:
            inner = translate(part).removeprefix("(?s:").removesuffix(r")\Z").replace(".*", "[^/]*")
            regex += inner + ("" if last else "/")
    return regex


def _remote_matches(place: str, pattern: str) -> list[Match]:
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(pattern)
        names = files.find(path, maxdepth=1) if files.isdir(path) else files.glob(path)
        urls = [(files.unstrip_protocol(name), files.info(name)) for name in names if files.isfile(name)]
    except (ImportError, ValueError) as error:
        raise UserError(f"{place}: {pattern!r}: {error}. Fix: install the package that reads this kind of address.") from error
    except OSError as error:
        raise UserError(f"{place}: {pattern!r}: {error}. Fix: check the address, the network and the credentials.") from error
    return [Match(url, url, int(info.get("size") or 0)) for url, info in urls]


def _beside(pattern: str) -> str:
    """What lies in the nearest folder above a local pattern that exists."""
    if "://" in pattern:
        return ""
    folder = Path(pattern).expanduser().absolute()
    folder = next(above for above in (folder, *folder.parents) if above.is_dir())
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{folder} holds {listed or 'nothing'}. "

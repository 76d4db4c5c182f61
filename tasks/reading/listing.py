"""Listing of local files: what a path, folder or glob names, and what lies there beside it that is not read."""

import glob
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from tasks.errors import UserError
from tasks.settings import given_path

GLOB_CHARACTERS = re.compile(r"[*?\[]")
DANGLING, SPECIAL, SUBFOLDER = "dangling_link", "special_file", "subfolder"  # what a pattern names and nobody can read
SUBFOLDER_TOLD = "a folder; to read it too, name it, or end the path in /**"
HIDDEN, BROKEN, TWICE = "hidden", "broken link", "second name"  # what lies beside; told, and no part of the input


@dataclass(frozen=True)
class Match:
    """What a pattern names: where it lies, what it is behind all links, its size and its state.

    `fault` says why it is no file that can be read, `evidence` shows what it is.
    """

    url: str
    real: str
    bytes: int = 0
    state: str = ""
    fault: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class Beside:
    """What a pattern passed over: one of HIDDEN, BROKEN and TWICE."""

    kind: str
    url: str


@dataclass(frozen=True)
class LocalPattern:
    """A pattern in two parts: `base` is a path, taken letter for letter; `parts` are those from the first wildcard on."""

    base: Path
    parts: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The folder that all files of the pattern lie in or below."""
        return (self.base if self.parts or self.base.is_dir() else self.base.parent).as_posix()


def local_pattern(pattern: str) -> LocalPattern:
    """Reads a pattern. A name that is there as it is written is taken for what it is, also when it holds * ? or [.

    UserError where the same part, read as a wildcard, names others too.
    """
    path = given_path(pattern).absolute()
    base, parts = Path(path.anchor), list(path.parts[1:])
    while parts and (not GLOB_CHARACTERS.search(parts[0]) or _is_literal(pattern, base, parts[0])):
        base /= parts.pop(0)
    return LocalPattern(base, tuple(parts))


def _is_literal(pattern: str, folder: Path, part: str) -> bool:
    if part == "**" or not os.path.lexists(folder / part):
        return False
    others = sorted(entry.name for entry in os.scandir(folder) if entry.name != part and _fits(part, entry.name))
    if others:
        raise UserError(
            f"{pattern[:200]!r}: {part} is there by that very name in {folder}, but as a wildcard it stands for {_some(others)} too. "
            f"Fix: write {glob.escape(part)} for the one of that name; name the others one by one."
        )
    return True


def _fits(part: str, name: str) -> bool:
    return re.match(translate(part), name) is not None and (not name.startswith(".") or part.startswith("."))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def local_matches(pattern: str) -> Iterator[Match | Beside]:
    """What a local pattern names, and what it passes over. OSError for a folder that may not be listed."""
    found = local_pattern(pattern)
    if not found.parts:
        if found.base.is_dir():
            yield from _folder_matches(found.base)
        elif os.path.lexists(found.base):
            yield from _match(found.base)
    elif "**" in found.parts:
        yield from _walk_matches(found.base, "/".join(found.parts))
    elif found.base.is_dir():
        yield from _glob_matches(pattern, found.base, found.parts)


def _folder_matches(folder: Path) -> Iterator[Match | Beside]:
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            yield Beside(HIDDEN, entry.as_posix())
        else:
            yield from _match(entry)


def _match(path: Path) -> Iterator[Match]:
    """The file, or why it is none; nothing where it is gone by now."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            yield _dangling(path)
        return
    except OSError:
        if not path.is_symlink():
            raise
        yield _dangling(path)  # a circle of links, or one whose target may not be looked at
        return
    real = os.path.realpath(path)
    if S_ISREG(stat.st_mode):
        yield Match(path.as_posix(), real, stat.st_size, local_state(stat))
    elif S_ISDIR(stat.st_mode):
        yield Match(path.as_posix(), real, fault=SUBFOLDER, evidence=SUBFOLDER_TOLD)
    else:
        yield Match(path.as_posix(), real, fault=SPECIAL, evidence="a pipe, socket or device")


def _dangling(path: Path) -> Match:
    return Match(path.as_posix(), path.as_posix(), fault=DANGLING, evidence=f"a link to {path.readlink()}")


def local_state(stat: os.stat_result) -> str:
    """Differs when the file was written in between."""
    return f"{stat.st_size} bytes, changed at {stat.st_mtime_ns}"


def _glob_matches(pattern: str, folder: Path, parts: tuple[str, ...]) -> Iterator[Match | Beside]:
    """What wildcards without ** name, level by level."""
    part, rest = parts[0], parts[1:]
    is_plain = not GLOB_CHARACTERS.search(part) or _is_literal(pattern, folder, part)
    named = [part] if is_plain else sorted(entry.name for entry in os.scandir(folder))
    for name in named:
        path = folder / name
        if not is_plain and not _fits(part, name):
            if not rest and name.startswith(".") and re.match(translate(part), name):
                yield Beside(HIDDEN, path.as_posix())
        elif not rest:
            yield from _match(path) if os.path.lexists(path) else ()
        elif path.is_dir():
            yield from _glob_matches(pattern, path, rest)
        elif path.is_symlink() and not path.exists():
            yield Beside(BROKEN, path.as_posix())  # it may have been a folder


def _walk_matches(base: Path, pattern: str) -> Iterator[Match | Beside]:
    """What a pattern with `**` matches. Links to folders are followed, but no folder is entered twice."""
    wanted = re.compile(pattern_regex(pattern))
    root = base.as_posix()
    entered = {os.path.realpath(base)}

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for folder, below, names in os.walk(base, onerror=refuse, followlinks=True):
        yield from (Beside(HIDDEN, (Path(folder) / name).as_posix()) for name in below if name.startswith("."))
        below[:] = sorted(name for name in below if not name.startswith("."))
        real = {name: os.path.realpath(Path(folder) / name) for name in below}
        below[:] = [name for name in below if real[name] not in entered and not entered.add(real[name])]
        for name in names:
            path = Path(folder) / name
            inner = path.as_posix()[len(root) :].lstrip("/")
            if wanted.fullmatch(inner):
                yield from [Beside(HIDDEN, path.as_posix())] if name.startswith(".") else _match(path)
            elif path.is_symlink() and not path.exists():
                yield Beside(BROKEN, path.as_posix())


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


def beside(pattern: str) -> str:
    """What lies in the nearest folder above a local pattern that exists; a name that looks the same is told first."""
    path = given_path(pattern).absolute()
    folder = next(above for above in (path, *path.parents) if above.is_dir())
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    asked = path.parts[len(folder.parts)] if len(path.parts) > len(folder.parts) else ""
    if any(unicodedata.normalize("NFKC", name.rstrip("/")) == unicodedata.normalize("NFKC", asked) for name in names):
        return f"{folder} holds a name that looks the same but is written with other characters (Unicode has several ways to write é). "
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{folder} holds {listed or 'nothing'}. "

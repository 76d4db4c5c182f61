"""Standard library text, which every machine with Python has: the language reference, docstrings and sources.

Files are parsed, never imported, so the result depends on nothing but the interpreter's version.
"""

import ast
import functools
import hashlib
import itertools
import os
import platform
import sysconfig
import textwrap
import threading
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

from tasks.reading.splitting import cut_text

MAX_FILE_BYTES = 200_000  # larger ones are generated tables
SKIPPED_FOLDERS = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "turtledemo", "lib2to3", "ensurepip"}
    | {"encodings", "pydoc_data", "lib-dynload", "__pycache__", "__phello__"}
)
SKIPPED_PREFIXES = ("config-", "_sysconfigdata", "_sysconfig_vars", "sitecustomize", "usercustomize")  # of this machine
ONE_AT_A_TIME = threading.Lock()  # so that stages that start together do not each read the library
MAX_FUNCTION_LINES = 16  # of what counts as a short function

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A source file of the standard library.

    `group` is the top-level module it belongs to; `functions` are the sources of its short functions, dedented.
    """

    name: str
    group: str
    path: str
    text: str
    docstring: str
    definitions: "tuple[Definition, ...]"
    functions: tuple[str, ...]


@dataclass(frozen=True)
class Definition:
    """A documented public function, method or class; `depth` is 1 for what lies inside a class."""

    signature: str
    docstring: str
    depth: int


@dataclass(frozen=True)
class PythonText:
    """One document. `group` is empty for the language reference, which belongs to no module."""

    kind: Literal["reference", "docstring", "source"]
    group: str
    path: str
    text: str


def python_texts(window_chars: int) -> Iterator[PythonText]:
    """Reference topics, then for each module its docstrings and its source in parts of at most `window_chars`."""
    for name, text in topics():
        yield PythonText("reference", "", f"topics/{name}", text)
    for module in modules():
        documented = docstring_text(module)
        if documented:
            yield PythonText("docstring", module.group, f"docstrings/{module.path}", documented)
        for text in cut_text(module.text.splitlines(keepends=True), "blank_lines", window_chars):
            yield PythonText("source", module.group, module.path, text)


def python_digest() -> str:
    """SHA-256 over the interpreter's version and all the text above."""
    with ONE_AT_A_TIME:
        return _digest()


@functools.cache
def _digest() -> str:
    digest = hashlib.sha256(platform.python_version().encode())
    for name, text in topics():
        digest.update(f"{name}\0{text}\0".encode())
    for path in _files():
        digest.update(path.as_posix().encode() + b"\0")
        digest.update(_library().joinpath(path).read_bytes())
    return digest.hexdigest()


def topics() -> Iterator[tuple[str, str]]:
    """Name and text of each chapter of the language reference that `help()` shows."""
    from pydoc_data.topics import topics as texts

    yield from sorted(texts.items())


def modules() -> tuple[Module, ...]:
    """Source files in the order of their paths. One that is not valid text or not valid Python is left out.

    Parsing takes seconds and four stages want it, perhaps at once, so a process does it once (25 MB).
    """
    with ONE_AT_A_TIME:
        return _modules()


@functools.cache
def _modules() -> tuple[Module, ...]:
    return tuple(module for path in _files() if (module := _module(path)) is not None)


def _module(path: Path) -> Module | None:
    text = _decoded(_library().joinpath(path).read_bytes())
    tree = _parsed(text)
    if tree is None or not text.strip():
        return None
    parts = [part for part in path.with_suffix("").parts if part != "__init__"]
    return Module(
        name=".".join(parts),
        group=parts[0],
        path=path.as_posix(),
        text=text,
        docstring=ast.get_docstring(tree) or "",
        definitions=tuple(_definitions(tree)),
        functions=tuple(_short_functions(tree, text)),
    )


def docstring_text(module: Module) -> str:
    """A module's documentation as one readable text; empty when nothing in it is documented."""
    parts = [module.docstring]
    for definition in module.definitions:
        indent = "    " * definition.depth
        lines = [definition.signature, *("    " + line for line in definition.docstring.splitlines())]
        parts.append("\n".join(indent + line if line.strip() else "" for line in lines))
    body = "\n\n".join(part for part in parts if part)
    return f"{module.name}\n\n{body}" if body else ""


def _definitions(tree: ast.Module) -> Iterator[Definition]:
    """Documented public classes, their documented public methods, and functions, in the order of the source."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _documented(node, 0)
            for member in node.body:
                yield from _documented(member, 1)
        else:
            yield from _documented(node, 0)


def _short_functions(tree: ast.Module, text: str) -> Iterator[str]:
    lines = text.splitlines()
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in itertools.chain.from_iterable(bodies):
        if isinstance(node, Function):
            body = lines[node.lineno - 1 : node.end_lineno]
            if len(body) <= MAX_FUNCTION_LINES:
                yield textwrap.dedent("\n".join(body))


def _documented(node: ast.stmt, depth: int) -> Iterator[Definition]:
    if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
        docstring = ast.get_docstring(node)
        if docstring and docstring.strip():
            yield Definition(_signature(node), docstring, depth)


def _signature(node: Function | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        return f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    prefix = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{prefix} {node.name}({ast.unparse(node.args)}){returns}:"


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _files() -> list[Path]:
    """Relative paths of the files taken, sorted."""
    library = _library()
    found: list[Path] = []
    for folder, subfolders, names in os.walk(library):
        subfolders[:] = [name for name in subfolders if not _is_skipped(name)]
        paths = [Path(folder, name) for name in names if name.endswith(".py") and not _is_skipped(name)]
        found += [path.relative_to(library) for path in paths if path.stat().st_size <= MAX_FILE_BYTES]
    return sorted(found)


def _is_skipped(name: str) -> bool:
    return name in SKIPPED_FOLDERS or name.startswith(SKIPPED_PREFIXES)


def _decoded(raw: bytes) -> str:
    """The text of a source file, empty when it is in no encoding that it names."""
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(raw).readline)
        return raw.decode(encoding).removeprefix("\ufeff").replace("\r\n", "\n")
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return ""


def _parsed(text: str) -> ast.Module | None:
    """The syntax tree; warnings about old spellings are of no interest here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except SyntaxError:
            return None

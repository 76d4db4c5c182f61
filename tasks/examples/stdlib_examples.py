"""Standard library examples: three labelled tasks that every machine with Python can make."""

import io
import keyword
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.reading.stdlib import modules
from tasks.sampling import unit_hash

# The library's documentation groups its modules much like this. Modules that fit nowhere are left out.
AREAS = {
    "concurrency": "asyncio asyncore asynchat concurrent contextvars multiprocessing queue sched selectors signal subprocess "
    "threading _threading_local",
    "data types": "bisect calendar _collections_abc collections copy copyreg datetime decimal enum fractions functools graphlib "
    "heapq numbers operator pprint random reprlib statistics _strptime types uuid weakref _weakrefset zoneinfo",
    "development": "ast bdb cProfile compileall dis distutils doctest modulefinder opcode pdb profile pstats py_compile pyclbr "
    "pydoc symtable tabnanny timeit token tokenize trace tracemalloc unittest venv zipapp",
    "files": "bz2 dbm filecmp fileinput fnmatch _compression genericpath glob gzip io linecache lzma ntpath os "
    "pathlib pickle pickletools posixpath _pyio shelve shutil sqlite3 stat tarfile tempfile zipfile",
    "interfaces": "aifc argparse cmd code codeop colorsys curses getopt getpass optparse pty rlcompleter shlex sunau tkinter "
    "tty turtle wave",
    "networking": "cgi cgitb ftplib http imaplib ipaddress nntplib poplib smtpd smtplib socket socketserver ssl telnetlib urllib "
    "webbrowser wsgiref xmlrpc",
    "runtime": "abc __future__ contextlib ctypes dataclasses imp importlib inspect logging pkgutil platform runpy site sysconfig "
    "traceback typing warnings zipimport",
    "text": "base64 codecs configparser csv difflib email gettext html json locale mailbox mimetypes netrc plistlib quopri re string "
    "stringprep textwrap tomllib uu xml",
}
AREA_OF = {module: area for area, names in AREAS.items() for module in names.split()}
TOKEN_KINDS = ("COMMENT", "KEYWORD", "NAME", "NUMBER", "OP", "STRING")

MIN_WORDS = 3  # of a docstring's first paragraph
MAX_CHARS = 600
MODULE_EXAMPLES = 60  # of one top-level module, or a few large packages would be most of every label
MAX_CODE_TOKENS = 160


@dataclass(frozen=True)
class LabelledText:
    """A text with its answer or label, and the top-level module it comes from."""

    group: str
    text: str
    answer: str


@dataclass(frozen=True)
class LabelledTokens:
    """Tokens whose concatenation is the text, white space included, and one label each."""

    group: str
    tokens: Sequence[str]
    labels: Sequence[str]


def signature_examples() -> Iterator[LabelledText]:
    """A function's signature, and the first paragraph of its docstring as the answer."""
    for module in modules():
        for definition in module.definitions:
            answer = first_paragraph(definition.docstring)
            if definition.signature.startswith(("def ", "async def ")) and _is_prose(answer):
                yield LabelledText(module.group, definition.signature, answer)


def area_examples() -> Iterator[LabelledText]:
    """A docstring without the name of its module, and the area of the library that the module belongs to."""
    held: dict[str, list[str]] = {}
    for module in modules():
        if module.group in AREA_OF:
            docstrings = [module.docstring, *(found.docstring for found in module.definitions)]
            texts = (without_names(docstring[:MAX_CHARS], module.name) for docstring in docstrings)
            held.setdefault(module.group, []).extend(text for text in texts if _is_prose(text))
    for group, texts in sorted(held.items()):
        for text in sorted(set(texts), key=lambda text: (unit_hash(text, 0), text))[:MODULE_EXAMPLES]:
            yield LabelledText(group, text, AREA_OF[group])


def token_kind_examples() -> Iterator[LabelledTokens]:
    """Short functions, each token with its kind; at most a few of one module file."""
    for module in modules():
        found = sorted(set(module.functions), key=lambda text: (unit_hash(text, 0), text))
        for text in found[: MODULE_EXAMPLES // 6]:
            example = token_kinds(text)
            if example is not None and 4 <= len(example[0]) <= MAX_CODE_TOKENS:
                yield LabelledTokens(module.group, *example)


def first_paragraph(docstring: str) -> str:
    """Its words on one line."""
    return " ".join(docstring.strip().split("\n\n")[0].split())


def without_names(text: str, module: str) -> str:
    """The text without the words that the module's dotted name is made of, which would give its area away."""
    names = [name for part in module.split(".") for name in {part, part.strip("_")} if len(name) > 1]
    pattern = rf"\b(?:{'|'.join(map(re.escape, names))})\b"
    return re.sub(r"[ \t]{2,}", " ", re.sub(pattern, "", text, flags=re.IGNORECASE)).strip(" .\n")


def token_kinds(text: str) -> tuple[list[str], list[str]] | None:
    """Tokens, each with the white space before it, and their kinds. None for text that does not tokenize.

    A formatted string is one STRING in every version of Python, also where the tokenizer takes it apart.
    """
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    tokens: list[str] = []
    kinds: list[str] = []
    last = depth = opened = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            name = tokenize.tok_name[token.type]
            begin, end = (starts[row - 1] + column if row <= len(starts) else len(text) for row, column in (token.start, token.end))
            if name.endswith("STRING_START"):  # FSTRING_START of 3.12, TSTRING_START of 3.14
                opened, depth = (begin, 1) if depth == 0 else (opened, depth + 1)
            elif name.endswith("STRING_END"):
                depth -= 1
                begin, name = opened, "STRING"
            kind = "KEYWORD" if name == "NAME" and keyword.iskeyword(token.string) else name
            if depth == 0 and kind in TOKEN_KINDS:
                tokens.append(text[last:end])
                kinds.append(kind)
                last = end
    except (tokenize.TokenError, SyntaxError):
        return None
    return tokens, kinds


def _is_prose(text: str) -> bool:
    return len(text) <= MAX_CHARS and len(re.findall(r"[A-Za-z]{2,}", text)) >= MIN_WORDS

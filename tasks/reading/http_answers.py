"""HTTP answers as archives keep them: status, fields and body, also where line ends, the header's end or the status line are off."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_HEAD_BYTES = 1 << 16  # within which a field may lie behind a line that is none
STATUS_LINE = re.compile(rb"[\r\n]*[ \t]*(?:HTTP|ICY)(?:/\d+(?:\.\d+)?)?[ \t]+(\d{3})\b[^\n]*(?:\n|\Z)", re.IGNORECASE)
FIELD_LINES = re.compile(rb"(?::?[!-9;-~]+[ \t]*:[^\n]*(?:\n|\Z)(?:[ \t]+[^\r\n][^\n]*(?:\n|\Z))*)*")
EMPTY_LINE = re.compile(rb"\r*\n")
NEXT_EMPTY_LINE = re.compile(rb"\n\r*\n")
KNOWN_FIELD = re.compile(
    rb"^(?:content-(?:type|length|encoding)|transfer-encoding|connection|server|date|set-cookie|cache-control"
    rb"|last-modified|etag|expires|vary|:?status)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Answer:
    """Fields by their names in lower case; the values of a name that stands twice are joined by commas."""

    status: str
    fields: Mapping[str, str]
    body: bytes


def read_answer(block: bytes) -> Answer | None:
    """The last answer in the block: interim ones (100) and a proxy's precede it. None when it does not begin as one."""
    line = STATUS_LINE.match(block)
    start = line.end() if line else 0
    end, body = _head_end(block, start)
    while line and body > end and (following := STATUS_LINE.match(block, body)) and (line[1].startswith(b"1") or end == start):
        line, start = following, following.end()
        end, body = _head_end(block, start)
    if line is None and not KNOWN_FIELD.search(block, 0, end):
        return None
    fields = header_fields(block[start:end])
    status = line[1].decode() if line else (fields.get(":status") or fields.get("status") or "200")
    return Answer(status, fields, block[body:] if body else block)


def header_fields(lines: bytes) -> dict[str, str]:
    """Fields by their names in lower case, UTF-8 or else Latin-1; a line that begins with a blank continues the one before."""
    try:
        text = lines.replace(b"\0", b"").decode()
    except UnicodeDecodeError:
        text = lines.replace(b"\0", b"").decode("latin-1")
    fields: dict[str, str] = {}
    name = ""
    for line in text.split("\n"):
        if line[:1] in (" ", "\t") and name:
            fields[name] += " " + line.strip()
            continue
        colon = line.find(":", 1)  # HTTP/2 has names that begin with one
        name, value = line[: max(0, colon)].strip().lower(), line[colon + 1 :].strip()
        if name:
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _head_end(block: bytes, start: int) -> tuple[int, int]:
    """Where the fields end and where the body begins.

    A header ends with an empty line. Where none follows the fields, the body begins at the first line that is no field, unless
    one of HTTP's own fields stands behind it.
    """
    limit = min(len(block), start + MAX_HEAD_BYTES)
    empty = NEXT_EMPTY_LINE.search(block, start, limit)
    stop = empty.start() if empty else limit
    while True:
        lines = FIELD_LINES.match(block, start)
        end = lines.end() if lines else start
        if blank := EMPTY_LINE.match(block, end):
            return end, blank.end()
        known = KNOWN_FIELD.search(block, end, stop) if end < stop else None
        if known is None:
            return end, end
        start = known.start()

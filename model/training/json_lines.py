"""JSON lines that grow while they are read, on disks that fill up: a line that broke off is ended, and passed over by readers."""

import os
from pathlib import Path


def append_line(path: Path, line: str) -> None:
    """Adds `line`, a JSON object; one that broke off before is ended first. Raises OSError where it cannot be written."""
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")


def is_broken_off(line: bytes) -> bool:
    """Whether this is the beginning of an object, or nothing."""
    whole = line.strip()
    return not whole or (whole.startswith(b"{") and not whole.endswith(b"}"))

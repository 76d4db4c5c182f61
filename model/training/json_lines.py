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


class LineReader:
    """Reads lines as far as they have grown; a line that is still being written is left for the next time."""

    def __init__(self, path: Path, skips_old: bool) -> None:
        """`skips_old`: what stands there already, from an earlier process, is not read."""
        self.path = path
        self._offset = path.stat().st_size if skips_old and path.exists() else 0

    def new_lines(self) -> list[bytes]:
        """The whole lines that came since the last call, as they were written."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        return [line for line in data[:whole].splitlines() if not is_broken_off(line)]

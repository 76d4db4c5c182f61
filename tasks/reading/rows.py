"""Records: a row of a file, whatever format it was stored in."""

from collections.abc import Mapping
from typing import NamedTuple

MANY_ROWS = 10_000  # of a file: when most of them are wrong, that is told before the next file is read


class Record(NamedTuple):
    """A record's fields as they were stored. `number` counts from 1: a line, a row or an entry of its file.

    `entry` counts the values of one line of JSON. `charset` is what its bytes were in when not UTF-8; `repairs` are the names
    of what was mended in them. `bytes` is what it took of its file, unpacked; 0 where a format stores rows in no place of
    their own.
    """

    number: int
    fields: Mapping[str, object]
    charset: str | None = None
    repairs: tuple[str, ...] = ()
    bytes: int = 0
    entry: int = 1

    @property
    def place(self) -> str:
        """Where it stands in its file: 7, or 7.2 for the second value of a line."""
        return str(self.number) if self.entry == 1 else f"{self.number}.{self.entry}"

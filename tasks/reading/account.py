"""Byte account of a file that is read: what came out of it equals its records, its faults and what holds them together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tasks.reading.faults import Fault


@dataclass(slots=True)
class Account:
    """Bytes of a file, unpacked: how many came, and what became of them.

    `structure` is what no record is made of: byte order marks, separators, headers, blank lines. Text in UTF-16 and the
    like is counted as the UTF-8 that it is read as.
    """

    came: int = 0
    records: int = 0
    faults: int = 0
    structure: int = 0

    def counted(self, chunks: Iterable[bytes | Fault]) -> Iterator[bytes | Fault]:
        """The chunks, each counted as it comes."""
        for chunk in chunks:
            if not isinstance(chunk, Fault):
                self.came += len(chunk)
            yield chunk

    def add_fault(self, fault: Fault) -> Fault:
        """A fault and what it covers of the unpacked file."""
        self.faults += fault.unpacked
        return fault

    def check(self, url: str) -> None:
        """Raise AssertionError when a byte is unaccounted for, or counted twice: that is our bug, never the user's."""
        told = self.records + self.faults + self.structure
        assert self.came == told, (
            f"{url}: {self.came} bytes came out of the file, but {self.records} are in records, {self.faults} in faults "
            f"and {self.structure} in between: {self.came - told} are unaccounted for"
        )

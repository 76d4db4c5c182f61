"""Byte account of files that are read: what came out of them equals their records, their faults and what holds these together."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from tasks.reading.faults import Fault
from tasks.reading.rows import Record

AnyRecord = TypeVar("AnyRecord", bound=Record | Fault)


@dataclass(slots=True)
class Account:
    """Bytes of a file, unpacked: how many came, and what became of them. Of Parquet it counts rows.

    `structure` is what no record is made of: byte order marks, separators, headers, blank lines. Text in UTF-16 and the
    like is counted as the UTF-8 that it is read as; `recoded` is what its file has beyond that (negative: less).
    """

    came: int = 0
    records: int = 0
    faults: int = 0
    structure: int = 0
    recoded: int = 0

    def counted(self, chunks: Iterable[bytes | Fault]) -> Iterator[bytes | Fault]:
        """The chunks, each counted as it comes."""
        for chunk in chunks:
            self.came += chunk.unpacked if isinstance(chunk, Fault) else len(chunk)
            yield chunk

    def add(self, found: AnyRecord) -> AnyRecord:
        """A record, or a fault and what it covers of the unpacked file."""
        if isinstance(found, Fault):
            self.faults += found.unpacked
        else:
            self.records += found.bytes
        return found

    def refuse(self, size: int) -> None:
        """A record that was added turns out to be no document."""
        self.records -= size
        self.faults += size

    def check(self, url: str, total: "Account | None" = None, unit: str = "bytes") -> None:
        """Adds the account to that of all files. AssertionError when a byte is unaccounted for, or counted twice: that is our bug."""
        told = self.records + self.faults + self.structure
        assert self.came == told, (
            f"{url}: {self.came} {unit} came out of the file, but {self.records} are in records, {self.faults} in faults "
            f"and {self.structure} in between: {self.came - told} are unaccounted for"
        )
        if total is not None:
            total.came += self.came
            total.records += self.records
            total.faults += self.faults
            total.structure += self.structure
            total.recoded += self.recoded

    def figures(self) -> dict[str, float]:
        """The account as figures of a stage, whose first is the sum of the others; none when nothing was counted."""
        if not self.came and not self.recoded:
            return {}
        return {
            "file_bytes": float(self.came + self.recoded),
            "record_bytes": float(self.records),
            "reject_bytes": float(self.faults),
            "between_bytes": float(self.structure),
            "recoded_bytes": float(self.recoded),
        }


def whole_file(size: int) -> Account:
    """The account of a file that is refused as a whole, at its size as stored."""
    return Account(came=size, faults=size)

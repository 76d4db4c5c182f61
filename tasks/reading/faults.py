"""Faults and repairs of a record: a fault costs it, a repair is noted on it."""

from dataclasses import dataclass

EVIDENCE_BYTES = 256


@dataclass(frozen=True)
class Fault:
    """A record that could not be taken: why, its size in bytes as stored, and how it begins.

    Reasons that cost a whole file or its rest are in `FILE_REASONS`; all others cost one record. `number` is the record's
    line or row, 0 when there is none. `cut` are the bytes that a reason of `FILE_REASONS` costs of what came out of the file: a
    record that a stream's end cut, or all of it.
    """

    reason: str
    bytes: int
    evidence: str
    number: int = 0
    cut: int = 0

    @property
    def unpacked(self) -> int:
        """Bytes that it covers of the unpacked file: those of a stream's own fault lie in the packed one."""
        return self.cut if self.reason in FILE_REASONS else self.bytes


UNREADABLE = "unreadable_file"  # nothing of the file could be read
FILE_REASONS = (
    UNREADABLE,
    "archive",  # zip, tar, 7z, rar: never opened
    "other_format",  # a document of another program, such as PDF: its text is not taken out here
    "bomb",  # unpacks to more than any text would
    "truncated_stream",  # a compressed stream that breaks off; what came out before it is kept
    "damaged_stream",  # a compressed stream with a fault inside; members behind it are read
    "large_window",  # a zstd frame that takes more memory than is given to any
    "no_dictionary",  # a zstd frame that was packed with a dictionary which the file does not hold
    "wrong_checksum",  # a member's text is kept, but differs from what was packed
    "trailing_junk",  # bytes behind the end of a compressed stream
)


def shown(raw: bytes) -> str:
    """The start of a record as text that can be stored: at most 256 bytes of UTF-8."""
    text = raw[:EVIDENCE_BYTES].decode("utf-8", "replace")
    return text.encode()[:EVIDENCE_BYTES].decode("utf-8", "ignore")


def shown_text(text: str) -> str:
    """The same for what is text already, lone surrogates included."""
    return shown(text[:EVIDENCE_BYTES].encode("utf-8", "replace"))

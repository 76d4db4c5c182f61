"""Ledger: what a stage read equals what it kept plus what it dropped, by reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Ledger:
    """Rows and bytes in and out of a stage; `dropped` counts rows by reason, `dropped_bytes` their bytes.

    Bytes are UTF-8 bytes of text. `repaired_bytes` is what in-place repairs took off kept rows (negative: added).
    A stage whose rows are not comparable (a tokenizer, a model) leaves everything at 0 but `rows_out`.
    """

    rows_in: int = 0
    rows_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    tokens_out: int = 0
    repaired_bytes: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    dropped_bytes: Mapping[str, int] = field(default_factory=dict[str, int])

    def check(self, stage: str) -> None:
        """Raise AssertionError when rows or bytes are not conserved: that is our bug, never the user's."""
        dropped, lost = sum(self.dropped.values()), sum(self.dropped_bytes.values())
        assert self.rows_in in (0, self.rows_out + dropped), (
            f"{stage}: {self.rows_in} rows in, but {self.rows_out} out and {dropped} dropped"
        )
        assert self.bytes_in in (0, self.bytes_out + lost + self.repaired_bytes), (
            f"{stage}: {self.bytes_in} bytes in, but {self.bytes_out} out, {lost} dropped, {self.repaired_bytes} taken off by repairs"
        )


@dataclass(frozen=True)
class Receipt:
    """Proof that every row of a table met its contract: written to the manifest."""

    contract: str
    file: str
    rows: int
    checks: int


@dataclass(frozen=True)
class StageOutcome:
    """What a stage function returns beside the files it wrote.

    `figures` are numbers for MLflow and the report; `notes` are short texts shown as they are.
    """

    ledger: Ledger = field(default_factory=Ledger)
    receipts: tuple[Receipt, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    notes: Mapping[str, str] = field(default_factory=dict[str, str])

"""Changes of a continued pretraining: a row for each figure before and after, and what it means in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.evaluate.change import Change


def change_rows(changes: Sequence[Change]) -> list[tuple[Change, str]]:
    """In their order."""
    return [(change, change_text(change)) for change in changes]


def change_text(change: Change) -> str:
    """Whether it was learned or forgotten, as far as the interval lets one say."""
    if change.high < 0:
        return "learned" if change.text == "own" else "better than before"
    if change.low > 0:
        return "worse than before" if change.text == "own" else "forgotten in part"
    return "no sure change"

"""Compare page, self-contained HTML: any two models on the same items, figure by figure and item by item. It runs no script."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tasks.promotion.decision import Comparison, Pair, Part
from tasks.report.gain_bars import difference
from tasks.report.markup import policy, style, template


@dataclass(frozen=True)
class Compared:
    """Two models as `wordmill compare A B` holds them against each other: A stands where a challenger does, B where its rival does."""

    first: str  # as given: a run, an artifact, models:/name@alias, a folder
    second: str
    suite: str
    at: str  # ISO 8601, UTC
    seconds: float
    comparisons: tuple[Comparison, ...]
    parts: tuple[Part, ...] = ()
    better: tuple[Pair, ...] = ()  # largest gain of A first
    worse: tuple[Pair, ...] = ()  # largest loss first


def compared_sentence(compared: Compared) -> str:
    """`Of 7 figures A is better at 2 and worse at 1; 4 are not told apart.`"""
    found = Counter(difference(one) for one in compared.comparisons)
    of = f"{len(compared.comparisons)} figure{'' if len(compared.comparisons) == 1 else 's'}"
    told = f"Of {of} A is better at {found['better'] or 'none'} and worse at {found['worse'] or 'none'}"
    left = [(found["even"], "not told apart"), (found["not measured"], "not measured")]
    rest = ", ".join(f"{count} {'is' if count == 1 else 'are'} {what}" for count, what in left if count)
    return f"{told}; {rest}." if rest else f"{told}."


def write_compare_page(compared: Compared, path: Path) -> None:
    """The page as a file that opens anywhere, offline. All text in it is escaped: what models wrote may be anything."""
    page = template("compare.html.jinja").render(compared=compared, told=compared_sentence(compared), style=style(), policy=policy())
    path.write_text(page, encoding="utf-8", errors="replace", newline="\n")

"""Comparison table: two models' figures on the same items, with paired differences and intervals, for the terminal."""

from collections.abc import Sequence

from rich.text import Text

from flows.commands.tables import rendered, table_of
from tasks.promotion.decision import Comparison
from tasks.report.decision_wording import both_texts, figure_name, interval_words, level_text
from tasks.report.gain_bars import difference

COLORS = {"better": "green", "worse": "red", "even": "", "not measured": "dim"}


def comparison_table(comparisons: Sequence[Comparison], first: str = "A", second: str = "B") -> str:
    """A figure a row, then how they were compared; a gain is positive where `first` is better, whatever the figure."""
    table = table_of("figure", f"{first}>", f"{second}>", "gain>", "interval>", "items>", "clusters>", "p>", "")
    notes: dict[str, list[str]] = {}  # method, or why there is no figure -> figures
    for one in comparisons:
        kind = difference(one)
        table.add_row(
            Text(figure_name(one)),
            *both_texts(one),
            interval_words(one),
            f"{one.items:,}",
            f"{one.clusters:,}",
            "" if one.p is None else level_text(one.p),
            Text(kind, COLORS[kind]),
        )
        notes.setdefault(one.method if one.items else one.reason, []).append(figure_name(one))
    return "\n".join([rendered(table), *(f"{', '.join(names)}: {note}" for note, names in notes.items() if note)])

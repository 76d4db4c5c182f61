"""Comparison table: two models' figures on the same items, with paired differences and intervals, for the terminal."""

from collections.abc import Sequence

from rich.text import Text

from flows.commands.tables import rendered, table_of
from tasks.promotion.decision import Comparison
from tasks.report.decision_wording import figure_name, interval_words, level_text, signed_text
from tasks.report.gain_bars import difference
from tasks.report.wording import score_text

COLORS = {"better": "green", "worse": "red", "even": ""}


def comparison_table(comparisons: Sequence[Comparison], first: str = "A", second: str = "B") -> str:
    """A figure a row; `first` stands where a challenger does, and a gain is positive where it is better, whatever the figure."""
    table = table_of("figure", f"{first}>", f"{second}>", "gain>", "interval>", "items>", "clusters>", "p>", "", "method")
    for one in comparisons:
        kind = difference(one)
        table.add_row(
            Text(figure_name(one)),
            score_text(one.challenger),
            score_text(one.rival),
            signed_text(one.gain),
            interval_words(one),
            f"{one.items:,}",
            f"{one.clusters:,}",
            "" if one.p is None else level_text(one.p),
            Text(kind, COLORS[kind]),
            Text(one.reason if not one.items else one.method),
        )
    return rendered(table)

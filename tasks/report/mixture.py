"""Mixture charts: the sources and languages of the corpus, as a picture and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.corpus.mixture import MixtureRow
from tasks.report.charts import BAR_PIXELS, Chart, legend_layout, named_rows, plain_layout, short_label
from tasks.report.palette import ACCENT, GREEN, INK, LOSS, MUTED, PURPLE
from tasks.report.wording import bytes_text, share_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLORS = (ACCENT, GREEN, LOSS, PURPLE)  # of the largest languages; the others are one
MOST_SOURCES = 30  # drawn; the others are one bar
OTHERS = "others"


def share_by(rows: Sequence[MixtureRow], name: Literal["source", "language"]) -> dict[str, int]:
    """Bytes by source or language, largest first."""
    sizes: dict[str, int] = {}
    for row in rows:
        key = row.source if name == "source" else row.language
        sizes[key] = sizes.get(key, 0) + row.bytes
    return dict(sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0])))


def mixture_bars(rows: Sequence[MixtureRow]) -> Chart:
    """A bar a source, its languages one after another."""
    import plotly.graph_objects as go

    sources, languages = share_by(rows, "source"), share_by(rows, "language")
    named = list(sources)[:MOST_SOURCES]
    labels = named + ([OTHERS] if len(sources) > len(named) else [])
    bars = [
        _bar(language, [_bytes_of(rows, source, named, language, languages) for source in labels], color)
        for language, color in _colored(languages)
    ]
    layout = plain_layout(BAR_PIXELS * len(labels) + 92) | {
        "barmode": "stack",
        "showlegend": True,
        "legend": {**legend_layout(), "traceorder": "normal"},
        "xaxis": {"fixedrange": True, "tickformat": "~s", "ticksuffix": "B", "nticks": 5},
        "yaxis": named_rows([short_label(name, 20) for name in labels]),
    }
    largest = next(iter(sources))
    caption = (
        f"Bytes of text by source, coloured by language. Largest: {largest} with "
        f"{share_text(sources[largest], sum(sources.values()))} of {bytes_text(sum(sources.values()))}."
    )
    return Chart("mixture-chart", "What the corpus is made of", caption, go.Figure(bars, layout))


def _colored(languages: dict[str, int]) -> list[tuple[str, str]]:
    """The largest languages and their colours; what they leave is grey."""
    names = list(languages)
    if len(names) <= len(COLORS):
        return list(zip(names, COLORS, strict=False))
    return [*zip(names, COLORS, strict=False), (OTHERS, MUTED)]


def _bytes_of(rows: Sequence[MixtureRow], source: str, named: Sequence[str], language: str, languages: dict[str, int]) -> int:
    shown = list(languages)[: len(COLORS)]
    return sum(
        row.bytes
        for row in rows
        if (row.source == source or (source == OTHERS and row.source not in named))
        and (row.language == language or (language == OTHERS and row.language not in shown))
    )


def _bar(language: str, sizes: list[int], color: str) -> go.Bar:
    import plotly.graph_objects as go

    return go.Bar(
        orientation="h",
        y=list(range(len(sizes))),
        x=sizes,
        name=short_label(language, 20),
        width=0.62,
        marker={"color": color, "line": {"width": 0}},
        textfont={"color": INK},
        hovertext=[f"{short_label(language, 20)}: {bytes_text(size)}" for size in sizes],
        hoverinfo="text",
    )


@dataclass(frozen=True)
class MixtureLine:
    """A row of the table; `share` of the bytes of its set, in percent for the bar and as text."""

    split: str
    source: str
    language: str
    documents: int
    bytes: int
    percent: float
    share: str


def mixture_table(rows: Sequence[MixtureRow]) -> list[MixtureLine]:
    """Every row with its share of its set, training first."""
    order = {"train": 0, "validation": 1, "test": 2}
    totals: dict[str, int] = {}
    for row in rows:
        totals[row.split] = totals.get(row.split, 0) + row.bytes
    return [
        MixtureLine(
            row.split,
            row.source,
            row.language,
            row.documents,
            row.bytes,
            round(100 * row.bytes / max(1, totals[row.split]), 2),
            share_text(row.bytes, totals[row.split]),
        )
        for row in sorted(rows, key=lambda row: (order.get(row.split, 3), -row.bytes, row.source, row.language))
    ]

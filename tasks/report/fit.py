"""Tokenizer charts: how well this run's fits the text beside those it is held against, by language and source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.report.charts import BAR_PIXELS, LABEL_CHARS, Chart, bar_layout, bars, named_rows, plain_layout, short_label
from tasks.report.markup import shortened
from tasks.report.palette import ACCENT, CARD, GREEN, INK, LINE, LOSS, MUTED, PURPLE
from tasks.report.wording import score_text
from tasks.tokenizer.tokenizer_quality import THIS, FitRow, TokenizerQuality

if TYPE_CHECKING:
    import plotly.graph_objects as go

NARROW_CHARS = 16  # of a name beside an axis on a phone
MOST_ROWS = 24  # drawn, of the most text; the table has all
REFERENCE_SYMBOLS = (("diamond", GREEN), ("square", PURPLE), ("triangle-up", LOSS), ("cross", MUTED))

Slice = tuple[str, str]  # language, domain


def fit_chart(tokenizer: TokenizerQuality) -> Chart | None:
    """Bytes per token: against other tokenizers where there are any, else alone; None when nothing was measured."""
    if references(tokenizer.table):
        return fit_dots(tokenizer.table)
    slices = ranked_slices(tokenizer.table)
    values = {(row.language, row.domain): row.bytes_per_token for row in tokenizer.table}
    alone = {_slice_label(slice_, slices): value for slice_ in slices[:MOST_ROWS] if (value := values[slice_]) is not None}
    return fit_bars(alone or tokenizer.bytes_per_token) if alone or tokenizer.bytes_per_token else None


def fit_bars(bytes_per_token: Mapping[str, float]) -> Chart:
    """A bar a language, or a language and source."""
    import plotly.graph_objects as go

    names, values = list(bytes_per_token), list(bytes_per_token.values())
    drawn = bars(list(range(len(names))), values, [score_text(value) for value in values], ACCENT, "bytes per token")
    figure = go.Figure(drawn, bar_layout(names, max(values), room=1.25))
    caption = "Bytes of held-out text that one token covers: more is better, 1 would be no compression at all."
    return Chart("fit", "Bytes per token", caption, figure)


def fit_dots(rows: Sequence[FitRow]) -> Chart:
    """A line a language and source, a dot a tokenizer: this run's filled, the others hollow."""
    slices = ranked_slices(rows)[:MOST_ROWS]
    names = [THIS, *references(rows)]
    values = {(row.tokenizer, row.language, row.domain): row.bytes_per_token for row in rows if row.bytes_per_token is not None}
    wide, narrow = (_dot_figure(slices, names, values, chars) for chars in (LABEL_CHARS, NARROW_CHARS))
    return Chart("fit", "Bytes per token", _caption(slices, names, values), wide, narrow, narrow_below=400)


def _dot_figure(slices: Sequence[Slice], names: Sequence[str], values: Mapping[tuple[str, str, str], float], chars: int) -> go.Figure:
    import plotly.graph_objects as go

    layout = plain_layout(BAR_PIXELS * len(slices) + 92) | {
        "showlegend": True,
        "hovermode": "closest",
        "xaxis": {"fixedrange": True, "rangemode": "tozero", "nticks": 6},
        "yaxis": named_rows([_row_label(slice_, slices, values, chars) for slice_ in slices])
        | {"showgrid": True, "gridcolor": LINE, "gridwidth": 1},
    }
    return go.Figure([_dots(name, at, slices, values, chars) for at, name in enumerate(names)], layout)


def ranked_slices(rows: Sequence[FitRow]) -> list[Slice]:
    """Languages and sources, most text first."""
    sizes = {(row.language, row.domain): row.bytes for row in rows}
    return sorted(sizes, key=lambda slice_: (-sizes[slice_], slice_))


def references(rows: Sequence[FitRow]) -> list[str]:
    """The other tokenizers, in the order of the table."""
    return [name for name in dict.fromkeys(row.tokenizer for row in rows) if name != THIS]


def fit_table(rows: Sequence[FitRow]) -> list[FitRow]:
    """By language and source, most text first; this run's tokenizer before the others."""
    rank = {slice_: at for at, slice_ in enumerate(ranked_slices(rows))}
    names = [THIS, *references(rows)]
    return sorted(rows, key=lambda row: (rank[row.language, row.domain], names.index(row.tokenizer)))


def _row_label(slice_: Slice, slices: Sequence[Slice], values: Mapping[tuple[str, str, str], float], chars: int) -> str:
    """The slice and what this run's tokenizer makes of it."""
    return f"{short_label(_slice_label(slice_, slices), chars)}  <b>{score_text(values.get((THIS, *slice_)))}</b>"


def _slice_label(slice_: Slice, slices: Sequence[Slice]) -> str:
    language, domain = slice_
    return language if len({other for _, other in slices}) == 1 else f"{language} · {domain}"


def _dots(name: str, at: int, slices: Sequence[Slice], values: Mapping[tuple[str, str, str], float], chars: int) -> go.Scatter:
    import plotly.graph_objects as go

    symbol, color = ("circle", ACCENT) if name == THIS else REFERENCE_SYMBOLS[(at - 1) % len(REFERENCE_SYMBOLS)]
    shown = [(row, value) for row, slice_ in enumerate(slices) if (value := values.get((name, *slice_))) is not None]
    called = title(name)
    return go.Scatter(
        x=[value for _, value in shown],
        y=[row for row, _ in shown],
        name=short_label(called, chars),
        mode="markers",
        marker={
            "size": 11,
            "symbol": symbol,
            "color": ACCENT if name == THIS else CARD,
            "line": {"width": 2, "color": color},
        },
        hovertext=[f"{short_label(called)}: {score_text(value)} bytes per token" for _, value in shown],
        hoverinfo="text",
        textfont={"color": INK},
        cliponaxis=False,
    )


def title(name: str) -> str:
    """What a tokenizer is called on the page."""
    return "this tokenizer" if name == THIS else name


def _caption(slices: Sequence[Slice], names: Sequence[str], values: Mapping[tuple[str, str, str], float]) -> str:
    said = "Bytes of held-out text that one token covers: further right is better, 1 would be no compression at all."
    for name in names[1:]:
        both = [slice_ for slice_ in slices if (THIS, *slice_) in values and (name, *slice_) in values]
        ahead = sum(values[THIS, *slice_] > values[name, *slice_] for slice_ in both)
        if both:
            said += f" Ahead of {shortened(name, LABEL_CHARS)} in {ahead} of {len(both)}."
    return said

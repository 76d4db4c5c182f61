"""Charts of the report, what they share; time and scores. Colours are the light ones of `palette.py`."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tasks.examples.deciding import lower_is_better
from tasks.report.facts import BASELINES, StageStory
from tasks.report.palette import ACCENT, CARD, GREEN, INK, LINE, MUTED, PURPLE, TINT
from tasks.report.wording import GAP, is_missing, score_text, score_title, seconds_text
from tasks.scores import ScoreRow

if TYPE_CHECKING:
    import plotly.graph_objects as go

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
LABEL_CHARS = 30  # of a name beside an axis; longer ones end in an ellipsis
BAR_PIXELS = 26


@dataclass(frozen=True)
class Chart:
    """A figure and the line below it.

    `narrow` replaces `figure` where there is less width than `narrow_below`. A chart is never drawn narrower than
    `min_width`: it scrolls in its box instead; 0: it never scrolls. Widths are CSS pixels.
    """

    key: str  # unique on the page, the element's id
    title: str
    caption: str
    figure: go.Figure
    narrow: go.Figure | None = None
    narrow_below: int = 560
    min_width: int = 0


def plain_layout(height: int) -> dict[str, object]:
    """No frame, a faint grid, the page's font: every figure's layout is this and a little more."""
    axis = {"gridcolor": LINE, "zeroline": False, "linecolor": LINE, "ticks": "", "automargin": True}
    return {
        "template": {"layout": {"xaxis": axis, "yaxis": axis}},
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": CARD,
        "plot_bgcolor": CARD,
        "font": {"family": FONT, "size": 12, "color": MUTED},
        "hoverlabel": {"bgcolor": CARD, "bordercolor": LINE, "font": {"family": FONT, "color": INK}},
        "legend": legend_layout(),
        "dragmode": False,
    }


def legend_layout() -> dict[str, object]:
    """A row above the figure."""
    return {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "font": {"color": INK}}


def stage_times(stages: tuple[StageStory, ...]) -> Chart:
    """A bar a stage, in the order they ran."""
    longest = max(stages, key=lambda stage: stage.seconds)
    caption = f"{longest.label} took longest: {seconds_text(longest.seconds)}."
    wide, narrow = _stage_bars(stages, room=1.25), _stage_bars(stages, room=1.8)
    return Chart("times", "Time by stage", caption[:1].upper() + caption[1:], wide, narrow)


def _stage_bars(stages: tuple[StageStory, ...], room: float) -> go.Figure:
    import plotly.graph_objects as go

    drawn: list[go.Bar] = []
    for status, name, color in (("ran", "computed", ACCENT), ("cached", "reused: the time it once took", TINT)):
        shown = {at: stage.seconds for at, stage in enumerate(stages) if stage.status == status}
        if shown:
            text = [seconds_text(seconds) for seconds in shown.values()]
            drawn.append(bars(list(shown), list(shown.values()), text, color, name))
    layout = bar_layout([stage.label for stage in stages], max(stage.seconds for stage in stages), room)
    return go.Figure(drawn, layout | {"barmode": "overlay", "showlegend": len(drawn) > 1})


def bars(at: list[int], values: list[float], text: list[str], color: str, name: str) -> go.Bar:
    """Horizontal bars at these rows, each with its text behind it."""
    import plotly.graph_objects as go

    return go.Bar(
        orientation="h",
        y=at,
        x=values,
        text=text,
        name=name,
        width=0.62,
        marker={"color": color, "line": {"width": 1, "color": ACCENT}},
        textposition="outside",
        textfont={"color": INK, "size": 11.5},
        hoverinfo="skip",
        cliponaxis=False,
    )


def bar_layout(names: list[str], longest: float, room: float) -> dict[str, object]:
    """Rows of bars; the axis is `room` times as long as the longest, for the text beside it."""
    return plain_layout(BAR_PIXELS * len(names) + 48) | {
        "xaxis": {"visible": False, "range": [0, room * longest or 1], "fixedrange": True},
        "yaxis": named_rows([short_label(name) for name in names]),
    }


def named_rows(names: list[str]) -> dict[str, object]:
    """Rows 0, 1, ... from the top, one name each; positions are numbers, so that equal names stay apart."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": names,
        "range": [len(names) - 0.4, -0.6],
        "fixedrange": True,
        "showgrid": False,
        "ticklabelstandoff": 6,
        "tickfont": {"color": INK},
    }


def score_panel(key: str, rows: tuple[ScoreRow, ...]) -> Chart:
    """Dots with 95 % intervals, this run's models filled and the baselines hollow. `rows` are a panel of `wording`."""
    import plotly.graph_objects as go

    names = [f"{short_label(row.model)}  <b>{score_text(row.value)}</b>" for row in rows]
    layout = plain_layout(34 * len(rows) + 46) | {
        "hovermode": "closest",
        "xaxis": {"fixedrange": True, "nticks": 5, "range": _score_range(rows)},
        "yaxis": named_rows(names),
    }
    figure = go.Figure([_score_dot(at, row) for at, row in enumerate(rows)], layout)
    better = "Lower" if lower_is_better(rows[0].metric) else "Higher"
    caption = f"{better} is better; bars are 95{GAP}% intervals; {_measured(rows)}."
    return Chart(key, score_title(rows[0]), caption, figure)


def _score_dot(at: int, row: ScoreRow) -> go.Scatter:
    import plotly.graph_objects as go

    is_baseline = row.model in BASELINES
    color = MUTED if is_baseline else (ACCENT, GREEN, PURPLE)[at % 3]
    return go.Scatter(
        x=[row.value],
        y=[at],
        mode="markers",
        marker={
            "size": 11,
            "color": CARD if is_baseline else color,
            "symbol": "diamond" if is_baseline else "circle",
            "line": {"width": 2, "color": color},
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [_distance(row.ci_high, row.value)],
            "arrayminus": [_distance(row.value, row.ci_low)],
            "color": color,
            "thickness": 1.6,
            "width": 4,
        },
        hovertext=f"{escape(row.model)}: {score_text(row.value)}<br>{interval_text(row)}, n = {row.n:,}",
        hoverinfo="text",
        showlegend=False,
    )


def _measured(rows: tuple[ScoreRow, ...]) -> str:
    sizes = sorted({row.n for row in rows})
    return f"n{GAP}={GAP}{sizes[0]:,}" + (f" to {sizes[-1]:,}" if len(sizes) > 1 else "")


def interval_text(row: ScoreRow) -> str:
    """`1.80 to 1.84`, or a dash where no interval is known."""
    if is_missing(row.ci_low) or is_missing(row.ci_high):
        return "–"
    return f"{score_text(row.ci_low)} to {score_text(row.ci_high)}"


def _distance(high: float, low: float) -> float:
    return 0.0 if is_missing(high) or is_missing(low) else max(high - low, 0.0)


def _score_range(rows: tuple[ScoreRow, ...]) -> list[float]:
    ends = [end for row in rows for end in (row.value, row.ci_low, row.ci_high) if not is_missing(end)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    return [low - margin, high + margin]


def short_label(name: str, limit: int = LABEL_CHARS) -> str:
    """A name fit for a chart: escaped, since Plotly reads some HTML, and cut."""
    return escape(name if len(name) <= limit else name[: limit - 1] + "…", quote=False)

"""Charts of the report: time, tokenizer, learning curves, scores. Colours are the light ones of `palette.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import TYPE_CHECKING

from tasks.report.palette import ACCENT, CARD, GREEN, INK, LINE, LOSS, MUTED, PURPLE, TINT
from tasks.report.story import BASELINES, CurvePoint, ScoreRow, StageStory
from tasks.report.wording import GAP, is_missing, lower_is_better, score_text, score_title, seconds_text, short_count

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

    bars: list[go.Bar] = []
    for status, name, color in (("ran", "computed", ACCENT), ("cached", "reused: the time it once took", TINT)):
        shown = {at: stage.seconds for at, stage in enumerate(stages) if stage.status == status}
        if shown:
            text = [seconds_text(seconds) for seconds in shown.values()]
            bars.append(_bars(list(shown), list(shown.values()), text, color, name))
    layout = _bar_layout([stage.label for stage in stages], max(stage.seconds for stage in stages), room)
    return go.Figure(bars, layout | {"barmode": "overlay", "showlegend": len(bars) > 1})


def tokenizer_fit(bytes_per_token: Mapping[str, float]) -> Chart:
    """A bar a language."""
    import plotly.graph_objects as go

    names, values = list(bytes_per_token), list(bytes_per_token.values())
    bars = _bars(list(range(len(names))), values, [score_text(value) for value in values], ACCENT, "bytes per token")
    figure = go.Figure(bars, _bar_layout(names, max(values), room=1.25))
    caption = "Bytes of held-out text that one token covers: more is better, 1 would be no compression at all."
    return Chart("fit", "Bytes per token", caption, figure)


def _bars(at: list[int], values: list[float], text: list[str], color: str, name: str) -> go.Bar:
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


def _bar_layout(names: list[str], longest: float, room: float) -> dict[str, object]:
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


def learning_curve(key: str, name: str, points: Sequence[CurvePoint], limit: int) -> Chart:
    """Loss above, learning rate below, over the same steps."""
    import plotly.graph_objects as go

    training = thinned([point for point in points if not is_missing(point.loss)], limit)
    validation = thinned([point for point in points if not is_missing(point.validation_loss)], limit)
    lines = [_training_line(training), _validation_line(validation), _rate_line(thinned(points, limit))]
    figure = go.Figure(lines, _curve_layout() | {"showlegend": bool(validation)})
    return Chart(key, name, _curve_caption(points, training, validation), figure)


def _training_line(points: Sequence[CurvePoint]) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[point.step for point in points],
        y=[point.loss for point in points],
        name="training",
        mode="lines",
        line={"color": ACCENT, "width": 1.6, "simplify": False},
        hovertemplate="step %{x:,}: %{y:.3f}<extra>training</extra>",
    )


def _validation_line(points: Sequence[CurvePoint]) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[point.step for point in points],
        y=[point.validation_loss for point in points],
        name="validation",
        mode="lines+markers",
        line={"color": LOSS, "width": 1.6, "dash": "dot"},
        marker={"size": 6, "symbol": "diamond", "color": LOSS},
        hovertemplate="step %{x:,}: %{y:.3f}<extra>validation</extra>",
    )


def _rate_line(points: Sequence[CurvePoint]) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[point.step for point in points],
        y=[point.learning_rate for point in points],
        name="learning rate",
        mode="lines",
        line={"color": PURPLE, "width": 1.6, "simplify": False},
        yaxis="y2",
        showlegend=False,
        hovertemplate="step %{x:,}: %{y:.2e}<extra>learning rate</extra>",
    )


def _curve_layout() -> dict[str, object]:
    title = {"font": {"size": 11.5, "color": MUTED}, "standoff": 6}
    return plain_layout(330) | {
        "hovermode": "closest",
        "dragmode": "zoom",
        "xaxis": {
            "anchor": "y2",
            "title": {"text": "step", **title},
            "tickformat": ",",
            "showgrid": False,
            "nticks": 7,
        },
        "yaxis": {"domain": [0.34, 1], "title": {"text": "loss, nats per token", **title}, "nticks": 6},
        "yaxis2": {
            "domain": [0, 0.22],
            "title": {"text": "rate", **title},
            "exponentformat": "power",
            "rangemode": "tozero",
            "nticks": 3,
            "fixedrange": True,
        },
    }


def _curve_caption(
    points: Sequence[CurvePoint], training: Sequence[CurvePoint], validation: Sequence[CurvePoint]
) -> str:
    parts: list[str] = []
    if training:
        parts.append(f"Training loss from {score_text(training[0].loss)} to {score_text(training[-1].loss)}")
    if validation:
        best = min(validation, key=lambda point: point.validation_loss or 0.0)
        parts.append(f"validation lowest at step {best.step:,} ({score_text(best.validation_loss)})")
    speeds = [point.tokens_per_second for point in points if point.tokens_per_second]
    if speeds:
        parts.append(f"median {short_count(median(speeds))} tokens per second")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else "No loss was recorded."


def thinned(points: Sequence[CurvePoint], limit: int) -> list[CurvePoint]:
    """At most `limit` points, evenly chosen, first and last included."""
    if len(points) <= limit:
        return list(points)
    return [points[round(at * (len(points) - 1) / (limit - 1))] for at in range(limit)]


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


def _distance(high: float | None, low: float | None) -> float:
    return 0.0 if high is None or low is None or is_missing(high) or is_missing(low) else max(high - low, 0.0)


def _score_range(rows: tuple[ScoreRow, ...]) -> list[float]:
    ends = [
        end for row in rows for end in (row.value, row.ci_low, row.ci_high) if end is not None and not is_missing(end)
    ]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    return [low - margin, high + margin]


def short_label(name: str, limit: int = LABEL_CHARS) -> str:
    """A name fit for a chart: escaped, since Plotly reads some HTML, and cut."""
    return escape(name if len(name) <= limit else name[: limit - 1] + "…", quote=False)

"""Learning curves: loss and learning rate by step, with the steps that stood out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import median
from typing import TYPE_CHECKING

from model.training.curve import CurvePoint
from tasks.report.charts import Chart, plain_layout
from tasks.report.facts import SpikeStory
from tasks.report.markup import shortened
from tasks.report.palette import ACCENT, CARD, GREEN, INK, LOSS, MUTED, PURPLE
from tasks.report.wording import is_missing, score_text, short_count

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from model.training.events import Event, Kind

MARKS: dict[Kind, tuple[str, str, str]] = {  # what is marked on the line: its name, symbol and colour
    "skipped": ("skipped", "x", LOSS),
    "returned": ("went back", "triangle-left", PURPLE),
    "started": ("started again", "circle", GREEN),
}
MOST_MARKS = 200  # of a kind
LEGEND_PIXELS = 22  # of a name where there is no room for them side by side


def learning_curve(
    key: str,
    name: str,
    points: Sequence[CurvePoint],
    limit: int,
    spikes: Sequence[SpikeStory] = (),
    events: Sequence[Event] = (),
) -> Chart:
    """Loss above, learning rate below, over the same steps; spikes as single points, skips and restarts on the line."""
    import plotly.graph_objects as go

    training = thinned([point for point in points if not is_missing(point.loss)], limit)
    validation = thinned([point for point in points if not is_missing(point.validation_loss)], limit)
    lines = [_training_line(training), _validation_line(validation), _rate_line(thinned(points, limit))]
    lines += [_spike_markers(spikes)] if spikes else []
    lines += [_event_markers(kind, found, training) for kind in MARKS if (found := _marked(kind, events)) and training]
    layout = _curve_layout() | {"showlegend": len(lines) > 3 or bool(validation)}
    narrow = go.Figure(lines, layout | {"height": 300 + LEGEND_PIXELS * len(lines)}) if len(lines) > 4 else None
    return Chart(key, name, _curve_caption(points, training, validation), go.Figure(lines, layout), narrow)


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


def _spike_markers(spikes: Sequence[SpikeStory]) -> go.Scatter:
    import plotly.graph_objects as go

    return go.Scatter(
        x=[spike.step for spike in spikes],
        y=[spike.loss for spike in spikes],
        name="loss spike, one step",
        mode="markers+text",
        text=[f"{spike.step:,}" for spike in spikes],
        textposition="middle right",
        textfont={"color": INK, "size": 11},
        marker={"size": 9, "symbol": "triangle-down", "color": CARD, "line": {"width": 2, "color": LOSS}},
        hovertemplate="step %{x:,}: %{y:.3f}<extra>spike</extra>",
    )


def _marked(kind: Kind, events: Sequence[Event]) -> list[Event]:
    """The events to mark, one a step; of the starts all but the first."""
    found = [event for event in events if event.kind == kind]
    return list({event.step: event for event in (found[1:] if kind == "started" else found)}.values())[:MOST_MARKS]


def _event_markers(kind: Kind, events: Sequence[Event], line: Sequence[CurvePoint]) -> go.Scatter:
    """On the line of the loss, where the loss of the step itself may be anything."""
    import plotly.graph_objects as go

    name, symbol, color = MARKS[kind]
    return go.Scatter(
        x=[event.step for event in events],
        y=[min(line, key=lambda point: abs(point.step - event.step)).loss for event in events],
        name=name,
        mode="markers",
        marker={"size": 8, "symbol": symbol, "color": CARD, "line": {"width": 1.8, "color": color}},
        hovertext=[f"step {event.step:,}: {escape(shortened(event.told, 90))}" for event in events],
        hovertemplate=f"%{{hovertext}}<extra>{name}</extra>",
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


def _curve_caption(points: Sequence[CurvePoint], training: Sequence[CurvePoint], validation: Sequence[CurvePoint]) -> str:
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

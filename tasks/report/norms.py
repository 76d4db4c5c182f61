"""Norms by layer: of gradients and activations over the steps, one line a layer, on a logarithmic scale."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from model.training.curve import CurvePoint
from tasks.report.charts import Chart, legend_layout, plain_layout
from tasks.report.palette import ACCENT, GREEN, LOSS, MUTED, PURPLE
from tasks.report.wording import is_missing, score_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

GRADIENT, ACTIVATION = "gradient_norm.", "activation_norm."  # before the name of a part: model/training/norms.py
LAYER = re.compile(r"(?:(encoder|decoder)\.)?layers\.(\d+)")
OTHERS = {"embedding": LOSS, "norm": MUTED, "head": PURPLE}
FAINTEST = 0.3  # opacity of the first layer; the last has 1


def norm_chart(key: str, name: str, points: Sequence[CurvePoint], limit: int) -> Chart | None:
    """Gradients above, what layers give on below; None where nothing was measured."""
    import plotly.graph_objects as go

    measured = [point for point in points if point.norms]
    if not measured:
        return None
    shown = measured[:: -(-len(measured) // limit)]
    names = list(dict.fromkeys(found for point in shown for found in point.norms or {}))
    kinds = [kind for kind in (GRADIENT, ACTIVATION) if any(found.startswith(kind) for found in names)]
    lines = [
        _line(shown, found, kind, "y" if kind == kinds[0] else "y2", kind == kinds[0])
        for kind in kinds
        for found in names
        if found.startswith(kind)
    ]
    layout = _layout(kinds)
    narrow = go.Figure(lines, layout | {"height": 420})
    return Chart(key, f"{name}: norms by layer", _caption(measured[-1]), go.Figure(lines, layout), narrow)


def _line(points: Sequence[CurvePoint], found: str, kind: str, axis: str, is_named: bool) -> go.Scatter:
    import plotly.graph_objects as go

    part = found.removeprefix(kind)
    color, opacity = _look(part, _last_layer(points, kind))
    values = [(point.norms or {}).get(found) for point in points]
    return go.Scatter(
        x=[point.step for point in points],
        y=[None if is_missing(value) else value for value in values],
        name=part,
        legendgroup=part,
        showlegend=is_named and _is_named(part, _last_layer(points, kind)),
        mode="lines",
        opacity=opacity,
        line={"color": color, "width": 1.6, "simplify": False},
        yaxis=axis,
        hovertemplate=f"step %{{x:,}}: %{{y:.3g}}<extra>{part}</extra>",
    )


def _last_layer(points: Sequence[CurvePoint], kind: str) -> int:
    found = (LAYER.search(name) for point in points for name in point.norms or {} if name.startswith(kind))
    return max((int(layer[2]) for layer in found if layer), default=0)


def _look(part: str, last: int) -> tuple[str, float]:
    """Colour, and opacity: deeper layers are stronger."""
    layer = LAYER.fullmatch(part)
    if layer is None:
        return OTHERS.get(part, MUTED), 1.0
    return GREEN if layer[1] == "decoder" else ACCENT, FAINTEST + (1 - FAINTEST) * int(layer[2]) / max(1, last)


def _is_named(part: str, last: int) -> bool:
    """Whether the legend has it: of many layers the first and the last alone."""
    layer = LAYER.fullmatch(part)
    return layer is None or int(layer[2]) in (0, last)


def _caption(last: CurvePoint) -> str:
    gradients = {name.removeprefix(GRADIENT): value for name, value in (last.norms or {}).items() if name.startswith(GRADIENT)}
    finite = {name: value for name, value in gradients.items() if not is_missing(value)}
    text = "Gradients: L2 norm over a part; activations: root mean square of what a layer gives on. Deeper layers are drawn stronger."
    if not finite:
        return text
    largest, smallest = max(finite, key=finite.__getitem__), min(finite, key=finite.__getitem__)
    ends = f"gradients from {score_text(finite[smallest])} ({smallest}) to {score_text(finite[largest])} ({largest})"
    return f"{text} At step {last.step:,}: {ends}."


def _layout(kinds: Sequence[str]) -> dict[str, object]:
    font = {"font": {"size": 11.5, "color": MUTED}, "standoff": 6}
    titles = {GRADIENT: "gradient", ACTIVATION: "activation"}
    axis = {"type": "log", "dtick": 1, "tickformat": "~g", "fixedrange": True}
    two = len(kinds) > 1
    return plain_layout(330 if two else 240) | {
        "hovermode": "closest",
        "showlegend": True,
        "legend": {**legend_layout(), "traceorder": "normal"},
        "xaxis": {"anchor": "y2" if two else "y", "title": {"text": "step", **font}, "tickformat": ",", "showgrid": False, "nticks": 7},
        "yaxis": {"domain": [0.56, 1] if two else [0, 1], "title": {"text": titles[kinds[0]], **font}, **axis},
        **({"yaxis2": {"domain": [0, 0.44], "title": {"text": titles[kinds[1]], **font}, **axis}} if two else {}),
    }

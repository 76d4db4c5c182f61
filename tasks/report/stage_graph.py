"""Stage graph: the stages of a run and what they waited for, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tasks.report.charts import Chart, plain_layout, short_label
from tasks.report.facts import StageStory
from tasks.report.palette import ACCENT, CARD, INK, MUTED
from tasks.report.wording import count_text, seconds_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

LANE_PIXELS = 92  # between lanes, left to right
COLUMN_PIXELS = 84  # what a stage's name needs beside the next one
PHONE_LANES = 4  # fit beside one another on a phone
LABEL_CHARS = 15  # of each line of a stage's name
ROW_PIXELS = 80  # between stages, top to bottom
BEND_POINTS = 33  # from one column to the next


@dataclass(frozen=True)
class Position:
    """A stage's position in the picture: how many stages it waits for in a row; its lane, 0 the middle, down is +."""

    depth: int
    lane: float


def stage_positions(stages: tuple[StageStory, ...]) -> dict[str, Position]:
    """Depth is the longest chain of inputs; a stage without inputs stands just before the first one that needs it."""
    inputs = {stage.name: _known_inputs(stage, stages) for stage in stages}
    depth: dict[str, int] = {}
    for name in topological(inputs):
        depth[name] = 1 + max((depth[other] for other in inputs[name]), default=-1)
    for name, needed in inputs.items():
        users = [depth[user] for user in inputs if name in inputs[user]]
        if not needed and users:
            depth[name] = min(users) - 1
    positions: dict[str, Position] = {}
    for column in range(max(depth.values(), default=-1) + 1):
        wanted = _wanted_lanes([name for name in inputs if depth[name] == column], inputs, positions)
        positions |= {name: Position(column, lane) for name, lane in _spread(wanted).items()}
    return positions


def topological(inputs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Names so that each comes after its inputs. AssertionError on a cycle, which no flow can have."""
    ordered: list[str] = []
    while len(ordered) < len(inputs):
        ready = [name for name in inputs if name not in ordered and all(other in ordered for other in inputs[name])]
        assert ready, f"stages wait for one another: {sorted(set(inputs) - set(ordered))}"
        ordered += ready
    return ordered


def _known_inputs(stage: StageStory, stages: tuple[StageStory, ...]) -> tuple[str, ...]:
    names = {other.name for other in stages}
    return tuple(name for name in dict.fromkeys(stage.inputs) if name in names and name != stage.name)


def _wanted_lanes(column: list[str], inputs: Mapping[str, tuple[str, ...]], positions: Mapping[str, Position]) -> dict[str, float]:
    """The lane nearest the middle among a stage's latest inputs; stages without any go beside: -1, 1, -2, 2."""
    wanted: dict[str, float] = {}
    for name in sorted(column, key=lambda name: not inputs[name]):
        latest = max((positions[other].depth for other in inputs[name]), default=0)
        lanes = [positions[other].lane for other in inputs[name] if positions[other].depth == latest]
        beside = (len(wanted) + 1) // 2 * (-1 if len(wanted) % 2 else 1)
        wanted[name] = min(lanes, key=abs) if lanes else float(beside)
    return wanted


def _spread(wanted: Mapping[str, float]) -> dict[str, float]:
    """Lanes in the wanted order, at least 1 apart, shifted together so that they stay centred there."""
    lanes: dict[str, float] = {}
    last = float("-inf")
    for name in sorted(wanted, key=lambda name: wanted[name]):
        last = max(wanted[name], last + 1)
        lanes[name] = last
    shift = (sum(lanes.values()) - sum(wanted.values())) / max(len(lanes), 1)
    return {name: lane - shift for name, lane in lanes.items()}


def stage_graph(stages: tuple[StageStory, ...]) -> Chart:
    """The stages as dots: left to right, or top to bottom where that would not fit."""
    positions = stage_positions(stages)
    lanes = 1 + max(position.lane for position in positions.values()) - min(position.lane for position in positions.values())
    return Chart(
        "stages",
        "Stages of the run",
        "Each dot is a stage, each line a result that it waited for. Filled: computed in this run. Hollow: reused.",
        _graph(stages, positions, across=True),
        _graph(stages, positions, across=False),
        min_width=0 if lanes <= PHONE_LANES else round(COLUMN_PIXELS * lanes),
        narrow_below=COLUMN_PIXELS * (2 + max(position.depth for position in positions.values())),
    )


def _graph(stages: tuple[StageStory, ...], positions: Mapping[str, Position], across: bool) -> go.Figure:
    import plotly.graph_objects as go

    traces = [_connections(stages, positions, across)]
    for status, name in (("ran", "computed"), ("cached", "reused")):
        shown = [stage for stage in stages if stage.status == status]
        if shown:
            traces.append(_dots(shown, positions, across, status == "ran", name))
    depths = [position.depth for position in positions.values()]
    lanes = [position.lane for position in positions.values()]
    if across:
        x_range, y_range = [min(depths) - 0.55, max(depths) + 0.55], [max(lanes) + 0.75, min(lanes) - 0.3]
        height = 30 + round(LANE_PIXELS * (y_range[0] - y_range[1]))
    else:
        x_range, y_range = [min(lanes) - 0.5, max(lanes) + 0.5], [max(depths) + 0.75, min(depths) - 0.3]
        height = 30 + round(ROW_PIXELS * (y_range[0] - y_range[1]))
    layout = plain_layout(height) | {
        "showlegend": len(traces) > 2,
        "xaxis": {"visible": False, "range": x_range, "fixedrange": True},
        "yaxis": {"visible": False, "range": y_range, "fixedrange": True},
        "hovermode": "closest",
        "annotations": [_dot_label(stage, positions[stage.name], across) for stage in stages],
    }
    return go.Figure(traces, layout)


def _dots(stages: list[StageStory], positions: Mapping[str, Position], across: bool, filled: bool, name: str) -> go.Scatter:
    import plotly.graph_objects as go

    depths, lanes = [positions[stage.name].depth for stage in stages], [positions[stage.name].lane for stage in stages]
    return go.Scatter(
        x=depths if across else lanes,
        y=lanes if across else depths,
        mode="markers",
        name=name,
        marker={"size": 17, "color": ACCENT if filled else CARD, "line": {"width": 2.5, "color": ACCENT}},
        hovertext=[_dot_hover(stage) for stage in stages],
        hoverinfo="text",
        cliponaxis=False,
    )


def _dot_label(stage: StageStory, position: Position, across: bool) -> dict[str, object]:
    """Name and time below the dot, on a ground of its own, so that no line runs through the words."""
    lines = [short_label(part, LABEL_CHARS) for part in stage.label.split(": ", 1)]
    time = f"<br><span style='font-size:10.5px;color:{MUTED}'>{seconds_text(stage.seconds)}</span>"
    return {
        "x": position.depth if across else position.lane,
        "y": position.lane if across else position.depth,
        "text": "<br>".join(lines) + time,
        "showarrow": False,
        "bgcolor": CARD,
        "borderpad": 1,
        "font": {"size": 11.5, "color": INK},
        "yanchor": "top",
        "yshift": -12,
    }


def _dot_hover(stage: StageStory) -> str:
    lines = [f"<b>{escape(stage.label)}</b>", f"{stage.status}, built in {seconds_text(stage.seconds)}"]
    if stage.ledger.rows_in:
        lines.append(f"{count_text(stage.ledger.rows_in)} rows in, {count_text(stage.ledger.rows_out)} out")
    return "<br>".join([*lines, stage.fingerprint])


def _connections(stages: tuple[StageStory, ...], positions: Mapping[str, Position], across: bool) -> go.Scatter:
    """Every dependency that does not already follow from the others, as one polyline with gaps."""
    import plotly.graph_objects as go

    inputs = {stage.name: _known_inputs(stage, stages) for stage in stages}
    along: list[float | None] = []
    beside: list[float | None] = []
    for target, sources in inputs.items():
        for source in sources:
            if _follows(source, sources, inputs):
                continue
            for step, lane in _bend(positions[source], positions[target], positions, (0.15, 0.6) if across else (0.55, 1.0)):
                along.append(step)
                beside.append(lane)
            along.append(None)
            beside.append(None)
    return go.Scatter(
        x=along if across else beside,
        y=beside if across else along,
        mode="lines",
        line={"color": MUTED, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )


def _follows(source: str, sources: tuple[str, ...], inputs: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether another of `sources` needs `source` anyway, directly or through others."""
    waiting, seen = [other for other in sources if other != source], set[str]()
    while waiting:
        name = waiting.pop()
        if name == source:
            return True
        if name not in seen:
            seen.add(name)
            waiting += inputs[name]
    return False


def _bend(start: Position, end: Position, positions: Mapping[str, Position], turn: tuple[float, float]) -> list[tuple[float, float]]:
    """Straight along the first lane, an S in part `turn` of the last column; an arch if a stage is in the way."""
    between = [position for position in positions.values() if start.depth < position.depth < end.depth]
    lift = 0.45 if any(abs(position.lane - start.lane) < 0.5 for position in between) else 0.0
    span = end.depth - start.depth
    points: list[tuple[float, float]] = []
    for index in range(BEND_POINTS * span):
        part = index / (BEND_POINTS * span - 1)
        late = min(1.0, max(0.0, (part * span - (span - 1) - turn[0]) / (turn[1] - turn[0])))
        arch = 4 * part * (1 - part) * lift
        smooth = late**3 * (10 - 15 * late + 6 * late**2)
        points.append((start.depth + part * span, start.lane + (end.lane - start.lane) * smooth - arch))
    return points

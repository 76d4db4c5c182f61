"""Pictures of the run as a whole: the stages and what they wait for, and where the text went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tasks.report.charts import Chart, plain_layout
from tasks.report.palette import ACCENT, CARD, INK, LOSS, LOST, MUTED, TINT
from tasks.report.story import StageStory
from tasks.report.wording import bytes_text, corpus_chain, count_text, seconds_text, share_text, words

if TYPE_CHECKING:
    import plotly.graph_objects as go

REASONS = 5  # shown per stage in the flow, largest first; the rest are one stream
CURVE_POINTS = 21  # a connection is drawn as this many straight pieces less one


@dataclass(frozen=True)
class Place:
    """A stage's place in the picture: how many stages it waits for in a row, and its lane (0: the middle, down is +)."""

    depth: int
    lane: float


def places(stages: tuple[StageStory, ...]) -> dict[str, Place]:
    """Depth is the longest chain of inputs; a stage without inputs stands just before the first one that needs it."""
    inputs = {stage.name: _known_inputs(stage, stages) for stage in stages}
    depth: dict[str, int] = {}
    for name in topological(inputs):
        depth[name] = 1 + max((depth[other] for other in inputs[name]), default=-1)
    for name in inputs:
        users = [depth[user] for user in inputs if name in inputs[user]]
        if not inputs[name] and users:
            depth[name] = min(users) - 1
    placed: dict[str, Place] = {}
    for column in range(max(depth.values(), default=-1) + 1):
        wanted = _wanted_lanes([name for name in inputs if depth[name] == column], inputs, placed)
        placed |= {name: Place(column, lane) for name, lane in _spread(wanted).items()}
    return placed


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


def _wanted_lanes(
    column: list[str], inputs: Mapping[str, tuple[str, ...]], placed: Mapping[str, Place]
) -> dict[str, float]:
    """The mean lane of a stage's inputs in the previous column; a stage without any goes below the others."""
    wanted: dict[str, float] = {}
    for name in column:
        nearest = max((placed[other].depth for other in inputs[name]), default=0)
        lanes = [placed[other].lane for other in inputs[name] if placed[other].depth == nearest]
        wanted[name] = sum(lanes) / len(lanes) if lanes else float(len(wanted))
    return wanted


def _spread(wanted: Mapping[str, float]) -> dict[str, float]:
    """Lanes in the wanted order, at least 1 apart, shifted as a whole so that they stay centred where they were wanted."""
    lanes: dict[str, float] = {}
    last = float("-inf")
    for name in sorted(wanted, key=lambda name: wanted[name]):
        last = max(wanted[name], last + 1)
        lanes[name] = last
    shift = (sum(lanes.values()) - sum(wanted.values())) / max(len(lanes), 1)
    return {name: lane - shift for name, lane in lanes.items()}


def stage_graph(stages: tuple[StageStory, ...]) -> Chart:
    """The stages as dots, left to right on a wide screen and top to bottom on a narrow one."""
    return Chart(
        "stages",
        "Stages of the run",
        "Each dot is a stage, each line a result that it waited for. Filled: computed in this run. Hollow: reused.",
        _graph(stages, across=True),
        _graph(stages, across=False),
    )


def _graph(stages: tuple[StageStory, ...], across: bool) -> go.Figure:
    import plotly.graph_objects as go

    placed = places(stages)
    figure = go.Figure([_connections(stages, placed, across)])
    for status, name in (("ran", "computed"), ("cached", "reused")):
        shown = [stage for stage in stages if stage.status == status]
        if shown:
            figure.add_trace(_dots(shown, placed, across, status == "ran", name))
    depths = [place.depth for place in placed.values()]
    lanes = [place.lane for place in placed.values()]
    along, beside = [min(depths) - 0.55, max(depths) + 0.55], [max(lanes) + 0.75, min(lanes) - 0.55]
    if across:
        height, x_range, y_range = 120 + round(92 * (beside[0] - beside[1] - 0.5)), along, beside
    else:
        height, x_range, y_range = 60 + 66 * (max(depths) + 1), [beside[1] + 0.35, beside[0] + 0.25], along[::-1]
    figure.update_layout(
        plain_layout(height),
        showlegend=len(figure.data) > 2,
        xaxis={"visible": False, "range": x_range, "fixedrange": True},
        yaxis={"visible": False, "range": y_range, "fixedrange": True},
        hovermode="closest",
    )
    return figure


def _dots(
    stages: list[StageStory], placed: Mapping[str, Place], across: bool, filled: bool, name: str
) -> go.Scatter:
    import plotly.graph_objects as go

    depths, lanes = [placed[stage.name].depth for stage in stages], [placed[stage.name].lane for stage in stages]
    return go.Scatter(
        x=depths if across else lanes,
        y=lanes if across else depths,
        mode="markers+text",
        name=name,
        marker={"size": 17, "color": ACCENT if filled else CARD, "line": {"width": 2.5, "color": ACCENT}},
        text=[_dot_label(stage) for stage in stages],
        textposition="bottom center" if across else "middle right",
        textfont={"size": 11.5, "color": INK},
        hovertext=[_dot_hover(stage) for stage in stages],
        hoverinfo="text",
        cliponaxis=False,
    )


def _dot_label(stage: StageStory) -> str:
    name, _, detail = escape(stage.label).partition(": ")
    second = f"<br>{detail}" if detail else ""
    return f"{name}{second}<br><span style='font-size:10.5px;fill:{MUTED}'>{seconds_text(stage.seconds)}</span>"


def _dot_hover(stage: StageStory) -> str:
    lines = [f"<b>{escape(stage.label)}</b>", f"{stage.status}, built in {seconds_text(stage.seconds)}"]
    if stage.ledger.rows_in:
        lines.append(f"{count_text(stage.ledger.rows_in)} rows in, {count_text(stage.ledger.rows_out)} out")
    return "<br>".join([*lines, stage.fingerprint])


def _connections(stages: tuple[StageStory, ...], placed: Mapping[str, Place], across: bool) -> go.Scatter:
    """Every dependency that does not already follow from the others, as one polyline with gaps."""
    import plotly.graph_objects as go

    inputs = {stage.name: _known_inputs(stage, stages) for stage in stages}
    along: list[float | None] = []
    beside: list[float | None] = []
    for target, sources in inputs.items():
        for source in sources:
            if _follows(source, sources, inputs):
                continue
            for step, lane in _bend(placed[source], placed[target], placed):
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


def _bend(start: Place, end: Place, placed: Mapping[str, Place]) -> list[tuple[float, float]]:
    """Straight along the first lane, an S in the last column; an arch where a stage stands in the way."""
    between = [place for place in placed.values() if start.depth < place.depth < end.depth]
    blocked = any(abs(place.lane - start.lane) < 0.5 for place in between)
    lift = 0.45 if blocked else 0.0
    span = end.depth - start.depth
    points: list[tuple[float, float]] = []
    for index in range(CURVE_POINTS):
        part = index / (CURVE_POINTS - 1)
        late = max(0.0, (part * span - (span - 1)))  # 0 until the last column, there 0 to 1
        turn = late * late * (3 - 2 * late)
        arch = 4 * part * (1 - part) * lift
        points.append((start.depth + part * span, start.lane + (end.lane - start.lane) * turn - arch))
    return points


def text_flow(stages: tuple[StageStory, ...]) -> Chart | None:
    """The corpus as a stream, from raw text to what models learn from; None when no stage filtered text."""
    chain = corpus_chain(stages)
    if not chain or chain[0].ledger.bytes_in == 0:
        return None
    import plotly.graph_objects as go

    labels: list[str] = []
    streams: list[Stream] = []
    before = -1
    for stage in chain:
        here = len(labels)
        labels.append(f"{escape(stage.label)}<br>{bytes_text(stage.ledger.bytes_in)}")
        if before >= 0:
            streams.append(Stream(before, here, stage.ledger.bytes_in, is_lost=False))
        for reason, lost in _largest(_losses(stage)):
            streams.append(Stream(here, len(labels), lost, is_lost=True))
            labels.append(f"{escape(words(reason))} {bytes_text(lost)}")
        before = here
    kept = chain[-1].ledger.bytes_out
    streams.append(Stream(before, len(labels), kept, is_lost=False))
    labels.append(f"kept<br>{bytes_text(kept)}")
    most = max(len(_largest(_losses(stage))) for stage in chain)
    figure = go.Figure(_sankey(labels, streams), plain_layout(240 + 26 * most))
    read = chain[0].ledger.bytes_in
    caption = f"Widths are bytes of text: of {bytes_text(read)} read, {share_text(kept, read)} were kept."
    return Chart("flow", "Where the text went", caption, figure, scrolls=True)


@dataclass(frozen=True)
class Stream:
    """Bytes that go from one node of the flow to another."""

    source: int
    target: int
    bytes: int
    is_lost: bool


def _sankey(labels: list[str], streams: list[Stream]) -> go.Sankey:
    import plotly.graph_objects as go

    lost = {stream.target for stream in streams if stream.is_lost}
    return go.Sankey(
        arrangement="snap",
        node={
            "label": labels,
            "color": [LOSS if at in lost else ACCENT for at in range(len(labels))],
            "line": {"width": 0},
            "thickness": 10,
            "pad": 16,
            "hovertemplate": "%{label}<extra></extra>",
        },
        link={
            "source": [stream.source for stream in streams],
            "target": [stream.target for stream in streams],
            "value": [stream.bytes for stream in streams],
            "color": [LOST if stream.is_lost else TINT for stream in streams],
            "hovertemplate": "%{source.label} → %{target.label}<extra></extra>",
        },
        textfont={"size": 11.5, "color": INK},
    )


def _losses(stage: StageStory) -> dict[str, int]:
    losses = dict(stage.ledger.dropped_bytes)
    if stage.ledger.repaired_bytes > 0:
        losses["taken off by repairs"] = stage.ledger.repaired_bytes
    return {reason: lost for reason, lost in losses.items() if lost > 0}


def _largest(losses: Mapping[str, int]) -> list[tuple[str, int]]:
    ranked = sorted(losses.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) <= REASONS + 1:
        return ranked
    rest = ranked[REASONS:]
    return [*ranked[:REASONS], (f"{len(rest)} other reasons", sum(lost for _, lost in rest))]

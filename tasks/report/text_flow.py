"""Text flow chart: from what was read to what models learn from, with every loss on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tasks.report.charts import Chart, plain_layout
from tasks.report.facts import StageStory
from tasks.report.palette import ACCENT, INK, LOSS, LOST, TINT
from tasks.report.reasons import reason_text
from tasks.report.wording import bytes_text, corpus_chain, share_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

STREAM_PIXELS = 200  # width of all text in the flow
LOST_PIXELS = 18  # a line for each reason below it
MIN_WIDTH = 660  # CSS pixels, that labels do not run into one another
REASONS = 5  # shown per stage, largest first; the rest are one stream
REPAIRED = {"annotate": "markup and repairs", "decontaminate": "cut out"}  # what repairs took off kept documents


def text_flow(stages: tuple[StageStory, ...]) -> Chart | None:
    """The corpus as a stream, from raw text to what models learn from; None when no stage filtered text."""
    chain = corpus_chain(stages)
    if not chain or chain[0].ledger.bytes_in == 0:
        return None
    import plotly.graph_objects as go

    nodes, streams = _nodes(chain), _streams(chain)
    figure = go.Figure(_sankey(nodes, streams), plain_layout(round(_height(nodes)) + 16))
    read, kept = chain[0].ledger.bytes_in, chain[-1].ledger.bytes_out
    caption = f"Widths are bytes of text: of {bytes_text(read)} read, {share_text(kept, read)} were kept."
    return Chart("flow", "Where the text went", caption, figure, min_width=MIN_WIDTH)


@dataclass(frozen=True)
class Node:
    """A node of the flow: a stage, a reason, or what was kept. `column` is the stage's; a reason stands one later."""

    label: str
    bytes: int
    column: int
    is_lost: bool


@dataclass(frozen=True)
class Stream:
    """Bytes that go from one node of the flow to another, by position."""

    source: int
    target: int
    bytes: int
    is_lost: bool


def _nodes(chain: list[StageStory]) -> list[Node]:
    """The stages, what was kept, then the reasons of the first stage, of the second, and so on."""
    kept = chain[-1].ledger.bytes_out
    read = [(stage.label, stage.ledger.bytes_in) for stage in chain]
    nodes = [Node(f"{escape(label)}<br>{bytes_text(size)}", size, at, False) for at, (label, size) in enumerate(read)]
    nodes.append(Node(f"kept<br>{bytes_text(kept)}", kept, len(chain), False))
    for at, stage in enumerate(chain):
        for reason, lost in _largest(_losses(stage)):
            nodes.append(Node(f"{escape(reason_text(reason))} {bytes_text(lost)}", lost, at + 1, True))
    return nodes


def _streams(chain: list[StageStory]) -> list[Stream]:
    onward = [stage.ledger.bytes_in for stage in chain[1:]] + [chain[-1].ledger.bytes_out]
    streams = [Stream(at, at + 1, size, False) for at, size in enumerate(onward)]
    target = len(chain) + 1
    for at, stage in enumerate(chain):
        for _, lost in _largest(_losses(stage)):
            streams.append(Stream(at, target, lost, True))
            target += 1
    return streams


def _pixels(nodes: list[Node], node: Node) -> float:
    """Width of a node's stream."""
    return STREAM_PIXELS * node.bytes / max(node.bytes for node in nodes)


def _lines(nodes: list[Node]) -> list[float]:
    """Height of the line of each reason, in the nodes' order: room for its words, and for its stream."""
    return [max(LOST_PIXELS, _pixels(nodes, node) + LOST_PIXELS / 2) for node in nodes if node.is_lost]


def _height(nodes: list[Node]) -> float:
    """Of the whole picture in pixels."""
    return STREAM_PIXELS + LOST_PIXELS + sum(_lines(nodes))


def _heights(nodes: list[Node]) -> list[float]:
    """Middle of each node in pixels from the top: the stages along the top, below them the reasons, late ones first.

    So no stream crosses a label: what an early stage drops falls past nothing.
    """
    lines = _lines(nodes)
    middles = iter(_height(nodes) - sum(lines[:at]) - line / 2 for at, line in enumerate(lines))
    return [next(middles) if node.is_lost else _pixels(nodes, node) / 2 for node in nodes]


def _pad(nodes: list[Node]) -> float:
    """Least distance of nodes in a column, by which Plotly fits its scale: with this one a byte is as wide as in `_pixels`."""
    columns = [[node for node in nodes if node.column == at] for at in range(max(node.column for node in nodes) + 1)]
    return min(
        ((_height(nodes) - sum(_pixels(nodes, node) for node in column)) / (len(column) - 1) for column in columns if len(column) > 1),
        default=0.0,
    )


def _sankey(nodes: list[Node], streams: list[Stream]) -> go.Sankey:
    import plotly.graph_objects as go

    columns = max(node.column for node in nodes)
    height = _height(nodes)
    return go.Sankey(
        arrangement="fixed",
        node={
            "label": [node.label for node in nodes],
            "x": [0.001 + 0.998 * node.column / columns for node in nodes],
            "y": [middle / height for middle in _heights(nodes)],
            "color": [LOSS if node.is_lost else ACCENT for node in nodes],
            "line": {"width": 0},
            "thickness": 10,
            "pad": _pad(nodes),
            "align": "left",
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
        losses[REPAIRED.get(stage.name, "taken off by repairs")] = stage.ledger.repaired_bytes
    return {reason: lost for reason, lost in losses.items() if lost > 0}


def _largest(losses: Mapping[str, int]) -> list[tuple[str, int]]:
    ranked = sorted(losses.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) <= REASONS + 1:
        return ranked
    rest = ranked[REASONS:]
    return [*ranked[:REASONS], (f"{len(rest)} other reasons", sum(lost for _, lost in rest))]

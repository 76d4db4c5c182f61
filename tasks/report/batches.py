"""Training data charts: what the training read, against what was asked for and against chance, as pictures and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from tasks.pretrain.audit import Audit, Kind, Share
from tasks.report.charts import LABEL_CHARS, Chart, legend_layout, named_rows, plain_layout, short_label
from tasks.report.histograms import histogram_bars
from tasks.report.markup import shortened
from tasks.report.palette import ACCENT, INK, TINT
from tasks.report.wording import count_text, share_text

if TYPE_CHECKING:
    import plotly.graph_objects as go

SURE = 5.0  # standard deviations
MOST_SHARES = 20  # drawn of a kind; the table has all
SHARE_PIXELS = 34
TITLES: dict[Kind, str] = {"group": "Groups", "source": "Sources", "language": "Languages"}
OF: dict[Kind, str] = {"group": "rows", "source": "tokens", "language": "tokens"}


def batch_charts(audit: Audit) -> tuple[Chart, ...]:
    """Asked for and given, a chart for each kind that has more than one; and how many documents share a row."""
    kinds = [tuple(share for share in audit.shares if share.kind == kind) for kind in TITLES]
    drawn = [share_bars(shares) for shares in kinds if len(shares) > 1]
    if sum(audit.row_pieces.counts):
        caption = "Rows of the sampled batches by the documents, or pieces of documents, in them."
        drawn.append(histogram_bars("pieces", "Documents in a row", caption, audit.row_pieces))
    return tuple(drawn)


def share_bars(shares: Sequence[Share]) -> Chart:
    """Two bars a name: what was asked for above what was given. `shares` are of one kind."""
    import plotly.graph_objects as go

    kind = shares[0].kind
    shown = sorted(shares, key=lambda share: -share.requested)[:MOST_SHARES]
    largest = max(max(share.requested, share.realised) for share in shown)
    layout = plain_layout(SHARE_PIXELS * len(shown) + 76) | {
        "showlegend": True,
        "legend": {**legend_layout(), "traceorder": "normal"},
        "barmode": "overlay",
        "xaxis": {"visible": False, "range": [0, 1.35 * largest or 1], "fixedrange": True},
        "yaxis": named_rows([short_label(share.name or "none", 20) for share in shown]),
    }
    asked = _bars([share.requested for share in shown], -0.19, TINT, "asked for")
    given = _bars([share.realised for share in shown], 0.19, ACCENT, "given")
    farthest = max(shares, key=lambda share: abs(share.realised - share.requested))
    apart = abs(farthest.realised - farthest.requested)
    caption = (
        f"Shares of the {OF[kind]} that the training read. Largest difference: {100 * apart:.2f} percentage points ({_named(farthest)})."
        if apart >= 5e-5
        else f"Shares of the {OF[kind]} that the training read: as asked for, to a hundredth of a percentage point."
    )
    return Chart(f"shares-{kind}", f"{TITLES[kind]}: asked for and given", caption, go.Figure([asked, given], layout))


def _bars(values: list[float], shift: float, color: str, name: str) -> go.Bar:
    import plotly.graph_objects as go

    return go.Bar(
        orientation="h",
        y=[at + shift for at in range(len(values))],
        x=values,
        text=[share_text(value, 1) for value in values],
        name=name,
        width=0.34,
        marker={"color": color, "line": {"width": 1, "color": ACCENT}},
        textposition="outside",
        textfont={"color": INK, "size": 10.5},
        hoverinfo="skip",
        cliponaxis=False,
    )


def _named(share: Share) -> str:
    return shortened(share.name, LABEL_CHARS) or "none"


def evenness(share: Share) -> str:
    """How a share wanders from batch to batch, in words."""
    spread = share.spread
    if spread is None:
        return "–"
    if spread.ratio > spread.high:
        return "clumped"
    return "more even than chance" if spread.ratio < spread.low else "like chance"


def epochs_text(audit: Audit) -> str:
    """How often the rows were gone through: `2.71`, or by group where that differs."""
    epochs = audit.repeats.epochs
    texts = {name: f"{value:.2f}" for name, value in epochs.items()}
    if len(set(texts.values())) <= 1:
        return next(iter(texts.values()), "–")
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def repeats_text(audit: Audit) -> str:
    """Rows that came twice within an epoch."""
    repeats = audit.repeats
    found = count_text(repeats.in_epoch) if repeats.in_epoch else "none"
    if repeats.counted_rows < repeats.delivered_rows:
        return f"{found} of the first {count_text(repeats.counted_rows)} rows"
    return f"{found} of {count_text(repeats.counted_rows)} rows"


def shared_text(audit: Audit) -> str:
    """Pairs of rows of one batch with a document in common."""
    shared = audit.shared
    expected = f"{shared.expected:,.1f}" if shared.expected < 100 else f"{shared.expected:,.0f}"
    return f"{count_text(shared.shared)} of {count_text(shared.pairs)} pairs of rows in a batch have one in common; by chance {expected}"


def _shares_documents(audit: Audit) -> bool:
    """Whether more pairs share a document than chance explains: twice as many, and five standard deviations more."""
    shared, expected = audit.shared.shared, audit.shared.expected
    return shared > 2 * expected and shared - expected > SURE * sqrt(expected + 1)


def batches_sentence(audit: Audit) -> str:
    """The audit in a sentence or two."""
    clumped = [_named(share) for share in audit.shares if evenness(share) == "clumped"]
    there, named = (audit.steps, "steps") if audit.batches is None else (audit.batches, f"batches of {count_text(audit.steps)} steps")
    looked = (
        f"all {count_text(there)} {named}"
        if audit.sampled_steps == there
        else f"{count_text(audit.sampled_steps)} of {count_text(there)} {named}, evenly spread"
    )
    begun = f" from step {audit.begun_at + 1:,} on, those of this run" if audit.begun_at else ""
    said = f"Computed from the shards for {looked}{begun}."
    if audit.repeats.in_epoch:
        said += " Rows came twice within an epoch, which no order of rows should do."
    if _shares_documents(audit):
        said += " Rows of one batch share documents far more often than by chance."
    if not any(share.spread for share in audit.shares):
        return said
    if clumped:
        names = ", ".join(clumped[:5]) + (f" and {len(clumped) - 5} more" if len(clumped) > 5 else "")
        return f"{said} Some batches have far more than others of: {names}."
    return f"{said} No source or language is clumped in some of the batches."


@dataclass(frozen=True)
class BatchesTold:
    """The audit in words, and each of its shares."""

    sentence: str
    epochs: str
    repeats: str
    shared: str
    shares: tuple[tuple[Share, str], ...]


def batches_told(audit: Audit) -> BatchesTold:
    """What the page says of the batches."""
    shares = tuple((share, evenness(share)) for share in audit.shares)
    return BatchesTold(batches_sentence(audit), epochs_text(audit), repeats_text(audit), shared_text(audit), shares)

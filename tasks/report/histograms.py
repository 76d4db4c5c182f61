"""Histograms: how long documents are, how many share a row."""

from __future__ import annotations

from itertools import pairwise

from tasks.histogram import Histogram
from tasks.report.charts import Chart, bar_layout, bars
from tasks.report.palette import ACCENT
from tasks.report.wording import count_text, share_text


def histogram_bars(key: str, title: str, caption: str, histogram: Histogram) -> Chart:
    """A bar a bin, the smallest on top, with its share."""
    import plotly.graph_objects as go

    total = sum(histogram.counts)
    text = [f"{count_text(count)}  ({share_text(count, total)})" for count in histogram.counts]
    drawn = bars(list(range(len(text))), [float(count) for count in histogram.counts], text, ACCENT, "count")
    names = [_bin_name(low, high - 1) for low, high in pairwise(histogram.edges)]
    wide, narrow = (go.Figure(drawn, bar_layout(names, max(histogram.counts), room)) for room in (1.25, 2.0))
    return Chart(key, title, caption, wide, narrow)


def _bin_name(low: int, high: int) -> str:
    return count_text(low) if low == high else f"{count_text(low)} to {count_text(high)}"


def added(histograms: list[Histogram]) -> Histogram:
    """Several histograms over powers of two as one, empty bins at both ends left out."""
    counts: dict[tuple[int, int], int] = {}
    for one in histograms:
        for bin_, count in zip(pairwise(one.edges), one.counts, strict=True):
            if count:
                counts[bin_] = counts.get(bin_, 0) + count
    if not counts:
        return Histogram((), ())
    low, high = min(bin_[0] for bin_ in counts), max(bin_[1] for bin_ in counts)
    edges = [edge for edge in (0, *(2**power for power in range(64))) if low <= edge <= high]
    return Histogram(tuple(edges), tuple(counts.get(bin_, 0) for bin_ in pairwise(edges)))

"""Night strip: the last nights as a small drawing, the deciding figure as a line and a sign for what became of each night."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.examples.deciding import lower_is_better
from tasks.report.morning_facts import Night
from tasks.report.morning_wording import STATES
from tasks.report.wording import is_missing, score_text, words

if TYPE_CHECKING:
    import markupsafe

NIGHTS = 14  # drawn
STEP, HEIGHT, EDGE = 22, 44, 9  # in the drawing's own units
SIGNS = {"promoted": "full", "refused": "ring", "cannot tell": "ring", "nothing new": "dot"}  # all others: a cross


def night_strip(nights: Sequence[Night]) -> "markupsafe.Markup":
    """SVG, oldest first; up is better. Nights that were decided by another figure than the last one was have no height."""
    import markupsafe

    shown = nights[-NIGHTS:]
    metric = next((night.metric for night in reversed(shown) if night.metric), "")
    sign = -1 if lower_is_better(metric) else 1
    values = [sign * night.value if night.metric == metric and night.value is not None and not is_missing(night.value) else None
              for night in shown]  # fmt: skip
    known = [value for value in values if value is not None]
    low, room = (min(known), (max(known) - min(known)) or 1.0) if known else (0.0, 1.0)
    heights = [HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (value - low) / room if value is not None else None for value in values]
    points = [(EDGE + STEP * at, height) for at, height in enumerate(heights) if height is not None]
    line = " ".join(f"{x:g},{y:.1f}" for x, y in points)
    marks = "".join(
        _mark(night, EDGE + STEP * at, HEIGHT - EDGE if height is None else height)
        for at, (night, height) in enumerate(zip(shown, heights, strict=True))
    )
    width = 2 * EDGE + STEP * (len(shown) - 1)
    told = markupsafe.escape(_told(shown, metric))
    drawn = f'<polyline points="{line}"/>{marks}'
    return markupsafe.Markup(
        f'<svg class="strip" role="img" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" aria-label="{told}">{drawn}</svg>'
    )


def _mark(night: Night, x: int, y: float) -> str:
    kind = SIGNS.get(night.verdict, "cross")
    if kind == "cross":
        return f'<path class="cross" d="M{x - 4} {y - 4:.1f}l8 8m0 -8l-8 8"/>'
    return f'<circle class="{kind}" cx="{x}" cy="{y:.1f}" r="{2 if kind == "dot" else 4.5}"/>'


def _told(nights: Sequence[Night], metric: str) -> str:
    counts: dict[str, int] = {}
    for night in nights:
        title = STATES[night.verdict].lower()
        counts[title] = counts.get(title, 0) + 1
    told = ", ".join(f"{count} {title}" for title, count in counts.items())
    last = next((night for night in reversed(nights) if night.metric == metric and night.value is not None), None)
    return f"{len(nights)} nights: {told}" + (f"; {words(metric)} was {score_text(last.value)} at last" if last else "")

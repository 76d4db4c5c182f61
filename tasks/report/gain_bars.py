"""Gain bar: the interval of a paired difference as a small drawing against 0 and the bound that it must keep to."""

import math
from typing import TYPE_CHECKING

from tasks.promotion.decision import Comparison
from tasks.report.decision_wording import bound_text, interval_words, signed_text

if TYPE_CHECKING:
    import markupsafe

WIDTH, HEIGHT, EDGE = 168, 22, 6  # of the drawing, in its own units


def gain_bar(comparison: Comparison, is_judged: bool = True) -> "markupsafe.Markup | str":
    """SVG; empty where there is no figure. The scale is the comparison's own: units differ. `is_judged`: the bound is drawn, too."""
    import markupsafe

    if not comparison.items or math.isnan(comparison.gain) or math.isnan(comparison.low) or math.isnan(comparison.high):
        return ""
    bound = comparison.margin if comparison.role == "deciding" else -comparison.margin
    ends = [0.0, *([bound] if is_judged else []), comparison.gain, comparison.low, comparison.high]
    finite = [end for end in ends if math.isfinite(end)]
    low, high = min(finite), max(finite)
    room = (high - low) or 1.0

    def at(value: float) -> str:
        share = (min(max(value, low - room), high + room) - low) / room
        return f"{min(max(EDGE + share * (WIDTH - 2 * EDGE), 0), WIDTH):.1f}"

    told = f"gain {signed_text(comparison.gain)}, {interval_words(comparison)}" + (
        f"; must be {bound_text(comparison)}" if is_judged else ""
    )
    middle = HEIGHT / 2
    edge = f'<line class="bound" x1="{at(bound)}" x2="{at(bound)}" y1="1" y2="{HEIGHT - 1}"/>' if is_judged and bound else ""
    state = _state(comparison, is_judged)
    return markupsafe.Markup(
        f'<svg class="gain {state}" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-label="{told}">'
        f'<line class="zero" x1="{at(0.0)}" x2="{at(0.0)}" y1="1" y2="{HEIGHT - 1}"/>{edge}'
        f'<line class="span" x1="{at(comparison.low)}" x2="{at(comparison.high)}" y1="{middle:g}" y2="{middle:g}"/>'
        f'<circle cx="{at(comparison.gain)}" cy="{middle:g}" r="4"/></svg>'
    )


def _state(comparison: Comparison, is_judged: bool) -> str:
    if is_judged:
        return "held" if comparison.passed else "broken"
    return difference(comparison)


def difference(comparison: Comparison) -> str:
    """`better` or `worse` where the whole interval lies on one side of 0, else `even`; `not measured` without items."""
    if not comparison.items:
        return "not measured"
    if comparison.low > 0:
        return "better"
    return "worse" if comparison.high < 0 else "even"

"""Ladder chart: losses of small trainings against their compute, the law through them, and what it predicts of the whole run.

Drawn as SVG, so that the picture beside a prediction and the one on the page are the same; on the page with its colours, light and dark.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.pretrain.loss_law import LEVEL
from tasks.pretrain.prediction import Prediction
from tasks.report.facts import LadderStory
from tasks.report.palette import ACCENT, CARD, INK, LINE, LOSS, MUTED, TINT
from tasks.report.wording import GAP, score_text, share_text, short_count

if TYPE_CHECKING:
    import markupsafe

WIDTH, HEIGHT = 720, 380  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 20, 52  # around the plot
CURVE_POINTS = 60
MOST_TICKS = 6

FIXED: Mapping[str, str] = {"card": CARD, "ink": INK, "muted": MUTED, "line": LINE, "accent": ACCENT, "tint": TINT, "loss": LOSS}
OF_THE_PAGE: Mapping[str, str] = {name: f"var(--{name})" for name in FIXED}


@dataclass(frozen=True)
class Scale:
    """Where a training stands in the drawing: operations on a logarithmic axis, loss on a plain one."""

    flops: tuple[float, float]  # ends of the axis
    losses: tuple[float, float]

    def x(self, flops: float) -> float:
        """From the left."""
        first, last = map(math.log, self.flops)
        return LEFT + (math.log(flops) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(self, loss: float) -> float:
        """From the top."""
        low, high = self.losses
        return TOP + (high - loss) / (high - low) * (HEIGHT - TOP - BOTTOM)


def ladder_picture(prediction: Prediction) -> str:
    """A whole SVG file, with the page's light colours."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ladder_svg(prediction, None, FIXED)}\n'


def ladder_markup(story: LadderStory) -> "markupsafe.Markup":
    """For the page, with what the whole run came to."""
    import markupsafe

    return markupsafe.Markup(ladder_svg(story.prediction, story.result, OF_THE_PAGE))


def ladder_sentence(story: LadderStory) -> str:
    """Prediction and result in words, and what the drawing shows."""
    found = story.prediction
    share = share_text(sum(one.flops for one in found.rungs), found.law.flops)
    return (
        f"{said(found, story.result)}. The trainings (dots) were {share} of the whole run's arithmetic, with models of "
        f"{short_count(found.rungs[0].parameters)} to {short_count(found.rungs[-1].parameters)} parameters; it has "
        f"{short_count(found.parameters)}. Shaded: the {LEVEL * 100:.0f}{GAP}% interval of a training of that size."
    )


def ladder_svg(prediction: Prediction, result: float | None, colors: Mapping[str, str]) -> str:
    """SVG; `result` is the loss of the whole run, once it is done."""
    scale = scale_of(prediction, result)
    parts = [*grid(scale), *fan(prediction, scale), curve(prediction, scale)]
    parts += [mark("rung", scale.x(one.flops), scale.y(one.loss), 5) for one in prediction.rungs]
    parts += [*predicted(prediction, scale), *([] if result is None else came_to(prediction, scale, result))]
    told = said(prediction, result)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ladder" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" aria-label="{told}"><style>{style(colors)}</style><rect class="card" width="{WIDTH}" height="{HEIGHT}"/>'
        f"{''.join(parts)}</svg>"
    )


def style(colors: Mapping[str, str]) -> str:
    """Of this drawing alone."""
    rules = {
        ".card": f"fill: {colors['card']}",
        "text": f"font: 12.5px system-ui, 'Segoe UI', Roboto, sans-serif; fill: {colors['muted']}",
        "text.strong": f"fill: {colors['ink']}; font-weight: 600",
        ".grid": f"stroke: {colors['line']}; stroke-width: 1",
        ".fan": f"fill: {colors['tint']}; opacity: 0.6",
        ".law": f"fill: none; stroke: {colors['accent']}; stroke-width: 1.8",
        ".ahead": "stroke-dasharray: 5 4",
        ".rung": f"fill: {colors['accent']}",
        ".span": f"stroke: {colors['accent']}; stroke-width: 2.4",
        ".predicted": f"fill: {colors['card']}; stroke: {colors['accent']}; stroke-width: 2.4",
        ".result": f"fill: {colors['loss']}",
    }
    return " ".join(f".ladder {name} {{ {rule}; }}" for name, rule in rules.items())


def scale_of(prediction: Prediction, result: float | None) -> Scale:
    """With some room around all that is drawn."""
    law = prediction.law
    losses = [law.low, law.high, *(one.loss for one in prediction.rungs), *(end for one in prediction.fan for end in (one.low, one.high))]
    losses += [] if result is None else [result]
    room = 0.06 * (max(losses) - min(losses))
    below = room if result is None else 3 * room  # for what the result is called
    first = prediction.rungs[0].flops
    reach = (law.flops / first) ** 0.08
    return Scale((first / reach, law.flops * reach**1.6), (min(losses) - below, max(losses) + room))


def grid(scale: Scale) -> list[str]:
    """Lines and names of both axes."""
    parts: list[str] = []
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for value in ticks(*scale.losses):
        y = f"{scale.y(value):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y}" text-anchor="end" dominant-baseline="middle">{value:g}</text>')
    for value in compute_ticks(*scale.flops):
        x = f"{scale.x(value):.1f}"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{power_text(value)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">floating-point operations of a training</text>')
    parts.append(f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">validation loss, nats a target</text>')
    return parts


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between the ends."""
    rough = (high - low) / MOST_TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(at * step, 10) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]


def compute_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between the ends, with 2 and 5 times these where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((last - first) / MOST_TICKS))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    values = [factor * 10.0**power for power in range(first, last + 1, every) for factor in factors]
    return [value for value in values if low <= value <= high]


def power_text(value: float) -> str:
    """2e+12 as 2·10¹²."""
    digit, power = f"{value:.0e}".split("e")
    raised = str(int(power)).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    return f"10{raised}" if digit == "1" else f"{digit}·10{raised}"


def fan(prediction: Prediction, scale: Scale) -> list[str]:
    """The interval from the last rung on."""
    above = [f"{scale.x(one.flops):.1f},{scale.y(one.high):.1f}" for one in prediction.fan]
    below = [f"{scale.x(one.flops):.1f},{scale.y(one.low):.1f}" for one in reversed(prediction.fan)]
    return [f'<polygon class="fan" points="{" ".join([*above, *below])}"/>']


def curve(prediction: Prediction, scale: Scale) -> str:
    """The median: through the rungs the law that fits best, beyond them dashed."""
    first, last = prediction.rungs[0].flops, prediction.rungs[-1].flops
    costs = [first * (last / first) ** (at / CURVE_POINTS) for at in range(CURVE_POINTS + 1)]
    seen = " ".join(f"{scale.x(cost):.1f},{scale.y(prediction.law.at(cost)):.1f}" for cost in costs)
    ahead = " ".join(f"{scale.x(one.flops):.1f},{scale.y(one.loss):.1f}" for one in prediction.fan)
    return f'<polyline class="law" points="{seen}"/><polyline class="law ahead" points="{ahead}"/>'


def mark(kind: str, x: float, y: float, radius: float) -> str:
    """A dot."""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>'


def predicted(prediction: Prediction, scale: Scale) -> list[str]:
    """The prediction of the whole run with its interval, and its figures beside."""
    law = prediction.law
    x, high, low = scale.x(law.flops), scale.y(law.high), scale.y(law.low)
    bar = f'<line class="span" x1="{x:.1f}" x2="{x:.1f}" y1="{high:.1f}" y2="{low:.1f}"/>'
    ends = "".join(f'<line class="span" x1="{x - 6:.1f}" x2="{x + 6:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>' for y in (high, low))
    text = f"predicted {score_text(law.loss)}"
    return [bar, ends, mark("predicted", x, scale.y(law.loss), 5), beside(x, high - 12, text)]


def came_to(prediction: Prediction, scale: Scale, result: float) -> list[str]:
    """The result, a diamond."""
    x, y = scale.x(prediction.law.flops), scale.y(result)
    diamond = f'<path class="result" d="M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z"/>'
    return [diamond, beside(x, max(y, scale.y(prediction.law.low)) + 22, f"result {score_text(result)}")]


def beside(x: float, y: float, text: str) -> str:
    """A name that ends at the right edge or stands over the point."""
    return f'<text class="strong" x="{min(x + 40, WIDTH - 6):.1f}" y="{y:.1f}" text-anchor="end">{text}</text>'


def interval_text(prediction: Prediction) -> str:
    """`4.18 (4.02 to 4.33, 90 %)`."""
    law = prediction.law
    return f"{score_text(law.loss)} ({score_text(law.low)} to {score_text(law.high)}, {LEVEL * 100:.0f}{GAP}%)"


def said(prediction: Prediction, result: float | None) -> str:
    """The drawing in words."""
    told = f"{len(prediction.rungs)} small trainings predict a validation loss of {interval_text(prediction)}"
    if result is None:
        return told
    law = prediction.law
    return f"{told}; it came to {score_text(result)}, {'inside' if law.low <= result <= law.high else 'outside'} the interval"

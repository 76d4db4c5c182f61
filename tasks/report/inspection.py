"""Inspection charts: losses as shades, attention as pictures, attributions as bars."""

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.evaluate.inspection import Inside, LayerView, MapView, TokenView
from tasks.report.facts import InsideStory
from tasks.report.markup import spelled, traced
from tasks.report.wording import GAP, MINUS, score_text, share_text

HEAT_NATS = (0.5, 1.5, 3.0, 5.0, 8.0)  # where the next warmer shade begins
BARS = 10  # tokens whose part in a prediction is drawn
BEGINNING_CHARACTERS = 40  # of a text, as its title
LABEL_CHARACTERS = 12  # of a token beside a map
FULL = 1_000  # thousandths in a whole


@dataclass(frozen=True)
class Cell:
    """A token as shown."""

    text: str
    heat: int  # 0 to 5
    told: str  # when pointed at
    cost: str
    share: str
    others: tuple[tuple[str, str], ...]
    is_given: bool


@dataclass(frozen=True)
class Bar:
    """A token's part in a prediction; to the right it spoke for the token, to the left against it."""

    text: str
    value: str
    left: float  # percent of the half
    right: float


@dataclass(frozen=True)
class Picture:
    """An attention map: its title, and a PNG whose opacity is the attention."""

    title: str
    image: str


@dataclass(frozen=True)
class Layer:
    """A layer's mean and some of its heads."""

    title: str
    mean: Picture
    heads: tuple[Picture, ...]


@dataclass(frozen=True)
class Drawing:
    """One text, ready for the page."""

    title: str
    sentence: str
    cells: tuple[Cell, ...]
    explained: str
    bars: tuple[Bar, ...]
    rest: str
    labels: tuple[str, ...]
    layers: tuple[Layer, ...]
    maps_sentence: str


def drawings(stories: Sequence[InsideStory]) -> list[Drawing]:
    """Each text, in order."""
    return [draw(story) for story in stories]


def draw(story: InsideStory) -> Drawing:
    """One text of one model."""
    inside = story.inside
    cells = tuple(_cell(token, at < inside.given) for at, token in enumerate(inside.tokens))
    shown = _largest(inside)
    return Drawing(
        title=f"{story.model}: {_beginning(inside)}",
        sentence=_sentence(inside),
        cells=cells,
        explained=cells[inside.explained].text,
        bars=_bars(inside, shown),
        rest=_rest(inside, shown),
        labels=tuple(_label(cell.text) for cell in cells),
        layers=tuple(_layer(layer) for layer in inside.layers),
        maps_sentence=_maps_sentence(inside),
    )


def _beginning(inside: Inside) -> str:
    text = "".join(token.text for token in inside.tokens)
    return _shown(text if len(text) <= BEGINNING_CHARACTERS else text[: BEGINNING_CHARACTERS - 1] + "…")


def _sentence(inside: Inside) -> str:
    own = [token for token in inside.tokens[inside.given :] if token.nats is not None]
    told = f"{len(inside.tokens)} tokens"
    if not own:
        return f"{told}, each guessed from all others."
    mean = sum(token.nats or 0.0 for token in own) / len(own)
    return f"{told}, {len(own)} of them the model's own, which cost it {score_text(mean)}{GAP}nats on average."


def _shown(text: str) -> str:
    """With spaces, line breaks and what nobody sees made visible."""
    return traced(spelled(text)) or "∅"


def _cell(token: TokenView, is_given: bool) -> Cell:
    others = tuple((_shown(text), share_text(share, 1.0)) for text, share in token.alternatives)
    text = _shown(token.text)
    if token.nats is None:
        return Cell(text, 0, "nothing stands before it", "–", "–", (), is_given)
    share = share_text(math.exp(-token.nats), 1.0)
    likely = "\n".join(f"{part}  {other}" for other, part in others)
    told = f"{score_text(token.nats)} nats, {share} likely\n\nlikeliest:\n{likely}"
    return Cell(text, heat(token.nats), told, score_text(token.nats), share, others, is_given)


def heat(nats: float) -> int:
    """The shade of a loss: 0 is none."""
    return sum(nats >= limit for limit in HEAT_NATS)


def _largest(inside: Inside) -> list[int]:
    """Places of the tokens that moved the prediction most, in the order of the text."""
    read = [at for at, token in enumerate(inside.tokens) if token.moved is not None]
    return sorted(sorted(read, key=lambda at: -abs(inside.tokens[at].moved or 0.0))[:BARS])


def _bars(inside: Inside, shown: Sequence[int]) -> tuple[Bar, ...]:
    moved = [(inside.tokens[at].text, inside.tokens[at].moved or 0.0) for at in shown]
    most = max((abs(value) for _, value in moved), default=0.0) or 1.0
    return tuple(
        Bar(_label(_shown(text)), _signed(value), round(100 * max(-value, 0.0) / most, 1), round(100 * max(value, 0.0) / most, 1))
        for text, value in moved
    )


def _rest(inside: Inside, shown: Sequence[int]) -> str:
    left = [token.moved for at, token in enumerate(inside.tokens) if token.moved is not None and at not in shown]
    return f"The other {len(left)} tokens come to {_signed(sum(left))} together." if left else ""


def _maps_sentence(inside: Inside) -> str:
    if not inside.layers:
        return "A recurrent model carries a state and has no attention."
    drawn, every = len(inside.layers), inside.layers_in_all
    layers = f"{drawn} of {every} layers" if drawn < every else f"{every} layers" if every > 1 else "The one layer"
    small, heads = len(inside.layers[0].maps) - 1, inside.heads_in_all
    if not small:
        return f"{layers}, of one head."
    told = f"each of the {heads} heads" if small == heads else f"the {small} of {heads} heads that differ most from the mean"
    return f"{layers}, the mean of the heads; small, {told}."


def _signed(value: float) -> str:
    """Two significant digits with a sign: +0.0031."""
    return f"{value:+.2g}".replace("-", MINUS) if value else "0"


def _label(text: str) -> str:
    return text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1] + "…"


def _layer(layer: LayerView) -> Layer:
    name = f"layer {layer.layer + 1}"
    mean, *heads = (_picture(name, view) for view in layer.maps)
    return Layer(name, mean, tuple(heads))


def _picture(layer: str, view: MapView) -> Picture:
    title = f"{layer}, mean of the heads" if view.head is None else f"{layer}, head {view.head + 1}"
    return Picture(title, png(view.thousandths))


def png(thousandths: Sequence[Sequence[int]]) -> str:
    """A data URI of a picture of one pixel an entry, black, as opaque as the square root of its share: so that a share
    of 4 % can still be seen. The page lays it as a mask over a colour of its theme."""
    rows = [bytes(byte for part in row for byte in (0, _opacity(part))) for row in thousandths]
    header = struct.pack(">IIBBBBB", len(thousandths[0]), len(thousandths), 8, 4, 0, 0, 0)  # 8 bits, grey and alpha
    body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _opacity(part: int) -> int:
    return round(255 * math.sqrt(min(max(part, 0), FULL) / FULL))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

"""What went on inside a model, as the report draws it."""

import base64
import math
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.report.facts import InsideStory, RunStory
from tasks.report.inspection import BARS, draw, heat, png
from tests.tasks.report.browser import FAINT, Browser
from tests.tasks.report.stories import HOSTILE, INSIDES, make_inside, page_of


def opacities(uri: str) -> list[list[int]]:
    """The alpha channel of an 8-bit grey PNG, by the format's own rules."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = dict[bytes, bytes](), 8
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + size
    width, height, bits, color = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert (bits, color) == (8, 4)
    rows, stride = zlib.decompress(chunks[b"IDAT"]), 1 + 2 * width
    assert len(rows) == height * stride
    return [list(rows[row * stride + 2 : (row + 1) * stride : 2]) for row in range(height)]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9).flatmap(lambda n: st.lists(st.lists(st.integers(0, 1000), min_size=n, max_size=n), min_size=1)))
def test_map_is_a_picture_as_opaque_as_the_root_of_each_share(rows: list[list[int]]) -> None:
    assert opacities(png(rows)) == [[round(255 * math.sqrt(part / 1000)) for part in row] for row in rows]


@pytest.mark.parametrize(("nats", "level"), [(0.0, 0), (0.49, 0), (0.5, 1), (3.0, 3), (7.99, 4), (8.0, 5), (99.0, 5)])
def test_shade_grows_with_the_loss(nats: float, level: int) -> None:
    assert heat(nats) == level


def test_bars_keep_the_order_of_the_text_and_the_longest_fills_its_half() -> None:
    drawn = draw(INSIDES[0])
    assert [(bar.left, bar.right) for bar in drawn.bars] == [(0, 0), (36.4, 0), (0, 18.2), (0, 100), (0, 0.9)]
    assert drawn.rest == ""


def test_only_the_strongest_are_drawn_and_the_rest_is_summed() -> None:
    inside = make_inside(0)
    many = tuple(replace(inside.tokens[1], moved=0.01 * at) for at in range(BARS + 3))
    drawn = draw(InsideStory("base", replace(inside, tokens=many)))
    assert len(drawn.bars) == BARS
    assert drawn.rest == "The other 3 tokens come to +0.03 together."


@pytest.mark.parametrize(
    ("layers", "heads", "sentence"),
    [
        (3, 2, "3 layers, the mean of the heads; small, each of the 2 heads."),
        (1, 8, "The one layer, the mean of the heads; small, the 2 of 8 heads that differ most from the mean."),
    ],
)
def test_maps_are_told_in_words(layers: int, heads: int, sentence: str) -> None:
    assert draw(InsideStory("base", replace(make_inside(layers), heads_in_all=heads))).maps_sentence == sentence


def test_recurrent_model_is_told_without_maps() -> None:
    drawn = draw(INSIDES[1])
    assert (drawn.layers, drawn.maps_sentence) == ((), "A recurrent model carries a state and has no attention.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_section_is_readable_fits_a_phone_and_runs_nothing(browser: Browser, story: RunStory, tmp_path: Path, scheme: str) -> None:
    tab = browser.open(
        page_of(RunStory(story.title, "demo", "", story.started, 1.0, (), insides=INSIDES), tmp_path / "out"), width=390, scheme=scheme
    )
    tab.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert tab.complaints() == []
    assert tab.value("document.title") == story.title
    assert tab.value("[...document.querySelectorAll('h2')].map(h => h.id)") == ["inside", "origin"]
    assert tab.value("document.documentElement.scrollWidth") <= 390
    assert tab.value(FAINT) == []
    assert tab.value("[...document.querySelectorAll('.inside')].map(one => one.querySelectorAll('.map').length)") == [
        9,
        0,
    ]
    assert tab.value("document.querySelectorAll('.told span').length") == 12
    assert HOSTILE.replace(" ", "·") in tab.value("document.querySelector('.told').textContent")
    size = "(map => [map.clientWidth, map.clientHeight, map.previousElementSibling.clientHeight])"
    wide, high, labels = tab.value(f"{size}(document.querySelector('.map.large'))")
    assert wide == high == labels > 200
    tab.close()

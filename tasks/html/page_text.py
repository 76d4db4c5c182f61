"""HTML to text: from a page to its main text, in this process; `tasks.html.page` does it in one that can be killed."""

import re
from dataclasses import dataclass
from typing import Final, Literal

from selectolax.lexbor import LexborHTMLParser

from tasks.html.page_blocks import Outline, outlined
from tasks.html.page_content import content
from tasks.html.page_input import as_html, depth, without_bad_characters
from tasks.html.page_lines import written

ENOUGH_CHARS: Final = 200  # less is read again without trusting the names of boxes
CLEARLY_MORE: Final = 2.0  # times the text make the second reading the better one
MAX_LOST: Final = 0.1  # of the main text's characters stand for bytes without a meaning
MARKUP: Final = re.compile(rb"<[a-zA-Z!/?]")


@dataclass(frozen=True)
class Page:
    """What a page says; the title is not repeated in the text."""

    title: str
    text: str


@dataclass(frozen=True)
class PageFault:
    """Why a page has no text, with the figure that was too large (bytes, levels, seconds, share), else 0."""

    reason: Literal["html_too_large", "html_too_deep", "html_too_slow", "html_broken", "html_lost_text", "no_main_text"]
    value: float


def main_text(html: str) -> Page:
    """Title and main text; both may be empty. Linear in the page but for the depth of its nesting: see `depth`."""
    return text_of(as_html(html.encode("utf-8", "ignore")))  # a lone surrogate is no character


def text_of(html: bytes) -> Page:
    """Title and main text of a page in UTF-8 that is written as HTML."""
    html = without_bad_characters(html)
    if not MARKUP.search(html):
        return Page("", html.decode().strip())
    parser = LexborHTMLParser(html)
    page = outlined(parser, by_name=True)
    text = written(content(page, by_name=True), page.boxes)
    if len(text) < ENOUGH_CHARS:
        whole = outlined(parser, by_name=False)
        more = written(content(whole, by_name=False), whole.boxes)
        text = more if len(more) > CLEARLY_MORE * len(text) else text
    return Page(headline(page), text)


def headline(page: Outline) -> str:
    """The <h1> that the declared title begins with (the site's name often follows), else the declared title."""
    headings = [block.text for block in page.blocks if page.boxes.tag[block.box] == "h1"]
    if not page.title:
        return headings[0] if headings else ""
    return next((heading for heading in headings if page.title.startswith(heading)), page.title)


def read_page(html: bytes, max_depth: int) -> Page | PageFault:
    """`text_of`, but a fault for a page nested deeper than `max_depth` or without a main text that can be read."""
    html = as_html(html)
    levels = depth(html, max_depth)
    if levels > max_depth:
        return PageFault("html_too_deep", levels)
    page = text_of(html)
    if not page.text:
        return PageFault("no_main_text", 0)
    lost = page.text.count("\ufffd") / len(page.text)
    return PageFault("html_lost_text", lost) if lost > MAX_LOST else page

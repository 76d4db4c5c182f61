"""HTML blocks: a page as flat lists, its boxes (block elements, in document order) and the blocks of text inside them.

Flat, because every pass over a page is then one loop forwards (what a box inherits) or backwards (what it sums up), and
no depth of nesting exhausts the stack.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

DROPPED_TAGS: Final = frozenset(  # not shown, or not prose
    "script style template noscript head nav footer button select option input textarea label iframe frame object embed applet "
    "svg canvas audio video map dialog datalist menu rp rt picture img source track meter progress -comment".split()
)
INLINE_TAGS: Final = frozenset(  # inside a line of text; every tag in neither set is a box
    "a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd mark nobr q ruby rb s samp small span strike "
    "strong sub sup time tt u var wbr".split()
)
HEADINGS: Final = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
CELLS: Final = frozenset(("td", "th"))

# What class, id, role and itemprop say. They are read as words, split at "-", "_", blanks and before a capital.
WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
UNWANTED_WORDS: Final = frozenset(  # jax: MathJax's own drawing of a formula
    "nav navbar navigation menu submenu breadcrumb breadcrumbs footer sidebar share sharing sharebar social addthis sharethis "
    "sharedaddy related recommended recommendations newsletter subscribe signup cookie cookies consent gdpr promo promotion "
    "advert advertisement advertising ads ad adsense banner sponsor sponsored popup modal overlay pagination pager paging "
    "toolbar skip login widget trending popular mostread outbrain taboola hidden byline tags taglist toc noprint editsection "
    "masthead jump teaser teasers dateline caption captions credit credits gallery gutter lineno linenos jax".split()
)
COMMENT_WORDS: Final = frozenset("comment comments commentlist disqus respond replies reply livefyre".split())
NAMING: Final = ("class", "id", "role", "itemprop")  # attributes
NAMES_CHARS: Final = 2_000  # of them are read

HIDING_STYLE: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
HIDING_CLASS: Final = re.compile(r"(?:^|\s)(?:hidden|d-none|hide|sr-only|visually-?hidden|screen-reader-text)(?:\s|$)")
BREAK: Final = "\x00"  # stands for a line break that is kept: the parser leaves no NUL in text
INVISIBLE: Final = " \t\n\r\f\v\xa0\u2003\u3000\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"  # and nothing else: no block
UNSPACED: Final = (  # scripts that put no blank between words, and their punctuation
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff9f\U00020000-\U000323af"
)
QUOTES: Final = "“”‘’…—·"  # of theirs too, when they stand beside one
WRAPPED: Final = re.compile(  # a line end of the source inside a sentence of theirs
    f"(?<=[{UNSPACED}])[ \t\r\f]*\n[ \t\r\n\f]*(?=[{UNSPACED}{QUOTES}])|(?<=[{QUOTES}])[ \t\r\f]*\n[ \t\r\n\f]*(?=[{UNSPACED}])"
)
BLANK_LINES: Final = re.compile(r"\n{3,}")


@dataclass(slots=True)
class Boxes:
    """One entry a box, parents before children; box 0 is the page and its own parent."""

    parent: list[int] = field(default_factory=lambda: [0])
    tag: list[str] = field(default_factory=lambda: ["body"])
    is_unwanted: list[bool] = field(default_factory=lambda: [False])  # named like a page's furniture
    is_comments: list[bool] = field(default_factory=lambda: [False])  # named like readers' comments


@dataclass(frozen=True, slots=True)
class Block:
    """A run of text without a box inside; white space is one blank except in <pre>, a <br> is a line break.

    Text is empty for an empty table cell only. Sizes are UTF-8 bytes: a Han character says about as much as three letters.
    """

    box: int
    text: str
    plain: int  # outside links
    linked: int  # inside links


@dataclass(frozen=True, slots=True)
class Outline:
    """A page read: the title of its metadata, its boxes, its blocks in document order."""

    title: str
    boxes: Boxes
    blocks: list[Block]


def outlined(parser: LexborHTMLParser, by_name: bool) -> Outline:
    """Boxes and blocks of a page; `by_name` leaves out what names and ARIA say is not content, else nothing but the hidden."""
    walk = Walk(by_name)
    if parser.body is not None:
        walk.read(parser.body)
    return Outline(declared_title(parser), walk.boxes, walk.blocks)


def declared_title(parser: LexborHTMLParser) -> str:
    """The headline in the page's metadata, else <title>, else ""."""
    meta = parser.css_first('meta[property="og:title"]')
    title = (meta.attributes.get("content") or "") if meta is not None else ""
    node = parser.css_first("title") if not title.strip() else None
    return " ".join((node.text() if node is not None else title).split())


class Walk:
    """One pass over a tree."""

    def __init__(self, by_name: bool) -> None:
        self.by_name = by_name
        self.boxes = Boxes()
        self.blocks: list[Block] = []
        self._box = 0
        self._parts: list[str] = []  # of the block under way
        self._linked = 0
        self._links = 0  # open <a>
        self._preformatted = 0  # open <pre>

    def read(self, root: LexborNode) -> None:
        """Every node below `root` once, without recursion."""
        node = root.first_child
        above: list[tuple[LexborNode | None, str]] = []  # where to go on, and the tag that ends there
        while node is not None or above:
            if node is None:
                node, tag = above.pop()
                self._close(tag)
                continue
            tag = node.tag or ""
            if tag == "-text":
                self._add(node.text_content or "")
            elif tag == "br":
                self._parts.append(BREAK)
            elif tag == "math" or (tag == "script" and (node.attributes.get("type") or "").startswith("math/tex")):
                self._add(formula(node, tag))
            elif tag not in DROPPED_TAGS and self._open(node, tag):
                above.append((node.next, tag))
                node = node.first_child
                continue
            node = node.next
        self._flush()

    def _add(self, text: str) -> None:
        self._parts.append(text.replace("\n", BREAK) if self._preformatted else text)
        if self._links:
            self._linked += len(" ".join(text.split()).encode())

    def _open(self, node: LexborNode, tag: str) -> bool:
        """Whether what is inside `node` is read."""
        attributes = node.attributes
        is_unwanted = is_comments = False
        if attributes:
            if is_hidden(attributes) and (node.first_child is None or node.first_child.tag != "math"):
                return False  # a formula for screen readers is hidden beside its picture
            if self.by_name:
                names = [name for key in NAMING if (name := attributes.get(key))]
                is_away, is_unwanted, is_comments = judged(" ".join(names)[:NAMES_CHARS]) if names else (False, False, False)
                if is_away or attributes.get("aria-hidden") == "true":
                    return False
        if tag in INLINE_TAGS:
            self._links += tag == "a"
            return tag == "a" or not is_unwanted
        self._flush()
        self.boxes.parent.append(self._box)
        self._box = len(self.boxes.tag)
        self.boxes.tag.append(tag)
        self.boxes.is_unwanted.append(is_unwanted)
        self.boxes.is_comments.append(is_comments)
        self._preformatted += tag == "pre"
        return True

    def _close(self, tag: str) -> None:
        if tag in INLINE_TAGS:
            self._links -= tag == "a"
            return
        self._flush()
        if tag in CELLS and (not self.blocks or self.blocks[-1].box < self._box):
            self.blocks.append(Block(self._box, "", 0, 0))
        self._preformatted -= tag == "pre"
        self._box = self.boxes.parent[self._box]

    def _flush(self) -> None:
        """End the block under way."""
        if not self._parts:
            return
        whole = "".join(self._parts)
        if "\n" in whole and not whole.isascii():
            whole = WRAPPED.sub("", whole)
        if self._preformatted:
            text = whole.replace(BREAK, "\n").strip("\n")
        elif BREAK in whole:
            text = BLANK_LINES.sub("\n\n", "\n".join([" ".join(line.split()) for line in whole.split(BREAK)]).strip("\n"))
        else:
            text = " ".join(whole.split())
        if text.strip(INVISIBLE):
            size = len(text.encode())
            linked = min(self._linked, size)
            self.blocks.append(Block(self._box, text, size - linked, linked))
        self._parts = []
        self._linked = 0


def is_hidden(attributes: dict[str, str | None]) -> bool:
    """Not shown, by the element's own attributes: no style sheet is read."""
    style = attributes.get("style")
    return "hidden" in attributes or (style is not None and HIDING_STYLE.search(style) is not None)


@lru_cache(maxsize=2**14)
def judged(names: str) -> tuple[bool, bool, bool]:
    """Hidden, unwanted and comments, by the names that an element goes by. Pages of one site share most names."""
    words = {word.lower() for word in WORDS.findall(names)}
    hidden = HIDING_CLASS.search(names) is not None
    return hidden, not words.isdisjoint(UNWANTED_WORDS), not words.isdisjoint(COMMENT_WORDS)


def formula(node: LexborNode, tag: str) -> str:
    """A formula as its TeX source where the page gives it, else its signs in order."""
    annotation = node.css_first('annotation[encoding="application/x-tex"]') if tag == "math" else node
    source = node.attributes.get("alttext") or (annotation.text() if annotation is not None else "")
    source = source.removeprefix("{\\displaystyle").removesuffix("}") if source.startswith("{\\displaystyle") else source
    return f"${' '.join(source.split())}$" if source.strip() else " ".join(node.text(separator=" ").split())

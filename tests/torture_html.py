"""HTML pages as bad as the web's, each with what a reader must make of it."""

from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 12_000_000
MAX_DEPTH: Final = 2_000

PROSE: Final = (
    "The ferry left the harbour an hour before dawn, with two cars, eleven passengers and a crate of hens on board.",
    "Nobody spoke until the lighthouse was behind them; then the engineer began to sing, and the cook joined in.",
    "By noon the wind had turned, the sea was flat as glass, and the captain let the children hold the wheel.",
)
ARTICLE: Final = "".join(f"<p>{sentence}</p>" for sentence in PROSE)


@dataclass(frozen=True)
class HtmlCase:
    """A page, what comes of it ("page" or the reason of a fault), what its text must hold and what it must not."""

    name: str
    html: str
    outcome: str = "page"
    kept: tuple[str, ...] = PROSE
    absent: tuple[str, ...] = ()


def around(*parts: str, head: str = "", body: str = "") -> str:
    """A whole page with `parts` in its body."""
    return f"<!doctype html><html><head><title>Crossing</title>{head}</head><body {body}>{''.join(parts)}</body></html>"


def html_cases() -> list[HtmlCase]:
    """All of them; names are unique."""
    return [
        *depth_cases(),
        *size_cases(),
        *markup_cases(),
        *hidden_cases(),
        *character_cases(),
        *empty_cases(),
        *shape_cases(),
    ]


def depth_cases() -> list[HtmlCase]:
    """Nesting without end, which takes a parser quadratic time."""
    deep = 100_000
    return [
        HtmlCase("nested 100,000 levels", around("<div>" * deep, ARTICLE), "html_too_deep", ()),
        HtmlCase("nested, with closing tags of another kind", around("<div></b>" * deep, ARTICLE), "html_too_deep", ()),
        HtmlCase("nested in capitals", around("<DIV><SPAN>" * deep, ARTICLE), "html_too_deep", ()),
        HtmlCase("nested formatting never closed", around("<font><b>" * deep, ARTICLE), "html_too_deep", ()),
        HtmlCase("nested below the limit", around("<div>" * 1_500, ARTICLE)),
        HtmlCase("thousands of paragraphs and breaks never closed", around("<p>", "<br><li><img>" * 5_000, ARTICLE)),
        HtmlCase("closing tags without opening ones", around("</div></p></table>" * 20_000, ARTICLE)),
    ]


def size_cases() -> list[HtmlCase]:
    """More bytes than anyone reads."""
    return [
        HtmlCase("page over the size limit", around(ARTICLE, "<!--", "x" * MAX_BYTES, "-->"), "html_too_large", ()),
        HtmlCase("attribute of 10 MB", around(f'<img alt="{"a" * 10_000_000}" src=x>', ARTICLE), absent=("aaaa",)),
        HtmlCase("class of 10 MB", around(f'<div class="{"a " * 5_000_000}">', ARTICLE, "</div>")),
        HtmlCase("comment of 10 MB", around("<!--" + "z" * 10_000_000 + "-->", ARTICLE), absent=("zzzz",)),
        HtmlCase("script of 10 MB", around("<script>" + "z=1;" * 2_500_000 + "</script>", ARTICLE), absent=("z=1",)),
        HtmlCase("one word of 1 MB", around(ARTICLE, "<p>", "w" * 1_000_000, "</p>")),
    ]


def markup_cases() -> list[HtmlCase]:
    """Broken or unusual markup."""
    quoted = """<script>var s = "<\\/script><p>fake"; if (a < b && c > d) document.write('<nav>no<' + '/nav>');</script>"""
    xhtml = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml">'
    return [
        HtmlCase("script with tags inside strings", around(quoted, ARTICLE), absent=("fake", "document.write")),
        HtmlCase("end tag of a script inside a string", around('<script>s = "</script>";</script>', ARTICLE)),
        HtmlCase("comment never closed", around(ARTICLE, "<!-- the rest is lost", "<p>unseen words</p>"), absent=("unseen",)),
        HtmlCase("comment with arrows", around("<!-- a --> b -->", ARTICLE, "<!---->", "<!-->", "<!-- <p>x</p> -->")),
        HtmlCase("CDATA outside XML", around(ARTICLE, "<![CDATA[secret words]]>"), absent=("CDATA",)),
        HtmlCase("tag cut off at the end", around(ARTICLE, "<p>and")[:-14] + "<div class='"),
        HtmlCase("attribute quotes never closed", around(ARTICLE, '<p title="no end>lost</p>')),
        HtmlCase("XHTML with XML declaration", f"{xhtml}<head><title>T</title></head><body>{ARTICLE}<br/></body></html>", absent=("xml",)),
        HtmlCase("meta charset that does not hold", around(ARTICLE, "<p>Größe 船</p>", head='<meta charset="utf-7">')),
        HtmlCase("no html, head or body", ARTICLE),
        HtmlCase("two bodies", around(ARTICLE) + "<body><p>One more sentence, which stands in a second body, is read as well.</p></body>"),
        HtmlCase(
            "template and noscript",
            around("<template><p>stencil</p></template><noscript>Enable scripts!</noscript>", ARTICLE),
            absent=("stencil", "Enable"),
        ),
        HtmlCase(
            "text in a form around the page", around("<form><input value=v><button>Send</button>", ARTICLE, "</form>"), absent=("Send",)
        ),
        HtmlCase("frames", "<html><frameset cols='1,2'><frame src=a><noframes>No frames</noframes></frameset></html>", "no_main_text", ()),
    ]


def hidden_cases() -> list[HtmlCase]:
    """Text that no reader of the page sees."""
    hidden = (
        "<p hidden>Buy cheap watches here, the best of watches for the least of money.</p>"
        '<div style="display: NONE"><p>Buy cheap watches here, the best of watches.</p></div>'
        '<p style="color:red;visibility:hidden">Buy cheap watches here, the best of watches.</p>'
        '<p class="sr-only">Buy cheap watches here.</p><span aria-hidden="true">Buy cheap watches here.</span>'
    )
    return [
        HtmlCase("hidden text", around(ARTICLE, hidden, "<p>The hens, it was agreed, had behaved best of all.</p>"), absent=("watches",)),
        HtmlCase("body hidden until scripts run", around(ARTICLE, body='style="visibility:hidden" class="hidden"')),
        HtmlCase(
            "text of images", around('<img alt="A white ship">', ARTICLE, "<svg><text>drawn</text></svg>"), absent=("white ship", "drawn")
        ),
    ]


def character_cases() -> list[HtmlCase]:
    """Characters that are none, and references to characters."""
    references = "<p>Fish &amp chips &lt; caviar &copy 1999, caf&eacute; &#x4f60;&#22909; &unheardof; ends here.</p>"
    nothing = "<p>Bef&#0;ore &#xD800;and&#55357; af&#x0;ter&#x110000; the&#99999999999999999999; long break.</p>"
    return [
        HtmlCase(
            "references without semicolon",
            around(ARTICLE, references),
            kept=("Fish & chips < caviar © 1999, café 你好 &unheardof; ends here.",),
        ),
        HtmlCase(
            "references to NUL and surrogates", around(ARTICLE, nothing), kept=("Before and after the long break.",), absent=("\ufffd",)
        ),
        HtmlCase("lone surrogates", around(ARTICLE.replace("harbour", "har\ud800bour\udfff")), absent=("\ud800",)),
        HtmlCase("NUL in text", around(ARTICLE.replace("harbour", "har\0bour")), absent=("\0",)),
        HtmlCase("NUL in a tag", around(ARTICLE.replace("<p>", "<p\0>"))),
        HtmlCase("right to left and zero width", around(ARTICLE, "<p>\u200b</p><p>\u202eabc\u202c \u200f</p>")),
    ]


def empty_cases() -> list[HtmlCase]:
    """Pages that say nothing."""
    links = "".join(f'<li><a href="/{n}">Section {n}</a></li>' for n in range(40))
    state = '<script type="application/json">{"article": "All of the text is in here, as data for a script."}</script>'
    return [
        HtmlCase("empty page", "", "no_main_text", ()),
        HtmlCase("white space", " \n\t\u3000 ", "no_main_text", ()),
        HtmlCase("head alone", around(), "no_main_text", ()),
        HtmlCase("no main text", around(f"<nav><ul>{links}</ul></nav><footer>Copyright</footer>"), "no_main_text", ()),
        HtmlCase("links alone", around(f"<div><ul>{links}</ul></div>"), "no_main_text", ()),
        HtmlCase("text in JSON alone", around('<div id="root"></div>', state), "no_main_text", ()),
        HtmlCase("comments alone", "<!-- nothing --><!-- at all -->", "no_main_text", ()),
    ]


def shape_cases() -> list[HtmlCase]:
    """Pages that are no articles."""
    rows = "".join(f"<tr><td>Station {n}</td><td>{n} km</td><td></td><td>{n}:15</td></tr>" for n in range(1, 9))
    posts = "".join(f'<div class="comment"><b>user{n}</b><p>{text} I was there.</p></div>' for n, text in enumerate(PROSE * 3))
    layout = f"<table><tr><td><a href=/>Home</a><br><a href=/b>Boats</a></td><td>{ARTICLE}</td></tr></table>"
    return [
        HtmlCase("plain text", "\n".join(PROSE) + "\n\n 1 < 2", kept=("\n".join(PROSE), "1 < 2")),
        HtmlCase(
            "table alone", around(f"<table>{rows}</table>"), kept=("Station 1 | 1 km |  | 1:15\nStation 2 | ", "Station 8 | 8 km |  | 8:15")
        ),
        HtmlCase("forum", around("<h1>Crossings</h1>", posts), kept=tuple(f"{text} I was there." for text in PROSE)),
        HtmlCase("table for the layout", around(layout), absent=("Boats",)),
        HtmlCase("preformatted text", around("<pre>\nif a:\n    b\n\n  c\t d </pre>"), kept=("if a:\n    b\n\n  c\t d",)),
        HtmlCase(
            "all in headings", around("".join(f"<div><h2>{text} Indeed, so it was, on that very day in May.</h2></div>" for text in PROSE))
        ),
        HtmlCase("short page", around("<p>Back soon.</p>"), kept=("Back soon.",)),
    ]

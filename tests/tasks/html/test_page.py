"""The main text of HTML pages: what is kept, in which form, and that no page can do harm."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import UserError
from tasks.html.page import PageReader
from tasks.html.page_text import Page, PageFault, main_text
from tests.torture_html import ARTICLE, MAX_BYTES, MAX_DEPTH, PROSE, HtmlCase, around, html_cases

CASES = html_cases()
SLOW = "<p>one more." * 300_000  # seconds of work, in a page within the limits


@pytest.fixture(scope="module")
def reader():
    with PageReader(seconds=20, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH) as opened:
        yield opened


def text_of(*parts: str) -> str:
    return main_text(around(*parts)).text


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_page_gives_its_text_or_a_counted_reason(reader: PageReader, case: HtmlCase):
    answer = reader.read(case.html)
    assert (answer.reason if isinstance(answer, PageFault) else "page") == case.outcome
    text = answer.text if isinstance(answer, Page) else ""
    assert [words for words in case.kept if words not in text] == []
    assert [words for words in case.absent if words in text] == []


def test_blocks_are_lines_and_paragraphs_are_set_apart():
    text = text_of(
        f"<article><p>{PROSE[0]}<br>Second line.</p><h2>The <em>crossing</em></h2><p>{PROSE[1]}</p>"
        "<ul><li>a crate</li><li>hens<ol><li>white</li></ol></li></ul>"
        "<table><tr><th>Port</th><th>Hour</th></tr><tr><td>Aland</td><td>5</td></tr></table>"
        f"<pre>x = 1\n  y = 2\n\nz</pre><p>{PROSE[2]}</p></article>"
    )
    assert text == "\n\n".join(
        [
            f"{PROSE[0]}\nSecond line.",
            "The crossing",
            PROSE[1],
            "- a crate\n- hens\n  - white",
            "Port | Hour\nAland | 5",
            "x = 1\n  y = 2\n\nz",
            PROSE[2],
        ]
    )


def test_furniture_of_the_page_is_dropped():
    text = text_of(
        "<nav><a href=/>Home</a></nav><header><h1>Site of Ships</h1></header><div id=cookie-consent>We use cookies. Agree?</div>",
        "<aside><p>Read about our other ships, large and small, in our catalogue.</p></aside>",
        f"<main>{ARTICLE}<div class='share-buttons'>Share this with all of your friends.</div>"
        "<div class='related'><h3><a href=/a>Another crossing</a></h3><p>It was a dark and stormy night, as so often.</p></div></main>",
        "<div id=comments><p>What a lovely story, thank you so much for it!</p></div><footer><p>All rights reserved by us.</p></footer>",
    )
    assert text == "\n\n".join(PROSE)


def test_teasers_of_other_pages_are_dropped():
    teaser = "<li><h3><a href=/x>Ten ways to cook an egg</a></h3><p>You will not believe the seventh of them.</p></li>"
    assert "egg" not in text_of(f"<div>{ARTICLE}</div><ul>{teaser * 4}</ul>")


def test_title_is_given_once():
    page = main_text(f"<title>The Crossing - Ships Weekly</title><article><h1>The Crossing</h1>{ARTICLE}</article>")
    assert page.title == "The Crossing"
    assert page.text == "\n\n".join(PROSE)


def test_links_within_prose_are_kept_as_words():
    linked = PROSE[0].replace("harbour", "<a href=/h>harbour</a>")
    assert text_of(f"<p>{linked}</p><p>{PROSE[1]}</p>") == "\n\n".join(PROSE[:2])


def test_heading_without_a_section_is_dropped():
    text = text_of(f"<article>{ARTICLE}<h2>Gallery</h2><h2>Return</h2><p>{PROSE[0].upper()}</p><h2>More</h2></article>")
    assert text.splitlines()[-3:] == ["Return", "", PROSE[0].upper()]
    assert "Gallery" not in text


def test_formula_is_its_source():
    tex = '<math><semantics><mi>x</mi><annotation encoding="application/x-tex">x^2</annotation></semantics></math>'
    hidden = f'<span style="display:none">{tex}</span><img alt="x^2">'
    text = text_of(f"<p>{PROSE[0]} Let {hidden} be <math><mi>a</mi><mo>+</mo><mi>b</mi></math>.</p>")
    assert text.endswith("Let $x^2$ be a + b.")


def test_chinese_page_is_read_like_any_other():
    sentences = [
        "渡轮在黎明前一小时离开港口，船上有两辆汽车和十一名乘客。",
        "直到灯塔落在身后，才有人开口说话，轮机长开始唱歌。",
    ]
    menu = "".join(f"<li><a href=/{n}>栏目{n}</a></li>" for n in range(20))
    paragraphs = "".join(f"<p>\u3000\u3000{sentence}</p>" for sentence in sentences)
    assert text_of(f"<ul>{menu}</ul><div>{paragraphs}</div><div>版权所有</div>") == "\n\n".join(sentences)


def test_child_and_process_agree(reader: PageReader):
    for case in CASES:
        if case.outcome == "page":
            assert reader.read(case.html) == main_text(case.html)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=200) | st.text(alphabet="<>/!-&#;x0=\"' \npdivabr", max_size=300))
def test_any_text_is_read_without_fault(html: str):
    page = main_text(html)
    (page.title + page.text).encode("utf-8")
    assert "\0" not in page.text


TAGS = st.sampled_from(["p", "div", "b", "a", "table", "tr", "td", "li", "ul", "pre", "h1", "math", "form", "select", "br", "svg"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["<{}>", "</{}>", "<{} class=nav>", "words in <{}>", "<{}/>"]), TAGS), max_size=60))
def test_any_nesting_leaves_no_markup(parts: list[tuple[str, str]]):
    text = main_text(around(*[form.format(tag) for form, tag in parts], ARTICLE)).text
    assert "<" not in text
    assert ">" not in text


def test_slow_page_costs_that_page_only():
    pages = [around(ARTICLE), SLOW, around(ARTICLE)]
    with PageReader(seconds=0.2, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH) as reader:
        answers = reader.read_all(pages)
    assert answers == [main_text(pages[0]), PageFault("html_too_slow", 0.2), main_text(pages[2])]


def test_child_that_sleeps_is_killed():
    with PageReader(seconds=0.1, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH) as reader:
        assert isinstance(reader.read(around(ARTICLE)), Page)
        assert reader.child is not None
        os.kill(reader.child, signal.SIGSTOP)
        assert reader.read(around(ARTICLE)) == PageFault("html_too_slow", 0.1)
        assert isinstance(reader.read(around(ARTICLE)), Page)


def test_page_that_crashes_the_child_is_broken():
    with PageReader(seconds=20, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH) as reader:
        reader.read(around(ARTICLE))
        assert reader.child is not None
        killing = threading.Timer(0.5, os.kill, (reader.child, signal.SIGSEGV))
        killing.start()
        assert reader.read(SLOW) == PageFault("html_broken", 0)
        killing.join()
        assert isinstance(reader.read(around(ARTICLE)), Page)


@contextmanager
def killed_children(reader: PageReader, times: int) -> Iterator[None]:
    """Meanwhile so many children of the reader are killed, one after another, as the kernel does when memory runs out."""
    over = threading.Event()

    def kill() -> None:
        killed: set[int] = set()
        while len(killed) < times and not over.wait(0.3):
            if reader.child is not None and reader.child not in killed:
                killed.add(reader.child)
                os.kill(reader.child, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_page_whose_child_is_killed_is_read_by_the_next():
    with PageReader(seconds=2, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH) as reader:
        reader.read(around(ARTICLE))
        with killed_children(reader, 1):
            assert reader.read(SLOW) == PageFault("html_too_slow", 2)  # which it is; the kill is not taken for its fault


def test_page_whose_children_are_killed_again_and_again_stops_the_work():
    with PageReader(seconds=20, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH) as reader:
        reader.read(around(ARTICLE))
        message = r"was killed 3 times .*memory.* Fix: fewer files.workers"
        with killed_children(reader, 9), pytest.raises(UserError, match=message):
            reader.read(SLOW)


def test_child_killed_while_idle_is_no_fault_of_the_next_page():
    with PageReader(seconds=5, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH) as reader:
        assert isinstance(reader.read(around(ARTICLE)), Page)
        assert reader.child is not None
        os.kill(reader.child, signal.SIGKILL)
        time.sleep(0.1)
        assert isinstance(reader.read(around(ARTICLE)), Page)


def test_child_ends_with_its_reader():
    with PageReader(seconds=5, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH) as reader:
        reader.read(around(ARTICLE))
        child = reader.child
    assert child is not None
    with pytest.raises(ProcessLookupError):  # not even a zombie
        os.kill(child, 0)


def test_child_ends_with_its_parent_and_not_at_an_interrupt():
    code = (
        "import os, signal, sys\nfrom tasks.html.page import PageReader\n"
        "reader = PageReader(5, 10**6, 100)\nreader.read('<p>Back soon.')\n"
        "os.kill(reader.child, signal.SIGINT)\nassert reader.read('<p>Back soon.').text\n"
        "print(reader.child, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    child = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text():
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("磨坊立在河边\n每年春天", "磨坊立在河边每年春天"),
        ("他说：\n  “好。”\n她笑了", "他说：“好。”她笑了"),
        ("吾輩は\r\n猫である", "吾輩は猫である"),
        ("모든 국민은\n인간으로서", "모든 국민은 인간으로서"),
        ("โรงสีตั้งอยู่\nริมแม่น้ำ", "โรงสีตั้งอยู่ริมแม่น้ำ"),
        ("河边\nmill", "河边 mill"),
        ("河边 春天", "河边 春天"),
    ],
)
def test_line_end_of_the_source_is_a_blank_only_where_the_script_has_blanks(source: str, text: str):
    assert main_text(f"<html><body><p>{source}</p></body></html>").text == text


@pytest.mark.parametrize(
    "beginning",
    ['<?xml version="1.0"?><html>', '<html xmlns="http://www.w3.org/1999/xhtml">', "<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0'><html>"],
)
@pytest.mark.parametrize(
    "closed", ['<script src="a.js"/>', "<title/>", "<style/>", "<textarea/>", '<a name="x"/>', "<script>a = '<div/>'</script>"]
)
def test_self_closed_element_of_xhtml_swallows_nothing(beginning: str, closed: str):
    assert PROSE[0] in main_text(f"{beginning}<head>{closed}</head><body>{closed}<p>{PROSE[0]}</p></body></html>").text


def test_character_data_of_xhtml_is_text():
    assert "1 < 2 & 3" in main_text('<html xmlns="http://www.w3.org/1999/xhtml"><body><p><![CDATA[1 < 2 & 3]]></p></body></html>').text


def test_page_is_judged_by_the_replaced_characters_of_its_main_text(reader: PageReader):
    markup = "<script>" + "x" * 10_000 + "</script>"
    answer = reader.read(f"<html>{markup}<body><p>{'wor' + chr(0xFFFD)} {'lo' + chr(0xFFFD)}st</p></body></html>")
    assert isinstance(answer, PageFault)
    assert answer.reason == "html_lost_text"

"""The report, as a reader sees it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.artifacts import Manifest
from tasks.corpus.samples.excerpts import Document, excerpt
from tasks.corpus.samples.groups import Group, Pair
from tasks.ledger import Ledger
from tasks.report import wording
from tasks.report.facts import RunStory
from tasks.report.samples_page import render_samples
from tests.tasks.report.browser import DRAWN, FAINT, Browser, Tab
from tests.tasks.report.stories import HOSTILE, SKIP, SPIKE, UNTOLD_SPIKE, make_corpus_story, page_of


def test_page_loads_without_a_complaint_or_a_request(page: Tab) -> None:
    assert page.complaints() == []
    assert [url for url in page.requests() if not url.startswith("file:")] == []
    assert len(page.requests()) == 1  # the page itself


def test_every_chart_has_drawn_shapes_and_fits_its_card(page: Tab) -> None:
    charts = page.value(DRAWN)
    assert {chart["id"] for chart in charts} >= {
        "stages",
        "times",
        "flow",
        "fit",
        "lengths",
        "shares-group",
        "shares-source",
        "shares-language",
        "pieces",
        "curve-0",
        "curve-2",
        "norms-0",
        "score-0",
        "score-3",
    }
    assert [chart["id"] for chart in charts if not chart["shapes"]] == []
    assert [chart["id"] for chart in charts if chart["width"] > chart["room"]] == []


def test_text_is_readable_on_light_and_on_dark(page: Tab) -> None:
    assert page.value(FAINT) == []
    page.prefer("dark")
    page.wait("document.documentElement.dataset.drawn === 'dark'")
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(16, 18, 22)"
    assert page.value(FAINT) == []
    page.prefer("light")
    page.wait("document.documentElement.dataset.drawn === 'light'")


def test_button_turns_the_theme_and_the_charts_with_it(page: Tab) -> None:
    fill = "getComputedStyle(document.querySelector('#times .point path')).fill"
    before = page.value(fill)
    page.value("document.getElementById('theme').click()")
    assert page.value("document.documentElement.dataset.drawn") == "dark"
    assert page.value(fill) != before
    page.value("document.getElementById('theme').click()")
    assert page.value(fill) == before


def test_phone_shows_everything_without_scrolling_sideways(page: Tab) -> None:
    page.resize(390)
    page.wait("document.querySelector('#times svg.main-svg').clientWidth < 390")
    assert page.value("document.documentElement.scrollWidth") <= 390
    charts = page.value(DRAWN)
    assert [chart["id"] for chart in charts if not chart["shapes"] or chart["width"] > chart["room"]] == []
    spill = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg, details')"
    assert page.value(spill + " && e.getBoundingClientRect().right > 391).map(e => e.outerHTML.slice(0, 80))") == []
    page.resize(1280)
    page.wait("document.querySelector('#times svg.main-svg').clientWidth > 900")


def test_print_is_light_and_fits_the_paper_even_from_a_dark_screen(page: Tab) -> None:
    page.value("document.documentElement.dataset.theme = 'dark'; dispatchEvent(new Event('beforeprint'))")
    assert page.value("document.documentElement.dataset.drawn") == "light"
    assert page.value("getComputedStyle(document.querySelector('.card')).backgroundColor") == "rgb(255, 255, 255)"
    assert max(chart["width"] for chart in page.value(DRAWN)) <= 720
    page.value("dispatchEvent(new Event('afterprint')); document.documentElement.removeAttribute('data-theme')")


def test_markup_in_text_is_shown_not_run(page: Tab) -> None:
    assert page.value("document.title") == "demo: a model of the standard library"
    shown = "[...document.querySelectorAll('pre')].filter(pre => pre.textContent.includes('<script>document.title')).length"
    assert page.value(shown) == 2  # in a sample and in an excerpt
    assert page.value("document.querySelectorAll('script').length") == 4
    assert page.value("document.querySelectorAll('pre script, pre img, code script').length") == 0
    assert page.value("[...document.links].filter(link => link.protocol === 'javascript:').length") == 0


def test_injected_script_would_be_refused_by_the_page_itself(page: Tab) -> None:
    page.value("document.body.appendChild(Object.assign(document.createElement('script'), {text: 'window.owned = 1'}))")
    assert page.value("typeof window.owned") == "undefined"


def test_verdict_and_tiles_name_the_figures_that_matter(page: Tab) -> None:
    text = page.value("document.querySelector('header').innerText").replace(wording.GAP, " ")
    assert "13.1 MB of text became a model of 3.15 M parameters in 4 min 10 s, 5 of 14 stages reused" in text
    assert "1.82 bits per byte on held-out text; the unigram model needs 4.90" in text
    assert "beats always giving the commonest answer on 2 of 2 tasks" in text
    assert "Of 2 scores that the previous run has too, 1 is clearly better and none is clearly worse" in text
    assert "86.6 % of 13.1 MB" in text
    assert page.value("[...document.querySelectorAll('.tile dt')].map(label => label.innerText)") == [
        "text kept",
        "documents",
        "parameters",
        "training tokens",
        "base: bits per byte",
        "areas: accuracy",
        "purity: accuracy",
        "wall time",
        "cost",
    ]


def test_tables_have_headers_and_sections_headings(page: Tab) -> None:
    assert page.value("[...document.querySelectorAll('table')].every(table => table.querySelector('thead th[scope=col]'))")
    assert page.value("[...document.querySelectorAll('section')].every(one => one.querySelector('h2'))")
    assert page.value("[...document.querySelectorAll('.chart')].every(chart => chart.getAttribute('aria-label'))")


def test_run_with_everything_reused_and_nothing_trained_leaves_sections_out(browser: Browser, story: RunStory, tmp_path: Path) -> None:
    stages = tuple(replace(stage, status="cached") for stage in story.stages[:4])
    small = RunStory(story.title, "demo", "", story.started, 0.8, stages)
    tab = browser.open(page_of(small, tmp_path / "out"))
    assert tab.complaints() == []
    assert tab.value("[...document.querySelectorAll('h2')].map(h => h.id)") == ["run", "corpus", "dropped", "origin"]
    assert {chart["id"] for chart in tab.value(DRAWN) if chart["shapes"]} == {"stages", "times", "flow"}
    verdict = tab.value("document.querySelector('.verdict').innerText").replace(wording.GAP, " ")
    assert verdict == "13.1 MB of text was prepared. All of it was built before and reused; this run took 0.8 s."
    tab.close()


def test_spike_is_shown_on_its_curve_and_leads_to_the_page_of_its_step_and_back(browser: Browser, story: RunStory, tmp_path: Path) -> None:
    tab = browser.open(page_of(story, tmp_path / "out"))
    texts = "[...document.querySelectorAll('#curve-0 .textpoint text')].map(text => text.textContent)"
    assert tab.value(texts) == ["1,777", "2,401"]
    assert tab.value("document.querySelectorAll('#curve-1 .textpoint').length") == 0
    assert "wordmill trace 0123456789abcdef --step 1777" in tab.value("document.querySelector('.spikes').innerText")
    tab.value("document.querySelector('.spikes a').click()")
    tab.wait("document.title === 'Step 1,777: what it saw' && document.readyState === 'complete'")
    verdict = tab.value("document.querySelector('.verdict').innerText").replace(wording.GAP, " ")
    assert verdict == (
        "This step had a loss of 7.82 nats per token, where 2.71 was usual just before. 2 rows with 3 pieces of 3 documents."
    )
    tab.value("[...document.links].find(link => link.innerText === 'back to the report').click()")
    tab.wait("document.documentElement?.dataset.drawn")
    assert tab.complaints() == []
    tab.close()


@pytest.mark.parametrize(("shown", "scheme"), [(SPIKE.page, "light"), (SPIKE.page, "dark"), (SKIP.page, "light")])
def test_page_of_a_step_shows_text_that_it_does_not_run(browser: Browser, story: RunStory, tmp_path: Path, shown: str, scheme: str) -> None:
    page = page_of(story, tmp_path / "out").parent / shown
    tab = browser.open(page, width=390, scheme=scheme, drawn=False)
    assert tab.complaints() == []
    assert len(tab.requests()) == 1
    assert tab.value("document.querySelectorAll('script, img').length") == 0
    assert tab.value("[...document.links].map(link => link.protocol)") == ["file:"]
    assert tab.value("[...document.querySelectorAll('pre')].filter(pre => pre.textContent.includes('<script>')).length") == 1
    assert "⟨202E⟩" in tab.value("document.querySelector('main').textContent")
    assert tab.value("document.documentElement.scrollWidth") <= 390
    assert tab.value(SPILL) == []
    assert tab.value(FAINT) == []
    tab.close()


def test_step_whose_documents_are_gone_says_why(browser: Browser, story: RunStory, tmp_path: Path) -> None:
    tab = browser.open(page_of(story, tmp_path / "out").parent / UNTOLD_SPIKE.page, drawn=False)
    assert tab.value("document.querySelector('main').innerText").startswith("What it read is not known: the corpus is gone")
    assert tab.value("document.querySelectorAll('section, script').length") == 0
    tab.close()


SPILL = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, svg, details')
  && e.getBoundingClientRect().right > 391).map(e => e.outerHTML.slice(0, 80))"""


def test_corpus_without_a_model_has_its_sections_and_no_empty_ones(browser: Browser, tmp_path: Path) -> None:
    tab = browser.open(page_of(make_corpus_story(), tmp_path / "out"), width=390)
    assert tab.complaints() == []
    assert tab.value("[...document.querySelectorAll('h2')].map(h => h.id)") == [
        "run",
        "corpus",
        "mixture",
        "dropped",
        "checks",
        "origin",
    ]
    assert {chart["id"] for chart in tab.value(DRAWN) if chart["shapes"]} == {"stages", "times", "flow", "mixture-chart"}
    assert tab.value("[...document.querySelectorAll('.tile dt')].map(label => label.innerText)") == [
        "text kept",
        "documents",
        "languages",
        "text to learn from",
        "wall time",
        "cost",
    ]
    verdict = tab.value("document.querySelector('.verdict').innerText").replace(wording.GAP, " ")
    assert verdict.startswith("27.8 MB of text became a corpus of 15.4 MB in 46.8 s. It has 1,230 documents to learn from")
    assert tab.value("document.documentElement.scrollWidth") <= 390
    assert tab.value(SPILL) == []
    assert tab.value(FAINT) == []
    assert tab.value("document.title") == "mixed: corpus"
    tab.close()


def samples_page(folder: Path) -> Path:
    """Two pairs of hostile text, one of a long word."""
    document = Document("id" * 10, "web", "a/very/long/path/" * 9, "en", 99, HOSTILE + "\u202e\x00" + "x" * 300)
    shown = excerpt(document, 300, around=4, marked=9, value=36.0)
    pairs = (Pair(shown, shown, HOSTILE), Pair(shown))
    ledger = Ledger(90, 80, 900, 800, dropped={"gopher_words_min": 10}, dropped_bytes={"gopher_words_min": 100})
    manifest = Manifest(1, "select", "f" * 16, {}, {}, (), ledger, (), {}, {}, {}, 1.0, "2026-03-02T09:14:07+00:00")
    groups = (Group("gopher_words_min", 10, 100, pairs, "words", "words at least 50", "kept"),)
    path = folder / "samples.html"
    path.write_text(render_samples(manifest, groups))
    return path


def test_page_of_samples_stands_side_by_side_and_on_a_phone_one_below_the_other(browser: Browser, tmp_path: Path) -> None:
    tab = browser.open(samples_page(tmp_path), drawn=False)
    assert tab.complaints() == []
    columns = "getComputedStyle(document.querySelector('.pair')).gridTemplateColumns.split(' ').length"
    assert tab.value(columns) == 2
    assert tab.value(FAINT) == []
    assert tab.value("document.title") == "select: what was dropped"
    assert tab.value("document.querySelectorAll('script, img').length") == 0
    assert tab.value("document.querySelector('mark').textContent.length") == 9
    assert "⟨202E⟩" in tab.value("document.querySelector('pre').textContent")
    tab.resize(390)
    tab.wait(f"{columns} === 1")
    assert tab.value("document.documentElement.scrollWidth") <= 390
    assert tab.value(SPILL) == []
    tab.close()

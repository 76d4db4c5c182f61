"""Pages of a decision, a morning and a comparison, as a reader sees them."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.report.compare_page import write_compare_page
from tasks.report.decision_page import write_decision_page
from tasks.report.morning_facts import Morning
from tasks.report.morning_page import write_morning_page
from tests.tasks.report.browser import FAINT, Browser, Tab
from tests.tasks.report.nights import COMPARED, CONDITIONS, DRIFT, FORGOT, LONG, MORNING, MORNINGS, PROMOTED, PURITY, REFUSED, ROWS
from tests.tasks.report.stories import make_corpus_story, page_of

WIDTH, HEIGHT = 360, 740
SPILL = f"""[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .turned, svg, details')
  && e.getBoundingClientRect().right > {WIDTH + 1}).map(e => e.outerHTML.slice(0, 80))"""

CROWDED = replace(
    MORNING,
    decision=replace(
        REFUSED,
        comparisons=(*REFUSED.comparisons, replace(PURITY, passed=False, task="answers to questions about rivers and mills"), FORGOT),
        conditions=(replace(CONDITIONS[0], passed=False, found=f"{LONG} is missing"),),
    ),
    rows=replace(ROWS, new=1_234_567, changed=123_456, removed=12_345, waiting=1_234_567, set_aside={f"{LONG}{n}": 9_000 for n in range(9)},
                 learned=1_000_000, replayed=1_000_000, heldout=100_000),
    drift=tuple(replace(row, state="told", index=12.5) for row in DRIFT),
)  # fmt: skip


def assert_fits(tab: Tab) -> None:
    """No sideways scrolling, nothing beyond the edge, every text readable on light and dark, no complaint, no request."""
    assert tab.value("document.documentElement.scrollWidth") <= WIDTH
    assert tab.value(SPILL) == []
    assert tab.value(FAINT) == []
    tab.prefer("dark")
    assert tab.value(FAINT) == []
    assert tab.complaints() == []
    assert len(tab.requests()) == 1


@pytest.mark.parametrize("morning", [*MORNINGS.values(), CROWDED], ids=[*MORNINGS, "crowded"])
def test_one_screen_of_a_phone_tells_the_night(browser: Browser, morning: Morning, tmp_path: Path) -> None:
    path = tmp_path / "morning.html"
    write_morning_page(morning, path)
    tab = browser.open(path, width=WIDTH, drawn=False)
    assert_fits(tab)
    assert tab.value("document.querySelector('header').getBoundingClientRect().bottom") <= HEIGHT
    lines = "[...document.querySelectorAll('.turned li')].filter(li => li.getBoundingClientRect().height > 24).length"
    assert tab.value(lines) == 0
    tab.close()


def test_pages_of_a_decision_and_of_a_comparison_fit_a_phone(browser: Browser, tmp_path: Path) -> None:
    write_decision_page(PROMOTED, tmp_path / "decision.html")
    write_compare_page(COMPARED, tmp_path / "compare.html")
    for name in ("decision", "compare"):
        tab = browser.open(tmp_path / f"{name}.html", width=WIDTH, drawn=False)
        assert_fits(tab)
        tab.resize(1280)
        assert tab.value("[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)") == []
        tab.close()


def test_decision_in_a_run_s_report_fits_a_phone(browser: Browser, tmp_path: Path) -> None:
    tab = browser.open(page_of(replace(make_corpus_story(), decisions=(REFUSED,)), tmp_path / "out"), width=WIDTH)
    assert tab.value("document.documentElement.scrollWidth") <= WIDTH
    assert tab.value(SPILL) == []
    assert tab.value(FAINT) == []
    tab.close()

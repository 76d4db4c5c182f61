"""Pages of a decision, a morning and a comparison, as files."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser as HTMLParser

from tasks.promotion.decision import Decision
from tasks.report.compare_page import write_compare_page
from tasks.report.decision_page import write_decision_page
from tasks.report.decision_wording import TITLES, short_reason
from tasks.report.facts import RunStory
from tasks.report.morning_facts import Morning
from tasks.report.morning_page import write_morning_page
from tasks.report.page import verdict
from tasks.report.wording import GAP
from tests.tasks.report.nights import (
    COMPARED,
    DECIDING,
    FIRST,
    FORGOT,
    MORNING,
    MORNINGS,
    PAIRS,
    PROMOTED,
    REFUSED,
    UNCLEAR,
    UNMEASURED,
    WORSE,
)
from tests.tasks.report.stories import HOSTILE, make_corpus_story, page_of


def shown(write: Callable[[Path], None], folder: Path) -> HTMLParser:
    path = folder / "page.html"
    write(path)
    return HTMLParser(path.read_text(encoding="utf-8"))


def decision_page(decision: Decision, folder: Path) -> HTMLParser:
    return shown(lambda path: write_decision_page(decision, path), folder)


def morning_page(morning: Morning, folder: Path) -> HTMLParser:
    return shown(lambda path: write_morning_page(morning, path), folder)


def said(page: HTMLParser, part: str = "body") -> str:
    node = page.css_first(part)
    assert node is not None, part
    return " ".join(node.text(separator=" ").replace(GAP, " ").split())


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_decision_page(PROMOTED, path),
        lambda path: write_morning_page(MORNING, path),
        lambda path: write_compare_page(COMPARED, path),
    ],
    ids=["decision", "morning", "compare"],
)
def test_what_a_model_wrote_is_shown_and_not_run_and_nothing_is_fetched(write: Callable[[Path], None], tmp_path: Path) -> None:
    page = shown(write, tmp_path)
    assert not page.css("script, img, iframe, object, embed, form, base, audio, video, source, use, image")
    assert [node.attributes for node in page.css("link")] == [{"rel": "icon", "href": "data:,"}]
    assert not [name for node in page.css("*") for name in node.attributes if name.startswith("on") or name in ("src", "srcset")]
    policy = page.css_first("meta[http-equiv]")
    assert policy is not None
    assert (policy.attributes["content"] or "").startswith("default-src 'none'; script-src 'none'")
    style = page.css_first("style")
    assert style is not None
    assert not re.search(r"@import|url\((?!data:)(?!var)", style.text().replace("var(--map)", ""))
    assert [node for node in page.css("pre") if node.text() == HOSTILE]
    assert "⟨202E⟩sports" in said(page)


def test_links_of_a_morning_lead_to_pages_only(tmp_path: Path) -> None:
    links = {**MORNING.links, "data": "data:text/html,x", "odd": "http://[", "shouted": "JavaScript:alert(1)", "none": ""}
    page = morning_page(replace(MORNING, links=links), tmp_path)
    assert [node.text() for node in page.css("nav a")] == ["report", "decision", "Prefect", "MLflow"]


@pytest.mark.parametrize("decision", [PROMOTED, REFUSED, UNCLEAR, FIRST])
def test_decision_is_told_in_a_sentence_and_its_rule_in_words(decision: Decision, tmp_path: Path) -> None:
    page = decision_page(decision, tmp_path)
    assert said(page, ".verdict") == f"{TITLES[decision.verdict]} {short_reason(decision)}"
    assert said(page, "header .meta + .verdict + .meta") == f"{decision.why}."
    rule = said(page, ".prose")
    assert f"The challenger is compared with {decision.rival}." in rule
    assert "better by more than 0.010, sure at 99.79 % (paired bootstrap, 10,000 draws of 412 documents)" in rule


def test_budget_says_what_is_allowed_and_what_is_spent(tmp_path: Path) -> None:
    rule = said(decision_page(PROMOTED, tmp_path), ".prose")
    assert "Of all promotions under wordmill-areas, at most 5.0 % may be the work of luck." in rule
    assert "This is decision 14 under this name, with 3 promotions before it; allowed error 0.0021; 38.0 % of the budget is spent." in rule
    assert "Source: LORD++, arXiv 1710.00499." in rule
    before_any = said(decision_page(FIRST, tmp_path), ".prose")
    assert "decision 1 under this name, with 0 promotions before it; allowed error 0.026; 52.6 % of the budget is spent." in before_any


def test_every_figure_of_the_comparisons_stands_in_the_table(tmp_path: Path) -> None:
    page = decision_page(REFUSED, tmp_path)
    rows = [[" ".join(cell.text(separator=" ").split()) for cell in row.css("th, td")] for row in page.css(".stacked tbody tr")[:4]]
    reason = "surely better by more than 0.01: luck alone does as well with a chance of 0.0004, 0.0021 is allowed"
    assert rows[0] == [
        "deciding areas: macro f1", "0.648", "0.612", "+0.036", "+0.012 to +0.060", "above +0.010", "480", "412", "yes",
        f"paired bootstrap, 10,000 draws of 412 documents, p 0.0004 {reason}",
    ]  # fmt: skip
    assert rows[1][:9] == [
        "guard general text: bits per byte", "2.42", "2.10", "−0.319", "−0.352 to −0.287", "at least −0.050", "120", "120", "no",
    ]  # fmt: skip
    assert rows[3][1:9] == ["–", "–", "–", "–", "at least 0", "0", "0", "not measured"]
    assert len(page.css(".stacked svg.gain")) == 3


def test_interval_is_drawn_where_its_figures_say(tmp_path: Path) -> None:
    bars = decision_page(REFUSED, tmp_path).css("svg.gain")
    assert ["held" in (bar.attributes["class"] or "") for bar in bars] == [True, False, True]
    for bar in bars:
        zero, bound, span, gain = (bar.css_first(part) for part in (".zero", ".bound", ".span", "circle"))
        assert zero is not None
        assert bound is not None
        assert span is not None
        assert gain is not None
        x = [float(node.attributes[name] or "nan") for node, name in ((span, "x1"), (gain, "cx"), (span, "x2"))]
        assert x == sorted(x)
        assert 0 <= x[0] < x[2] <= 168
    broken = bars[1]
    assert broken.attributes["aria-label"] == "gain −0.319, −0.352 to −0.287; must be at least −0.050"
    right = [broken.css_first(part) for part in (".span", ".bound", ".zero")]
    ends = [float(node.attributes[name] or "nan") for node, name in zip(right, ("x2", "x1", "x1"), strict=True) if node is not None]
    assert ends == sorted(ends)  # the whole interval lies left of what is allowed, and that left of 0


def test_items_stand_with_what_was_right_and_both_answers(tmp_path: Path) -> None:
    page = decision_page(PROMOTED, tmp_path)
    cards = page.css(".compared")
    assert len(cards) == len(PAIRS) + len(WORSE)
    assert " ".join(cards[0].text(separator=" ").split()) == (
        "+1.00 areas: macro f1 reviews en 3fd1 The old mill at the river was sold to a company that wants to turn it into flats "
        "expected: economy challenger 1.00 economy champion 0.000 culture"
    )


def test_parts_keep_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    titles = [node.text() for node in decision_page(PROMOTED, tmp_path).css(".cards h3")]
    assert titles == ["by source", "by language", "by kind of byte"]


def test_decision_that_stands_from_before_says_so(tmp_path: Path) -> None:
    old = replace(PROMOTED, earlier=True, comparisons=(), conditions=(), budget=None, better=(), worse=(), parts=())
    page = decision_page(old, tmp_path)
    assert "This model was decided on before. That decision stands; it is not made again." in said(page, "header")
    assert [node.text() for node in page.css("h2")] == ["The rule", "What was compared"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("promoted", ["Promoted", "areas: macro f1 is surely better by more than 0.01", "200 new, 3 changed, 1 removed",
                      "12: 7 evaluation item, 3 label missing, 2 for 2 other reasons", "171 learned, 60 replayed, 20 held out",
                      "lengths 0.310 (limit 0.250)", "2 of 2 hold; 1 not measured; 3 conditions met", "6 min 41 s, 0.13 EUR",
                      "areas: macro f1 0.612 → 0.648", "gain +0.036 (+0.012 to +0.060)", "got better", "culture → economy", "got worse"]),
        ("refused", ["Not promoted", "guard general text: bits per byte is worse by 0.3190, more than the 0.05 that is tolerated.",
                     "general text: bits per byte −0.319, allowed at least −0.050"]),
        ("cannot tell", ["Cannot tell", "areas: macro f1 is better by more than 0.01, but not surely"]),
        ("too few", ["Cannot tell", "areas has 12 items to judge on, the gate needs 30 (gate.min_items)."]),
        ("nothing new", ["Nothing new", "no row that a night has not used.", "new none", "set aside none", "3.4 s"]),
        ("all rows refused", ["All rows refused", "200: 150 label missing, 50 evaluation item"]),
        ("drift", ["Stopped by drift", "lengths 0.310 (limit 0.250); stopped the night", "191 wait"]),
        ("failed", ["Failed", "examples/new.jsonl:17: 'text' is int", "204 wait"]),
        ("waiting", ["Waits for the registry", "MLflow at http://127.0.0.1:5000 does not answer; the model waits. Fix: wordmill register"]),
    ],
)  # fmt: skip
def test_first_screen_says_what_became_of_the_night(state: str, words: list[str], tmp_path: Path) -> None:
    header = said(morning_page(MORNINGS[state], tmp_path), "header")
    assert [word for word in words if word not in header] == []
    decision = MORNINGS[state].decision
    assert ("got better" in header) == (decision is not None and decision.better != ())


def test_long_reason_is_whole_below_the_first_screen(tmp_path: Path) -> None:
    page = morning_page(MORNINGS["failed"], tmp_path)
    assert said(page, ".verdict").endswith("…")
    assert "Fix: drop the row and run again" in said(page, "main")
    refused = morning_page(MORNINGS["refused"], tmp_path)
    assert f"Not promoted: {REFUSED.why}" in said(refused, "main")


def test_gate_s_verdict_on_a_model_that_waits_is_told_below(tmp_path: Path) -> None:
    page = morning_page(MORNINGS["waiting"], tmp_path)
    assert "Promoted" not in said(page, "header")
    assert f"Promoted: {PROMOTED.why}" in said(page, "main")


def test_nights_before_are_drawn_and_listed_with_the_latest_first(tmp_path: Path) -> None:
    page = morning_page(replace(MORNING, nights=(*MORNING.nights, *MORNING.nights)), tmp_path)
    strip = page.css_first("svg.strip")
    assert strip is not None
    assert [len(strip.css(part)) for part in (".full", ".ring", ".dot", ".cross")] == [4, 4, 3, 3]
    assert strip.attributes["aria-label"].startswith("14 nights: ")  # pyright: ignore[reportOptionalMemberAccess]
    rows = [row.text(separator=" ").replace(GAP, " ").split() for row in page.css("section[aria-labelledby=nights] tbody tr")]
    assert len(rows) == 14
    assert rows[0][:6] == ["2026-11-29", "03:02", "UTC", "Stopped", "by", "drift"]
    assert rows[5] == ["2026-11-24", "03:04", "UTC", "Promoted", "macro", "f1", "0.612", "+0.014"]


def test_better_is_higher_in_the_strip_where_less_is_better(tmp_path: Path) -> None:
    nights = tuple(replace(MORNING.nights[0], metric="bits_per_byte", value=value) for value in (2.4, 2.1))
    strip = morning_page(replace(MORNING, nights=nights), tmp_path).css("svg.strip circle")
    heights = [float(circle.attributes["cy"] or "nan") for circle in strip]
    assert heights[1] < heights[0]


def test_cost_is_shown_where_an_hour_has_a_price(tmp_path: Path) -> None:
    assert "EUR" not in said(morning_page(replace(MORNING, cost=None), tmp_path))


def test_comparison_counts_what_can_be_told_apart(tmp_path: Path) -> None:
    even = replace(DECIDING, low=-0.1)
    page = shown(lambda path: write_compare_page(replace(COMPARED, comparisons=(DECIDING, FORGOT, even, UNMEASURED)), path), tmp_path)
    assert said(page, ".verdict") == "Of 4 figures A is better at 1 and worse at 1; 1 is not told apart, 1 is not measured."
    rows = [[" ".join(cell.text().split()) for cell in row.css("th, td")] for row in page.css(".stacked tbody tr")[:4]]
    assert [row[7] for row in rows] == ["better", "worse", "even", "not measured"]
    assert len(rows[0]) == 9  # without a role and a bound


def test_figures_that_are_missing_or_without_end_make_a_page(tmp_path: Path) -> None:
    odd = (
        replace(DECIDING, gain=float("nan")),
        replace(DECIDING, low=float("-inf"), high=float("inf")),
        replace(DECIDING, gain=0, low=0, high=0),
    )
    page = decision_page(replace(PROMOTED, comparisons=odd), tmp_path)
    assert "any to any" in said(page)
    assert not re.search(r"\b(nan|inf)\b", said(page))


def test_report_of_a_run_tells_what_the_gate_said(tmp_path: Path) -> None:
    story: RunStory = replace(make_corpus_story(), decisions=(PROMOTED, replace(REFUSED, name="wordmill")))
    page = HTMLParser(page_of(story, tmp_path / "with").read_text())
    assert [node.attributes["href"] for node in page.css("nav a")].count("#promotion") == 1
    section = said(page, "section[aria-labelledby=promotion]")
    assert f"wordmill-areas Promoted {short_reason(PROMOTED)}" in section
    assert "general text: bits per byte 2.42 2.10 −0.319" in section
    assert f"wordmill-areas was promoted: {short_reason(PROMOTED)}" in verdict(story)
    assert f"wordmill was not promoted: {short_reason(REFUSED)}" in verdict(story)
    assert "promotion" not in page_of(make_corpus_story(), tmp_path / "without").read_text().partition("<body")[2].partition("<script")[0]


def test_verdict_names_what_it_hangs_on(tmp_path: Path) -> None:
    """A refusal by a guard does not begin with how much better the deciding figure is."""
    assert short_reason(REFUSED) == ("guard general text: bits per byte is worse by 0.3190, more than the 0.05 that is tolerated.")
    two = replace(REFUSED, comparisons=(*REFUSED.comparisons, FORGOT))
    assert short_reason(two).endswith("tolerated; 1 more.")
    by_hand = replace(PROMOTED, verdict="refused", why="the champion moved meanwhile")
    assert short_reason(by_hand) == "the champion moved meanwhile."

"""The report as a file."""

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.evaluate.change import Change
from tasks.report.facts import RunStory
from tasks.report.markup import visible
from tasks.report.wording import GAP
from tests.curve_points import point
from tests.tasks.report.stories import SCORES, make_corpus_story, make_stages, page_of


def test_run_without_any_stage_still_gives_a_page(tmp_path: Path) -> None:
    text = page_of(RunStory("empty", "empty", "", "2026-03-02T09:14:07", 0.1, ()), tmp_path / "out").read_text()
    assert "0 stages were completed" in text


def test_equal_stories_give_equal_pages(story: RunStory, tmp_path: Path) -> None:
    again = replace(story, stages=make_stages())
    assert page_of(story, tmp_path / "one").read_bytes() == page_of(again, tmp_path / "two").read_bytes()


def test_plotly_is_inside_once_and_the_story_is_json(story: RunStory, tmp_path: Path) -> None:
    page = page_of(story, tmp_path / "out").read_text()
    assert page.count("* plotly.js v") == 1
    assert len(page) < 6_000_000
    assert "<script src" not in page
    assert json.loads(json.dumps(asdict(story)))["recipe_name"] == "demo"


def test_each_spike_has_a_page_beside_the_report_and_a_run_without_one_says_nothing(story: RunStory, tmp_path: Path) -> None:
    path = page_of(story, tmp_path / "one")
    links = re.findall(r'<a href="(steps/[^"]+)">', path.read_text())
    assert links == [
        "steps/step-1204.html",
        "steps/left-out-2104.html",
        "steps/step-1777.html",
        "steps/step-2401.html",
    ]  # skipped ones first
    assert sorted(f"steps/{page.name}" for page in (path.parent / "steps").iterdir()) == sorted(links)
    assert all((path.parent / link).read_text().startswith("<!doctype html>") for link in links)
    smooth = page_of(replace(story, spikes=(), trainings=()), tmp_path / "two")
    assert not (smooth.parent / "steps").exists()
    shown = re.sub(r"<script.*?</script>|<style.*?</style>", "", smooth.read_text(), flags=re.DOTALL)
    assert "spike" not in shown


def test_what_a_base_learned_and_forgot_is_a_table_and_other_runs_have_none(story: RunStory, tmp_path: Path) -> None:
    assert 'id="changes"' not in page_of(story, tmp_path / "one").read_text()
    changes = (
        Change("own", "bits_per_byte", 23, 47_000, 3.378, 2.116, -1.4, -1.1),
        Change("general", "bits_per_byte", 64, 123_934, 1.943, 2.08, 0.122, 0.156),
    )
    page = page_of(replace(story, changes=changes), tmp_path / "two").read_text()
    section = page.partition('id="changes"')[2].partition("</section>")[0]
    rows = [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row)] for row in section.split("<tr>")[2:]]
    assert rows[0] == ["own", "bits per byte", "3.378", "2.116", "-1.262", "-1.400 to -1.100", "23", f"47.0{GAP}kB", "learned"]
    assert rows[1][-1] == "forgotten in part"


def test_numbers_that_are_missing_are_dashes(story: RunStory, tmp_path: Path) -> None:
    rows = (replace(SCORES[0], value=math.nan, ci_low=math.nan, ci_high=math.inf), *SCORES[1:])
    curves = {"pretrain": (point(0, math.nan, 0.0), point(1, math.inf, 0.1, math.inf))}
    page = page_of(replace(story, scores=rows, curves=curves), tmp_path / "out").read_text()
    data = re.search(r'id="chart-data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    json.loads(data[1], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert '<td class="number">–</td>' in page


def test_what_a_default_dropped_is_told_where_the_text_is_shown(tmp_path: Path) -> None:
    story = make_corpus_story()
    told = "select: by default min_chars (20) dropped 4 of 20 documents (20%)."
    stages = tuple(replace(stage, notes={"default_rules": told}) if stage.name == "select" else stage for stage in story.stages)
    page = page_of(replace(story, stages=stages), tmp_path / "one").read_text()
    section = page.partition('aria-labelledby="corpus"')[2].partition("</section>")[0]
    assert section.count(told) == 1
    assert "by default" not in page_of(story, tmp_path / "two").read_text()


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_storable_and_keeps_its_printable_part(text: str) -> None:
    shown = visible(text)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    printable = text.isprintable()
    assert shown == text or not printable

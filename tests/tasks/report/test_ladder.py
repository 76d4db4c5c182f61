"""Prediction against result: the drawing of a ladder, by itself and on the page."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.pretrain.loss_law import Point, fit_law
from tasks.pretrain.prediction import Prediction, Step
from tasks.report import wording
from tasks.report.facts import LadderStory, RunStory
from tasks.report.ladder import compute_ticks, ladder_picture, ladder_sentence, power_text, ticks
from tests.tasks.report.stories import page_of

WHOLE = 5.6e12
LOSSES = (5.6, 5.2, 4.9, 4.6)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def prediction() -> Prediction:
    points = [Point(WHOLE / 2 ** (5 - at), loss) for at, loss in enumerate(LOSSES)]
    rungs = tuple(Step(50_000 * 2**at, 48, 2, 400, 100_000, one.flops, one.loss) for at, one in enumerate(points))
    fan = tuple(fit_law(points, points[-1].flops * 4**part) for part in (0.0, 0.5, 1.0))
    return Prediction(rungs, 1_066_112, 819_200, fit_law(points, WHOLE), fan, 0.44)


def circles(svg: str) -> list[str]:
    return [one.get("class", "") for one in ET.fromstring(svg).iter(f"{SVG}circle")]


def test_picture_is_a_file_of_its_own_with_every_rung_and_the_prediction(prediction: Prediction) -> None:
    picture = ladder_picture(prediction)
    assert circles(picture) == ["rung"] * 4 + ["predicted"]
    assert "var(--" not in picture  # colours that only the page has
    assert "result" not in [one.get("class") for one in ET.fromstring(picture).iter(f"{SVG}path")]


def test_page_shows_prediction_against_result(story: RunStory, prediction: Prediction, tmp_path: Path) -> None:
    told = LadderStory(prediction, prediction.law.high + 0.01)
    page = page_of(replace(story, ladder=told), tmp_path / "page").read_text(encoding="utf-8")
    assert "Prediction and result" in page
    assert 'class="result"' in page
    assert wording.score_text(told.result) in page


def test_page_without_a_ladder_says_nothing_of_one(story: RunStory, tmp_path: Path) -> None:
    assert "Prediction and result" not in page_of(story, tmp_path / "page").read_text(encoding="utf-8")


def test_sentence_says_whether_the_result_was_inside(prediction: Prediction) -> None:
    law = prediction.law
    inside, outside = (ladder_sentence(LadderStory(prediction, loss)) for loss in (law.loss, law.high + 0.1))
    assert "inside the interval" in inside
    assert "outside the interval" in outside
    assert "46.9 % of the whole run's arithmetic" in inside.replace(wording.GAP, " ")


def test_axes_have_round_numbers() -> None:
    assert ticks(4.03, 5.71) == [4.5, 5.0, 5.5]
    assert compute_ticks(1.5e11, 7e12) == [2e11, 5e11, 1e12, 2e12, 5e12]
    assert [power_text(value) for value in (1e12, 2e11)] == ["10¹²", "2·10¹¹"]

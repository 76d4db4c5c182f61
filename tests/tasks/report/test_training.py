"""What the page says of trainings: what befell them, what it cost, what was skipped."""

import math
import re
from dataclasses import replace
from pathlib import Path

from model.training.events import Event
from tasks.report import wording
from tasks.report.curves import learning_curve
from tasks.report.facts import RunStory
from tasks.report.norms import norm_chart
from tasks.report.step_page import write_step_pages
from tasks.report.training import Befallen, trainings_told
from tests.curve_points import point
from tests.tasks.report.stories import EVENTS, HOSTILE, LEFT_OUT_SKIP, QUIET_TRAINING, SKIP, TRAINING, make_story, page_of


def plain(text: str) -> str:
    return text.replace(wording.GAP, " ")


def rows(story: RunStory) -> dict[str, Befallen]:
    return {row.what: row for row in trainings_told(story)[0].rows}


def test_everything_that_befell_a_training_is_a_row_with_its_cost(story: RunStory) -> None:
    found = {what: (row.times, plain(row.still), plain(row.cost)) for what, row in rows(story).items()}
    assert found == {
        "started": ("1", "1.9 s", "–"),
        "started again": ("1", "2.4 s", "240 steps taken again, which had taken 13.1 s"),
        "steps skipped": ("1", "–", "1 batch read and not learned from, about 50 ms; 10 more, left out since"),
        "went back": ("1", "0.8 s", "114 batches left out, about 5.7 s"),
        "saves": ("8", "0.3 s", "6.9 s of writing beside the training"),
        "saves that failed": ("1", "0.2 s", "–"),
        "checkpoints passed over": ("1", "–", "–"),
        "ended early": ("1", "–", "–"),
    }


def test_what_is_told_of_many_is_the_first_and_how_many_more(story: RunStory) -> None:
    told = [plain(line) for line in rows(story)["steps skipped"].told]
    assert len(told) == 4
    assert told[0].startswith("step 1,204: loss 11.4")
    assert told[-1] == "and 8 more"
    assert [plain(line) for line in rows(story)["saves"].told] == ["37.8 MB each", "the longest stop: 48 ms at step 1,600"]


def test_sentence_sums_up_and_says_what_saves_cost(story: RunStory) -> None:
    first, quiet = (plain(one.sentence) for one in trainings_told(story))
    assert (
        first == "It was started again once, skipped 1 step, went back once and ended early. Saves held it up for 0.3 s, 0.2 % of its time."
    )
    assert quiet == "It went through without a fault."


def test_speed_and_room_are_told_with_the_peak_they_are_held_against(story: RunStory) -> None:
    told = {name: plain(value) for name, value in trainings_told(story)[0].figures}
    assert told["MFU"] == "41.0 % of 182 GFLOP/s, median"
    assert (told["memory"], told["tokens"]) == ("1.24 GB at most", "6.72 M, repetitions counted")
    assert told["best"] == "2.71 nats per target at step 2,500, kept"
    assert told["checkpoints"] == "steps 2,900, 2,800, 2,500; 113 MB"
    assert {"MFU", "memory", "data wait"} & {name for name, _ in trainings_told(story)[1].figures} == set()


def test_formula_stands_where_mfu_was_measured_and_nowhere_else(story: RunStory, tmp_path: Path) -> None:
    page = page_of(story, tmp_path / "one").read_text()
    assert page.count("MFU is the model") == 1
    curves = {name: points for name, points in story.curves.items() if name != "pretrain"}
    assert "MFU is the model" not in page_of(replace(story, curves=curves), tmp_path / "two").read_text()


def test_page_has_the_commands_to_copy_and_a_page_of_each_skipped_step(story: RunStory, tmp_path: Path) -> None:
    path = page_of(story, tmp_path / "out")
    page = path.read_text()
    for command in (SKIP.command, LEFT_OUT_SKIP.command):
        assert f"<code>{command}</code>" in page
    assert "\n".join(SKIP.forget).replace("'", "&#39;") in page
    assert "And 9 more" in page
    step, left = (path.parent / one.page for one in (SKIP, LEFT_OUT_SKIP))
    assert (step.name, left.name) == ("step-1204.html", "left-out-2104.html")
    assert "This step was skipped: loss 11.4" in step.read_text()
    assert all(document.id in step.read_text() for document in SKIP.documents)
    assert SKIP.forget[0].replace("'", "&#39;") in step.read_text()
    assert "Data step 2,104: what was left out" in left.read_text()
    assert "The run then went back to before it" in left.read_text()
    assert HOSTILE not in page
    assert HOSTILE not in step.read_text() + left.read_text()


def test_profile_is_linked_where_it_lies(story: RunStory, tmp_path: Path) -> None:
    page = page_of(story, tmp_path / "out").read_text()
    assert '<a href="../../pretrain/0123456789abcdef/profile/steps-10-13.json.gz">steps-10-13.json.gz</a>' in page


def test_step_that_is_a_spike_and_was_skipped_has_the_page_of_a_skipped_one(story: RunStory, tmp_path: Path) -> None:
    spike = replace(story.spikes[0], step=SKIP.step)
    write_step_pages(replace(story, spikes=(spike,)), tmp_path)
    assert "This step was skipped" in (tmp_path / SKIP.page).read_text()


def test_skip_of_a_training_that_cannot_be_traced_has_no_page(story: RunStory, tmp_path: Path) -> None:
    tuned = replace(QUIET_TRAINING, skips=(replace(SKIP, command="", forget=(), documents=()),))
    path = page_of(replace(story, trainings=(tuned,), spikes=()), tmp_path / "out")
    assert not (path.parent / "steps").exists()
    assert re.search(r"<li>Step 1,204: loss 11\.4", path.read_text())


def test_skips_returns_and_restarts_are_marked_on_the_line_of_the_loss(story: RunStory) -> None:
    points = story.curves["pretrain"]
    drawn = {trace.name: trace for trace in learning_curve("k", "pretrain", points, 500, (), EVENTS).figure.data}
    assert list(drawn["skipped"].x) == [1_204, *range(2_105, 2_115)]
    assert list(drawn["went back"].x) == [2_115]
    assert list(drawn["started again"].x) == [1_600]
    losses = [one.loss for one in points]
    assert all(min(losses) <= loss <= max(losses) for loss in drawn["skipped"].y)
    assert "skipped" not in {trace.name for trace in learning_curve("k", "pretrain", points, 500).figure.data}


def test_norms_are_a_line_a_layer_in_a_panel_a_kind(story: RunStory) -> None:
    points = story.curves["pretrain"]
    chart = norm_chart("k", "pretrain", points, 500)
    assert chart is not None
    assert [(line.name, line.yaxis) for line in chart.figure.data] == [
        *((part, "y") for part in ("embedding", *(f"layers.{n}" for n in range(5)), "norm", "head")),
        *((f"layers.{n}", "y2") for n in range(5)),
    ]
    assert [line.name for line in chart.figure.data if line.showlegend] == ["embedding", "layers.0", "layers.4", "norm", "head"]
    assert len(chart.figure.data[0].x) == sum(one.norms is not None for one in points)
    assert chart.caption.endswith("(head).")
    assert norm_chart("k", "none", (point(1), point(2)), 500) is None


def test_norm_that_is_not_finite_is_a_gap(story: RunStory) -> None:
    points = [replace(point(step), norms={"gradient_norm.head": value}) for step, value in ((1, 2.0), (2, math.nan), (3, math.inf))]
    chart = norm_chart("k", "pretrain", points, 500)
    assert chart is not None
    assert list(chart.figure.data[0].y) == [2.0, None, None]


def test_training_of_one_report_is_told_without_a_pace() -> None:
    story = make_story()
    lone = replace(TRAINING, events=(Event("skipped", 1, "loss nan", data_step=0),), restarts=(), left_out=(), seconds=0.0)
    (told,) = trainings_told(replace(story, trainings=(lone,), curves={"pretrain": (point(1),)}))
    assert plain(told.rows[0].cost) == "1 batch read and not learned from"
    assert plain(told.sentence) == "It skipped 1 step."

"""Numbers and sentences of the report."""

from dataclasses import replace

import pytest

from tasks.report import wording
from tests.tasks.report.stories import SCORES


def test_scores_of_two_evaluations_with_one_task_are_kept_apart() -> None:
    panels = wording.score_panels(SCORES)
    assert [wording.score_title(panel[0]) for panel in panels] == [
        "base: bits per byte",
        "areas: accuracy",
        "areas: macro f1",
        "purity: accuracy",
    ]
    assert [row.model for row in panels[0]] == ["base", "unigram", "previous run"]


@pytest.mark.parametrize(("low", "high", "expected"), [(0.7, 0.9, 1), (0.5, 0.7, 0), (0.3, 0.5, -1)])
def test_a_model_is_better_only_when_its_interval_leaves_the_baseline_out(low: float, high: float, expected: int) -> None:
    row = replace(SCORES[2], value=(low + high) / 2, ci_low=low, ci_high=high)
    assert wording.advantage(row, replace(row, value=0.6)) == expected
    loss = replace(row, metric="bits_per_byte_en")
    assert wording.advantage(loss, replace(loss, value=0.6)) == -expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.bytes_text(1_200_000), "1.20 MB"),
        (wording.bytes_text(999_999), "1.00 MB"),
        (wording.bytes_text(842), "842 B"),
        (wording.bytes_text(-15_411), "−15.4 kB"),
        (wording.seconds_text(0.085), "85 ms"),
        (wording.seconds_text(3.4), "3.4 s"),
        (wording.seconds_text(59.96), "1 min 00 s"),
        (wording.seconds_text(250.2), "4 min 10 s"),
        (wording.seconds_text(7_500), "2 h 05 min"),
        (wording.short_count(3_145_728), "3.15 M"),
        (wording.share_text(1, 100_000), "< 0.1 %"),
        (wording.share_text(99_999, 100_000), "> 99.9 %"),
        (wording.score_text(-0.5), "−0.500"),
        (wording.figure_text(0.00003), "3.00e−05"),
        (wording.time_text("2026-03-02T09:14:07+02:00"), "2026-03-02 09:14 UTC+02:00"),
    ],
)
def test_number_is_written_the_one_way(written: str, expected: str) -> None:
    assert written.replace(wording.GAP, " ") == expected

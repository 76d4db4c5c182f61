"""The table of a comparison in the terminal."""

import math
from dataclasses import replace

import pytest

from flows.commands.compare_table import comparison_table
from tests.tasks.report.nights import DECIDING, FORGOT, UNMEASURED


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")


def rows(text: str) -> list[list[str]]:
    """Cells of each line."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_every_figure_has_both_values_the_difference_and_what_it_means() -> None:
    header, *told = rows(comparison_table((DECIDING, FORGOT, replace(DECIDING, task="tones", low=-0.01))))
    assert header == ["figure", "A", "B", "gain", "interval", "items", "clusters", "p"]
    assert told[0] == ["areas: macro f1", "0.648", "0.612", "+0.036", "+0.012 to +0.060", "480", "412", "0.0004", "better"]
    assert told[1] == ["general text: bits per byte", "2.42", "2.10", "−0.319", "−0.352 to −0.287", "120", "120", "worse"]
    assert told[2][-1] == "even"
    assert told[3] == ["areas: macro f1, tones: macro f1: paired bootstrap, 10,000 draws of 412 documents"]


def test_figure_that_was_not_measured_shows_no_number_and_the_reason() -> None:
    _, unmeasured, unknown, *notes = rows(comparison_table((UNMEASURED, replace(DECIDING, gain=math.nan, low=math.nan, high=math.nan))))
    assert unmeasured == ["preferences: preference gap", "–", "–", "–", "–", "0", "0", "not measured"]
    assert unknown[3:5] == ["–", "–"]
    assert notes[0] == ["preferences: preference gap: not measured: the suite asks a model that writes, this one labels"]

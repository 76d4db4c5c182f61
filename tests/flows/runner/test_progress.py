"""What is told of a training while it goes: the line, the figures, what befalls it."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tqdm import tqdm

from flows.runner.progress import Progress, progress_text
from model.training.events import Event, append_event
from tasks.tracking.journal import Journal
from tests.curve_points import point

FULL = replace(point(40, 2.31, pace=41_000.0), mfu=0.412, data_wait=0.034, memory_bytes=1_234_000_000, tokens=6_720_000, seconds_left=123.0)


def test_line_has_the_figures_that_were_measured() -> None:
    assert progress_text(FULL) == "loss 2.310, 41,000 tokens/s, MFU 41 %, data wait 3 %, 1.2 GB, 6.72 M tokens, 2 min 3 s left"
    assert progress_text(replace(FULL, data_wait=0.009, mfu=None)) == "loss 2.310, 41,000 tokens/s, 1.2 GB, 6.72 M tokens, 2 min 3 s left"
    assert progress_text(point(40, 2.31)) == "loss 2.310, 100 tokens/s, 1.0 s left"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal", "mill", "run", {})


@pytest.fixture
def progress(tmp_path: Path, journal: Journal) -> Progress:
    append_event(tmp_path, Event("skipped", 1, "of an earlier process"))
    return Progress("pretrain", tmp_path, journal, "key", tqdm(disable=True))


def test_journal_gets_every_figure_that_is_drawn_over_the_steps(progress: Progress, journal: Journal) -> None:
    named = {"gradient_norm.layers.0": 0.5}
    progress.follow(replace(FULL, norms=named, validation_losses={"areas": 1.5}, batch_digests=("ab",)))
    (entry,) = [line for line in map(json.loads, journal.path.read_text().splitlines()) if line["kind"] == "metrics"]
    assert entry["step"] == 40
    assert entry["values"].items() >= {"mfu": 0.412, "tokens": 6_720_000.0, **named, "validation_loss.areas": 1.5}.items()
    assert all(isinstance(value, float) for value in entry["values"].values())
    assert not entry["values"].keys() & {"step", "steps", "norms", "batch_digests", "validation_loss"}


class Lines(logging.Handler):
    """What was logged, once, whatever else listens to the logger."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    handler, logger = Lines(), logging.getLogger("wordmill")
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)


def test_what_befalls_a_training_is_told_as_it_comes_and_once(progress: Progress, tmp_path: Path, logged: list[str]) -> None:
    for event in (
        Event("started", 0, "anew"),
        Event("skipped", 4, "loss nan, not finite"),
        Event("saved", 8, "12 MB"),
        Event("save failed", 12, "no space left on device"),
    ):
        append_event(tmp_path, event)
    progress.follow(FULL)
    append_event(tmp_path, Event("returned", 8, "10 steps skipped in a row; to step 8"))
    progress.close()
    assert logged == [
        "pretrain: step 4: skipped: loss nan, not finite",
        "pretrain: step 12: save failed: no space left on device",
        "pretrain: step 8: returned: 10 steps skipped in a row; to step 8",
    ]


def test_many_skips_are_told_by_their_number(progress: Progress, tmp_path: Path, logged: list[str]) -> None:
    for step in range(1, 31):
        append_event(tmp_path, Event("skipped", step, "loss nan"))
    progress.close()
    told = [message.removeprefix("pretrain: ") for message in logged]
    assert told[:3] == [f"step {step}: skipped: loss nan" for step in (1, 2, 3)]
    assert told[3:] == [*(f"step {count}: {count} steps skipped so far" for count in (6, 12, 24)), "30 steps were skipped in all"]

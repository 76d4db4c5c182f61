"""Progress of a training: the line that people watch, its figures to the journal, and what befalls it, a line each."""

import logging
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from flows.runner.summaries import amount, duration
from model.training.curve import CurvePoint, curve_figures
from model.training.events import Event, EventReader
from tasks.report.wording import GAP, short_count
from tasks.tracking.journal import Journal

logger = logging.getLogger("wordmill")

TRAINING_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"  # the time left is the training's own
TOLD = ("returned", "save failed", "passed over", "ended early")  # each as it comes
FIRST_SKIPS = 3  # told one by one; then their number, each time that it has doubled
LEAST_WAIT = 0.01  # share of the time that waits for batches, from which on it is worth a word


def progress_text(point: CurvePoint) -> str:
    """`loss 2.310, 41,000 tokens/s, MFU 41 %, 1.2 GB, 6.72 M tokens, 2 min 3 s left`; what was not measured is left out."""
    parts = [f"loss {point.loss:.3f}", f"{point.tokens_per_second:,.0f} tokens/s"]
    parts += [] if point.mfu is None else [f"MFU {100 * point.mfu:.0f} %"]
    parts += [f"data wait {100 * point.data_wait:.0f} %"] if point.data_wait > LEAST_WAIT else []
    parts += [amount(point.memory_bytes)] if point.memory_bytes else []
    parts += [f"{short_count(point.tokens).replace(GAP, ' ')} tokens"] if point.tokens else []
    return ", ".join([*parts, f"{duration(point.seconds_left)} left"])


class Progress:
    """Follows one training, from what it writes."""

    def __init__(self, label: str, folder: Path, journal: Journal, run: str, bar: "tqdm[NoReturn]") -> None:
        """`folder`: where it writes; what an earlier process wrote there is not told again. `run`: its key in the journal."""
        self._label, self._journal, self._run, self._bar = label, journal, run, bar
        self._events = EventReader(folder, skips_old=True)
        self._skips, self._told_skips = 0, 0

    def follow(self, point: CurvePoint) -> None:
        """A report of the training: the line, the journal, and what happened before it."""
        self.tell_events()
        self._bar.total, self._bar.n = point.steps, point.step
        self._bar.set_postfix_str(progress_text(point))
        self._journal.metrics(self._run, curve_figures(point), point.step)

    def tell_events(self) -> None:
        """What befell the training since the last call."""
        for event in self._events.new_events():
            if event.kind == "skipped":
                self._tell_skip(event)
            elif event.kind in TOLD:
                self._tell(f"step {event.step:,}: {event.kind}: {event.told}")

    def close(self) -> None:
        """The training ended: the last of what befell it, and of many skips their number."""
        self.tell_events()
        if self._skips > self._told_skips:
            self._tell(f"{self._skips:,} steps were skipped in all")

    def _tell_skip(self, event: Event) -> None:
        self._skips += 1
        if self._skips <= FIRST_SKIPS:
            self._told_skips = self._skips
            self._tell(f"step {event.step:,}: skipped: {event.told}")
        elif self._skips >= 2 * self._told_skips:
            self._told_skips = self._skips
            self._tell(f"step {event.step:,}: {self._skips:,} steps skipped so far")

    def _tell(self, text: str) -> None:
        self._bar.clear()
        logger.warning("%s: %s", self._label, text)

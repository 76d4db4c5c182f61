"""Figures of a whole training, from its curve and its events: what it was worth of its processors, and what befell it."""

from pathlib import Path
from statistics import median

from model.training.curve import read_curve
from model.training.events import read_events


def training_figures(folder: Path) -> dict[str, float]:
    """By name; what was not measured is left out.

    mfu and data_wait: medians over the reports (share); memory_bytes: the most; saves, save_seconds, save_total_seconds: how many, and
    the mean time that the steps stood still, and until it was written; failed_saves; load_seconds, processes and
    micro_rows: of the last start; restarts.
    """
    points, events = read_curve(folder), read_events(folder)
    saves = [event for event in events if event.kind == "saved"]
    starts = [event for event in events if event.kind == "started"]
    figures: dict[str, float] = {}
    if points:
        shares = [point.mfu for point in points if point.mfu is not None]
        figures |= {"mfu": median(shares)} if shares else {}
        figures |= {"data_wait": median(point.data_wait for point in points)}
        figures |= {"memory_bytes": float(max(point.memory_bytes for point in points))}
    if saves:
        figures["saves"] = float(len(saves))
        figures["save_seconds"] = sum(event.seconds for event in saves) / len(saves)
        figures["save_total_seconds"] = sum(event.total_seconds for event in saves) / len(saves)
    figures["failed_saves"] = float(sum(event.kind == "save failed" for event in events))
    if starts:
        figures["load_seconds"] = starts[-1].seconds
        figures["processes"] = float(starts[-1].processes)
        figures |= {"micro_rows": float(starts[-1].micro_rows)} if starts[-1].micro_rows else {}
        figures["restarts"] = float(len(starts) - 1)
    return figures

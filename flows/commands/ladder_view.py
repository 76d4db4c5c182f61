"""Ladder view: what a ladder predicts of its whole run, as text and as data."""

from dataclasses import asdict, dataclass
from pathlib import Path

from flows.commands.tables import rendered, table_of
from tasks.pretrain.loss_law import LEVEL
from tasks.pretrain.prediction import PICTURE, Prediction


@dataclass(frozen=True)
class Climbed:
    """What the ladder came to, and where it lies."""

    prediction: Prediction
    folder: Path


def ladder_view(climbed: Climbed) -> str:
    """A rung a row, the whole run last, and the prediction in a line."""
    found = climbed.prediction
    table = table_of("rung", "layers>", "width>", "parameters>", "steps>", "tokens>", "FLOPs>", "validation loss>")
    for number, one in enumerate(found.rungs, start=1):
        counts = (f"{count:,}" for count in (one.layers, one.width, one.parameters, one.steps, one.tokens))
        table.add_row(f"{number} of {len(found.rungs)}", *counts, f"{one.flops:.2e}", f"{one.loss:.3f}")
    law = found.law
    table.add_row("whole run", "", "", f"{found.parameters:,}", "", f"{found.tokens:,}", f"{law.flops:.2e}", f"about {law.loss:.2f}")
    return "\n".join([rendered(table), prediction_line(found), f"picture: {climbed.folder / PICTURE}"])


def prediction_line(found: Prediction) -> str:
    """The loss of the whole run with its interval, as bits per byte too where the targets are the text."""
    law = found.law
    line = f"predicted validation loss of the whole run: {law.loss:.2f} ({law.low:.2f} to {law.high:.2f}, {LEVEL * 100:.0f} %)"
    bits = [found.bits_per_byte(loss) for loss in (law.loss, law.low, law.high)]
    known = [value for value in bits if value is not None]
    return line + (f"; bits per byte: {known[0]:.3f} ({known[1]:.3f} to {known[2]:.3f})" if known else "")


def ladder_json(climbed: Climbed) -> dict[str, object]:
    """The same as data."""
    return {**asdict(climbed.prediction), "level": LEVEL, "picture": str(climbed.folder / PICTURE)}

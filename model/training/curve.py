"""Training curve: a line of JSON for each report of a training, appended as it goes and read while it grows."""

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

CURVE = "curve.jsonl"  # in the folder of what is trained


@dataclass(frozen=True)
class CurvePoint:
    """One report; over the steps since the report before it, all processes together."""

    step: int  # optimizer steps done
    steps: int  # that the training is to have
    loss: float  # nats per target
    learning_rate: float  # of the last step
    gradient_norm: float  # of the last step, before clipping
    tokens_per_second: float  # without padding; evaluations and checkpoints not counted
    seconds_left: float  # at the pace of this process so far
    validation_loss: float | None  # nats per target, where this step was evaluated
    seconds: float  # since this process began to train
    worst_step: int = 0  # the step with the largest loss since the report before, counted like `step`: from 1; 0: not told
    worst_loss: float = math.nan  # its loss, nats per target


def append_point(folder: Path, point: CurvePoint) -> None:
    """Adds a line to the curve."""
    with (folder / CURVE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(point)) + "\n")


def read_curve(folder: Path) -> list[CurvePoint]:
    """The points of a training in order; where a resumed run wrote a step again, the later one. Empty where nothing was trained.

    Raises ValueError naming the file and the line that is no point.
    """
    return [point for _, point in sorted({point.step: point for point in CurveReader(folder).new_points()}.items())]


class CurveReader:
    """Reads a curve as far as it has grown; a line that is still being written is left for the next time."""

    def __init__(self, folder: Path, skips_old: bool = False) -> None:
        """`skips_old`: what stands there already, from an earlier process, is not read."""
        self.path = folder / CURVE
        self._offset = self.path.stat().st_size if skips_old and self.path.exists() else 0

    def new_points(self) -> list[CurvePoint]:
        """The points that came since the last call, as they were written. Raises ValueError as `read_curve` does."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._offset += whole
        return [self._point(line) for line in data[:whole].splitlines() if line.strip()]

    def _point(self, line: bytes) -> CurvePoint:
        try:
            values = json.loads(line)
            return CurvePoint(**{field.name: values[field.name] for field in fields(CurvePoint) if field.name in values})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path}: no point of a curve ({error!r}): {line[:80]!r}") from error

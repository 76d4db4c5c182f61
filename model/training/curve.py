"""Training curve: a line of JSON for each report of a training, appended as it goes and read while it grows."""

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from model.training.json_lines import LineReader, append_line

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
    tokens: int = 0  # of the whole training so far, without padding
    mfu: float | None = None  # share of the processors' peak that the model's arithmetic took: model/training/peak.py
    data_wait: float = 0.0  # share of the seconds in which this process waited for batches
    memory_bytes: int = 0  # most that this process held so far: of the GPU, else of the machine's memory
    skipped: int = 0  # steps of the whole training whose update was left out: model/training/step_guard.py
    batch_digests: tuple[str, ...] = ()  # of each step's global batch since the report before; model/data/digest.py
    norms: dict[str, float] | None = None  # by layer, where asked for: model/training/norms.py
    validation_losses: dict[str, float] | None = None  # of several sets of examples, each one's own


def curve_figures(point: CurvePoint) -> dict[str, float]:
    """What is drawn over the steps, by name; what was not measured is left out."""
    plain = {name: value for name, value in asdict(point).items() if isinstance(value, int | float)}
    named = {**(point.norms or {}), **{f"validation_loss.{name}": loss for name, loss in (point.validation_losses or {}).items()}}
    return {name: float(value) for name, value in {**plain, **named}.items() if name not in ("step", "steps")}


def append_point(folder: Path, point: CurvePoint) -> None:
    """Adds a line to the curve; a line that a full disk broke off before is ended first."""
    append_line(folder / CURVE, json.dumps(asdict(point)))


def read_curve(folder: Path) -> list[CurvePoint]:
    """The points of a training in order; where a resumed run wrote a step again, the later one. Empty where nothing was trained.

    Raises ValueError naming the file and the line that is no point.
    """
    return [point for _, point in sorted({point.step: point for point in CurveReader(folder).new_points()}.items())]


class CurveReader:
    """Reads a curve as far as it has grown; a line that is still being written is left for the next time."""

    def __init__(self, folder: Path, skips_old: bool = False) -> None:
        """`skips_old`: what stands there already, from an earlier process, is not read."""
        self._lines = LineReader(folder / CURVE, skips_old)

    def new_points(self) -> list[CurvePoint]:
        """The points that came since the last call, as they were written. Raises ValueError as `read_curve` does."""
        return [self._point(line) for line in self._lines.new_lines()]

    def _point(self, line: bytes) -> CurvePoint:
        try:
            values = json.loads(line)
            point = CurvePoint(**{field.name: values[field.name] for field in fields(CurvePoint) if field.name in values})
            return replace(point, batch_digests=tuple(point.batch_digests))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._lines.path}: no point of a curve ({error!r}): {line[:80]!r}") from error

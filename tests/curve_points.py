"""Points of training curves, for tests of what reads them."""

from model.training.curve import CurvePoint


def point(
    step: int,
    loss: float = 1.0,
    rate: float = 1e-3,
    validation: float | None = None,
    pace: float = 100.0,
    worst: tuple[int, float] = (0, 0.0),
) -> CurvePoint:
    """One report of a training of 100 steps; `worst`: its worst step and that one's loss."""
    return CurvePoint(step, 100, loss, rate, 1.0, pace, 1.0, validation, float(step), *worst)

"""Step guard: whether a step is taken, judged before the update, on the device, without waiting for it.

A step is skipped whose loss or gradient norm is not finite, or lies above the mean of the steps before it by more than
`deviations` standard deviations: that of the last 128, with 6, is OLMo-core's SkipStepOptimizer (allenai/OLMo-core,
optim/skip_step_optimizer.py). Ours differs in three ways. The norm is judged by its logarithm, since norms spread by
factors. Nothing is skipped that lies within 0.1 nats of the mean loss or three times the mean norm: a curve that is very
smooth would else skip what is harmless. What is skipped but finite enters the window at the bound, so that a level that
has changed for good is let in after some steps, instead of never.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config.training_config import FaultConfig

LEAST_NATS = 0.1  # above the mean loss, and
LEAST_FACTOR = 3.0  # times the geometric mean norm: within these nothing is skipped
SMALLEST_NORM = 1e-30  # whose logarithm a norm of 0 counts as


@dataclass(frozen=True)
class Verdict:
    """On one step; scalars on the device."""

    takes: Tensor  # bool
    in_a_row: Tensor  # int64: skipped steps up to this one
    bounds: Tensor  # [2] float64: nats per target, logarithm of the norm; infinite where too few steps came before


class StepGuard:
    """The window over the steps before, a part of the training's state."""

    def __init__(self, config: FaultConfig, device: torch.device) -> None:
        self.config = config
        self._values = torch.zeros(2, config.window, dtype=torch.float64, device=device)  # nats per target; logarithm of the norm
        self._count = torch.zeros((), dtype=torch.int64, device=device)  # of values since the window was empty
        self._in_a_row = torch.zeros((), dtype=torch.int64, device=device)
        self._places = torch.arange(config.window, device=device)
        self._least = torch.tensor([LEAST_NATS, math.log(LEAST_FACTOR)], dtype=torch.float64, device=device)

    def judge(self, loss: Tensor, norm: Tensor) -> Verdict:
        """Of a step's loss in nats per target and its gradient's norm before clipping: scalars, equal on all processes."""
        value = torch.stack((loss.double(), norm.double().clamp(min=SMALLEST_NORM).log()))
        finite = value.isfinite().all()
        bounds = self._bounds()
        takes = finite & (value <= bounds).all()
        self._in_a_row = torch.where(takes, 0, self._in_a_row + 1)
        here = (self._places == self._count % self.config.window) & finite
        self._values = torch.where(here, torch.minimum(value, bounds)[:, None], self._values)
        self._count = self._count + finite
        return Verdict(takes, self._in_a_row, bounds)

    def forget(self) -> None:
        """Empties the window: what comes now is another kind of text."""
        self._count = torch.zeros_like(self._count)

    def _bounds(self) -> Tensor:
        filled = self._places < self._count
        count = filled.sum()
        if self.config.deviations == 0:
            return torch.full((2,), math.inf, dtype=torch.float64, device=self._values.device)
        mean = (self._values * filled).sum(dim=1) / count.clamp(min=1)
        variance = ((self._values - mean[:, None]).square() * filled).sum(dim=1) / count.clamp(min=1)
        bounds = mean + torch.maximum(self.config.deviations * variance.sqrt(), self._least)
        return torch.where(count >= self.config.window // 2, bounds, math.inf)

    def state(self) -> dict[str, Tensor]:
        """To be stored with a checkpoint."""
        return {"values": self._values, "count": self._count, "in_a_row": self._in_a_row}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """What `state` gave. Raises ValueError for a window of another length."""
        if state["values"].shape != self._values.shape:
            raise ValueError(f"faults.window was {state['values'].shape[1]} and is now {self.config.window}; set it back")
        device = self._values.device
        self._values, self._count, self._in_a_row = (state[name].to(device, copy=True) for name in ("values", "count", "in_a_row"))

"""Window: what was measured since the last report. Figures stay on the device until then, so that no step waits for them."""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from model.training.step_guard import Verdict


@dataclass(frozen=True)
class Skipped:
    """A step whose update was left out."""

    step: int  # its number, counted from 1
    data_step: int  # the first of its own, counted from 0
    loss: float  # nats per target
    gradient_norm: float  # before clipping
    loss_bound: float
    norm_bound: float

    @property
    def told(self) -> str:
        """Why, in words."""
        if not (math.isfinite(self.loss) and math.isfinite(self.gradient_norm)):
            return f"loss {self.loss:g}, gradient norm {self.gradient_norm:g}: not finite"
        over = []
        if self.loss > self.loss_bound:
            over.append(f"loss {self.loss:.3f} is above the bound of {self.loss_bound:.3f}")
        if self.gradient_norm > self.norm_bound:
            over.append(f"gradient norm {self.gradient_norm:.3g} is above the bound of {self.norm_bound:.3g}")
        return " and ".join(over)


@dataclass(frozen=True)
class Measured:
    """What a window came to; figures of the steps that were taken."""

    loss: float | None  # nats per target; None: no step was taken
    gradient_norm: float  # of the last step that was taken, before clipping; of the last one where none was
    tokens: int
    worst_step: int  # counted from 1; 0: none was taken
    worst_loss: float
    skipped: tuple[Skipped, ...]
    in_a_row: int  # skipped up to the end of the window
    gave_up: int | None  # index, in the window, of the first step with as many skipped in a row as the run bears
    seconds: float
    waited: float  # seconds for batches, of this process
    row_tokens: float  # of a sequence of this process on average, without padding
    digests: tuple[str, ...]  # of the global batches
    data_steps: tuple[int, ...]  # the first of each step


class Window:
    """Since the last report."""

    def __init__(self) -> None:
        self._figures: list[Tensor] = []  # of each step [6]: loss, norm, taken, in a row, and the two bounds
        self._targets: list[float] = []
        self._digests: list[str] = []
        self._data_steps: list[int] = []
        self._tokens = 0
        self.waited = 0.0  # seconds
        self.sequences, self.own_tokens = 0, 0  # of this process
        self.started = time.perf_counter()

    def add(self, data_step: int, loss: Tensor, norm: Tensor, verdict: Verdict, targets: float, tokens: int, digest: str) -> None:
        """A step: its loss in nats per target, its gradient's norm, both scalars on the device, and what all processes had of it."""
        taken, in_a_row = verdict.takes.double(), verdict.in_a_row.double()
        self._figures.append(torch.cat((torch.stack((loss.double(), norm.double(), taken, in_a_row)), verdict.bounds)))
        self._targets.append(targets)
        self._data_steps.append(data_step)
        self._digests.append(digest)
        self._tokens += tokens

    def close(self, last_step: int, bears: int) -> Measured:
        """`last_step`: the number of the last, counted from 1; `bears`: skipped steps in a row after which a run goes back."""
        figures = torch.stack(self._figures).tolist()
        first = last_step - len(figures) + 1
        taken = [at for at, one in enumerate(figures) if one[2]]
        targets = sum(self._targets[at] for at in taken)
        worst = max(taken, key=lambda at: figures[at][0], default=None)
        return Measured(
            loss=sum(figures[at][0] * self._targets[at] for at in taken) / max(1.0, targets) if taken else None,
            gradient_norm=figures[taken[-1] if taken else -1][1],
            tokens=self._tokens,
            worst_step=0 if worst is None else first + worst,
            worst_loss=math.nan if worst is None else figures[worst][0],
            skipped=tuple(
                Skipped(first + at, self._data_steps[at], one[0], one[1], one[4], math.exp(min(one[5], 700.0)))
                for at, one in enumerate(figures)
                if not one[2]
            ),
            in_a_row=int(figures[-1][3]),
            gave_up=next((at for at, one in enumerate(figures) if one[3] >= bears), None),
            seconds=time.perf_counter() - self.started,
            waited=self.waited,
            row_tokens=self.own_tokens / max(1, self.sequences),
            digests=tuple(self._digests),
            data_steps=tuple(self._data_steps),
        )

"""Adafactor: the second moment of a matrix from its rows' and columns' means; no first moment. Source: arXiv 1804.04235.

R rows, K columns: R + K numbers instead of two times R * K. Rates are relative to the size of the weights: 1e-2 is usual.
The steps are those of torch.optim.Adafactor, which reads its count and norms on the CPU and cannot be skipped on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.optim.rules import Trained, averaged

EPSILON = torch.finfo(torch.float32).eps  # least root of a second moment
LEAST_SIZE = 1e-3  # that a weight counts as
FORGETS = -0.8  # the average's newest part is step to this power
MOST_UPDATE = 1.0  # root mean square of an update, before the rate


@dataclass(frozen=True)
class Adafactor:
    """Vectors keep their whole second moment."""

    def update(self, trained: Sequence[Trained], rate: float, decay: float) -> None:
        """See `Rule`."""
        for one in trained:
            count = one.count().clamp(min=1)
            gradient = one.gradient
            square = _second_moment(one, gradient, count**FORGETS * one.takes)
            update = gradient * square.clamp_(min=EPSILON**2).rsqrt_()
            size = _root_mean_square(one.weight).clamp(min=LEAST_SIZE)
            pace = size * torch.minimum(count.rsqrt(), torch.full_like(count, rate))
            one.move(update, pace / (_root_mean_square(update) / MOST_UPDATE).clamp(min=1.0), rate * decay)


def _second_moment(one: Trained, gradient: Tensor, weight: Tensor) -> Tensor:
    """As large as the gradient; a new tensor."""
    if gradient.dim() < 2:
        return averaged(one.moment("variance", torch.float32), gradient.square(), weight).clone()
    square = gradient.square()
    rows = averaged(_mean(one, "rows", square, -1), square.mean(dim=-1, keepdim=True), weight)  # (R, 1)
    columns = averaged(_mean(one, "columns", square, -2), square.mean(dim=-2, keepdim=True), weight)  # (1, K)
    return (rows @ columns).div_(rows.mean(dim=-2, keepdim=True).clamp_(min=EPSILON))


def _mean(one: Trained, key: str, square: Tensor, dim: int) -> Tensor:
    found = one.state.get(key)
    if found is None:
        found = one.state[key] = torch.zeros_like(square.mean(dim=dim, keepdim=True))
    return found


def _root_mean_square(tensor: Tensor) -> Tensor:
    return tensor.norm() / tensor.numel() ** 0.5

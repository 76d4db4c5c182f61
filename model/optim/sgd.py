"""SGD with momentum: as torch.optim.SGD, whose fused kernel takes no sharded weights (torch 2.13)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.optim.rules import Trained


@dataclass(frozen=True)
class Sgd:
    """The momentum is a sum that fades. Decay is added to the gradient, as ever in SGD: it goes through the momentum too."""

    momentum: float

    def update(self, trained: Sequence[Trained], rate: float, decay: float) -> None:
        """See `Rule`."""
        for one in trained:
            gradient = one.gradient.add(one.weight * (decay * one.takes))
            fading = one.moment("momentum_buffer", torch.float32)
            fading.mul_(1 - (1 - self.momentum) * one.takes).add_(gradient)
            one.move(fading, rate, 0.0)

"""Lion: every weight moves by the rate, in the direction of an average of gradients. Source: arXiv 2302.06675, algorithm 2.

One average instead of two: 4 bytes a parameter, 2 in bfloat16. Its rates are 3 to 10 times smaller than AdamW's, its decay as
much larger (section 5).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.config.training_config import OptimizerConfig
from model.optim.rules import Trained, averaged


@dataclass(frozen=True)
class Lion:
    """`beta1` weighs the average against the newest gradient in a step, `beta2` in what is kept."""

    config: OptimizerConfig
    dtype: torch.dtype  # of the average

    def update(self, trained: Sequence[Trained], rate: float, decay: float) -> None:
        """See `Rule`."""
        for one in trained:
            gradient, average = one.gradient, one.moment("average", self.dtype)
            direction = average.to(gradient.dtype).lerp(gradient, 1 - self.config.beta1).sign_()
            one.move(direction, rate, rate * decay)
            averaged(average, gradient, (1 - self.config.beta2) * one.takes)

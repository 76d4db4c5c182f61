"""AdamW: moments of the gradient and of its square, decay apart from both. Source: arXiv 1711.05101."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.optim.adamw import adamw

from model.config.training_config import OptimizerConfig
from model.optim.rules import Trained, averaged


@dataclass(frozen=True)
class FusedAdamW:
    """As torch.optim.AdamW(fused=True), for groups beside those of another rule."""

    config: OptimizerConfig

    def update(self, trained: Sequence[Trained], rate: float, decay: float) -> None:
        """See `Rule`."""
        for one in trained:
            if not one.state:
                one.state["step"] = torch.zeros((), dtype=torch.float32, device=one.weight.device)
                one.state["exp_avg"] = torch.zeros_like(one.parameter)
                one.state["exp_avg_sq"] = torch.zeros_like(one.parameter)
        adamw(
            [one.parameter for one in trained],
            [one.parameter.grad for one in trained if one.parameter.grad is not None],
            [one.state["exp_avg"] for one in trained],
            [one.state["exp_avg_sq"] for one in trained],
            [],
            [one.state["step"] for one in trained],
            fused=True,
            found_inf=1 - trained[0].takes,
            amsgrad=False,
            beta1=self.config.beta1,
            beta2=self.config.beta2,
            lr=rate,
            weight_decay=decay,
            eps=self.config.epsilon,
            maximize=False,
        )


@dataclass(frozen=True)
class ShortAdamW:
    """Both moments in bfloat16, rounded to the nearest; arithmetic in float32: 4 bytes a parameter instead of 8.

    Rounded so, DeepSeek-V3 was trained (arXiv 2412.19437, section 3.3.2, beta2 0.95). A beta2 near 1 would stand still.
    """

    config: OptimizerConfig

    def update(self, trained: Sequence[Trained], rate: float, decay: float) -> None:
        """See `Rule`."""
        beta1, beta2 = self.config.beta1, self.config.beta2
        for one in trained:
            count, gradient = one.count().clamp(min=1), one.gradient
            mean = averaged(one.moment("exp_avg", torch.bfloat16), gradient, (1 - beta1) * one.takes)
            square = averaged(one.moment("exp_avg_sq", torch.bfloat16), gradient.square(), (1 - beta2) * one.takes)
            size = (square / (1 - beta2**count)).sqrt_().add_(self.config.epsilon)
            one.move(mean / size, rate / (1 - beta1**count), rate * decay)

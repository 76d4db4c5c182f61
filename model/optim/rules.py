"""Rules: one optimizer whose groups of parameters each follow a rule of their own, and which the device itself can skip.

Nothing of a step is read by the CPU. A skipped one has gradients of 0 and moves every average and every weight by 0, so that
all of them stay what they were, bit for bit, whatever the gradients held.
"""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from model.config.training_config import OptimizerKind
from model.optim.shards import local

State = MutableMapping[str, Tensor]  # of one parameter


@dataclass(frozen=True)
class Trained:
    """A parameter with its gradient and its state in one step."""

    parameter: nn.Parameter
    state: State
    takes: Tensor  # scalar float32 on the device: 1, or 0 where the step is skipped

    @property
    def weight(self) -> Tensor:
        """This process' part, to be changed in place."""
        return local(self.parameter)

    @property
    def gradient(self) -> Tensor:
        """This process' part; zeros where the step is skipped."""
        assert self.parameter.grad is not None
        gradient = local(self.parameter.grad)
        return torch.where(self.takes > 0, gradient, torch.zeros((), dtype=gradient.dtype, device=gradient.device))

    def moment(self, key: str, dtype: torch.dtype) -> Tensor:
        """An average over steps, as large as the parameter, zeros at first: this process' part, to be changed in place."""
        found = self.state.get(key)
        if found is None or found.dtype != dtype:  # which load_state_dict may have changed
            found = self.state[key] = torch.zeros_like(self.parameter, dtype=dtype) if found is None else found.to(dtype)
        return local(found)

    def count(self) -> Tensor:
        """Steps taken, this one included: scalar float32 on the device."""
        found = self.state.get("step")
        if found is None:
            found = self.state["step"] = torch.zeros((), dtype=torch.float32, device=self.weight.device)
        return found.add_(self.takes)

    def move(self, direction: Tensor, rate: Tensor | float, decay: float) -> None:
        """weight <- (1 - decay) * weight - rate * direction; `decay` is that of this step."""
        if decay:
            self.weight.mul_(1 - decay * self.takes)
        self.weight.sub_(direction * (rate * self.takes))


def averaged(average: Tensor, value: Tensor, weight: Tensor | float) -> Tensor:
    """Moves `average` towards `value` (float32) by `weight`, in place; what is returned is float32 and not yet rounded."""
    if average.dtype == value.dtype:
        return average.lerp_(value, torch.as_tensor(weight, dtype=value.dtype, device=value.device))
    moved = average.to(value.dtype).lerp_(value, torch.as_tensor(weight, dtype=value.dtype, device=value.device))
    average.copy_(moved)
    return moved


class Rule(Protocol):
    """How one step changes parameters."""

    def update(self, trained: Sequence[Trained], rate: float, decay: float) -> None:
        """In place; `decay`: of the weights, times the rate. Every process calls it, for the same parameters in the same order."""
        ...


class ByRules(torch.optim.Optimizer):
    """Groups have `rule`, a key of `rules`, `lr` and `weight_decay`."""

    def __init__(self, kind: OptimizerKind, groups: Iterable[dict[str, object]], rules: Mapping[str, Rule]) -> None:
        self.kind, self.rules = kind, rules
        self.found_inf: Tensor | None = None  # as the fused kernels of torch take it: 1, a skipped step
        super().__init__(groups, {"fused": True})  # by which load_state_dict knows that the count of steps is on the device

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  (no closures here)
        """One step, of every parameter that has a gradient."""
        del closure
        for group in self.param_groups:
            learning = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not learning:
                continue
            device = local(learning[0]).device
            takes = torch.ones((), device=device) if self.found_inf is None else 1 - self.found_inf
            trained = [Trained(parameter, self.state[parameter], takes) for parameter in learning]
            self.rules[group["rule"]].update(trained, group["lr"], group["weight_decay"])

"""Control: small numbers that all processes agree on at each step, exchanged by their CPUs, so that no GPU is waited for."""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


class Control:
    """A process group of CPUs (gloo), or none in a single process. Every process makes one, at the same time."""

    def __init__(self) -> None:
        self.is_alone = not (dist.is_available() and dist.is_initialized())
        is_enough = self.is_alone or dist.get_backend() == "gloo"
        self._group = None if is_enough else dist.new_group(backend="gloo", timeout=_timeout(torch.device("cuda")))

    def sums(self, *values: float) -> list[float]:
        """Each value, summed over all processes in float64."""
        if self.is_alone:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self._group)
        return tensor.tolist()

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """Every process' `tensor` (on the CPU, of one shape and dtype) in the order of the ranks."""
        if self.is_alone:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(found, tensor, group=self._group)
        return found


def _timeout(device: torch.device) -> timedelta:
    """Of the default group's backend for this device: a group of another backend would wait for half an hour, torch's default."""
    assert dist.group.WORLD is not None
    return dist.group.WORLD._get_backend(device).options._timeout  # pyright: ignore[reportPrivateUsage]  (torch has no public one)

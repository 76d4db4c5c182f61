"""Control: small numbers that all processes agree on at each step, exchanged by their CPUs, so that no GPU is waited for."""

import torch
import torch.distributed as dist
from torch import Tensor


class Control:
    """A process group of CPUs (gloo), or none in a single process. Every process makes one, at the same time."""

    def __init__(self) -> None:
        self.is_alone = not (dist.is_available() and dist.is_initialized())
        self._group = None if self.is_alone or dist.get_backend() == "gloo" else dist.new_group(backend="gloo")

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

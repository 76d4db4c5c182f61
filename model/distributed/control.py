"""Control: small numbers that all processes agree on at each step, exchanged by their CPUs, so that no GPU is waited for."""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


class Control:
    """A process group of CPUs (gloo), or none in a single process. Every process makes one, at the same time."""

    def __init__(self, waits: timedelta | None = None) -> None:
        """`waits`: of a group of its own, which another thread may use; None: that of the default group, which may be shared."""
        self.is_alone = not (dist.is_available() and dist.is_initialized())
        self.rank = 0 if self.is_alone else dist.get_rank()
        is_enough = self.is_alone or (waits is None and dist.get_backend() == "gloo")
        self._group = None if is_enough else _new_group(waits or _timeout(torch.device("cuda")))

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

    def as_first(self, tensor: Tensor) -> None:
        """Rank 0's numbers (on the CPU), in place, on every process."""
        if not self.is_alone:
            dist.broadcast(tensor, 0, group=self._group)

    def sent_to_first(self, tensor: Tensor) -> None:
        """Gives a tensor (on the CPU) to rank 0, which takes it by `received`."""
        dist.send(tensor.contiguous(), 0, group=self._group)

    def received(self, buffer: Tensor, rank: int) -> Tensor:
        """What `rank` sends to this process, rank 0, in `buffer`."""
        dist.recv(buffer, rank, group=self._group)
        return buffer


def _new_group(waits: timedelta) -> dist.ProcessGroup:
    group = dist.new_group(backend="gloo", timeout=waits)
    assert isinstance(group, dist.ProcessGroup)
    return group


def subgroup(groups: list[list[int]], device: torch.device) -> dist.ProcessGroup:
    """Of these groups of ranks the one with this process, for tensors on `device`; all processes call it."""
    found, _ = dist.new_subgroups_by_enumeration(groups, timeout=_timeout(device))
    assert isinstance(found, dist.ProcessGroup)
    return found


def _timeout(device: torch.device) -> timedelta:
    """Of the default group's backend for this device: a group of another backend would wait for half an hour, torch's default."""
    assert dist.group.WORLD is not None
    return dist.group.WORLD._get_backend(device).options._timeout  # pyright: ignore[reportPrivateUsage]  (torch has no public one)

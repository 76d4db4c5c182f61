"""Mesh: processes in rows and columns. A row works on the same rows of a batch, a column holds the same part of each layer.

With 2 x 2 processes and tensor 2: ranks 0 and 1 share the first half of a batch, and 2 and 3 the second; 0 and 2 hold the first half
of each matrix, and 1 and 3 the second.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from model.distributed.control import subgroup
from model.distributed.device import process_rank


class Mesh:
    """Where this process stands. Every process makes one, at the same time."""

    def __init__(self, tensor: int, device: torch.device) -> None:
        """`tensor`: processes of a row. Raises ValueError where they do not divide the processes."""
        self.rank, self.world = process_rank()
        if self.world % tensor:
            raise ValueError(f"layout.tensor {tensor} does not divide the {self.world} processes of this training")
        self.device, self.tensor, self.data = device, tensor, self.world // tensor
        self.data_rank, self.tensor_rank = divmod(self.rank, tensor)
        self.data_group, self.tensor_group = self._groups()

    def _groups(self) -> tuple[dist.ProcessGroup | None, dist.ProcessGroup | None]:
        """This process' column and row; None: all processes, or this one alone."""
        if self.tensor == 1:
            return None, None
        ranks = torch.arange(self.world).view(self.data, self.tensor)
        return subgroup(ranks.T.tolist(), self.device), subgroup(ranks.tolist(), self.device)

    def data_sum(self, values: Tensor) -> Tensor:
        """`values`, summed in place over the processes that see other rows, so that each row counts once."""
        if self.data > 1:
            dist.all_reduce(values, group=self.data_group)
        return values

    @property
    def counts(self) -> bool:
        """Whether this process' rows are counted as its own: one of each row of the mesh does."""
        return self.tensor_rank == 0

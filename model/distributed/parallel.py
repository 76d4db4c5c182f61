"""Data parallelism: how a model is wrapped, and when gradients are exchanged."""

from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.data.batches import Batch
from model.nn.models import Model, MultiTask

M = TypeVar("M", bound=Model)


class Scored(nn.Module, Generic[M]):
    """A model with its loss as one module, so that a wrapper sees the whole forward pass."""

    def __init__(self, model: M) -> None:
        super().__init__()
        self.model: M = model

    def forward(self, batch: Batch) -> Tensor:
        """Sum of nats over the batch's targets: scalar float32."""
        return self.model.loss(batch).nats


def wrap(scored: Scored[M], group: dist.ProcessGroup | None = None) -> nn.Module:
    """`scored` with gradients averaged over the processes of `group` (None: all) when there are several; the same module else.

    The parameters stay those of the model inside, so nothing needs to be unwrapped for a checkpoint. Of several heads a
    step uses one.
    """
    if dist.is_available() and dist.is_initialized():
        is_several = isinstance(scored.model, MultiTask)
        return DistributedDataParallel(
            scored,
            process_group=group,
            find_unused_parameters=is_several,
            gradient_as_bucket_view=True,  # gradients are not there twice
        )
    return scored


def gradient_sync(wrapped: nn.Module, is_due: bool) -> AbstractContextManager[None]:
    """Around forward and backward: gradients are exchanged only where `is_due`, in the last micro-batch of a step."""
    if isinstance(wrapped, DistributedDataParallel) and not is_due:
        return wrapped.no_sync()
    return nullcontext()

"""Data parallelism: how a model is wrapped, when gradients are exchanged, and how rows are portioned."""

from contextlib import AbstractContextManager, nullcontext
from typing import Generic, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.config.training_config import PLAIN, LossConfig
from model.data.batches import Batch, Batches
from model.distributed.device import process_rank, sum_over_processes
from model.nn.models import Model, MultiTask

M = TypeVar("M", bound=Model)


class Scored(nn.Module, Generic[M]):
    """A model with its loss as one module, so that a wrapper sees the whole forward pass."""

    def __init__(self, model: M, terms: LossConfig = PLAIN) -> None:
        """`terms`: what is added to the nats where the model trains."""
        super().__init__()
        self.model: M = model
        self.terms = terms

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is learned from, and the nats, each summed over the batch's targets: scalars float32, the same one without terms."""
        loss = self.model.loss(batch, self.terms if self.training else PLAIN)
        return loss.objective, loss.nats


def wrap(scored: Scored[M]) -> nn.Module:
    """`scored` with averaged gradients when there are several processes; the same module else.

    The parameters stay those of the model inside, so nothing needs to be unwrapped for a checkpoint. Of several heads a
    step uses one.
    """
    if dist.is_available() and dist.is_initialized():
        return DistributedDataParallel(scored, find_unused_parameters=isinstance(scored.model, MultiTask))
    return scored


def gradient_sync(wrapped: nn.Module, is_due: bool) -> AbstractContextManager[None]:
    """Around forward and backward: gradients are exchanged only where `is_due`, in the last micro-batch of a step."""
    if isinstance(wrapped, DistributedDataParallel) and not is_due:
        return wrapped.no_sync()
    return nullcontext()


def mean_loss(model: Model, batches: Batches, count: int, micro_rows: int) -> float:
    """Nats per target over the first `count` batches, shared among the processes, each of which gets the result.

    Leaves the training mode and the random generators as they were. Raises ValueError when nothing is scored.
    """
    rank, world = process_rank()
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    with torch.no_grad():
        for batch in batches.evaluation(count):
            rows = len(batch.ids)
            start, stop = rank * rows // world, (rank + 1) * rows // world
            for first in range(start, stop, micro_rows):
                loss = model.loss(batch.rows(first, min(first + micro_rows, stop)).to(device))
                sums += torch.stack((loss.nats.double(), loss.count.double()))
    model.train(was_training)
    nats, targets = sum_over_processes(sums).tolist()
    if targets == 0:
        raise ValueError("the validation batches score no target: every one of them is masked; give labelled rows")
    return nats / targets

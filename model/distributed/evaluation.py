"""Evaluation: the mean loss over batches that the processes share."""

from collections.abc import Iterator

import torch

from model.data.batches import Batch, Batches
from model.distributed.layout import Layout
from model.nn.models import Model


def mean_loss(model: Model, batches: Batches, count: int, micro_rows: int, layout: Layout) -> float:
    """Nats per target over the first `count` batches, shared among the processes, each of which gets the result.

    Leaves the training mode and the random generators as they were. Raises ValueError when nothing is scored.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=layout.device)
    with torch.no_grad():
        for batch in batches.evaluation(count):
            for part, counts in _passes(batch, micro_rows, layout):
                given = part.to(layout.device)
                nats = layout.nats(model, given)
                if counts:
                    sums += torch.stack((nats.double(), given.scored().to(layout.device).double()))
    model.train(was_training)
    layout.let_go()
    nats, targets = layout.mesh.data_sum(sums).tolist()
    if targets == 0:
        raise ValueError("the validation batches score no target: every one of them is masked; give labelled rows")
    return nats / targets


def _passes(batch: Batch, micro_rows: int, layout: Layout) -> Iterator[tuple[Batch, bool]]:
    """This process' rows in portions, and whether they count.

    Processes that share weights pass equally often, since each waits for the others: who has no rows left passes a row that counts nothing.
    """
    start, stop = layout.rows_of(len(batch.ids))
    for first in range(start, stop, micro_rows):
        yield batch.rows(first, min(first + micro_rows, stop)), True
    if layout.shards:
        most = -(-len(batch.ids) // layout.mesh.data)
        for _ in range(-(-most // micro_rows) - -(-(stop - start) // micro_rows)):
            yield batch.rows(0, 1), False

"""Torch data set: the same batches for training loops of your own."""

from torch.utils.data import Dataset

from model.data.batches import Batch, Batches, rank_rows


class StepDataset(Dataset[Batch]):
    """Item `step` is one process' share of the global batch of that step, made: nothing is left to collate.

    `DataLoader(StepDataset(batches, steps), batch_size=None, sampler=range(first, steps), num_workers=2)` goes on with
    step `first`. Raises ValueError unless `world` divides the batch.
    """

    def __init__(self, batches: Batches, steps: int, rank: int = 0, world: int = 1) -> None:
        self.batches, self.steps = batches, steps
        self.start, self.stop = rank_rows(batches.batch_rows, rank, world)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        """Raises IndexError outside of [0, steps)."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is not within 0 to {self.steps - 1}")
        return self.batches.batch(step, self.start, self.stop)

"""Multi-task batches: each step trains one head on the shared trunk, and tasks take turns by weight, in closed form."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from model.config.training_config import MixturePhase
from model.data.batches import Batch, Batches
from model.data.mixture import Mixture


class TaskBatches:
    """The batches of one task at each step; a task goes on where it was when its turn comes again."""

    def __init__(self, tasks: Mapping[str, Batches], weights: Mapping[str, float]) -> None:
        """Raises ValueError for weights of tasks that are not there, and for batches of unlike size."""
        sizes = {name: batches.batch_rows for name, batches in tasks.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"the tasks' batches must have as many rows: {sizes}")
        self.tasks = dict(tasks)
        self.batch_rows = next(iter(sizes.values()))
        self._turns = Mixture(tuple(tasks), [MixturePhase(0, dict(weights))], 1)

    def turn(self, step: int) -> tuple[str, int]:
        """The task of a step, and how many steps it has had before."""
        groups, ordinals = self._turns.draw(np.array([step], dtype=np.int64))
        return self._turns.groups[int(groups[0])], int(ordinals[0])

    def rows_at(self, step: int) -> NDArray[np.int64]:
        """Row numbers, in its own task, of the global batch of `step`: [batch_rows]."""
        task, ordinal = self.turn(step)
        return self.tasks[task].rows_at(ordinal)

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """Rows [start, stop) of the global batch of `step`."""
        task, ordinal = self.turn(step)
        return dataclasses.replace(self.tasks[task].batch(ordinal, start, stop), task=task)

    def evaluation(self, batches: int) -> Iterator[Batch]:
        """The first `batches` batches of each task."""
        for task, inner in self.tasks.items():
            for batch in inner.evaluation(batches):
                yield dataclasses.replace(batch, task=task)

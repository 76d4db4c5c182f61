"""Start: where a run without checkpoints of its own begins: at a checkpoint of another one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Counts = Literal["on", "anew"]


@dataclass(frozen=True)
class Start:
    """A checkpoint that is gone on from."""

    checkpoint: Path
    counts: Counts  # on: step, data and random states go on where they were; anew: from step 0, with these weights
    keeps_moments: bool  # of the optimizer

    @property
    def step(self) -> int:
        """Optimizer steps done there, by the name of its folder."""
        return int(self.checkpoint.name.removeprefix("step-"))

"""Probe: some real steps of a training on made-up tokens, for how fast they are and how much memory they take.

B rows, T tokens, N choices, K classes.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from model.config.heads import IGNORED, HeadSpec
from model.config.lora_config import LoraConfig
from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig
from model.config.training_config import OptimizerConfig, TrainingConfig
from model.training.budget import MASKED_SHARE
from model.training.interruption import Asked, Signals
from model.training.record import recording
from tasks.planning.training_work import TrainingWork
from tasks.settings import Json
from tasks.training_entry import Asking

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from model.data.batches import Batch
    from model.nn.models import Model

STEPS = 20
LONGEST_SECONDS = 45.0  # of the steps of one training; what is slower is stopped, after LEAST_STEPS at least
LEAST_STEPS = 3
SLICES = 2  # micro-batches a step on each process, where a step has more: gradients add up as they do there
DOCUMENT_TOKENS = 400  # of a made-up document, where attention stops at their ends
CHOICES = 4


@dataclass(frozen=True)
class ProbeJob:
    """What the workers are told."""

    out: Path
    shape: ModelConfig
    vocabulary: int
    objective: ObjectiveConfig
    head: HeadSpec | None
    masks_documents: bool
    row_tokens: int
    training: TrainingConfig
    optimizer: OptimizerConfig
    freeze: tuple[str, ...]
    lora: LoraConfig | None

    def to_json(self) -> dict[str, Json]:
        """As plain JSON."""
        return TypeAdapter(ProbeJob).dump_python(self, mode="json")

    @classmethod
    def from_json(cls, values: object) -> "ProbeJob":
        """The inverse of `to_json`."""
        return TypeAdapter(ProbeJob).validate_json(json.dumps(values))


def probe_job(work: TrainingWork, out: Path) -> ProbeJob:
    """Of a training: its own micro-batches, but few of them a step."""
    rows = min(work.batch_rows, SLICES * work.micro_rows * max(1, work.workers.count))
    training = TrainingConfig(
        steps=STEPS,
        batch_rows=rows,
        micro_rows=work.micro_rows,
        checkpoint_every=STEPS + 1,
        log_every=1,
        precision=work.precision,
        compile=work.compiles,
        layout=work.layout,
    )
    return ProbeJob(
        out,
        work.shape,
        work.vocabulary,
        work.objective,
        work.head,
        work.masks_documents,
        work.row_tokens,
        training,
        work.optimizer,
        work.freeze,
        work.lora,
    )


def run_probe(told: dict[str, Json], asking: Asking = Signals) -> None:
    """Runs in each worker; leaves its curve in the job's `out`."""
    import torch

    from model.training.training import train

    job = ProbeJob.from_json(told)
    torch.manual_seed(1)
    with asking() as asked:
        watched, until = recording(job.out), _Until(asked)
        train(_model(job), MadeUpBatches(job), None, job.training, job.optimizer, job.out / "checkpoints", "probe", watched, until)


def _model(job: ProbeJob) -> "Model":
    from model.nn.models import model_with
    from model.objectives.objectives import new_model
    from tasks.finetune.tuned_model import choose_what_learns

    if job.head is None:
        return new_model(job.shape, job.vocabulary, job.objective)
    is_pair = job.shape.family == "seq2seq" and job.head.kind == "language"
    model = model_with(job.shape, job.vocabulary, HeadSpec("seq2seq") if is_pair else job.head)
    choose_what_learns(model, job.freeze, job.lora, grew=False, place="probe")
    return model


class _Until:
    """Asks to stop when it has lasted long enough, or whoever asks says so."""

    def __init__(self, asked: Asked) -> None:
        self._asked, self._steps, self._began = asked, 0, time.monotonic()

    def stop(self) -> bool:
        """Called once a step."""
        self._steps += 1
        is_long = self._steps >= LEAST_STEPS and time.monotonic() - self._began > LONGEST_SECONDS
        return is_long or self._asked.stop()

    def save(self) -> bool:
        """Never."""
        return False


class MadeUpBatches:
    """Rows of tokens drawn at random, all as long as they may be, with targets of the head's form."""

    def __init__(self, job: ProbeJob) -> None:
        self.job, self.batch_rows = job, job.training.batch_rows

    def rows_at(self, step: int) -> NDArray[np.int64]:
        """[batch_rows]."""
        return np.arange(step * self.batch_rows, (step + 1) * self.batch_rows, dtype=np.int64)

    def batch(self, step: int, start: int, stop: int) -> "Batch":
        """Rows [start, stop) of the global batch of `step`."""
        import torch

        from model.data.batches import Batch
        from model.data.packed_documents import find_documents

        job, B, T = self.job, stop - start, self.job.row_tokens
        draw = torch.Generator().manual_seed(step * self.batch_rows + start)
        shape = (B, CHOICES, T) if job.head is not None and job.head.kind == "choice" else (B, T)
        ids = torch.randint(0, job.vocabulary, shape, generator=draw)
        documents = None
        if job.masks_documents:
            starts = np.random.default_rng(step).random((B, T)) < 1 / DOCUMENT_TOKENS
            starts[:, 0] = True
            documents = find_documents(starts)
        decoder_ids = ids if job.shape.family == "seq2seq" else None
        return Batch(ids, self._targets(draw, B), torch.full(shape[:-1], T), documents, decoder_ids=decoder_ids)

    def evaluation(self, batches: int) -> "Iterator[Batch]":
        """Of the first steps."""
        return (self.batch(step, 0, self.batch_rows) for step in range(batches))

    def _targets(self, draw: "Generator", B: int) -> "Tensor":
        import torch

        job, T = self.job, self.job.row_tokens
        K = 1 if job.head is None else job.head.classes
        match "next_token" if job.head is None else job.head.targets:
            case "class":
                return torch.randint(0, K, (B,), generator=draw)
            case "choice":
                return torch.randint(0, CHOICES, (B,), generator=draw)
            case "labels":
                return torch.randint(0, 2, (B, K), generator=draw).float()
            case "value":
                return torch.rand(B, generator=draw)
            case "token_class":
                return torch.randint(0, K, (B, T), generator=draw)
            case "next_token":
                targets = torch.randint(0, job.vocabulary, (B, T), generator=draw)
                if job.objective.kind == "masked" and job.head is None:
                    targets[torch.rand(B, T, generator=draw) > MASKED_SHARE] = IGNORED
                return targets

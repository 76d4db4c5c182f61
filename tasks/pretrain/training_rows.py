"""Training rows: the rows that a pretraining reads at each step, for the training itself and to tell of it later."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from model.config.training_config import ContextPhase, MixturePhase
from model.data.shard_reader import TokenRows, artifact_shards
from model.training.batch_steps import BatchSteps
from tasks.errors import UserError
from tasks.pretrain.job import PretrainJob

if TYPE_CHECKING:
    from model.data.row_stream import RowStream

Phase = TypeVar("Phase", MixturePhase, ContextPhase)


def open_stream(job: PretrainJob, split: str, shards: Path) -> "RowStream":
    """The rows of each step, as the job says, from the shards wherever they lie now.

    UserError for shards that are not whole, or do not fit what the training asks of them.
    """
    from model.data.row_stream import RowStream

    is_training, batches = split == "train", BatchSteps(job.training.step_batches)
    try:
        groups = {
            name: TokenRows.open(paths, tokenizer=job.tokenizer_fingerprint) for name, paths in artifact_shards(shards, split).items()
        }
        return RowStream(
            groups,
            batch_rows=job.training.batch_rows,
            seed=job.training.seed,
            mixture=in_batches(job.mixture, batches) if is_training else (),
            curriculum=in_batches(job.curriculum, batches) if is_training else (),
            window_groups=job.window_groups if is_training else None,
        )
    except ValueError as error:
        raise UserError(f"pretrain: {error}") from error


def in_batches(phases: Sequence[Phase], batches: BatchSteps) -> tuple[Phase, ...]:
    """Phases that begin at an optimizer step as the data know them, where a batch is a step."""
    return tuple(replace(phase, from_step=batches.before(phase.from_step)) for phase in phases)

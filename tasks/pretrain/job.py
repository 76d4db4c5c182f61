"""Pretraining job: what its workers are told, kept as training.json, by which any step can be traced later."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig
from model.config.training_config import ContextPhase, MixturePhase, OptimizerConfig, TrainingConfig
from model.training.start import Start
from tasks.settings import Json

TRAINING = "training.json"  # in a pretraining's folder, from its first step on


@dataclass(frozen=True)
class PretrainJob:
    """Everything that a worker needs: where its inputs lie, and how it learns from them."""

    shards: Path
    shards_fingerprint: str
    tokenizer: Path
    tokenizer_fingerprint: str
    identity: str  # of the data, and of how it is drawn: a checkpoint with another one is refused
    out: Path
    word_vectors: Path | None
    model: ModelConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    mixture: tuple[MixturePhase, ...]
    curriculum: tuple[ContextPhase, ...]
    window_groups: int | None
    objective: ObjectiveConfig
    document_mask: bool
    start: Start | None = None  # another's checkpoint, where it begins at one
    checkpoint_place: str | None = None  # where its checkpoints are copied too
    base: Path | None = None  # folder of the model whose weights it starts from; None: fresh ones

    @property
    def begun_at(self) -> int:
        """Steps that another pretraining took, from whose checkpoint it goes on; 0: all are its own."""
        return self.start.step if self.start is not None and self.start.counts == "on" else 0

    def to_json(self) -> dict[str, Json]:
        """As plain JSON."""
        return TypeAdapter(PretrainJob).dump_python(self, mode="json")

    @classmethod
    def from_json(cls, values: object) -> "PretrainJob":
        """The inverse of `to_json`. Raises ValueError naming the keys that are missing or wrong."""
        return TypeAdapter(PretrainJob).validate_json(json.dumps(values))


def write_job(job: PretrainJob, folder: Path) -> None:
    """training.json."""
    (folder / TRAINING).write_text(json.dumps(job.to_json(), indent=1) + "\n", encoding="utf-8")


def read_job(folder: Path) -> PretrainJob:
    """What `write_job` wrote. Raises FileNotFoundError, and ValueError for a file that was altered."""
    try:
        return PretrainJob.from_json(json.loads((folder / TRAINING).read_text(encoding="utf-8")))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ValueError(faults) from error

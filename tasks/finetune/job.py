"""Fine-tuning job: what its workers are told."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from tasks.finetune.config import FinetuneConfig
from tasks.settings import Json


@dataclass(frozen=True)
class FinetuneJob:
    """Everything that a worker needs: the recipe's section whole, and where its inputs lie."""

    config: FinetuneConfig
    base: Path  # the model's folder
    tokenizer: Path
    examples: tuple[Path, ...]  # in the order of the config
    fingerprints: tuple[str, ...]  # of the examples
    identity: str  # of the data and of what learns: a checkpoint with another one is refused
    out: Path

    def to_json(self) -> dict[str, Json]:
        """As plain JSON."""
        return TypeAdapter(FinetuneJob).dump_python(self, mode="json")

    @classmethod
    def from_json(cls, values: object) -> "FinetuneJob":
        """The inverse of `to_json`. Raises ValueError naming the keys that are missing or wrong."""
        return TypeAdapter(FinetuneJob).validate_json(json.dumps(values))

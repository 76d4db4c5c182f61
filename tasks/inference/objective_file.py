"""Objective file: what a model was pretrained to do, kept beside its weights, and the figure that it is judged by."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.config.heads import Head
from model.config.objective_config import Kind, ObjectiveConfig

if TYPE_CHECKING:
    from model.nn.models import Model

FILE = "objective.json"


def write_objective(folder: Path, objective: ObjectiveConfig) -> None:
    """Beside the weights; without the dictionary, which lies elsewhere."""
    (folder / FILE).write_text(json.dumps(asdict(replace(objective, words=None)), indent=1) + "\n", encoding="utf-8")


def read_objective(folder: Path, model: "Model") -> ObjectiveConfig | None:
    """That of a model's folder; one from elsewhere has its head's own, where that is known: None for other heads."""
    from model.nn.models import LanguageModel, MaskedLanguageModel

    if isinstance(model, MaskedLanguageModel):
        known: ObjectiveConfig | None = ObjectiveConfig("masked")
    else:
        known = ObjectiveConfig() if isinstance(model, LanguageModel) else None
    path = folder / FILE
    if not path.is_file():
        return known
    return ObjectiveConfig(**json.loads(path.read_text(encoding="utf-8")))


def read_kind(folder: Path, head: Head) -> Kind | None:
    """The kind of the objective of a model's folder with such a head, from its files alone; None where it learned no text."""
    known: dict[Head, Kind] = {"language": "causal", "masked": "masked"}
    if head not in ("language", "masked", "seq2seq"):
        return None
    path = folder / FILE
    return ObjectiveConfig(**json.loads(path.read_text(encoding="utf-8"))).kind if path.is_file() else known.get(head)


def base_metric(objective: ObjectiveConfig) -> str:
    """The metric by which pretrained models compete: bits per byte, or what `score_objective` measures."""
    return "bits_per_byte" if objective.kind == "causal" else f"{objective.kind}_loss"


def bits_per_byte(nats: float, size: int) -> float:
    """Nats for a text of `size` UTF-8 bytes, as bits for each of them: comparable between tokenizers."""
    return nats / math.log(2) / size

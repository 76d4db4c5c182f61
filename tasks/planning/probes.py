"""Probes: what a few steps of a training measured on this machine, kept in the workspace for later plans."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.artifacts import canonical
from tasks.machine import Machine
from tasks.planning.training_work import TrainingWork, pace_key

FOLDER = "probes"  # of the workspace


@dataclass(frozen=True)
class Probed:
    """Of made-up tokens, which cost what real ones do."""

    steps: int
    tokens_per_second: float  # all processes together
    memory_bytes: float  # the most that one process held, its libraries included
    beside_seconds: float  # beside the steps: starting the process, saving


def probe_path(root: Path, work: TrainingWork, machine: Machine) -> Path:
    """Where the figures of such a training on such a machine lie."""
    digest = hashlib.sha256(canonical(pace_key(work, machine)).encode()).hexdigest()[:16]
    return root / FOLDER / f"{digest}.json"


def write_probe(path: Path, work: TrainingWork, machine: Machine, found: Probed) -> None:
    """With what it holds for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"training": work.label, "holds_for": pace_key(work, machine), "probed": asdict(found)}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    temporary.rename(path)


def read_probe(root: Path, work: TrainingWork, machine: Machine) -> Probed | None:
    """None where there is none, or one that another version wrote."""
    try:
        told = json.loads(probe_path(root, work, machine).read_text(encoding="utf-8"))
        return Probed(**told["probed"])
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None

"""What four processes do for test_layouts.py: trainings in every layout, one after another, each with what it came to in a file."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.layouts_equal import LAYOUTS, RECOMPUTED, SHAPES, VARIANTS, VOCAB, Case, Rows, in_processes, losses_of
from model.config.heads import HeadSpec
from model.config.layout_config import LayoutConfig
from model.config.lora_config import LoraConfig
from model.config.training_config import BestConfig, OptimizerConfig, TrainingConfig
from model.data.batches import Batch
from model.data.task_batches import TaskBatches
from model.distributed.device import wait_for_all
from model.nn.freezing import FreezePattern, apply_patterns
from model.nn.lora import apply_lora
from model.nn.models import LanguageModel, Model, MultiTask
from model.training import checkpoint
from model.training.curve import CurvePoint
from model.training.events import Event
from model.training.record import Watch
from model.training.training import TrainingResult, train

STEPS = 10
PLACES = (LAYOUTS[0], LAYOUTS[1], LAYOUTS[2], LAYOUTS[4], LAYOUTS[6])  # one, DDP, FSDP2, tensor, both
ONE, REPLICAS, SHARDS, TENSOR, BOTH = PLACES
DIVIDED = (SHARDS, TENSOR, BOTH)
EQUAL = [  # every layout with documents and accumulation, with and without activation checkpointing; some without, and of the other family
    *(replace(VARIANTS[0], processes=one.processes, layout=one.layout) for one in (ONE, BOTH)),
    *(replace(VARIANTS[1], processes=one.processes, layout=one.layout) for one in LAYOUTS),
    *(replace(VARIANTS[2], processes=one.processes, layout=one.layout) for one in (ONE, TENSOR, BOTH)),
    *RECOMPUTED,
]
CHANGES = [(ONE, place) for place in DIVIDED] + [(place, ONE) for place in DIVIDED]  # of the layout between two starts
CHANGES += [(REPLICAS, SHARDS), (SHARDS, TENSOR), (TENSOR, SHARDS), (SHARDS, BOTH), (BOTH, REPLICAS)]


@dataclass(frozen=True)
class Told:
    """What a training told."""

    result: TrainingResult
    losses: list[str]  # of each step, exactly
    events: list[Event]
    weights: str | None  # digest, on rank 0


class StopAfter:
    """Asks to stop once so many steps are done."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def stop(self) -> bool:
        self.left -= 1
        return self.left == 0

    def save(self) -> bool:
        return False


def digest(model: nn.Module) -> str | None:
    """None where a model has no weights here."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if tensor.is_meta:
            return None
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def trained(
    folder: Path,
    layout: LayoutConfig,
    model: Model | None = None,
    stop: int = 0,
    batches: Rows | TaskBatches | None = None,
    dropout: float = 0.0,
    rate: float = 3e-3,
    **changes: object,
) -> Told:
    """Eight steps of a small model."""
    torch.manual_seed(11)
    model = model or LanguageModel(replace(SHAPES["llama"], dropout=dropout), VOCAB)
    settings: dict[str, object] = {"steps": 8, "batch_rows": 8, "micro_rows": 3, "evaluate_every": 4, "evaluate_batches": 2}
    settings |= {"checkpoint_every": 4, "log_every": 1, "precision": "float32", "layout": layout}
    points: list[CurvePoint] = []
    events: list[Event] = []
    rows = batches or Rows(8, masks_documents=False)
    optimizer = OptimizerConfig(learning_rate=rate, final_learning_rate=3e-4, warmup_steps=2, clip_norm=0.5)
    training = TrainingConfig(**(settings | changes))
    result = train(model, rows, rows, training, optimizer, folder, "data", Watch(points.append, events.append), StopAfter(stop))
    return Told(result, [point.loss.hex() for point in points], events, digest(model) if result.finished else None)


# -- Each is called on every process of its group ---------------------------------------------------------------------------


def resumes(folder: Path, layout: LayoutConfig) -> object:
    """With dropout: losses and weights of a run, and of one that was stopped on its way."""
    whole = trained(folder / "whole", layout, dropout=0.1)
    first = trained(folder / "parts", layout, stop=3, dropout=0.1)
    second = trained(folder / "parts", layout, dropout=0.1)
    files = sorted(path.name for path in (folder / "parts" / "step-00000008").glob("*"))
    return {"whole": [whole.losses, whole.weights], "parts": [first.losses + second.losses, second.weights], "files": files}


def kept(folder: Path, layout: LayoutConfig) -> object:
    return trained(folder / "checkpoints", layout).losses


def goes_on(folder: Path, layout: LayoutConfig, source: Path, rank: int) -> object:
    """From the middle of a run in another layout."""
    target = folder / "checkpoints" / "step-00000004"
    if rank == 0:
        shutil.copytree(source / "checkpoints" / "step-00000004", target)
    wait_for_all(torch.device("cpu"))
    return trained(folder / "checkpoints", layout).losses


def freezes(folder: Path, layout: LayoutConfig) -> object:
    """Which parameters a training changed, where some are frozen, and with adapters."""
    changed: dict[str, list[str]] = {}
    for name in ("frozen", "lora"):
        torch.manual_seed(11)
        model = LanguageModel(replace(SHAPES["llama"], qk_norm=False), VOCAB)
        if name == "frozen":
            apply_patterns(model, [FreezePattern("trunk.embedding.*", False), FreezePattern("*.blocks.0.*", False)])
        else:
            apply_lora(model, LoraConfig(rank=2))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        told = trained(folder / name, layout, model)
        after = model.state_dict()
        if told.weights is not None:
            changed[name] = sorted(part for part in before if not torch.equal(before[part], after[part]))
            changed[f"{name} losses"] = told.losses
    return changed


class Flags:
    """Rows with a class each."""

    def __init__(self) -> None:
        self.rows = Rows(8, masks_documents=False)
        self.batch_rows, self.rows_at = 8, self.rows.rows_at

    def batch(self, step: int, start: int, stop: int) -> Batch:
        return self._flagged(self.rows.batch(step, start, stop))

    def evaluation(self, batches: int):
        return map(self._flagged, self.rows.evaluation(batches))

    def _flagged(self, batch: Batch) -> Batch:
        return replace(batch, targets=batch.ids.sum(dim=1) % 2)


def takes_turns(folder: Path, layout: LayoutConfig) -> object:
    torch.manual_seed(11)
    model = MultiTask(SHAPES["llama"], VOCAB, {"say": HeadSpec("language"), "flag": HeadSpec("sequence", 2)})
    batches = TaskBatches({"say": Rows(8, masks_documents=False), "flag": Flags()}, {"say": 1, "flag": 2})
    return trained(folder / "checkpoints", layout, model, batches=batches).losses


def takes_the_best(folder: Path, layout: LayoutConfig) -> object:
    """With a rate that is far too large the first evaluation is the best one."""
    best = trained(folder / "best", layout, rate=0.3, best=BestConfig(is_result=True), evaluate_every=1)
    return [best.result.best_step, best.weights, best.result.validation_loss]


def fails_to_save(folder: Path, layout: LayoutConfig, rank: int) -> object:
    """The last process' disk is full at the second save."""
    with pytest.MonkeyPatch.context() as patch:

        def save(tensors: object, path: Path, places: object = None) -> None:
            if "step-00000008" in str(path) and rank == torch.distributed.get_world_size() - 1:
                raise OSError(f"{path}: no space left")
            written(tensors, path, places)

        written = checkpoint.save_tensors
        patch.setattr(checkpoint, "save_tensors", save)
        told = trained(folder / "checkpoints", layout)
    left = sorted(path.name for path in (folder / "checkpoints").iterdir())
    return {"left": left, "events": [[event.kind, event.told] for event in told.events], "weights": told.weights}


# ---------------------------------------------------------------------------------------------------------------------------


def work(rank: int, folder: Path) -> None:
    """In one of four processes."""
    torch.set_num_threads(1)

    def do(name: str, case: Case, act: Callable[[Path], object]) -> None:
        own = folder / name
        own.mkdir(parents=True, exist_ok=True)

        def note() -> None:
            found = act(own)
            if rank == 0:
                (own / "found.json").write_text(json.dumps(found))

        in_processes(rank, case.processes, own, note)

    for number, case in enumerate(EQUAL):
        do(f"equal/{number}", case, lambda own, case=case: losses_of(case, STEPS, own / "checkpoints"))
    for case in PLACES:
        do(f"kept/{case.name}", case, lambda own, case=case: kept(own, case.layout))
    for source, case in CHANGES:
        before = folder / "kept" / source.name
        do(f"goes on/{source.name} in {case.name}", case, lambda own, c=case, b=before: goes_on(own, c.layout, b, rank))
    for case in DIVIDED:
        do(f"resumes/{case.name}", case, lambda own, case=case: resumes(own, case.layout))
    for case in (ONE, SHARDS):
        do(f"freezes/{case.name}", case, lambda own, case=case: freezes(own, case.layout))
        do(f"turns/{case.name}", case, lambda own, case=case: takes_turns(own, case.layout))
    for case in (ONE, SHARDS, BOTH):
        do(f"best/{case.name}", case, lambda own, case=case: takes_the_best(own, case.layout))
    do("fails/both", BOTH, lambda own: fails_to_save(own, BOTH.layout, rank))

"""What four processes do for test_layouts.py: trainings in every layout, one after another, each with what it came to in a file."""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.layouts_equal import LAYOUTS, RECOMPUTED, SHAPES, VARIANTS, VOCAB, Case, Rows, in_processes, losses_of
from model.config.heads import HeadSpec
from model.config.layout_config import LayoutConfig
from model.config.lora_config import LoraConfig
from model.config.training_config import PLAIN, AverageConfig, BestConfig, LossConfig, OptimizerConfig, TrainingConfig
from model.data.batches import Batch
from model.data.task_batches import TaskBatches
from model.distributed.device import wait_for_all
from model.distributed.fully_sharded import gradients, local
from model.distributed.layout import Layout
from model.nn.freezing import FreezePattern, apply_patterns
from model.nn.lora import apply_lora
from model.nn.loss import LossSum
from model.nn.models import LanguageModel, Model, MultiTask
from model.training import checkpoint, micro_rows
from model.training.budget import training_memory
from model.training.curve import CurvePoint
from model.training.events import Event
from model.training.record import Watch
from model.training.saver import Saver
from model.training.training import TrainingResult, train
from tests.model.stop_after import StopAfter

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
    validation: list[float]  # of each evaluation


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
    optimizer: OptimizerConfig | None = None,
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
    optimizer = optimizer or OptimizerConfig(learning_rate=rate, final_learning_rate=3e-4, warmup_steps=2, clip_norm=0.5)
    training = TrainingConfig(**(settings | changes))
    result = train(model, rows, rows, training, optimizer, folder, "data", Watch(points.append, events.append), StopAfter(stop))
    validation = [point.validation_loss for point in points if point.validation_loss is not None]
    return Told(result, [point.loss.hex() for point in points], events, digest(model) if result.finished else None, validation)


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


class Spoilt(Rows):
    """Of the third step the last row spoils the loss: that of one process, where several share a batch."""

    def batch(self, step: int, start: int, stop: int) -> Batch:
        return replace(super().batch(step, start, stop), task="nan" if step == 2 and stop == self.batch_rows else "1")


class Spoils(LanguageModel):
    """A language model that multiplies its loss as the batch says."""

    def loss(self, batch: Batch, terms: LossConfig = PLAIN) -> LossSum:
        loss = super().loss(batch, terms)
        return LossSum(loss.nats * float(batch.task or "1"), loss.count)


def muon_skips(folder: Path, layout: LayoutConfig) -> object:
    """Losses of a run of Muon with a step whose loss is no number, and the digests of the files of the checkpoints around that step."""
    torch.manual_seed(11)
    optimizer = OptimizerConfig(kind="muon", learning_rate=3e-3, final_learning_rate=3e-4, warmup_steps=2, clip_norm=0.5)
    rows, model = Spoilt(8, masks_documents=False), Spoils(SHAPES["llama"], VOCAB)
    told = trained(folder, layout, model, batches=rows, optimizer=optimizer, checkpoint_every=1, keep_checkpoints=9)
    files = [{path.name: _digest(path) for path in (folder / f"step-{step:08}").glob("*.safetensors")} for step in (2, 3, 4)]
    kept = [{name: value for name, value in one.items() if name.startswith(("model", "optimizer"))} for one in files]
    return {"losses": told.losses, "files": kept, "skipped": [event.step for event in told.events if event.kind == "skipped"]}


def averages(folder: Path, layout: LayoutConfig) -> object:
    """Validation losses of the averaged weights, and the digest of what comes out."""
    told = trained(folder, layout, average=AverageConfig(ema=0.9), evaluate_every=2)
    return [told.validation, told.weights]


def chooses_rows(folder: Path, layout: LayoutConfig, rank: int) -> object:
    """Rows of one forward pass, where the last process has room for three and the others for as many as there are."""
    memory = training_memory(SHAPES["llama"], VOCAB, 3, "float32", accumulates=True, layout=layout, processes=2)
    beside = memory.peak - (memory.copy - memory.optimizer) + 2**12  # the weights are there; far less than a row more
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(micro_rows, "free_memory_bytes", lambda: 2 * beside / micro_rows.CPU_SHARE if rank == 1 else 2**40)
        told = trained(folder, layout, micro_rows="auto")
    chosen = next(event.micro_rows for event in told.events if event.kind == "started") if rank == 0 else None
    return [chosen, told.losses]


def counts_bytes(folder: Path, layout: LayoutConfig) -> object:
    """Of the first process, which has most: bytes of weights, of gradients behind a micro-batch and behind all, and of moments."""
    found: dict[str, int] = {}
    syncs, clip, save = Layout.gradient_sync, Layout.clip, Saver.save

    def grown(layout: Layout) -> int:
        return sum(gradient.nbytes for gradient in gradients({name: held.parameter for name, held in layout.held.items()}).values())

    def note_sync(layout: Layout, wrapped: nn.Module, is_due: bool) -> AbstractContextManager[None]:
        found["between"] = grown(layout)
        return syncs(layout, wrapped, is_due)

    def note_clip(layout: Layout, model: Model, largest: float) -> Tensor:
        found["gradients"] = grown(layout)
        found["weights"] = sum(held.tensor.nbytes for held in layout.held.values())
        return clip(layout, model, largest)

    def note_save(saver: Saver, model: nn.Module, optimizer: torch.optim.Optimizer, *rest: object) -> None:
        states = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
        found["moments"] = sum(local(value).nbytes for value in states)
        save(saver, model, optimizer, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Layout, "gradient_sync", note_sync)
        patch.setattr(Layout, "clip", note_clip)
        patch.setattr(Saver, "save", note_save)
        trained(folder, layout, LanguageModel(SHAPES["gpt2"], VOCAB))
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    for case in (ONE, REPLICAS, SHARDS):
        do(f"muon/{case.name}", case, lambda own, case=case: muon_skips(own / "checkpoints", case.layout))
    for case in (ONE, REPLICAS):
        do(f"averages/{case.name}", case, lambda own, case=case: averages(own / "checkpoints", case.layout))
    for case in (REPLICAS, SHARDS):
        do(f"rows/{case.name}", case, lambda own, case=case: chooses_rows(own / "checkpoints", case.layout, rank))
    for case in DIVIDED:
        do(f"bytes/{case.name}", case, lambda own, case=case: counts_bytes(own / "checkpoints", case.layout))
    do("fails/both", BOTH, lambda own: fails_to_save(own, BOTH.layout, rank))

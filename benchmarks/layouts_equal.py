"""Layouts: losses of the same training on processes that share it in every way, and how far they lie apart.

    python benchmarks/layouts_equal.py [--quick] [--json FILE]

A model trains in one process, on two with its gradients averaged (DDP), on two that share its weights (FSDP2), on two that share its
layers (tensor parallelism), and on four that do both: from the same weights, on the same rows, in float32; with and without what is
computed again for the backward pass (activation checkpointing), and compiled. Told is the largest relative difference of any step's loss,
of any validation's and of any gradient norm from that of one process that does none of it. Four processes, a few minutes on two cores;
--quick takes 5 steps instead of 20.
"""

import argparse
import gc
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from numpy.typing import NDArray

from model.config.layout_config import LayoutConfig
from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig, TrainingConfig
from model.data.batches import Batch, starts_of
from model.data.packed_documents import find_documents
from model.nn.models import LanguageModel
from model.training.curve import CurvePoint
from model.training.record import Watch, ignore_event
from model.training.training import train

VOCAB, CONTEXT, EOS = 61, 16, 1
PROCESSES = 4
TIMEOUT_SECONDS = 900

SHAPES = {
    "llama": ModelConfig("llama", layers=2, width=32, heads=4, kv_heads=2, head_dim=10, mlp_width=44, context=CONTEXT, qk_norm=True),
    "gpt2": ModelConfig("gpt2", layers=2, width=32, heads=4, mlp_width=48, context=CONTEXT),
}


@dataclass(frozen=True)
class Case:
    """One training."""

    processes: int
    layout: LayoutConfig
    family: str = "llama"
    micro_rows: int = 8
    masks_documents: bool = False
    compiles: bool = False

    @property
    def name(self) -> str:
        """Of its layout."""
        if self.processes == 1:
            return "one"
        data, recomputed = self.processes // self.layout.tensor, self.layout.activation_checkpointing
        parts = [f"{data} {'shards' if self.layout.shards else 'replicas'}"] if data > 1 else []
        parts += [f"tensor {self.layout.tensor}"] if self.layout.tensor > 1 else []
        told = [" x ".join(parts)]
        told += ["kept gathered"] if self.layout.shards and not self.layout.reshards else []
        told += [f"{recomputed} recomputed"] if recomputed != "none" else []
        return ", ".join([*told, "compiled"] if self.compiles else told)

    @property
    def alone(self) -> "Case":
        """The same training in one process."""
        return replace(self, processes=1, layout=LayoutConfig(), compiles=False)


LAYOUTS = (
    Case(1, LayoutConfig()),
    Case(2, LayoutConfig()),
    Case(2, LayoutConfig(shards=True)),
    Case(2, LayoutConfig(shards=True, reshards=False)),
    Case(2, LayoutConfig(tensor=2)),
    Case(4, LayoutConfig(tensor=2)),
    Case(4, LayoutConfig(shards=True, tensor=2)),
)
VARIANTS = (
    Case(1, LayoutConfig(), "llama"),
    Case(1, LayoutConfig(), "llama", micro_rows=2, masks_documents=True),
    Case(1, LayoutConfig(), "gpt2", micro_rows=3),
)
RECOMPUTED = tuple(
    Case(count, LayoutConfig(shards=shards, tensor=tensor, activation_checkpointing=kind), micro_rows=2, masks_documents=True)
    for kind in ("selective", "full")
    for count, shards, tensor in ((2, False, 1), (2, True, 1), (2, False, 2), (4, True, 2))
)
COMPILED = (Case(2, LayoutConfig(), compiles=True), Case(2, LayoutConfig(shards=True), compiles=True))


class Rows:
    """Random rows that end in the middle here and there; few of their targets are ignored, in some rows more than in others."""

    def __init__(self, batch_rows: int, masks_documents: bool, rows: int = 50) -> None:
        self.batch_rows, self.masks_documents = batch_rows, masks_documents
        generator = np.random.default_rng(7)
        self._tokens = generator.integers(2, VOCAB, (rows, CONTEXT + 1))
        self._tokens[generator.random(self._tokens.shape) < generator.random((rows, 1)) / 4] = EOS

    def rows_at(self, step: int) -> NDArray[np.int64]:
        return (np.arange(self.batch_rows) + step * self.batch_rows) % len(self._tokens)

    def batch(self, step: int, start: int, stop: int) -> Batch:
        return self._read(self.rows_at(step)[start:stop])

    def evaluation(self, batches: int) -> Iterator[Batch]:
        for number in range(batches):
            yield self._read(np.arange(number * 7, number * 7 + 7))

    def _read(self, numbers: NDArray[np.int64]) -> Batch:
        ids, targets = self._tokens[numbers, :-1], self._tokens[numbers, 1:].copy()
        targets[ids == EOS] = -100
        documents = find_documents(starts_of(ids, EOS)) if self.masks_documents else None
        return Batch(torch.from_numpy(ids.copy()), torch.from_numpy(targets), torch.full((len(ids),), CONTEXT), documents)


def losses_of(case: Case, steps: int, folder: Path, watch: Callable[[CurvePoint], None] = lambda point: None) -> list[float]:
    """Of each step, then those of validations; on rank 0."""
    torch.manual_seed(11)
    model = LanguageModel(SHAPES[case.family], VOCAB)
    training = TrainingConfig(
        steps=steps,
        batch_rows=8,
        micro_rows=case.micro_rows,
        evaluate_every=max(1, steps // 2),
        evaluate_batches=3,
        checkpoint_every=max(1, steps // 2),
        log_every=1,
        norms_every=steps,
        precision="float32",
        compile=case.compiles,
        layout=case.layout,
    )
    optimizer = OptimizerConfig(learning_rate=3e-3, final_learning_rate=3e-4, warmup_steps=3, clip_norm=0.5)
    points: list[CurvePoint] = []

    def report(point: CurvePoint) -> None:
        points.append(point)
        watch(point)

    batches = Rows(8, case.masks_documents)
    train(model, batches, batches, training, optimizer, folder, "data", Watch(report, ignore_event))
    found = [point.loss for point in points]
    found += [point.validation_loss for point in points if point.validation_loss is not None]
    found += [point.gradient_norm for point in points]
    return [*found, *(norm for point in points for _, norm in sorted((point.norms or {}).items()) if point.norms and "gradient" in _)]


def in_processes(rank: int, count: int, folder: Path, act: Callable[[], None]) -> None:
    """`act` in a group of `count` of the processes; the others wait for it."""
    if rank < count:
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=count)
        act()
        gc.collect()  # a wrapper is part of a cycle: while it lives, so do the group's threads, which an exit may abort in
        dist.destroy_process_group()


def _work(rank: int, folder: str, cases: Sequence[Case], steps: int) -> None:
    torch.set_num_threads(1)
    for number, case in enumerate(cases):
        own = Path(folder) / str(number)
        own.mkdir(exist_ok=True)

        def act(case: Case = case, own: Path = own) -> None:
            found = losses_of(case, steps, own / "checkpoints")
            if rank == 0:
                (own / "losses.json").write_text(json.dumps(found))

        in_processes(rank, case.processes, own, act)


def table_of(cases: Sequence[Case], steps: int, folder: Path) -> dict[Case, list[float]]:
    """What `losses_of` gives of each case. Raises RuntimeError where processes hang."""
    context = mp.spawn(_work, (str(folder), cases, steps), nprocs=PROCESSES, join=False)
    try:
        if not any(context.join(TIMEOUT_SECONDS) for _ in range(PROCESSES)):
            raise RuntimeError("the processes hang")
    finally:
        for process in context.processes:
            process.kill()
    return {case: json.loads((folder / str(number) / "losses.json").read_text()) for number, case in enumerate(cases)}


def differences(found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest relative one."""
    return max(abs(ours - theirs) / abs(theirs) for ours, theirs in zip(found, expected, strict=True))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 steps instead of 20")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    cases = [replace(variant, processes=layout.processes, layout=layout.layout) for variant in VARIANTS for layout in LAYOUTS]
    cases += [*RECOMPUTED, *COMPILED]
    with tempfile.TemporaryDirectory() as folder:
        table = table_of(cases, 5 if asked.quick else 20, Path(folder))
    rows: list[dict[str, str | int | bool | float]] = []
    for case in cases:
        difference = differences(table[case], table[case.alone])
        rows.append({"family": case.family, "micro_rows": case.micro_rows, "documents": case.masks_documents, "layout": case.name})
        rows[-1]["largest_difference"] = difference
        print(f"{case.family:6} micro_rows {case.micro_rows} documents {case.masks_documents!s:5} {case.name:44} {difference:.1e}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

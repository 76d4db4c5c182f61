"""The training step on one CUDA GPU: bfloat16, compiled, the largest power of two of rows that fits each side.

Sides take turns, a fresh model each time. Model FLOPs utilisation (MFU): FLOPs per token * tokens a second / peak, where FLOPs
are 6 * (matrices of the layers + V * C) + 12 * layers * width * T, as most count it, or half of the second term, which is what
causal kernels compute; the peak is the datasheet's 989 TFLOP/s, or that of a large bfloat16 product measured here.
"""

import gc
import importlib.util
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.model_sides import SHAPES, Machine, Shape, Step, build
from benchmarks.sides import Row
from model.training.budget import flops_per_token

DATASHEET_FLOPS = 989e12  # H100 SXM and H200, dense bfloat16
MOST_ROWS = 128
FLOAT8_WIDTH = 2048  # from here on it gains: nothing at 124M, 15 to 20 % at 1.3B (torchtitan, nanochat)
ROUNDS, STEPS, WARM_UP = 3, 20, 5


@dataclass(frozen=True)
class Effort:
    """How much is measured, and where."""

    device: torch.device
    rounds: int
    steps: int
    most_rows: int
    product: int  # side of the measured matrices


def gpu_rows(quick: bool, nanogpt: Path | None, wanted: list[str] | None) -> Iterator[Row]:
    """A row for each shape and peer. Without a GPU, --quick walks the same code on the CPU with tiny shapes."""
    if torch.cuda.is_available():
        effort = Effort(torch.device("cuda"), ROUNDS, STEPS, MOST_ROWS, 8192)
    elif quick:
        print("no CUDA here: the same code on the CPU, no figure to quote", file=sys.stderr)
        effort = Effort(torch.device("cpu"), 1, 2, 4, 256)
    else:
        raise SystemExit("--device cuda: torch finds no GPU; --quick walks the same code on the CPU")
    names = wanted or (["gpt2-tiny", "llama-tiny"] if quick else ["gpt2-124m", "gpt2-350m", "llama-1.3b"])
    peak = matmul_flops(effort)
    machine = Machine(effort.device, True, nanogpt)
    for name in names:
        yield from _shape_rows(SHAPES[name], machine, effort, peak)


def _shape_rows(shape: Shape, machine: Machine, effort: Effort, peak: float) -> Iterator[Row]:
    sides = ["ours", *(["ours-float8"] if shape.model.width >= FLOAT8_WIDTH else [])]
    if machine.nanogpt is not None and shape.model.family == "gpt2":
        sides.append("nanogpt")
    if importlib.util.find_spec("transformers") is not None:
        sides.append("transformers")
    rows = {side: fitting_rows(side, shape, machine, effort.most_rows) for side in sides}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    memory: dict[str, float] = {}
    losses: dict[str, tuple[float, float]] = {}
    for _ in range(effort.rounds):
        for side in sides:
            run = measured(side, replace(shape, rows=rows[side]), machine, effort.steps)
            rates[side].append(run.rate)
            memory[side], losses[side] = run.peak_gigabytes, (run.first_loss, run.last_loss)
    best = {side: statistics.median(found) for side, found in rates.items()}
    causal = flops_per_token(shape.model, shape.vocab_size)
    full = causal + 12 * shape.model.layers * shape.model.width * shape.model.context / 2
    shared: Row = {
        "unit": "tokens per second",
        "runs": effort.rounds,
        "shape": shape.name,
        "rows": rows,
        "each": rates,
        "peak_gigabytes": memory,
        "first_and_last_loss": losses,
        "mfu_full_datasheet": best["ours"] * full / DATASHEET_FLOPS,
        "mfu_causal_datasheet": best["ours"] * causal / DATASHEET_FLOPS,
        "mfu_full_measured": best["ours"] * full / peak,
        "matmul_teraflops": peak / 1e12,
        "torch": torch.__version__,
        "device": _device_name(effort.device),
    }
    peers = [side for side in sides if side not in ("ours", "ours-float8")]
    for peer in peers or ["ours"]:
        ratio = best["ours"] / best[peer]
        name = f"{shape.name}-vs-{peer}" if peer != "ours" else shape.name
        yield {"name": name, "ours": best["ours"], "peer": best[peer], "peer_name": peer, "ratio": ratio, **shared}
    if "ours-float8" in sides:
        ratio = best["ours-float8"] / best["ours"]
        name = f"{shape.name}-float8-vs-bfloat16"
        yield {"name": name, "ours": best["ours-float8"], "peer": best["ours"], "peer_name": "ours in bfloat16", "ratio": ratio, **shared}


def fitting_rows(side: str, shape: Shape, machine: Machine, most: int) -> int:
    """The largest power of two of rows, up to `most`, whose step fits; MemoryError when not even one does."""
    rows = most
    while rows:
        try:
            measured(side, replace(shape, rows=rows), machine, steps=1)
        except torch.OutOfMemoryError:
            rows //= 2
        else:
            return rows
    raise MemoryError(f"{side}: one row of {shape.name} does not fit")


@dataclass(frozen=True)
class Run:
    """Of one side."""

    rate: float  # tokens a second
    peak_gigabytes: float
    first_loss: float  # before any step
    last_loss: float  # on the same batch: a side that learns has nearly learned it by heart


def measured(side: str, shape: Shape, machine: Machine, steps: int) -> Run:
    """A fresh model; what it held is free again afterwards."""
    is_cuda = machine.device.type == "cuda"
    try:
        step = build(side, shape, machine)
        losses = [step().item() for _ in range(WARM_UP if steps > 1 else 2)]
        if is_cuda:
            torch.cuda.reset_peak_memory_stats()
        seconds = _seconds(step, steps, machine.device)
        last = step().item()
        peak = torch.cuda.max_memory_allocated() / 1e9 if is_cuda else 0.0
    finally:
        step = None
        gc.collect()
        torch.compiler.reset()
        if is_cuda:
            torch.cuda.empty_cache()
    return Run(shape.tokens * steps / seconds, peak, losses[0], last)


def _seconds(step: Step, steps: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return time.perf_counter() - start


def matmul_flops(effort: Effort) -> float:
    """FLOP/s of a large square bfloat16 product."""
    size = effort.product
    a, b = (torch.randn(size, size, device=effort.device).bfloat16() for _ in range(2))
    seconds = min(_seconds(lambda: a @ b, 10, effort.device) for _ in range(4))
    return 10 * 2 * size**3 / seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "cpu"

"""Micro-batch size by itself: the most rows of one forward pass that fit, first by the budget, then tried on rows of the training.

The batch of a step stays what it is. On a CPU the budget is held against what is free of the machine's memory, or of its container's,
shared among the processes there, and nothing is tried that it lets doubt; on a GPU against what is free of it, and what does not fit after
all is halved until it does.
"""

import math
import platform
import resource
import zlib
from collections.abc import Callable
from pathlib import Path

import torch

from model.config.training_config import TrainingConfig
from model.data.batches import Batches, rank_rows
from model.distributed.control import Control
from model.distributed.layout import Layout
from model.nn.models import Model
from model.training.budget import training_memory
from model.training.memory import peak_memory_bytes

CPU_SHARE = 0.8  # of what is free: the budget errs by up to 15 %, and others want memory too
CUDA_SHARE = 0.95  # the rest is cut into pieces that are too small
TRIAL_SLACK = 2**26  # bytes: what libraries take for themselves in a first pass
CGROUP = Path("/sys/fs/cgroup")
MEMORY_INFO = Path("/proc/meminfo")


def fitting_micro_rows(model: Model, batches: Batches, training: TrainingConfig, control: Control, layout: Layout) -> int:
    """Rows that fit on every process, which all call it. Raises ValueError where not one does."""
    device, dtype, mesh = layout.device, model.trunk.compute_dtype, layout.mesh
    start, stop = rank_rows(training.batch_rows, mesh.data_rank, mesh.data)
    most = -(-training.batch_rows // mesh.data)
    there = [held.tensor for held in layout.held.values()] if layout.is_divided else list(model.parameters())
    free = _free_bytes(device) / (_neighbors(control) if device.type == "cpu" else 1)
    precision = str(dtype or torch.float32).removeprefix("torch.")
    frozen = {name: parameter for name, parameter in model.named_parameters() if not parameter.requires_grad}
    frozen_bytes = min((parameter.element_size() for parameter in frozen.values()), default=4)

    def needed(rows: int) -> int:
        memory = training_memory(
            model.trunk.config,
            model.trunk.vocab_size,
            rows,
            precision,
            rows < most or bool(training.step_batches),
            layout=training.layout,
            processes=mesh.world,
            frozen=sum(
                math.prod(layout.held[name].shape) if layout.is_divided else parameter.numel() for name, parameter in frozen.items()
            ),
            frozen_bytes=frozen_bytes,
        )
        return memory.peak - sum(tensor.nbytes for tensor in there)

    allowed = free * (CUDA_SHARE if device.type == "cuda" else CPU_SHARE)
    rows = largest(most, lambda rows: needed(rows) <= allowed)
    if rows and not layout.is_divided:  # a divided model is whole on no process
        rows = _tried(model, batches, start, min(rows, stop - start), rows, needed, allowed)
    found = int(min(float(one) for one in control.gathered(torch.tensor(rows))))
    if found == 0:
        raise ValueError(
            f"micro_rows auto: one row needs about {needed(1) / 2**20:,.0f} MiB beside the weights, and {allowed / 2**20:,.0f} MiB may be "
            "taken; take a smaller model or shorter rows, layout.activation_checkpointing full, or more processes with layout.shards"
        )
    return found


def largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits, where all below one that fits do too; 0: none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _tried(model: Model, batches: Batches, start: int, own: int, rows: int, needed: Callable[[int], int], allowed: float) -> int:
    """`rows`, or fewer where a forward and backward pass over the `own` first rows of step 0 takes more than it should.

    The random generators are left as they were, and no gradient stays.
    """
    device = next(model.parameters()).device
    if device.type == "cuda":
        return _halved_until_it_fits(model, batches, start, own, rows)
    tried = max(1, own // 4)  # a quarter: should it take four times what is expected, there is still room
    before, peak = resident_bytes(), peak_memory_bytes(device)
    _learn_once(model, batches, start, tried)
    grown, expected = peak_memory_bytes(device) - before - TRIAL_SLACK, needed(tried)
    if peak_memory_bytes(device) == peak or grown <= expected:
        return rows
    return min(rows, int(rows * allowed * expected / (grown * needed(rows))))


def _halved_until_it_fits(model: Model, batches: Batches, start: int, own: int, rows: int) -> int:
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    state = torch.empty(8 * trained, dtype=torch.uint8, device=next(model.parameters()).device)  # as the optimizer's will be
    while rows:
        try:
            _learn_once(model, batches, start, min(own, rows))
            break
        except torch.OutOfMemoryError:
            model.zero_grad(set_to_none=True)
            rows //= 2
    del state
    torch.cuda.empty_cache()
    return rows


def _learn_once(model: Model, batches: Batches, start: int, rows: int) -> None:
    device = next(model.parameters()).device
    was_training = model.training
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        model.train()
        model.loss(batches.batch(0, start, start + rows).to(device)).nats.backward()
    model.zero_grad(set_to_none=True)
    model.train(was_training)


def _neighbors(control: Control) -> int:
    """Processes on this machine, this one included."""
    own = torch.tensor(zlib.crc32(platform.node().encode()))
    return sum(bool(other == own) for other in control.gathered(own))


def _free_bytes(device: torch.device) -> int:
    """Of a GPU, or of the machine and its container, without swap."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_memory_bytes()


def free_memory_bytes(memory_info: Path = MEMORY_INFO, group: Path = CGROUP) -> int:
    """What may still be taken, by Linux' own count and by the limit of a container (cgroup 2, or 1). Raises ValueError elsewhere."""
    if not memory_info.is_file():
        raise ValueError("micro_rows auto: only Linux tells how much memory is free; give a number of rows")
    lines = dict(line.split(":", 1) for line in memory_info.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limits = (
        (group / "memory.max", group / "memory.current"),
        (group / "memory/memory.limit_in_bytes", group / "memory/memory.usage_in_bytes"),
    )
    for limit, used in limits:
        if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
            free = min(free, int(limit.read_text()) - int(used.read_text()))
    return max(0, free)


def resident_bytes() -> int:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()

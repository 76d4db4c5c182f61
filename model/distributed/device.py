"""Device and precision: where to compute and with which numbers; the only reader of torchrun's rank variables."""

import os
import time
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor

from model.config.training_config import Precision

BFLOAT16_GAIN = 1.2  # times as fast as float32's: from here on a CPU's products are worth their rounding
NEAR = 1.25  # times above or below it a run goes on as it began, since measurements differ that much
PRODUCT_SIDE = 512  # of the two matrices that are multiplied to find out
PRODUCT_TRIES = 5


def process_rank() -> tuple[int, int]:
    """(rank, world size): of torch.distributed when initialized, else torchrun's RANK and WORLD_SIZE, else (0, 1)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def is_under_torchrun() -> bool:
    """Whether torchrun started this process, as one of several or of one."""
    return dist.is_available() and dist.is_torchelastic_launched()


def local_rank() -> int:
    """Position of this process on its machine: torchrun's LOCAL_RANK, else the rank modulo the visible GPUs."""
    rank, _ = process_rank()
    return int(os.environ.get("LOCAL_RANK", rank % max(1, torch.cuda.device_count())))


def choose_device() -> torch.device:
    """The GPU of this process' local rank where CUDA works, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank() % torch.cuda.device_count())
    return torch.device("cpu")


def choose_precision(precision: Precision, device: torch.device, before: torch.dtype | None = None) -> torch.dtype:
    """The dtype of matrix products; weights and optimizer state stay float32. `before`: what a run that goes on began with.

    "auto" takes bfloat16 only where it is fast. CPUs are measured, once a process and in a few milliseconds, since what a processor
    says it has tells little: without AVX512-BF16 or AMX it is emulated, 20 to 50 times slower than float32 (torch's own notes), and
    a Xeon with AVX512-BF16 whose AMX was hidden from a virtual machine multiplied at 0.55 of float32's rate (92 : 173 GFLOP/s, torch 2.13).
    Raises ValueError for bfloat16 on a GPU that would emulate it.
    """
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(f"precision bfloat16: {torch.cuda.get_device_name(device)} has none; set it to float32, or to auto")
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    gain = _bfloat16_gain(torch.get_num_threads())
    if before is not None and BFLOAT16_GAIN / NEAR <= gain <= BFLOAT16_GAIN * NEAR:
        return before
    return torch.bfloat16 if gain >= BFLOAT16_GAIN else torch.float32


def sum_over_processes(values: Tensor) -> Tensor:
    """`values`, summed in place over all processes; unchanged in a single one."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)
    return values


def wait_for_all(device: torch.device) -> None:
    """Returns once every process has called it."""
    if dist.is_available() and dist.is_initialized():
        sum_over_processes(torch.zeros(1, device=device)).item()


def agree_on(value: int, device: torch.device) -> int:
    """Rank 0's `value`, on every process."""
    rank, _ = process_rank()
    return int(sum_over_processes(torch.tensor(value if rank == 0 else 0, dtype=torch.int64, device=device)).item())


@cache
def _bfloat16_gain(threads: int) -> float:
    """How many times as fast as in float32 a CPU multiplies in bfloat16 with its number of `threads`; the best of some tries of each."""
    del threads  # that of torch, of which there is one a process at a time
    seconds = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for dtype in (*seconds, *seconds):
        _product_seconds(dtype)  # the first ones prepare kernels
    for dtype in [*seconds] * PRODUCT_TRIES:
        seconds[dtype] = min(seconds[dtype], _product_seconds(dtype))
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _product_seconds(dtype: torch.dtype) -> float:
    """Of all the threads' processors: what else runs there takes none of them."""
    a = torch.ones(PRODUCT_SIDE, PRODUCT_SIDE, dtype=dtype)
    started = time.process_time()
    with torch.no_grad():
        torch.mm(a, a)
    return time.process_time() - started

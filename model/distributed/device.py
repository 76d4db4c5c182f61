"""Device and precision: where to compute and with which numbers; the only reader of torchrun's rank variables."""

import os

import torch
import torch.distributed as dist
from torch import Tensor

from model.config.training_config import Precision


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


def choose_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of matrix products; weights and optimizer state stay float32.

    "auto" takes bfloat16 only where it is known to be fast: CPUs without AVX512-BF16 or AMX emulate it 20 to 50 times
    slower than float32 (torch's own notes), so they are probed. Raises ValueError for bfloat16 on a GPU that would emulate it.
    """
    if precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(f"precision bfloat16: {torch.cuda.get_device_name(device)} has none; set it to float32, or to auto")
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32


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


def _cpu_has_bfloat16() -> bool:
    has_avx512 = torch.cpu._is_avx512_bf16_supported()  # pyright: ignore[reportPrivateUsage]  (torch has no public probe)
    return has_avx512 or torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]

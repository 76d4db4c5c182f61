"""Memory allocator: settings of the C library's for processes that train on a CPU. Imports no torch."""

import sys

# Freed memory stays with the process instead of being given back, and cleared again, at every step; large pages where torch
# asks for them. Read when a process starts. Names: man mallopt; THP_MEM_ALLOC_ENABLE: c10/core/impl/alloc_cpu.cpp of torch.
ALLOCATION: dict[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**26),
    "THP_MEM_ALLOC_ENABLE": "1",
}


def allocation_environment() -> dict[str, str]:
    """Variables for a training process; none where there is no glibc."""
    return dict(ALLOCATION) if sys.platform == "linux" else {}

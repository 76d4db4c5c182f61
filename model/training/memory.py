"""Peak memory: the most that this process held so far, of its GPU, else of the machine's memory."""

import resource
import sys

import torch

RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes: getrusage tells kilobytes on Linux


def peak_memory_bytes(device: torch.device) -> int:
    """Bytes since the process began: on a GPU of tensors alone, on a CPU of everything that was resident.

    What the system's allocator holds in reserve on a GPU, and what other processes took, is not counted.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RUSAGE_UNIT

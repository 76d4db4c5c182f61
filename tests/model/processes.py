"""Several processes of this machine for a test: begun together, waited for, and never left behind."""

from collections.abc import Callable

import torch.multiprocessing as mp


def run_processes(work: Callable[..., None], arguments: tuple[object, ...], count: int, seconds: float) -> None:
    """Calls `work(rank, *arguments)` in `count` processes. What one of them raises is raised here; each has `seconds` to end in."""
    context = mp.spawn(work, arguments, nprocs=count, join=False)
    try:
        assert any(context.join(seconds) for _ in range(count)), "the processes hang"
    finally:
        for process in context.processes:
            process.kill()
            process.join()

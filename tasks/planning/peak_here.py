"""Peak here: what a core of this machine could do in float32, by products of two small matrices: imports no torch, takes a moment."""

import time
from functools import cache

import numpy as np
from numpy.typing import NDArray

SIDE = 64  # small enough for numpy's BLAS to take one thread, which does not wait for others on a busy machine
BUDGET_SECONDS = 0.1  # many of them: the best is one that nothing else disturbed


@cache
def peak_of_a_core() -> float:
    """FLOP/s of the best product."""
    a = np.ones((SIDE, SIDE), dtype=np.float32)
    ends = time.perf_counter() + BUDGET_SECONDS
    best = _seconds(a)  # the first one prepares
    while time.perf_counter() < ends:
        best = min(best, _seconds(a))
    return 2 * SIDE**3 / best


def _seconds(a: NDArray[np.float32]) -> float:
    began = time.perf_counter()
    np.matmul(a, a)
    return max(time.perf_counter() - began, 1e-9)

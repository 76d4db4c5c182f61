"""Counter-based random numbers: the same for a row wherever, whenever and beside whatever it is read."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from model.data.permutation import mix

Keys = NDArray[np.uint64]
STEP = np.uint64(0x9E3779B97F4A7C15)  # of splitmix64: odd, so that its multiples are all different


def row_keys(positions: NDArray[np.int64], *key: int) -> Keys:
    """One key for each of `positions` [B] under `key`, such as (seed, step)."""
    digest = hashlib.blake2b(":".join(map(str, key)).encode(), digest_size=8).digest()
    return mix(np.frombuffer(digest, "<u8") + (positions.astype(np.uint64) + np.uint64(1)) * STEP)


def numbers(keys: Keys, columns: int, stream: int) -> Keys:
    """Uniform 64-bit numbers [B, columns], those of a row all different; another `stream`, others. Splitmix64's."""
    counts = np.arange(1, columns + 1, dtype=np.uint64) * STEP
    return mix(mix(keys + np.uint64(stream))[:, None] + counts)


def uniforms(keys: Keys, columns: int, stream: int) -> NDArray[np.float64]:
    """`numbers` as fractions in [0, 1)."""
    return (numbers(keys, columns, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def choose_lowest(values: Keys, is_valid: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """In each row the `counts` [B] lowest of the valid `values` [B, N]; equal ones are chosen together."""
    if not values.shape[1]:
        return np.zeros(values.shape, np.bool_)
    ranked = np.sort(np.where(is_valid, values, np.iinfo(np.uint64).max), axis=1)
    bound = np.take_along_axis(ranked, np.maximum(counts - 1, 0)[:, None], axis=1)
    return is_valid & (values <= bound) & (counts > 0)[:, None]

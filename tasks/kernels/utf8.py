"""UTF-8 decoding for the compiled kernels, and the mixing of 64-bit hashes."""

import numpy as np
import numpy.typing as npt

from tasks.kernels.machine_code import numba

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

PRIME = np.uint64(0x100000001B3)  # of FNV-1a
SEED = np.uint64(0xCBF29CE484222325)
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio: odd, its bits without pattern


@numba.njit(cache=True, nogil=True, inline="always")
def mix(value: np.uint64) -> np.uint64:
    """A one-to-one map of 64 bits that lets each bit bear on the low ones, which tables are addressed by."""
    value = (value ^ (value >> np.uint64(32))) * SPREAD
    return value ^ (value >> np.uint64(29))


@numba.njit(cache=True, nogil=True, inline="always")
def code_at(data: Bytes, at: int) -> tuple[np.uint32, int]:
    """Code point at a byte of valid UTF-8, and how many bytes it takes."""
    byte = data[at]
    if byte < 0x80:
        return np.uint32(byte), 1
    if byte < 0xE0:
        return (np.uint32(byte & 0x1F) << np.uint32(6)) | np.uint32(data[at + 1] & 0x3F), 2
    if byte < 0xF0:
        high = (np.uint32(byte & 0x0F) << np.uint32(12)) | (np.uint32(data[at + 1] & 0x3F) << np.uint32(6))
        return high | np.uint32(data[at + 2] & 0x3F), 3
    high = (np.uint32(byte & 0x07) << np.uint32(18)) | (np.uint32(data[at + 1] & 0x3F) << np.uint32(12))
    return high | (np.uint32(data[at + 2] & 0x3F) << np.uint32(6)) | np.uint32(data[at + 3] & 0x3F), 4


@numba.njit(cache=True, nogil=True)
def most_units(offsets: Offsets) -> int:
    """Room for the units of the longest document: two of them take three bytes at least ("a b"), or four ("a中")."""
    longest = 0
    for doc in range(len(offsets) - 1):
        longest = max(longest, offsets[doc + 1] - offsets[doc])
    return longest // 2 + 1

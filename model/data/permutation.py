"""Stateless shuffle: row number k of an epoch is computed, not stored, and so is the way back."""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6

Numbers = NDArray[np.uint64]
Network = Callable[[Numbers, np.uint64, Numbers], Numbers]


def permute(positions: NDArray[np.int64], size: int, *key: int) -> NDArray[np.int64]:
    """Where `positions` in [0, size) go under the permutation that `key` names, such as (seed, epoch); same shape.

    A Feistel network over the next even number of bits; results at or beyond `size` are sent through again until they
    fall inside (cycle walking), which keeps it a bijection. On average fewer than four passes.
    """
    return _walk(_feistel, positions, size, key)


def unpermute(images: NDArray[np.int64], size: int, *key: int) -> NDArray[np.int64]:
    """The positions that go to `images`: the inverse of `permute`."""
    return _walk(_inverse_feistel, images, size, key)


def _walk(network: Network, positions: NDArray[np.int64], size: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    half_bits, keys = _half_bits(size), _round_keys(key)
    values = network(positions.astype(np.uint64), half_bits, keys)
    outside = np.flatnonzero(values >= size)
    while outside.size:
        values[outside] = network(values[outside], half_bits, keys)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64)


def _half_bits(size: int) -> np.uint64:
    return np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))


def _feistel(values: Numbers, half_bits: np.uint64, keys: Numbers) -> Numbers:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for key in keys:
        left, right = right, left ^ (mix(right ^ key) & mask)
    return (left << half_bits) | right


def _inverse_feistel(values: Numbers, half_bits: np.uint64, keys: Numbers) -> Numbers:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for key in keys[::-1]:
        left, right = right ^ (mix(left ^ key) & mask), left
    return (left << half_bits) | right


def mix(values: Numbers) -> Numbers:
    """The finalizer of splitmix64: every input bit reaches every output bit. Products wrap around."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _round_keys(key: tuple[int, ...]) -> Numbers:
    digest = hashlib.blake2b(":".join(map(str, key)).encode(), digest_size=8 * ROUNDS).digest()
    return np.frombuffer(digest, dtype="<u8")

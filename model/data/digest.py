"""Batch digest: 64 bits that tell whether two runs saw the same tokens at a step, whatever the number of processes and their padding."""

import hashlib

import numpy as np

from model.config.heads import IGNORED
from model.data.batches import Batch

BITS = 64
WHOLE = 1 << BITS


def share_digest(batch: Batch, start: int, stop: int) -> int:
    """Of rows [start, stop) of a global batch: the sum of a digest for each sequence, modulo 2^64.

    The digest of the global batch is the sum over its shares. A sequence enters with its position in the global batch, its
    ids without padding, and its targets, those that count with where they stand. BLAKE2b, RFC 7693.
    """
    ids = batch.ids.reshape(-1, batch.ids.shape[-1]).numpy()
    lengths = batch.lengths.reshape(-1).tolist()
    targets = batch.targets.reshape(len(batch.targets), -1).numpy()
    each = len(ids) // (stop - start)
    total = 0
    for at, (row, length) in enumerate(zip(ids, lengths, strict=True)):
        total += _digest(start * each + at, row[:length].tobytes())
    for at, row in enumerate(targets):
        if not batch.targets.is_floating_point():
            scored = np.flatnonzero(row != IGNORED)
            row = np.concatenate((scored, row[scored]))
        total += _digest(start * len(targets) // (stop - start) + at, row.tobytes())
    return total % WHOLE


def split(digest: int) -> tuple[int, int]:
    """(high, low) 32 bits, so that a sum of many is exact in float64."""
    return digest >> 32, digest & 0xFFFFFFFF


def joined(high: float, low: float) -> str:
    """The digest of a global batch from sums over processes: 16 hexadecimal digits."""
    return f"{((int(high) << 32) + int(low)) % WHOLE:016x}"


def _digest(position: int, content: bytes) -> int:
    made = hashlib.blake2b(content, digest_size=BITS // 8, salt=position.to_bytes(16, "little"))
    return int.from_bytes(made.digest(), "little")

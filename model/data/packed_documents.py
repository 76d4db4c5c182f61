"""Packed documents: who attends to whom in a row that several share, without a mask of rows times tokens squared.

B rows, T tokens. A document is a run of positions of one row; every position belongs to one. For attention the documents
are gathered, those of like length side by side and padded to the longest of them, so that a stock kernel takes each such
bucket whole. Lengths of a bucket differ by less than a factor of two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

Mask = Tensor | BlockMask  # [B, 1, T, T] bool, or FlexAttention's


@dataclass(frozen=True)
class Documents:
    """The documents of a batch; P is the padded sum of their lengths, at most twice B * T."""

    positions: Tensor  # [B, T] int64: each token's in its document, from 0
    order: Tensor  # [P] int64: the position, row after row, at each slot of the buckets; 0 at their padding
    slots: Tensor  # [B * T] int64: the slot of each position; the inverse of `order`
    lengths: Tensor  # [documents] int64, in the order of the buckets
    buckets: tuple[tuple[int, int], ...]  # (documents, tokens of the longest)
    masks: Mapping[int, Mask] = field(
        default_factory=dict[int, Mask]
    )  # by the window of a layer; where there are any, they count: nn/document_masks.py

    def to(self, device: torch.device) -> "Documents":
        """The same on `device`."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> "Documents":
        """The same in page-locked memory."""
        return self._each(lambda part: part.pin_memory())

    def rows(self, start: int, stop: int) -> "Documents":
        """Those of rows [start, stop)."""
        return find_documents((self.positions[start:stop] == 0).numpy())

    def gather(self, x: Tensor) -> list[Tensor]:
        """[B, T, ...] -> for each bucket [documents, tokens, ...]."""
        flat = x.flatten(0, 1).index_select(0, self.order)
        parts = flat.split([documents * tokens for documents, tokens in self.buckets])
        return [part.unflatten(0, bucket) for part, bucket in zip(parts, self.buckets, strict=True)]

    def scatter(self, parts: list[Tensor]) -> Tensor:
        """The inverse of `gather`: back to [B, T, ...]."""
        flat = torch.cat([part.flatten(0, 1) for part in parts])
        return flat.index_select(0, self.slots).unflatten(0, self.positions.shape)

    def bucket_lengths(self) -> tuple[Tensor, ...]:
        """For each bucket the lengths of its documents."""
        return self.lengths.split([documents for documents, _ in self.buckets])

    def _each(self, move: Callable[[Tensor], Tensor]) -> "Documents":
        return Documents(move(self.positions), move(self.order), move(self.slots), move(self.lengths), self.buckets)


def find_documents(is_start: NDArray[np.bool_]) -> Documents:
    """From [B, T], true where a document begins; the first position of a row always does."""
    rows, tokens = is_start.shape
    begins = is_start.copy()
    begins[:, 0] = True
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, rows * tokens))
    positions = np.arange(rows * tokens) - np.repeat(starts, lengths)
    sizes = np.frexp(lengths)[1]  # how many bits the length has
    order, slots = list[NDArray[np.int64]](), np.empty(rows * tokens, dtype=np.int64)
    ordered_lengths, buckets, filled = list[NDArray[np.int64]](), list[tuple[int, int]](), 0
    for size in np.unique(sizes):
        here = sizes == size
        longest = int(lengths[here].max())
        offsets = np.arange(longest)
        grid = starts[here][:, None] + offsets  # (documents, longest)
        is_token = offsets < lengths[here][:, None]
        slots[grid[is_token]] = filled + np.flatnonzero(is_token)
        order.append(np.where(is_token, grid, 0).ravel())
        ordered_lengths.append(lengths[here])
        buckets.append((int(here.sum()), longest))
        filled += grid.size
    return Documents(
        torch.from_numpy(positions.reshape(rows, tokens)),
        torch.from_numpy(np.concatenate(order)),
        torch.from_numpy(slots),
        torch.from_numpy(np.concatenate(ordered_lengths)),
        tuple(buckets),
    )

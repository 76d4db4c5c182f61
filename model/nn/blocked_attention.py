"""Blocked attention, causal and in bfloat16 on a CPU: batched products of blocks of queries, which its bfloat16 units do.

There the stock kernel is no faster than in float32: forward and backward of B 8, T 256, H 4 and D 64 took it 30 ms, this 15,
which is an eighth of a training step (row `step-vs-nanogpt`); B 2, T 1024 66 and 45; B 64, T 32 21 and 7. AVX512-BF16, one
thread.

B rows, T tokens, H query heads, G key and value heads, R = H / G, D channels a head, N = B * G, n queries of a block.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

BLOCK = 128  # queries; with 64 and 256 the first shape was slower by 5 and 20 %
KEPT_TOKENS = 256  # up to here the scores are so few that they are kept for the backward pass, which takes a sixth less then


def attend_in_blocks(qkv: Tensor, heads: int, kv_heads: int) -> Tensor:
    """Queries, keys and values [B, T, H + 2G, D] -> [B, T, H * D], softmax(QK'/sqrt(D))V where no key lies ahead.

    Products are rounded to the dtype of `qkv`, sums within them and over blocks are float32. Memory: B * H * 128 * T scores,
    and where T is at most 256, B * H * T * T until the backward pass.
    """
    attended: Tensor = _BlockedAttention.apply(qkv, heads, kv_heads)  # pyright: ignore[reportAssignmentType]
    return attended


class _Saved(FunctionCtx):
    saved_tensors: tuple[Tensor, ...]  # queries, keys and values by group, and the probabilities of every block or of none
    heads: int
    kv_heads: int


class _BlockedAttention(torch.autograd.Function):
    """In the backward pass of long rows scores are computed again."""

    @staticmethod
    def forward(ctx: _Saved, qkv: Tensor, heads: int, kv_heads: int) -> Tensor:
        ctx.heads, ctx.kv_heads = heads, kv_heads
        parts = _Parts.of(qkv, heads, kv_heads)
        attended = torch.empty((*qkv.shape[:2], heads, qkv.shape[3]), dtype=qkv.dtype)
        kept: list[Tensor] = []
        for block in _blocks(qkv.shape[1]):
            probabilities = parts.probabilities(block)
            attended[:, block] = parts.by_row(probabilities @ parts.values[:, : block.stop])
            if qkv.shape[1] <= KEPT_TOKENS and qkv.requires_grad:
                kept.append(probabilities)
        ctx.save_for_backward(parts.scaled, parts.keys, parts.values, *kept)
        return attended.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the base takes any gradients)
        ctx: _Saved, grad_output: Tensor
    ) -> tuple[Tensor, None, None]:
        scaled, keys, values, *kept = ctx.saved_tensors
        heads, kv_heads = ctx.heads, ctx.kv_heads
        parts = _Parts(scaled, keys, values)
        B, H, T, D = scaled.shape
        slopes = grad_output.unflatten(2, (heads, -1)).transpose(1, 2)
        gradient = scaled.new_empty(B, T, H + 2 * kv_heads, D)
        key_gradient = torch.zeros_like(parts.keys, dtype=torch.float32)
        value_gradient = torch.zeros_like(parts.values, dtype=torch.float32)
        for number, block in enumerate(_blocks(T)):
            seen = slice(block.stop)
            slope = parts.by_group(slopes[:, :, block])  # (N, R * n, D)
            probabilities = kept[number] if kept else parts.probabilities(block)
            value_gradient[:, seen] += probabilities.transpose(1, 2) @ slope
            score_slope = torch._softmax_backward_data(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]  (no public name)
                slope @ parts.values[:, seen].transpose(1, 2), probabilities, -1, scaled.dtype
            )
            gradient[:, block, :heads] = parts.by_row((score_slope @ parts.keys[:, seen]).mul_(parts.scale))
            key_gradient[:, seen] += score_slope.transpose(1, 2) @ parts.queries(block)
        for first, part in ((heads, key_gradient), (heads + kv_heads, value_gradient)):
            gradient[:, :, first : first + kv_heads] = part.unflatten(0, (-1, kv_heads)).transpose(1, 2)
        return gradient, None, None


class _Parts:
    """Queries, keys and values by group, contiguous for the batched products; queries are scaled."""

    def __init__(self, scaled: Tensor, keys: Tensor, values: Tensor) -> None:
        self.scaled, self.keys, self.values = scaled, keys, values  # [B, H, T, D], [N, T, D], [N, T, D]
        self.heads, self.scale = scaled.shape[1], 1 / math.sqrt(scaled.shape[3])
        self.kv_heads = len(keys) // len(scaled)
        self.ahead = torch.full((BLOCK, BLOCK), -math.inf, dtype=scaled.dtype).triu_(1)

    @classmethod
    def of(cls, qkv: Tensor, heads: int, kv_heads: int) -> "_Parts":
        """Of [B, T, H + 2G, D]."""
        queries, keys, values = qkv.transpose(1, 2).split((heads, kv_heads, kv_heads), dim=1)
        scaled = queries.clone(memory_format=torch.contiguous_format).mul_(1 / math.sqrt(qkv.shape[3]))
        return cls(scaled, keys.contiguous().flatten(0, 1), values.contiguous().flatten(0, 1))

    def queries(self, block: slice) -> Tensor:
        """[N, R * n, D]."""
        return self.by_group(self.scaled[:, :, block])

    def probabilities(self, block: slice) -> Tensor:
        """Of a block's queries over the keys up to its end: [N, R * n, keys]."""
        scores = self.queries(block) @ self.keys[:, : block.stop].transpose(1, 2)
        size = block.stop - block.start
        scores.unflatten(1, (-1, size))[..., block.start :] += self.ahead[:size, :size]
        return scores.softmax(dim=-1)

    def by_group(self, x: Tensor) -> Tensor:
        """[B, H, n, D] -> [N, R * n, D]."""
        return x.reshape(len(self.keys), -1, x.shape[3])

    def by_row(self, x: Tensor) -> Tensor:
        """[N, R * n, D] -> [B, n, H, D]."""
        return x.reshape(-1, self.heads, x.shape[1] * self.kv_heads // self.heads, x.shape[2]).transpose(1, 2)


def _blocks(tokens: int) -> Iterator[slice]:
    for start in range(0, tokens, BLOCK):
        yield slice(start, min(start + BLOCK, tokens))

"""Document masks: who attends to whom in packed rows, in shapes that are the same for every batch, so that torch.compile compiles once.

The buckets of packed_documents.py need neither a compiler nor a mask, but change their shapes with every batch. Here a row stays a
row: on a GPU FlexAttention (arXiv 2412.05496) passes over blocks that lie in no common document; elsewhere, and with dropout, the
stock kernel takes a mask. Masks are made once a batch, outside of what is compiled.

B rows, T tokens.
"""

import dataclasses

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from model.config.model_config import ModelConfig
from model.data.packed_documents import Documents

LEAST_WIDTH = 16  # channels of a head that FlexAttention takes


def with_masks(documents: Documents, config: ModelConfig) -> Documents:
    """`documents` with a mask for each window that a layer of the model has."""
    starts = documents.positions == 0
    numbers = starts.flatten().cumsum(0)  # [B * T]: of each position's document
    is_blocked = starts.is_cuda and not config.dropout and config.head_width >= LEAST_WIDTH
    make = block_mask if is_blocked else dense_mask
    windows = {config.window_of(layer) for layer in range(config.layers)}
    return dataclasses.replace(documents, masks={window: make(numbers, starts.shape[1], window, config.is_causal) for window in windows})


def dense_mask(numbers: Tensor, tokens: int, window: int, is_causal: bool) -> Tensor:
    """numbers [B * T] -> [B, 1, T, T] bool: who sees whom."""
    rows = numbers.view(-1, tokens)
    seen = visible(tokens, tokens, is_causal, window, numbers.device)
    return ((rows[:, :, None] == rows[:, None]) & seen)[:, None]


def block_mask(numbers: Tensor, tokens: int, window: int, is_causal: bool) -> BlockMask:
    """The same for FlexAttention."""

    def is_seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        del head
        first = row * tokens  # of the row in `numbers`: a look-up by two numbers would be compiled anew for each batch
        return (numbers[first + query] == numbers[first + key]) & within_reach(query - key, is_causal, window)

    return create_block_mask(is_seen, len(numbers) // tokens, None, tokens, tokens, device=numbers.device)


def attend_flexibly(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    """q [B, H, T, D], k and v [B, G, T, D] -> [B, H, T, D]."""
    y = flex_attention(q, k, v, block_mask=mask, enable_gqa=k.shape[1] != q.shape[1])
    assert isinstance(y, Tensor)
    return y


def visible(queries: int, keys: int, is_causal: bool, window: int, device: torch.device, offset: int = 0) -> Tensor:
    """[queries, keys] bool: whether query i sees key j, which lie i + offset - j apart; window 0 is endless."""
    distance = torch.arange(queries, device=device)[:, None] + offset - torch.arange(keys, device=device)
    return within_reach(distance, is_causal, window)


def within_reach(distance: Tensor, is_causal: bool, window: int) -> Tensor:
    """Whether a query sees the key that lies `distance` before it; window 0 is endless."""
    if is_causal:
        return (distance >= 0) & (distance < window) if window else distance >= 0
    return distance.abs() <= window // 2 if window else torch.ones_like(distance, dtype=torch.bool)

"""Attention by stock kernels: causal or not, within documents, within a window, over a cache.

B rows, T tokens, C channels, H query heads, G key and value heads, D channels a head, S cached or encoded positions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config.model_config import ModelConfig
from model.config.rope_scaling import RopeScaling
from model.data.packed_documents import Documents, Mask
from model.nn.blocked_attention import attend_in_blocks
from model.nn.document_masks import attend_flexibly, visible
from model.nn.kv_cache import KeyValueCache
from model.nn.layers import Linear, RMSNorm

Rotation = tuple[Tensor, Tensor]  # cosines and sines of angles, each [T, 1, D/2] or [B, T, 1, D/2]


@dataclass(frozen=True)
class View:
    """What the positions of one forward pass may see; shared by all layers."""

    is_causal: bool
    rotations: Mapping[float, Rotation]  # by the base of the angles; empty without rotary positions
    documents: Documents | None = None
    keys: Tensor | None = None  # [B, 1, 1, T] bool, not causal: where a row is no padding
    cache: KeyValueCache | None = None
    source_keys: Tensor | None = None  # [B, 1, 1, S] bool, of a decoder without cache: where the source is no padding


class RotaryPositions(nn.Module):
    """Angles that grow with the position, by which channels (i, i + D/2) are rotated. Source: arXiv 2104.09864.

    The half-split layout is the one of Hugging Face's Llama; the paper pairs neighbors.
    """

    def __init__(self, config: ModelConfig, theta: float) -> None:
        super().__init__()
        speeds = turning_speeds(config.head_width, theta, config.rope_scaling)
        angles = torch.outer(torch.arange(config.context, dtype=torch.float32), speeds)
        self.theta = theta
        self.cosines: Tensor
        self.sines: Tensor
        self.register_buffer("cosines", angles.cos(), persistent=False)  # [context, D/2]
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """positions [T] or [B, T] -> what `rotate` takes."""
        return self.cosines[positions].unsqueeze(-2).to(dtype), self.sines[positions].unsqueeze(-2).to(dtype)


def turning_speeds(head_width: int, theta: float, scaling: RopeScaling | None) -> Tensor:
    """Radians a position by pair of channels, [D/2] float32. Each step is that of transformers: so are the roundings.

    Source of llama3: `apply_scaling` in meta-llama/llama-models, models/llama3; of linear: arXiv 2306.15595.
    """
    speeds = 1.0 / theta ** (torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
    if scaling is None:
        return speeds
    if scaling.kind == "linear":
        return speeds / scaling.factor
    low, high, original = scaling.llama3
    turns = original / (2 * math.pi / speeds)  # within the original context
    kept = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - kept) * speeds / scaling.factor + kept * speeds


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """x [B, T, heads, D] -> the same shape and dtype."""
    cosines, sines = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)


class Attention(nn.Module):
    """Self-attention with fused query, key and value weights; grouped heads where the config asks for them."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_width = config.heads, config.key_value_heads, config.head_width
        self.window, self.theta = config.window_of(layer), config.theta_of(layer)
        self.dropout = config.dropout
        all_heads = (self.heads + 2 * self.kv_heads) * self.head_width
        self.qkv = Linear(config.width, all_heads, bias=config.attention_bias != "none")
        self.output = Linear(self.heads * self.head_width, config.width, bias=config.attention_bias == "all")
        self.query_norm = RMSNorm(self.head_width, eps=config.norm_epsilon) if config.qk_norm else None
        self.key_norm = RMSNorm(self.head_width, eps=config.norm_epsilon) if config.qk_norm else None

    def forward(self, x: Tensor, view: View) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        qkv = self._heads(x, view)
        if view.documents is not None and view.documents.masks:
            y = self._attend_masked(qkv, view.documents.masks[self.window])
        elif view.documents is not None:
            parts = zip(view.documents.gather(qkv), view.documents.bucket_lengths(), strict=True)
            y = view.documents.scatter([self._attend_padded(part, lengths, view) for part, lengths in parts])
        elif view.cache is not None:
            y = self._attend_cached(qkv, view.cache)
        else:
            y = self._attend(qkv, view.is_causal, view.keys)
        return F.dropout(self.output(y), self.dropout, self.training)

    def weights(self, x: Tensor, view: View) -> Tensor:
        """softmax(QK'/sqrt(D)) [B, H, T, T] of a pass without cache, documents and padding: to look at, slow."""
        q, k, _ = self._split(self._heads(x, view))
        k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
        scores = (q @ k.transpose(2, 3)).float() / math.sqrt(self.head_width)
        hidden = ~visible(x.shape[1], x.shape[1], view.is_causal, self.window, x.device)
        return scores.masked_fill(hidden, -math.inf).softmax(dim=-1)

    def _heads(self, x: Tensor, view: View) -> Tensor:
        """x [B, T, C] -> rotated queries and keys, and values: [B, T, H + 2G, D]."""
        qkv = self.qkv(x).unflatten(-1, (self.heads + 2 * self.kv_heads, self.head_width))
        if self.query_norm is None and not view.rotations:
            return qkv
        queries_and_keys, values = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        if self.query_norm is not None and self.key_norm is not None:
            queries, keys = queries_and_keys.split((self.heads, self.kv_heads), dim=2)
            queries_and_keys = torch.cat((self.query_norm(queries), self.key_norm(keys)), dim=2)
        if view.rotations:
            queries_and_keys = rotate(queries_and_keys, view.rotations[self.theta])
        return torch.cat((queries_and_keys, values), dim=2)

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, H + 2G, D] -> queries [B, H, T, D], keys and values [B, G, T, D]."""
        q, k, v = qkv.transpose(1, 2).split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        return q, k, v

    def _attend(self, qkv: Tensor, is_causal: bool, keys: Tensor | None) -> Tensor:
        """[B, T, H + 2G, D] -> [B, T, H * D]; `keys` [B, 1, 1, T] tells padding, which nothing causal sees."""
        dropout = self.dropout if self.training else 0.0
        reach = self.window if is_causal else self.window // 2 + 1
        is_local = self.window > 0 and reach < qkv.shape[1]
        if is_causal and not is_local and dropout == 0 and qkv.dtype == torch.bfloat16 and qkv.device.type == "cpu":
            return attend_in_blocks(qkv, self.heads, self.kv_heads)
        q, k, v = self._split(qkv)
        if is_local:
            y = attend_locally(q, k, v, self.window, is_causal, keys, dropout)
        else:
            mask = None if is_causal else keys
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal, enable_gqa=self.kv_heads != self.heads)
        return y.transpose(1, 2).flatten(2)

    def _attend_masked(self, qkv: Tensor, mask: Mask) -> Tensor:
        """[B, T, H + 2G, D] -> [B, T, H * D], where the mask lets look."""
        q, k, v = self._split(qkv)
        if not isinstance(mask, Tensor):
            return attend_flexibly(q, k, v, mask).transpose(1, 2).flatten(2)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, enable_gqa=self.kv_heads != self.heads)
        return y.transpose(1, 2).flatten(2)

    def _attend_padded(self, qkv: Tensor, lengths: Tensor, view: View) -> Tensor:
        """The documents of one bucket [documents, T, H + 2G, D]; those that are shorter are padded."""
        keys = None if view.is_causal else key_mask(lengths, qkv.shape[1])
        return self._attend(qkv, view.is_causal, keys)

    def _attend_cached(self, qkv: Tensor, cache: KeyValueCache) -> Tensor:
        """New tokens [B, T, H + 2G, D], behind those that the cache holds; it grows by them."""
        is_start = cache.longest == 0
        q, k, v = self._split(qkv)
        all_k, all_v, mask = cache.store(self.layer, k, v, self.window)
        if is_start:
            return self._attend(qkv, True, None)
        q = q.to(all_k.dtype)
        if q.shape[2] == 1:  # the queries that share keys stand in a column: nothing is repeated
            column = q.reshape(len(q), self.kv_heads, -1, self.head_width)
            return F.scaled_dot_product_attention(column, all_k, all_v, mask).reshape(len(q), 1, -1).to(qkv.dtype)
        y = F.scaled_dot_product_attention(q, all_k, all_v, mask, enable_gqa=self.kv_heads != self.heads)
        return y.transpose(1, 2).flatten(2).to(qkv.dtype)


class CrossAttention(nn.Module):
    """A decoder's attention to the encoded source."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.heads, self.dropout = layer, config.heads, config.dropout
        self.query = Linear(config.width, config.width)
        self.key_value = Linear(config.width, 2 * config.width)
        self.output = Linear(config.width, config.width)

    def remember(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """memory [B, S, C] -> its keys and values, each [B, H, S, D]."""
        keys, values = self.key_value(memory).unflatten(-1, (2 * self.heads, -1)).transpose(1, 2).chunk(2, dim=1)
        return keys, values

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, T, C], mask [B, 1, 1, S] bool or None -> [B, T, C]."""
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, keys, values, mask, dropout)
        return F.dropout(self.output(y.transpose(1, 2).flatten(2)), self.dropout, self.training)


def key_mask(lengths: Tensor, tokens: int) -> Tensor:
    """[B] -> [B, 1, 1, T] bool: True where a row is no padding."""
    return (torch.arange(tokens, device=lengths.device) < lengths[:, None])[:, None, None]


def attend_locally(q: Tensor, k: Tensor, v: Tensor, window: int, is_causal: bool, keys: Tensor | None, dropout: float) -> Tensor:
    """Attention within a window: q [B, H, T, D], k and v [B, G, T, D] -> [B, H, T, D], in time and memory T * window.

    Queries go in blocks as long as the window reaches; each block sees its own keys, those of the block before and, where
    it is not causal, of the block after. Padding may see itself, so that no row of scores is empty.
    """
    B, H, T, _ = q.shape
    block = window if is_causal else max(1, window // 2)
    blocks = -(-T // block)
    spare = blocks * block - T
    after = 0 if is_causal else block
    span = 2 * block + after
    queries = F.pad(q, (0, 0, 0, spare)).unflatten(2, (blocks, block)).transpose(1, 2)  # (B, blocks, H, block, D)
    near_k, near_v = (
        F.pad(part, (0, 0, block, spare + after)).unfold(2, span, block).permute(0, 2, 1, 4, 3) for part in (k, v)
    )  # (B, blocks, G, span, D)
    is_token = torch.ones(1, T, dtype=torch.bool, device=q.device) if keys is None else keys[:, 0, 0]
    is_token = F.pad(is_token, (block, spare + after)).unfold(1, span, block)[:, :, None]  # (B or 1, blocks, 1, span)
    seen = visible(block, span, is_causal, window, q.device, offset=block)
    itself = visible(block, span, False, 1, q.device, offset=block)
    mask = ((seen & is_token) | itself).expand(B, -1, -1, -1).flatten(0, 1).unsqueeze(1)  # (B * blocks, 1, block, span)
    y = F.scaled_dot_product_attention(
        queries.flatten(0, 1), near_k.flatten(0, 1), near_v.flatten(0, 1), mask, dropout, enable_gqa=k.shape[1] != H
    )
    return y.unflatten(0, (B, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :T]

"""Causal self-attention, its rotary positions and its cache.

B rows, T tokens, C channels, H query heads, G key and value heads, D = C / H, S cached positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.model_config import ModelConfig


class KeyValueCache:
    """Keys and values of the tokens a model has seen, for generation; rows may have different lengths.

    `lengths` [B] int64 counts the valid positions of each row; what lies behind them is overwritten or never read.
    """

    def __init__(self, config: ModelConfig, rows: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (rows, config.key_value_heads, config.context, config.head_width)
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.layers)]
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self.longest = 0  # of `lengths`, kept here so that a GPU need not be asked

    def positions(self, tokens: int) -> Tensor:
        """[B, T]: where the next `tokens` tokens of each row go."""
        return self.lengths[:, None] + torch.arange(tokens, device=self.lengths.device)

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Puts [B, G, T, D] behind each row's valid positions; returns all, up to the longest row: [B, G, S, D]."""
        index = self.positions(keys.shape[2])[:, None, :, None].expand_as(keys)
        self.keys[layer].scatter_(2, index, keys.to(self.keys[layer].dtype))
        self.values[layer].scatter_(2, index, values.to(self.values[layer].dtype))
        end = self.longest + keys.shape[2]
        return self.keys[layer][:, :, :end].to(keys.dtype), self.values[layer][:, :, :end].to(values.dtype)

    def advance(self, tokens: int) -> None:
        """Counts the tokens that every layer has stored."""
        self.lengths += tokens
        self.longest += tokens

    def truncate(self, lengths: Tensor) -> None:
        """Forgets what lies behind `lengths` [B]: the padding of prompts of unequal length."""
        self.lengths = lengths.to(self.lengths.device)
        self.longest = int(lengths.max())


class RotaryPositions(nn.Module):
    """Rotates pairs of channels (i, i + D/2) by an angle that grows with the position. Source: arXiv 2104.09864.

    The half-split layout is the one of Hugging Face's Llama; the paper pairs neighbors.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        exponents = torch.arange(0, config.head_width, 2, dtype=torch.float32) / config.head_width
        angles = torch.outer(torch.arange(config.context, dtype=torch.float32), config.rope_theta**-exponents)
        self.cosines: Tensor
        self.sines: Tensor
        self.register_buffer("cosines", angles.cos(), persistent=False)  # [context, D/2]
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x [B, T, heads, D], positions [T] or [B, T]; same shape and dtype out, computed in float32."""
        cosines, sines = self.cosines[positions].unsqueeze(-2), self.sines[positions].unsqueeze(-2)  # ([B,] T, 1, D/2)
        first, second = x.float().chunk(2, dim=-1)
        return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention with fused query, key and value weights; grouped heads where the config asks for them."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_width = config.heads, config.key_value_heads, config.head_width
        self.dropout = config.dropout
        has_bias = config.family == "gpt2"
        self.qkv = nn.Linear(config.width, (self.heads + 2 * self.kv_heads) * self.head_width, bias=has_bias)
        self.output = nn.Linear(config.width, config.width, bias=has_bias)

    def forward(
        self, x: Tensor, rotary: RotaryPositions | None, positions: Tensor, cache: KeyValueCache | None
    ) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        B, T, C = x.shape
        rotated = self.heads + self.kv_heads
        qkv = self.qkv(x).view(B, T, rotated + self.kv_heads, self.head_width)
        queries_and_keys, v = qkv.split((rotated, self.kv_heads), dim=2)
        if rotary is not None:
            queries_and_keys = rotary(queries_and_keys, positions)
        q, k = queries_and_keys.split((self.heads, self.kv_heads), dim=2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H or G, T, D)
        mask = None
        if cache is not None:
            is_start = cache.longest == 0
            all_k, all_v = cache.store(self.layer, k, v)
            if not is_start:
                k, v = all_k, all_v
                mask = torch.arange(k.shape[2], device=x.device) <= positions[:, None, :, None]  # (B, 1, T, S)
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=self.dropout if self.training else 0.0,
            enable_gqa=self.kv_heads != self.heads,
        )
        return F.dropout(self.output(y.transpose(1, 2).reshape(B, T, C)), self.dropout, self.training)

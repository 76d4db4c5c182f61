"""The decoder-only trunk: token ids in, hidden states out. B rows, T tokens, C channels, V vocabulary."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import Attention, KeyValueCache, RotaryPositions
from model.model_config import ModelConfig


class Transformer(nn.Module):
    """Embeddings, pre-norm blocks and a final norm."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        is_gpt2 = config.family == "gpt2"
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width) if is_gpt2 else None
        self.rotary = None if is_gpt2 else RotaryPositions(config)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = _norm(config)
        self._initialize()

    def forward(self, ids: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """ids [B, T] int64 -> hidden [B, T, C] after the final norm.

        With a cache, `ids` continue what it holds, and it grows by T. Raises ValueError past the context.
        """
        tokens = ids.shape[1]
        end = tokens + (0 if cache is None else cache.longest)
        if end > self.config.context:
            raise ValueError(f"a sequence of {end} tokens does not fit the model's context of {self.config.context}")
        positions = torch.arange(tokens, device=ids.device) if cache is None else cache.positions(tokens)
        x = self.embedding(ids)
        if self.positions is not None:
            x = x + self.positions(positions)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x, self.rotary, positions, cache)
        if cache is not None:
            cache.advance(tokens)
        return self.norm(x)

    def new_cache(self, rows: int) -> KeyValueCache:
        """An empty cache beside the weights."""
        return KeyValueCache(self.config, rows, self.embedding.weight.device, self.embedding.weight.dtype)

    def _initialize(self) -> None:
        """Normal weights, zero biases; outputs that add to the residual are scaled by 1/sqrt(2 layers), as in GPT-2."""
        std = self.config.initial_std
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                is_residual = name.endswith(".output")
                nn.init.normal_(module.weight, std=std / math.sqrt(2 * self.config.layers) if is_residual else std)
                if module.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]  (the stubs forget bias=False)
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=std)


class Block(nn.Module):
    """Attention and MLP, each behind its norm and added to the residual."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = _norm(config)
        self.attention = Attention(config, layer)
        self.mlp_norm = _norm(config)
        self.mlp = GeluMlp(config) if config.family == "gpt2" else SwigluMlp(config)

    def forward(
        self, x: Tensor, rotary: RotaryPositions | None, positions: Tensor, cache: KeyValueCache | None
    ) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        x = x + self.attention(self.attention_norm(x), rotary, positions, cache)
        return x + self.mlp(self.mlp_norm(x))


class GeluMlp(nn.Module):
    """GPT-2's: up, tanh-approximated GELU, down."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.up = nn.Linear(config.width, config.hidden_width)
        self.output = nn.Linear(config.hidden_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        return F.dropout(self.output(F.gelu(self.up(x), approximate="tanh")), self.dropout, self.training)


class SwigluMlp(nn.Module):
    """Llama's: silu(gate) * up, down; gate and up are one matrix. Source: arXiv 2002.05202."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.gate_up = nn.Linear(config.width, 2 * config.hidden_width, bias=False)
        self.output = nn.Linear(config.hidden_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return F.dropout(self.output(F.silu(gate) * up), self.dropout, self.training)


def _norm(config: ModelConfig) -> nn.Module:
    if config.family == "gpt2":
        return nn.LayerNorm(config.width, eps=config.norm_epsilon)
    return nn.RMSNorm(config.width, eps=config.norm_epsilon)

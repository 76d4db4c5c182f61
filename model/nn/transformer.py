"""Transformer trunks: token ids in, hidden states out. B rows, T tokens, C channels, V vocabulary, S source tokens."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config.layout_config import Recomputed
from model.config.model_config import ModelConfig
from model.data.packed_documents import Documents
from model.nn.attention import Attention, CrossAttention, RotaryPositions, View, key_mask
from model.nn.kv_cache import KeyValueCache
from model.nn.layers import build_mlp, build_norm, initialize
from model.nn.recompute import recomputed


class Block(nn.Module):
    """Attention and MLP, each added to the residual: behind a norm, or normed afterwards."""

    def __init__(self, config: ModelConfig, layer: int, crosses: bool) -> None:
        super().__init__()
        self.is_pre_norm = config.is_pre_norm
        self.recomputed: Recomputed = "none"  # of what it gave inside, for its backward pass
        has_no_norm = config.family == "modernbert" and layer == 0  # the embedding has just been normed
        self.attention_norm = nn.Identity() if has_no_norm else build_norm(config)
        self.attention = Attention(config, layer)
        self.cross_norm = build_norm(config) if crosses else None
        self.cross = CrossAttention(config, layer) if crosses else None
        self.mlp_norm = build_norm(config)
        self.mlp = build_mlp(config)

    def forward(self, x: Tensor, view: View, memory: Tensor | None) -> Tensor:
        """x [B, T, C] -> [B, T, C]; memory [B, S, C] is what a decoder attends to, where no cache remembers it."""
        return recomputed(lambda x: self._compute(x, view, memory), x, self.recomputed)

    def _compute(self, x: Tensor, view: View, memory: Tensor | None) -> Tensor:
        if self.is_pre_norm:
            x = x + self.attention(self.attention_norm(x), view)
            return x + self.mlp(self.mlp_norm(x))
        x = self.attention_norm(x + self.attention(x, view))
        if self.cross is not None and self.cross_norm is not None:
            x = self.cross_norm(x + self._look_at_source(self.cross, x, view, memory))
        return self.mlp_norm(x + self.mlp(x))

    def _look_at_source(self, cross: CrossAttention, x: Tensor, view: View, memory: Tensor | None) -> Tensor:
        if view.cache is not None:
            return cross(x, *view.cache.memory[cross.layer], view.cache.memory_keys)
        assert memory is not None
        return cross(x, *cross.remember(memory), view.source_keys)


class Stack(nn.Module):
    """Positions, blocks and, behind pre-norm blocks, a last norm: from embedded tokens to hidden states."""

    def __init__(self, config: ModelConfig, layers: int, is_causal: bool, crosses: bool = False) -> None:
        super().__init__()
        self.config, self.is_causal = config, is_causal
        is_learned = config.position_kind == "learned"
        self.positions = nn.Embedding(config.context, config.width) if is_learned else None
        self.sinusoids: Tensor | None
        table = sinusoidal_positions(config.context, config.width) if config.position_kind == "sinusoidal" else None
        self.register_buffer("sinusoids", table, persistent=False)  # [context, C]
        thetas = sorted({config.theta_of(layer) for layer in range(layers)}) if config.position_kind == "rotary" else []
        self.rotary = nn.ModuleList(RotaryPositions(config, theta) for theta in thetas)
        self.blocks = nn.ModuleList(Block(config, layer, crosses) for layer in range(layers))
        self.norm = build_norm(config) if config.is_pre_norm else None

    def add_positions(self, x: Tensor, documents: Documents | None, cache: KeyValueCache | None) -> tuple[Tensor, Tensor]:
        """Embedded tokens with their positions added, [B, T, C], and those positions, [T] or [B, T].

        Raises ValueError past the context.
        """
        tokens = x.shape[1]
        end = tokens + (0 if cache is None else cache.longest)
        if end > self.config.context:
            raise ValueError(f"a sequence of {end} tokens does not fit the model's context of {self.config.context}")
        if documents is not None:
            positions = documents.positions
        else:
            positions = torch.arange(tokens, device=x.device) if cache is None else cache.positions(tokens)
        if self.positions is not None:
            x = x + self.positions(positions).to(x.dtype)
        if self.sinusoids is not None:
            x = x + self.sinusoids[positions].to(x.dtype)
        return x, positions

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        documents: Documents | None,
        lengths: Tensor | None,
        cache: KeyValueCache | None = None,
        memory: Tensor | None = None,
        source_lengths: Tensor | None = None,
    ) -> Tensor:
        """x [B, T, C] from `add_positions` -> hidden [B, T, C]. With a cache, the tokens continue what it holds, and it grows by T."""
        padding = None if self.is_causal or documents is not None else lengths
        view = View(
            self.is_causal,
            {rotary.theta: rotary(positions, x.dtype) for rotary in self.rotary if isinstance(rotary, RotaryPositions)},
            documents,
            None if padding is None else key_mask(padding, x.shape[1]),
            cache,
            None if memory is None or source_lengths is None else key_mask(source_lengths, memory.shape[1]),
        )
        for block in self.blocks:
            x = block(x, view, memory)
        if cache is not None:
            cache.advance(x.shape[1])
        return x if self.norm is None else self.norm(x)


class Transformer(nn.Module):
    """A decoder or an encoder: embeddings and a stack."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        if config.is_recurrent or config.family == "seq2seq":
            raise ValueError(f"family {config.family} is no single transformer stack")
        self.config, self.vocab_size = config, vocab_size
        self.compute_dtype: torch.dtype | None = None  # of activations; None: the weights' own
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.token_types = nn.Embedding(config.segment_kinds, config.width) if config.segment_kinds else None
        self.embedding_norm = None if config.is_causal else build_norm(config)
        self.stack = Stack(config, config.layers, config.is_causal)
        initialize(self, config)

    def forward(
        self,
        ids: Tensor,
        documents: Documents | None = None,
        lengths: Tensor | None = None,
        token_types: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """ids [B, T] int64 -> hidden [B, T, C] after the last norm.

        `documents`: attention stops at their ends, and positions restart. `lengths` [B]: tokens that are no padding; only
        encoders ask. With a cache, `ids` continue what it holds, and it grows by T. Raises ValueError past the context.
        """
        x = self.embedding(ids)
        if self.compute_dtype is not None:
            x = x.to(self.compute_dtype)
        if self.token_types is not None:
            kinds = self.token_types.weight[0] if token_types is None else self.token_types(token_types)
            x = x + kinds.to(x.dtype)
        x, positions = self.stack.add_positions(x, documents, cache)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = F.dropout(x, self.config.dropout, self.training)
        return self.stack(x, positions, documents, lengths, cache)

    def new_cache(self, rows: int) -> KeyValueCache:
        """An empty cache beside the weights."""
        dtype = self.compute_dtype or self.embedding.weight.dtype
        return KeyValueCache(self.config, self.config.layers, rows, self.embedding.weight.device, dtype)

    def prefill(self, ids: Tensor, lengths: Tensor, cache: KeyValueCache) -> Tensor:
        """Reads prompts, padded on the right, into an empty cache: hidden states of their last tokens [B, C]."""
        hidden = self(ids, cache=cache)
        cache.truncate(lengths)
        return hidden[torch.arange(len(ids), device=ids.device), lengths - 1]

    def extend(self, ids: Tensor, cache: KeyValueCache) -> Tensor:
        """One more token of each row, ids [B, 1] -> hidden [B, C]."""
        return self(ids, cache=cache)[:, -1]


class EncoderDecoder(nn.Module):
    """The Transformer of "Attention Is All You Need" (arXiv 1706.03762): one embedding for source, target and head."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        if config.family != "seq2seq":
            raise ValueError(f"family {config.family} has no encoder and decoder: set family to seq2seq")
        self.config, self.vocab_size = config, vocab_size
        self.compute_dtype: torch.dtype | None = None
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.encoder = Stack(config, config.layers, is_causal=False)
        self.decoder = Stack(config, config.decoder_depth, is_causal=True, crosses=True)
        initialize(self, config)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)  # scaled up again where it is looked up

    def forward(self, ids: Tensor, lengths: Tensor, decoder_ids: Tensor) -> Tensor:
        """Source ids [B, S] with lengths [B], target ids [B, T] -> hidden of the target [B, T, C]."""
        memory = self.encode(ids, lengths)
        x, positions = self._embed(self.decoder, decoder_ids, None)
        return self.decoder(x, positions, None, None, None, memory, lengths)

    def encode(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Source ids [B, S] with lengths [B] -> memory [B, S, C]."""
        x, positions = self._embed(self.encoder, ids, None)
        return self.encoder(x, positions, None, lengths)

    def new_cache(self, memory: Tensor, lengths: Tensor) -> KeyValueCache:
        """A cache that holds the encoded source and no target yet."""
        cache = KeyValueCache(self.config, self.config.decoder_depth, len(memory), memory.device, memory.dtype)
        for block in self.decoder.blocks:
            assert isinstance(block, Block)
            assert block.cross is not None
            cache.memory.append(block.cross.remember(memory))
        cache.memory_keys = key_mask(lengths, memory.shape[1])
        return cache

    def extend(self, ids: Tensor, cache: KeyValueCache) -> Tensor:
        """The next tokens of each row, ids [B, T] -> hidden of the last [B, C]."""
        x, positions = self._embed(self.decoder, ids, cache)
        return self.decoder(x, positions, None, None, cache)[:, -1]

    def _embed(self, stack: Stack, ids: Tensor, cache: KeyValueCache | None) -> tuple[Tensor, Tensor]:
        x = self.embedding(ids) * math.sqrt(self.config.width)
        if self.compute_dtype is not None:
            x = x.to(self.compute_dtype)
        x, positions = stack.add_positions(x, None, cache)
        return F.dropout(x, self.config.dropout, self.training), positions


def sinusoidal_positions(context: int, width: int) -> Tensor:
    """[context, C]: sines in the first half of the channels, cosines in the second (arXiv 1706.03762, section 3.5, reordered)."""
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width  # float32 would be off by 1e-4 at position 1000
    angles = torch.outer(torch.arange(context, dtype=torch.float64), 10000.0**-exponents)
    return torch.cat((angles.sin(), angles.cos()[:, : width // 2]), dim=1).float()

"""Attention against the formula softmax(QK'/sqrt(D))V, written out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.config.model_config import ModelConfig
from model.data.packed_documents import find_documents
from model.nn.attention import Attention, View, attend_locally, key_mask
from model.nn.document_masks import visible


def plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    k, v = (part.repeat_interleave(q.shape[1] // part.shape[1], dim=1) for part in (k, v))
    scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1) @ v


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def output_of(attention: Attention, x: Tensor, mask: Tensor) -> Tensor:
    """The whole layer, with the formula instead of the kernel."""
    qkv = attention.qkv(x).view(*x.shape[:2], -1, attention.head_width).transpose(1, 2)
    q, k, v = qkv.split((attention.heads, attention.kv_heads, attention.kv_heads), dim=1)
    return attention.output(plain_attention(q, k, v, mask).transpose(1, 2).flatten(2))


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.integers(1, 40),
    window=st.integers(1, 24),
    is_causal=st.booleans(),
    kv_heads=st.sampled_from([1, 2, 4]),
    is_padded=st.booleans(),
)
def test_local_attention_is_the_formula_within_the_window(tokens: int, window: int, is_causal: bool, kv_heads: int, is_padded: bool):
    q, k, v = normal(2, 4, tokens, 8), normal(2, kv_heads, tokens, 8), normal(2, kv_heads, tokens, 9)[..., :8]
    lengths = torch.tensor([tokens, max(1, tokens // 2)])
    keys = key_mask(lengths, tokens) if is_padded and not is_causal else None
    mask = visible(tokens, tokens, is_causal, window, q.device)
    if keys is not None:
        mask = (mask & keys) | torch.eye(tokens, dtype=torch.bool)
    found = attend_locally(q, k, v, window, is_causal, keys, 0.0)
    torch.testing.assert_close(found, plain_attention(q, k, v, mask), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_attention_is_the_formula(family: str):
    attention = Attention(ModelConfig(family, width=32, heads=4, context=16), 0)
    x = normal(2, 11, 32)
    is_causal = family == "gpt2"
    mask = visible(11, 11, is_causal, 0, x.device)
    torch.testing.assert_close(attention(x, View(is_causal, {})), output_of(attention, x, mask), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_attention_stops_at_the_ends_of_documents(family: str):
    attention = Attention(ModelConfig(family, width=32, heads=4, context=32), 0)
    x, starts = normal(3, 20, 32), np.random.default_rng(1).random((3, 20)) < 0.2
    starts[:, 0] = True
    numbers = torch.from_numpy(starts.cumsum(axis=1))
    is_causal = family == "gpt2"
    mask = (numbers[:, :, None] == numbers[:, None]) & visible(20, 20, is_causal, 0, x.device)
    found = attention(x, View(is_causal, {}, find_documents(starts)))
    torch.testing.assert_close(found, output_of(attention, x, mask[:, None]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("window", [0, 5])
def test_weights_that_are_looked_at_are_those_of_the_formula(window: int):
    attention = Attention(ModelConfig("gpt2", width=32, heads=4, context=16, window=window), 0)
    weights = attention.weights(normal(2, 11, 32), View(True, {}))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 11))
    assert not weights[:, :, ~visible(11, 11, True, window, weights.device)].any()


def test_no_mask_of_rows_times_tokens_squared_is_built_in_training():
    """Packed rows of 512 tokens: nothing of their square is ever allocated but inside the kernel."""
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                sizes.append(out.numel())
            return out

    config = ModelConfig("gpt2", layers=1, width=16, heads=2, context=512, window=64, global_every=2)
    starts = np.random.default_rng(1).random((4, 512)) < 0.02
    for attention in (Attention(config, 0), Attention(config, 1)):
        with Watch():
            attention(normal(4, 512, 16), View(True, {}, find_documents(starts)))
    assert sizes
    assert max(sizes) < 4 * 512 * 512

"""Documents as masks of fixed shapes: the same as in buckets, and compiled once."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.config.model_config import ModelConfig
from model.data.batches import Batch
from model.data.packed_documents import Documents, find_documents
from model.nn.document_masks import attend_flexibly, block_mask, dense_mask, with_masks
from model.nn.models import LanguageModel, MaskedLanguageModel

VOCAB, ROWS, TOKENS = 61, 3, 32
SHAPES = {
    "gpt2": ModelConfig("gpt2", layers=2, width=32, heads=4, context=TOKENS),
    "llama": ModelConfig("llama", layers=2, width=32, heads=4, kv_heads=2, context=TOKENS, window=7, global_every=2),
    "bert": ModelConfig("bert", layers=2, width=32, heads=4, context=TOKENS),
    "modernbert": ModelConfig("modernbert", layers=4, width=32, heads=4, context=TOKENS, window=6, global_every=3),
}


def build(config: ModelConfig) -> LanguageModel | MaskedLanguageModel:
    torch.manual_seed(1)
    return LanguageModel(config, VOCAB) if config.is_causal else MaskedLanguageModel(config, VOCAB)


def make_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids, targets = torch.randint(VOCAB, (2, ROWS, TOKENS), generator=generator)
    starts = torch.rand(ids.shape, generator=generator) < 0.05 * seed
    return Batch(ids, targets, torch.full((ROWS,), TOKENS), find_documents(starts.numpy()))


def masked(batch: Batch, config: ModelConfig) -> Batch:
    assert batch.documents is not None
    return replace(batch, documents=with_masks(batch.documents, config))


def numbers_of(documents: Documents | None) -> Tensor:
    assert documents is not None
    return (documents.positions == 0).flatten().cumsum(0)


@pytest.fixture
def compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.set_stance("default")
    torch.compiler.reset()


@pytest.mark.parametrize("family", SHAPES)
def test_losses_and_gradients_are_those_of_the_buckets(family: str):
    config, batch = SHAPES[family], make_batch(2)
    model = build(config)
    expected, found = model.loss(batch).nats, model.loss(masked(batch, config)).nats
    torch.testing.assert_close(found, expected)
    trained = list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(found, trained), torch.autograd.grad(expected, trained), rtol=1e-4, atol=1e-5)


def test_another_batch_of_other_documents_is_not_compiled_anew(compiler: None):
    config = SHAPES["llama"]
    model = build(config)
    first, second = make_batch(1), make_batch(4)
    expected = [model.loss(batch).nats.detach() for batch in (first, second)]
    compiled = torch.compile(model.loss, backend="aot_eager", fullgraph=True)
    found = [compiled(masked(first, config)).nats]
    found[0].backward()
    torch.compiler.set_stance("fail_on_recompile")
    found.append(compiled(masked(second, config)).nats)
    found[1].backward()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("window", "is_causal"), [(0, True), (7, True), (0, False), (6, False)])
def test_blocks_of_flex_attention_see_what_the_mask_lets_see(window: int, is_causal: bool):
    numbers = numbers_of(make_batch(2).documents)
    q, k, v = torch.randn(ROWS, 4, TOKENS, 16), torch.randn(ROWS, 2, TOKENS, 16), torch.randn(ROWS, 2, TOKENS, 16)
    dense = dense_mask(numbers, TOKENS, window, is_causal)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, dense, enable_gqa=True)
    torch.testing.assert_close(attend_flexibly(q, k, v, block_mask(numbers, TOKENS, window, is_causal)), expected)


def test_flex_attention_is_not_compiled_anew_for_other_documents(compiler: None):
    """Forward only: on a CPU torch has no backward pass of it."""
    q = torch.randn(ROWS, 4, TOKENS, 16)
    compiled = torch.compile(attend_flexibly, backend="aot_eager", fullgraph=True)
    for number, seed in enumerate((1, 4)):
        numbers = numbers_of(make_batch(seed).documents)
        expected = torch.nn.functional.scaled_dot_product_attention(q, q, q, dense_mask(numbers, TOKENS, 0, is_causal=True))
        torch.testing.assert_close(compiled(q, q, q, block_mask(numbers, TOKENS, 0, is_causal=True)), expected)
        if number == 0:
            torch.compiler.set_stance("fail_on_recompile")

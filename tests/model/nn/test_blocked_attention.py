import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.config.model_config import ModelConfig
from model.nn.blocked_attention import BLOCK, attend_in_blocks
from model.nn.models import LanguageModel, set_compute_dtype


def reference(qkv: Tensor, heads: int, kv_heads: int) -> Tensor:
    q, k, v = qkv.transpose(1, 2).split((heads, kv_heads, kv_heads), dim=1)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return y.transpose(1, 2).flatten(2)


def make_qkv(tokens: int, heads: int, kv_heads: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    qkv = torch.randn(2, tokens, heads + 2 * kv_heads, 8, generator=generator, requires_grad=True)
    return qkv, torch.randn(2, tokens, heads * 8, generator=generator)


@pytest.mark.parametrize("tokens", [1, 7, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (3, 1)])
def test_attention_in_blocks_equals_the_stock_kernel_in_value_and_gradient(tokens: int, heads: int, kv_heads: int):
    qkv, slope = make_qkv(tokens, heads, kv_heads)
    found, expected = (attend(qkv, heads, kv_heads) for attend in (attend_in_blocks, reference))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(torch.autograd.grad(found, qkv, slope), torch.autograd.grad(expected, qkv, slope), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_attention_in_blocks_is_as_exact_in_bfloat16_as_the_stock_kernel():
    exact, slope = make_qkv(2 * BLOCK, 4, 4)
    qkv = exact.detach().bfloat16().requires_grad_()
    (expected,) = torch.autograd.grad(reference(exact, 4, 4), exact, slope)
    errors = [
        (torch.autograd.grad(attend(qkv, 4, 4), qkv, slope.bfloat16())[0].float() - expected).norm() / expected.norm()
        for attend in (attend_in_blocks, reference)
    ]
    assert errors[0] < 1.5 * errors[1]


def test_bfloat16_language_model_on_a_cpu_has_about_the_float32_logits():
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig("llama", layers=2, width=32, heads=4, kv_heads=2, context=200), 50)
    ids = torch.randint(50, (2, 200))
    exact = model(ids)
    set_compute_dtype(model, torch.bfloat16)
    assert (model(ids).float() - exact).norm() / exact.norm() < 0.02


def test_input_is_left_as_it_is_even_where_its_queries_lie_in_one_block() -> None:
    qkv = torch.randn(1, 1, 6, 8).bfloat16()  # one document of one token
    before = qkv.clone()
    attend_in_blocks(qkv, 2, 2)
    assert torch.equal(qkv, before)

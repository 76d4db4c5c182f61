import pytest
import torch
import torch.nn.functional as F

from model.nn import layers
from model.nn.layers import gelu_tanh


def make_case(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = 4 * torch.randn(3, 17, 32, generator=generator)
    return x.to(dtype).requires_grad_(), torch.randn(3, 17, 32, generator=generator).to(dtype)


@pytest.mark.parametrize("chunk", [1, 100, 2**18])
def test_gelu_without_tanh_equals_the_stock_one_in_value_and_gradient(chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layers, "GELU_CHUNK", chunk)
    x, slope = make_case(torch.float32)
    before = x.detach().clone()
    found, expected = gelu_tanh(x), F.gelu(x, approximate="tanh")
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    (ours,), (theirs,) = (torch.autograd.grad(y, x, slope) for y in (found, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert torch.equal(x, before)


def test_gelu_in_bfloat16_rounds_like_the_stock_one():
    x, _ = make_case(torch.bfloat16)
    torch.testing.assert_close(gelu_tanh(x), F.gelu(x, approximate="tanh"), atol=2e-3, rtol=2**-7)


def test_gelu_far_from_zero_is_the_identity_or_zero():
    x = torch.tensor([[-1e4, -100.0, 100.0, 1e4]], requires_grad=True)
    y = gelu_tanh(x)
    assert y.tolist() == [[0.0, 0.0, 100.0, 1e4]]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [[0.0, 0.0, 1.0, 1.0]]

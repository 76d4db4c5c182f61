"""Float8 products: near the float32 ones, by what eight bits round, and refused where the device has none."""

import pytest
import torch
from torch import nn

from model.config.model_config import ModelConfig
from model.data.batches import Batch
from model.nn import float8
from model.nn.float8 import E4M3, E5M2, Float8Linear, check_float8, to_float8, use_float8
from model.nn.models import LanguageModel, set_compute_dtype, set_recomputed

CPU = torch.device("cpu")
STEP = {E4M3: 2**-4, E5M2: 2**-3}  # half of the last of 3 and of 2 bits, of a number between two powers of two
SHAPE = ModelConfig("llama", layers=2, width=32, heads=2, context=16)


def learned(layer: nn.Linear, x: torch.Tensor, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(slope)
    assert x.grad is not None
    assert layer.weight.grad is not None
    found = y.detach(), x.grad, layer.weight.grad.clone()
    layer.zero_grad()
    return found


@pytest.mark.parametrize("dtype", [E4M3, E5M2])
def test_numbers_are_rounded_to_the_bits_that_there_are(dtype: torch.dtype):
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(1)) * 1e-3
    small, scale = to_float8(x, dtype)
    normal = x.abs() > x.abs().max() / 100
    assert ((small.float() * scale - x).abs() / x.abs())[normal].max() <= STEP[dtype] * (1 + 1e-6)


def test_products_are_those_of_the_rounded_numbers():
    """The device's own kernel against the product of what the eight bits stand for."""
    torch.manual_seed(1)
    layer, x, slope = nn.Linear(32, 48), torch.randn(2, 5, 32), torch.randn(2, 5, 48)
    found = learned(Float8Linear(layer), x, slope)
    small_x, small_weight, small_slope = (
        small.float() * scale for small, scale in (to_float8(x, E4M3), to_float8(layer.weight.detach(), E4M3), to_float8(slope, E5M2))
    )
    expected = (
        small_x @ small_weight.T + layer.bias.detach(),
        small_slope @ small_weight,
        small_slope.flatten(0, 1).T @ small_x.flatten(0, 1),
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_products_are_near_those_in_float32():
    torch.manual_seed(1)
    layer, x, slope = nn.Linear(64, 64), torch.randn(128, 64), torch.randn(128, 64)
    for ours, exact in zip(learned(Float8Linear(layer), x, slope), learned(layer, x, slope), strict=True):
        assert (ours - exact).norm() / exact.norm() < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_model_learns_as_without(dtype: torch.dtype):
    torch.manual_seed(1)
    model = LanguageModel(SHAPE, 61)
    set_compute_dtype(model, dtype)
    ids = torch.randint(61, (2, 17))
    batch = Batch(ids[:, :-1], ids[:, 1:], torch.full((2,), 16))
    names = list(model.state_dict())
    exact = model.loss(batch).nats.item()
    use_float8(model, CPU)
    set_recomputed(model, "selective")
    assert list(model.state_dict()) == names
    loss = model.loss(batch).nats
    loss.backward()
    assert loss.item() == pytest.approx(exact, rel=0.01)
    assert sum(isinstance(layer, Float8Linear) for layer in model.modules()) == 2 * 4
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in model.parameters())


def test_compiler_sees_through_it():
    torch.manual_seed(1)
    layer, x = Float8Linear(nn.Linear(32, 32)), torch.randn(16, 32)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))


def test_gpu_before_ada_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(ValueError, match=r"NVIDIA A100 has compute capability 8\.0, expected 8\.9"):
        check_float8(torch.device("cuda"))


def test_device_without_the_product_is_refused(monkeypatch: pytest.MonkeyPatch):
    def refuse(*given: object) -> torch.Tensor:
        raise NotImplementedError("no kernel")

    monkeypatch.setattr(float8, "_product", refuse)
    with pytest.raises(ValueError, match=r"has no such product on cpu \(no kernel\); leave float8 out"):
        use_float8(LanguageModel(SHAPE, 61), CPU)


def test_model_without_a_fitting_layer_is_refused():
    with pytest.raises(ValueError, match="no layer of a block has sides that are multiples of 16"):
        use_float8(LanguageModel(ModelConfig("lstm", layers=1, width=32, context=16), 61), CPU)

import pytest
import torch
import torch.nn.functional as F

from model.config.heads import IGNORED
from model.config.lora_config import LoraConfig
from model.config.model_config import ModelConfig
from model.config.training_config import LossConfig
from model.data.batches import Batch
from model.nn.lora import apply_lora
from model.nn.loss import _HeadGradient, linear_cross_entropy, plain_cross_entropy
from model.nn.models import LanguageModel


def make_case(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, 24, generator=generator, requires_grad=True)
    weight = torch.randn(37, 24, generator=generator, requires_grad=True)
    targets = torch.randint(37, (rows,), generator=generator)
    targets[::5] = IGNORED
    return hidden, weight, targets


@pytest.mark.parametrize("chunk_rows", [0, 1, 7, 40, 100])
def test_chunked_loss_equals_the_plain_one_in_value_and_gradient(chunk_rows: int):
    hidden, weight, targets = make_case(40)
    plain = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORED, reduction="sum")
    expected = torch.autograd.grad(plain * 0.3, (hidden, weight))
    loss = linear_cross_entropy(hidden, weight, targets, chunk_rows)
    found = torch.autograd.grad(loss.nats * 0.3, (hidden, weight))
    assert loss.nats.item() == pytest.approx(plain.item(), rel=1e-6)
    assert loss.count.item() == 32
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_compiled_loss_equals_the_plain_one_in_value_and_gradient(cap: float):
    hidden, weight, targets = make_case(40)

    def nats(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return linear_cross_entropy(hidden, weight, targets, 7, cap).nats

    expected = nats(hidden, weight)
    gradients = torch.autograd.grad(expected, (hidden, weight))
    compiled = torch.compile(nats, backend="aot_eager", fullgraph=True)(hidden, weight)
    torch.testing.assert_close(compiled, expected)
    for ours, theirs in zip(torch.autograd.grad(compiled, (hidden, weight)), gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


TERMS = [LossConfig(z=0.01), LossConfig(label_smoothing=0.2), LossConfig(z=0.01, label_smoothing=0.2)]


def written_out(logits: torch.Tensor, targets: torch.Tensor, terms: LossConfig) -> torch.Tensor:
    """What is learned from, by its formula."""
    kept = logits[targets != IGNORED]
    smoothed = F.cross_entropy(kept, targets[targets != IGNORED], reduction="sum", label_smoothing=terms.label_smoothing)
    return smoothed + terms.z * kept.logsumexp(dim=-1).square().sum()


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_terms_enter_what_is_learned_from_and_not_the_nats(cap: float, terms: LossConfig):
    hidden, weight, targets = make_case(40)
    logits = hidden @ weight.T
    scores = cap * torch.tanh(logits / cap) if cap else logits
    expected = written_out(scores, targets, terms)
    loss, plain = linear_cross_entropy(hidden, weight, targets, 7, cap, terms), linear_cross_entropy(hidden, weight, targets, 7, cap)
    assert loss.objective.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.equal(loss.nats, plain.nats)
    assert not loss.nats.requires_grad
    gradients = torch.autograd.grad(expected, (hidden, weight), retain_graph=True)
    for ours, theirs in zip(torch.autograd.grad(loss.objective, (hidden, weight)), gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    few = plain_cross_entropy(scores, targets, terms)
    assert few.objective.item() == pytest.approx(expected.item(), rel=1e-6)
    assert few.nats.item() == pytest.approx(plain.nats.item(), rel=1e-6)


def test_compiled_loss_has_the_terms_too():
    hidden, weight, targets = make_case(40)

    def objective(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return linear_cross_entropy(hidden, weight, targets, 7, 5.0, TERMS[-1]).objective

    expected = objective(hidden, weight)
    gradients = torch.autograd.grad(expected, (hidden, weight))
    compiled = torch.compile(objective, backend="aot_eager", fullgraph=True)(hidden, weight)
    torch.testing.assert_close(compiled, expected)
    for ours, theirs in zip(torch.autograd.grad(compiled, (hidden, weight)), gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_loss_without_gradients_is_the_same():
    hidden, weight, targets = make_case(40)
    with torch.no_grad():
        without = linear_cross_entropy(hidden, weight, targets, 7)
    assert without.nats.item() == linear_cross_entropy(hidden, weight, targets, 7).nats.item()
    assert not without.nats.requires_grad


@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_frozen_head_gets_no_gradient_and_none_is_computed(cap: float, monkeypatch: pytest.MonkeyPatch):
    hidden, weight, targets = make_case(40)
    learning = linear_cross_entropy(hidden, weight, targets, 7, cap).nats
    (expected,) = torch.autograd.grad(learning, hidden)
    weight.requires_grad_(False)
    monkeypatch.setattr(_HeadGradient, "add", None)  # whoever computes it fails
    frozen = linear_cross_entropy(hidden, weight, targets, 7, cap).nats
    frozen.backward()
    assert torch.equal(frozen, learning)
    assert hidden.grad is not None
    assert torch.equal(hidden.grad, expected)
    assert weight.grad is None


def test_head_learns_alone_on_hidden_states_without_a_gradient():
    hidden, weight, targets = make_case(40)
    learning = linear_cross_entropy(hidden, weight, targets, 7).nats
    (expected,) = torch.autograd.grad(learning, weight)
    linear_cross_entropy(hidden.detach(), weight, targets, 7).nats.backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, expected)
    assert hidden.grad is None


def test_head_of_a_model_with_adapters_costs_no_gradient():
    model = LanguageModel(ModelConfig(layers=1, width=16, heads=2, context=8), 37)
    apply_lora(model, LoraConfig(rank=2))
    ids = torch.arange(8)[None]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_HeadGradient, "add", None)
        model.loss(Batch(ids, ids.roll(-1, 1), torch.tensor([8]))).nats.backward()
    assert model.trunk.embedding.weight.grad is None
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_loss_in_bfloat16_is_close_and_the_head_keeps_a_float32_gradient():
    hidden, weight, targets = make_case(40)
    exact = linear_cross_entropy(hidden, weight, targets).nats
    loss = linear_cross_entropy(hidden.bfloat16(), weight, targets)
    assert loss.nats.dtype == torch.float32
    assert loss.nats.item() == pytest.approx(exact.item(), rel=0.01)
    assert all(gradient.dtype == torch.float32 for gradient in torch.autograd.grad(loss.nats, (hidden, weight)))


@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_target_of_vanishing_probability_has_finite_nats(cap: float):
    logits = torch.zeros(2, 5)
    logits[0, 1] = 1000.0
    weight = torch.eye(5).mul(1.0).requires_grad_()
    targets = torch.tensor([3, 2])
    scores = cap * torch.tanh(logits / cap) if cap else logits
    plain = F.cross_entropy(scores, targets, reduction="sum")
    assert linear_cross_entropy(logits, weight, targets, cap=cap).nats.item() == pytest.approx(plain.item(), rel=1e-6)


def test_capped_loss_equals_the_plain_one_in_value_and_gradient():
    hidden, weight, targets = make_case(40)
    logits = 2.0 * torch.tanh(hidden @ weight.T / 2.0)
    plain = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    expected = torch.autograd.grad(plain, (hidden, weight))
    loss = linear_cross_entropy(hidden, weight, targets, 7, cap=2.0)
    assert loss.nats.item() == pytest.approx(plain.item(), rel=1e-6)
    for ours, theirs in zip(torch.autograd.grad(loss.nats, (hidden, weight)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_batch_without_a_target_costs_nothing():
    hidden, weight, targets = make_case(10)
    loss = linear_cross_entropy(hidden, weight, torch.full_like(targets, IGNORED))
    loss.nats.backward()
    assert (loss.nats.item(), loss.count.item()) == (0.0, 0)
    assert weight.grad is not None
    assert not weight.grad.any()

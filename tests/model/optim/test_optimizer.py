import copy
import dataclasses

import pytest
import torch
from torch import nn

from model.config.model_config import ModelConfig
from model.config.training_config import (
    AverageConfig,
    LossConfig,
    OptimizerConfig,
    RateFactor,
    TrainingConfig,
    config_to_json,
    settings_digest,
)
from model.nn.models import LanguageModel
from model.optim.matrices import hidden_matrices
from model.optim.muon import newton_schulz, orthogonalized
from model.optim.optimizer import build_optimizer, check_kind, set_learning_rate, step_where

CONFIGS = [
    OptimizerConfig(),
    OptimizerConfig(state_dtype="bfloat16"),
    OptimizerConfig(kind="muon"),
    OptimizerConfig(kind="muon", state_dtype="bfloat16"),
    OptimizerConfig(kind="lion"),
    OptimizerConfig(kind="lion", state_dtype="bfloat16"),
    OptimizerConfig(kind="sgd"),
    OptimizerConfig(kind="adafactor"),
]
TAKEN, SKIPPED = torch.tensor(True), torch.tensor(False)


def named(config: OptimizerConfig) -> str:
    return f"{config.kind}-{config.state_dtype}"


@pytest.fixture
def model(tiny: ModelConfig) -> LanguageModel:
    torch.manual_seed(1)
    return LanguageModel(tiny, 61)


def give_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def are_equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_skipped_step_leaves_weights_and_states_as_they_were(model: LanguageModel, config: OptimizerConfig):
    other = copy.deepcopy(model)
    optimizer, other_optimizer = build_optimizer(model, config), build_optimizer(other, config)
    before = weights(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    step_where(optimizer, SKIPPED)  # the very first, in which states are made
    assert are_equal(before, weights(model))
    for number in range(3):
        give_gradients(model, number)
        give_gradients(other, number)
        step_where(optimizer, TAKEN)
        step_where(other_optimizer, TAKEN)
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, torch.inf)
        step_where(optimizer, SKIPPED)
    assert are_equal(weights(model), weights(other))
    assert not are_equal(before, weights(model))


@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_stored_state_goes_on_to_the_last_bit(model: LanguageModel, config: OptimizerConfig):
    optimizer = build_optimizer(model, config)
    give_gradients(model, 1)
    step_where(optimizer, TAKEN)
    other = copy.deepcopy(model)
    other_optimizer = build_optimizer(other, config)
    other_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, with_moments in ((model, optimizer), (other, other_optimizer)):
        give_gradients(one, 2)
        step_where(with_moments, TAKEN)
    assert are_equal(weights(model), weights(other))


def single_matrices(*shapes: tuple[int, int]) -> nn.Module:
    """Layers where a trunk's are, so that each weight is one hidden matrix."""
    layers = [nn.Linear(shape[1], shape[0], bias=False) for shape in shapes]
    return nn.ModuleDict({"trunk": nn.ModuleList(layers)})


def step_both(one: tuple[nn.Module, torch.optim.Optimizer], other: tuple[nn.Module, torch.optim.Optimizer], steps: int) -> None:
    """The same gradients for both, step by step."""
    for number in range(steps):
        for model, optimizer in (one, other):
            give_gradients(model, number)
            optimizer.step()


def test_muon_takes_the_steps_of_the_stock_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("model.optim.muon.dtype_of_products", lambda _: torch.bfloat16)  # as the stock one computes everywhere
    config = OptimizerConfig(learning_rate=0.02, kind="muon", weight_decay=0.1)
    ours = single_matrices((24, 16), (16, 24), (16, 24), (8, 8))
    theirs = copy.deepcopy(ours)
    optimizer = build_optimizer(ours, config)
    stock = torch.optim.Muon(theirs.parameters(), lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    step_both((ours, optimizer), (theirs, stock), 5)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        moved = 5 * 0.02 * 0.2 * max(one.shape) ** 0.5  # that five steps may go at most, and what bfloat16 rounds of it
        assert (one - other).abs().max() < moved / 256


def test_muon_beside_it_is_the_stock_adamw_for_the_rest(model: LanguageModel):
    config = OptimizerConfig(kind="muon")
    other = copy.deepcopy(model)
    matrices = hidden_matrices(model)
    optimizer, plain = build_optimizer(model, config), build_optimizer(other, dataclasses.replace(config, kind="adamw"))
    for number in range(3):
        give_gradients(model, number)
        give_gradients(other, number)
        optimizer.step()
        plain.step()
    for one, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same) == (one not in matrices)


def test_directions_are_orthogonal_standing_or_lying():
    matrices = [torch.randn(12, 20), torch.randn(20, 12), torch.randn(6, 6)]
    for matrix, made in zip(matrices, orthogonalized(matrices, torch.float32), strict=True):
        assert made.shape == matrix.shape
        values = torch.linalg.svdvals(made)
        assert 0.6 < values.min() <= values.max() < 1.3


def test_matrices_of_one_shape_are_made_orthogonal_as_one_by_one():
    stack = torch.randn(3, 8, 12)
    one_by_one = torch.cat([newton_schulz(matrix[None]) for matrix in stack])
    assert torch.allclose(newton_schulz(stack), one_by_one, atol=1e-5)


def test_queries_keys_values_and_gates_are_matrices_of_their_own():
    model = LanguageModel(ModelConfig(family="llama", layers=1, width=32, heads=4, kv_heads=2, mlp_width=40, context=16), 61)
    parts = hidden_matrices(model)
    named_parts = {name: parts[parameter] for name, parameter in model.named_parameters() if parameter in parts}
    assert named_parts == {
        "trunk.stack.blocks.0.attention.qkv.weight": (32, 16, 16),
        "trunk.stack.blocks.0.attention.output.weight": (32,),
        "trunk.stack.blocks.0.mlp.gate_up.weight": (40, 40),
        "trunk.stack.blocks.0.mlp.output.weight": (32,),
    }


def test_muon_without_hidden_matrices_that_learn_is_refused(model: LanguageModel):
    for parameter in hidden_matrices(model):
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="no hidden matrix of this model learns.*set kind to adamw"):
        build_optimizer(model, OptimizerConfig(kind="muon"))


def test_adafactor_takes_the_steps_of_the_stock_one(model: LanguageModel):
    config = OptimizerConfig(learning_rate=0.02, kind="adafactor", weight_decay=0.0)
    other = copy.deepcopy(model)
    optimizer, stock = build_optimizer(model, config), torch.optim.Adafactor(other.parameters(), lr=0.02, weight_decay=0.0)
    step_both((model, optimizer), (other, stock), 4)
    for one, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one, same, atol=1e-6)


def test_sgd_takes_the_steps_of_the_stock_one():
    config = OptimizerConfig(learning_rate=0.1, kind="sgd", momentum=0.9, weight_decay=0.1)
    model = single_matrices((4, 6), (3, 3))
    other = copy.deepcopy(model)
    optimizer, stock = build_optimizer(model, config), torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    step_both((model, optimizer), (other, stock), 4)
    for one, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one, same, atol=1e-6)


def test_lion_takes_the_step_of_its_paper():
    model = single_matrices((1, 2))
    (weight,) = model.parameters()
    weight.data = torch.tensor([[1.0, -2.0]])
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=0.1, kind="lion", weight_decay=0.5, beta1=0.9, beta2=0.5))
    for gradient in ([[3.0, -4.0]], [[-20.0, 1.0]]):
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    # averages [1.5, -2] after the first; then 0.9 * 1.5 - 0.1 * 20 < 0 and 0.9 * -2 + 0.1 * 1 < 0
    assert torch.allclose(weight, torch.tensor([[(0.95 - 0.1) * 0.95 + 0.1, (-1.9 + 0.1) * 0.95 + 0.1]]))


def test_moments_in_bfloat16_stay_near_those_in_float32(model: LanguageModel):
    other = copy.deepcopy(model)
    begun = weights(model)
    optimizer, short = build_optimizer(model, OptimizerConfig()), build_optimizer(other, OptimizerConfig(state_dtype="bfloat16"))
    for number in range(20):
        give_gradients(model, number)
        give_gradients(other, number)
        optimizer.step()
        short.step()
    assert {state["exp_avg"].dtype for state in short.state.values()} == {torch.bfloat16}
    moved = torch.cat([(one - before).flatten() for one, before in zip(model.parameters(), begun, strict=True)])
    apart = torch.cat([(one - same).flatten() for one, same in zip(model.parameters(), other.parameters(), strict=True)])
    assert apart.norm() < 0.01 * moved.norm()


def test_no_decay_and_rate_factors_go_by_parameter_names(model: LanguageModel):
    config = OptimizerConfig(no_decay=("*embedding*",), rate_factors=(RateFactor("*embedding*", 0.5), RateFactor("*.mlp.*", 0.0)))
    optimizer = build_optimizer(model, config)
    set_learning_rate(optimizer, 0.3)
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            assert group["lr"] == 0.3 * (0.5 if "embedding" in name else 0.0 if ".mlp." in name else 1.0)
            assert (group["weight_decay"] == 0) == ("embedding" in name or parameter.dim() < 2)


def test_pattern_that_matches_no_parameter_is_refused_with_names_near_it(model: LanguageModel):
    with pytest.raises(ValueError, match=r"optimizer.no_decay '\*embeding\*' matches nothing; names near it: trunk.embedding"):
        build_optimizer(model, OptimizerConfig(no_decay=("*embeding*",)))


def test_states_of_another_kind_are_refused_by_name(model: LanguageModel):
    adamw, muon = build_optimizer(model, OptimizerConfig()), build_optimizer(model, OptimizerConfig(kind="muon"))
    with pytest.raises(
        ValueError, match=r"written with optimizer.kind adamw \(it holds exp_avg, exp_avg_sq, step\), but this run has muon"
    ):
        check_kind("step-7", ["w/exp_avg", "w/exp_avg_sq", "w/step"], muon)
    with pytest.raises(ValueError, match="written with optimizer.kind sgd .*Fix: set optimizer.kind to sgd"):
        check_kind("step-7", ["w/momentum_buffer"], adamw)
    check_kind("step-7", [], muon)  # of a checkpoint before the first step


def test_second_moment_that_bfloat16_does_not_hold_is_refused():
    with pytest.raises(ValueError, match="beta2 0.999 with state_dtype bfloat16.*set beta2 to 0.99 at most"):
        OptimizerConfig(state_dtype="bfloat16", beta2=0.999)


def test_new_settings_at_their_defaults_leave_digests_as_they_were():
    written = config_to_json(OptimizerConfig())
    assert not any(name in written for name in ("kind", "momentum", "state_dtype", "no_decay", "rate_factors"))
    plain = settings_digest("LanguageModel", ModelConfig(), 100, TrainingConfig(), OptimizerConfig())
    assert plain == settings_digest("LanguageModel", ModelConfig(), 100, TrainingConfig(loss=LossConfig(), average=None), OptimizerConfig())
    for changed in (TrainingConfig(loss=LossConfig(z=1e-4)), TrainingConfig(average=AverageConfig(ema=0.9))):
        assert plain != settings_digest("LanguageModel", ModelConfig(), 100, changed, OptimizerConfig())
    assert plain != settings_digest("LanguageModel", ModelConfig(), 100, TrainingConfig(), OptimizerConfig(kind="muon"))

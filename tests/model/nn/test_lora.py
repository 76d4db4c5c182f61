"""Adapters: the output at first, what learns, bf16, merging, and exact resumption."""

import pytest
import torch
from torch import Tensor, nn

from model.config.lora_config import LoraConfig
from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig
from model.data.batches import Batch
from model.nn.lora import adapters, apply_lora, merge
from model.nn.models import LanguageModel, Model, SequenceClassifier, TokenClassifier, set_compute_dtype
from model.optim.optimizer import build_optimizer

VOCABULARY = 40
EVERYWHERE = LoraConfig(rank=4, alpha=8, targets=("trunk.*",))
GPT2 = ModelConfig("gpt2", layers=2, width=16, heads=2, context=16)
LLAMA = ModelConfig("llama", layers=2, width=16, heads=4, kv_heads=2, context=16, mlp_width=32)
BERT = ModelConfig("bert", layers=2, width=16, heads=2, context=16)
MODERN = ModelConfig("modernbert", layers=2, width=16, heads=2, context=16, mlp_width=24)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def models() -> list[Model]:
    return [
        LanguageModel(GPT2, VOCABULARY),
        LanguageModel(LLAMA, VOCABULARY),
        SequenceClassifier(BERT, VOCABULARY, 3),
        TokenClassifier(MODERN, VOCABULARY, 3),
    ]


def batch_for(model: Model) -> Batch:
    ids = torch.randint(VOCABULARY, (4, 8), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([8, 5, 7, 3])
    if isinstance(model, SequenceClassifier):
        return Batch(ids, torch.tensor([0, 1, 2, 0]), lengths)
    return Batch(ids, ids % 3, lengths)


def output(model: Model) -> Tensor:
    """Of any head, without dropout."""
    model.eval()
    batch = batch_for(model)
    with torch.no_grad():
        if isinstance(model, LanguageModel):
            return model(batch.ids)
        assert isinstance(model, SequenceClassifier | TokenClassifier)
        return model(batch.ids, batch.lengths)


def learn(model: Model, steps: int) -> torch.optim.Optimizer:
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=1e-2))
    model.train()
    for _ in range(steps):
        model.loss(batch_for(model)).nats.backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_before_the_first_step_equals_the_base_bit_for_bit(number: int, dtype: torch.dtype) -> None:
    model = models()[number]
    set_compute_dtype(model, dtype)
    before = output(model)
    assert apply_lora(model, EVERYWHERE)
    assert torch.equal(output(model), before)


@pytest.mark.parametrize("number", range(4))
def test_merged_and_unmerged_agree(number: int) -> None:
    model = models()[number]
    names = list(model.state_dict())
    before = output(model)
    apply_lora(model, EVERYWHERE)
    learn(model, 5)
    unmerged = output(model)
    merge(model)
    assert not torch.allclose(unmerged, before, atol=1e-3)
    assert torch.allclose(output(model), unmerged, atol=1e-5)
    assert list(model.state_dict()) == names


def test_product_counts_alpha_over_rank_times() -> None:
    model = LanguageModel(LLAMA, VOCABULARY)
    apply_lora(model, LoraConfig(rank=4, alpha=10, targets=("*.0.attention.output",)))
    ((name, layer),) = adapters(model)
    before, base = layer(torch.ones(16)), layer.weight.clone()
    with torch.no_grad():
        layer.lora_b.fill_(1.0)
    expected = 10 / 4 * layer.lora_a.sum()
    assert torch.allclose(layer(torch.ones(16)) - before, expected.expand(16), atol=1e-5)
    merge(model)
    assert torch.allclose(model.get_parameter(f"{name}.weight") - base, 10 / 4 * layer.lora_a.sum(dim=0), atol=1e-6)


def test_everything_but_the_adapters_is_byte_equal_after_twenty_steps() -> None:
    model = LanguageModel(LLAMA, VOCABULARY)
    apply_lora(model, LoraConfig(rank=2, dropout=0.1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = learn(model, 20)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.endswith((".lora_a", ".lora_b"))}
    held = {id(parameter) for parameter in optimizer.state}
    assert held == {id(parameter) for name, parameter in model.named_parameters() if name in changed}


def test_bfloat16_products_leave_float32_adapters_and_gradients() -> None:
    model = LanguageModel(LLAMA, VOCABULARY)
    apply_lora(model, EVERYWHERE)
    set_compute_dtype(model, torch.bfloat16)
    loss = model.loss(batch_for(model)).nats
    loss.backward()
    for _, layer in adapters(model):
        assert layer.lora_b.dtype == torch.float32
        assert layer.lora_b.grad is not None
        assert layer.lora_b.grad.dtype == torch.float32
    assert {p.grad is None for n, p in model.named_parameters() if "lora" not in n} == {True}


def test_dropout_is_of_the_adapters_input_alone_and_off_in_evaluation() -> None:
    model = LanguageModel(LLAMA, VOCABULARY)
    apply_lora(model, LoraConfig(rank=4, dropout=0.5))
    x = torch.randn(3, 16)
    (_, layer), *_ = adapters(model)
    assert torch.equal(layer.train()(x), layer.eval()(x))  # B is zero
    nn.init.ones_(layer.lora_b)
    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_last_pattern_that_matches_decides() -> None:
    model = LanguageModel(LLAMA, VOCABULARY)
    targets = ("*.attention.*", "!*.blocks.0.*", "*.blocks.0.attention.output")
    assert apply_lora(model, LoraConfig(targets=targets)) == (
        "trunk.stack.blocks.0.attention.output",
        "trunk.stack.blocks.1.attention.qkv",
        "trunk.stack.blocks.1.attention.output",
    )


@pytest.mark.parametrize(
    ("model", "targets", "message"),
    [
        (LanguageModel(LLAMA, VOCABULARY), ("*.query",), "lora target '\\*.query' matches nothing; names near it: trunk"),
        (LanguageModel(LLAMA, VOCABULARY), ("*", "!*"), "take all layers out again"),
        (SequenceClassifier(GPT2, VOCABULARY, 2), ("head.score",), "'head.score' matches nothing"),
        (LanguageModel(ModelConfig("lstm", layers=1, width=8), VOCABULARY), ("*",), "names near it: there are none"),
    ],
)
def test_targets_that_name_no_layer_of_the_trunk_are_refused(model: Model, targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_lora(model, LoraConfig(targets=targets))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank 0: expected 1 or more"),
        ({"alpha": 0.0}, "alpha 0.0: expected a number above 0"),
        ({"dropout": 1.0}, "dropout 1.0: expected a number at least 0 and below 1"),
        ({"targets": ()}, "targets: none"),
    ],
)
def test_settings_that_no_adapter_can_have_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig(**settings)  # type: ignore[arg-type]

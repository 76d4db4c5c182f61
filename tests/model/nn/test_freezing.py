"""Which parameters learn, and that the table says what happened."""

import pytest
import torch
from torch import Tensor

from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig
from model.data.batches import Batch
from model.nn.freezing import (
    FreezePattern,
    Group,
    apply_patterns,
    embeddings_patterns,
    freezing_table,
    table_lines,
    top_patterns,
    trunk_patterns,
)
from model.nn.models import LanguageModel, Model, SequenceClassifier
from model.optim.optimizer import build_optimizer

VOCABULARY = 40
LLAMA = ModelConfig("llama", layers=3, width=16, heads=2, context=16, mlp_width=32)
BERT = ModelConfig("bert", layers=3, width=16, heads=2, context=16)


def classifier(config: ModelConfig) -> SequenceClassifier:
    torch.manual_seed(0)
    return SequenceClassifier(config, VOCABULARY, 3)


def changed_by(model: Model, steps: int) -> tuple[set[str], set[str]]:
    """Names of the parameters that `steps` steps changed, and of those that the optimizer holds state for."""
    ids = torch.randint(VOCABULARY, (4, 8), generator=torch.Generator().manual_seed(1))
    batch = Batch(ids, torch.tensor([0, 1, 2, 0]), torch.full((4,), 8))
    before: dict[str, Tensor] = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=1e-2))
    for _ in range(steps):
        model.loss(batch).nats.backward()
        optimizer.step()
        optimizer.zero_grad()
    names = {parameter: name for name, parameter in model.named_parameters()}
    changed = {name for name, tensor in model.named_parameters() if not torch.equal(tensor, before[name])}
    held = {id(parameter) for parameter in optimizer.state}
    return changed, {name for parameter, name in names.items() if id(parameter) in held}


def learning(model: Model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("config", [LLAMA, BERT])
@pytest.mark.parametrize("preset", ["trunk", "embeddings", "top"])
def test_frozen_tensors_are_byte_equal_after_twenty_steps(config: ModelConfig, preset: str) -> None:
    model = classifier(config)
    patterns = {"trunk": trunk_patterns(), "embeddings": embeddings_patterns(model), "top": top_patterns(model, 2)}[preset]
    apply_patterns(model, patterns)
    changed, held = changed_by(model, 20)
    assert changed == held == learning(model)
    assert any(name.startswith("head.") for name in changed)


def test_presets_mean_what_they_are_called() -> None:
    model = classifier(BERT)
    apply_patterns(model, trunk_patterns())
    assert {name.partition(".")[0] for name in learning(model)} == {"head"}
    apply_patterns(model, embeddings_patterns(model))
    trunk = {name for name in learning(model) if name.startswith("trunk.")}
    assert trunk == {"trunk.embedding.weight", "trunk.token_types.weight", "trunk.stack.positions.weight"}
    decoder = classifier(LLAMA)
    apply_patterns(decoder, top_patterns(decoder, 1))
    trunk = {name for name in learning(decoder) if name.startswith("trunk.")}
    assert {name.split(".blocks.")[-1].partition(".")[0] for name in trunk} == {"2", "trunk"}
    assert {name for name in trunk if ".blocks." not in name} == {"trunk.stack.norm.weight"}


def test_last_pattern_that_matches_wins() -> None:
    model = classifier(LLAMA)
    apply_patterns(model, [FreezePattern("*", False), FreezePattern("*.blocks.1.*", True), FreezePattern("*.mlp.*", False)])
    assert {name.split(".blocks.1.")[1] for name in learning(model)} == {
        "attention_norm.weight",
        "attention.qkv.weight",
        "attention.output.weight",
        "mlp_norm.weight",
    }


def test_parameters_that_no_pattern_names_stay_as_they_are() -> None:
    model = classifier(LLAMA)
    model.head.requires_grad_(False)
    apply_patterns(model, [FreezePattern("trunk.embedding.*", False)])
    assert not {name for name in learning(model) if name.startswith(("head.", "trunk.embedding"))}
    assert "trunk.stack.norm.weight" in learning(model)


def test_pattern_that_matches_nothing_is_refused_with_names_near_it() -> None:
    message = r"freeze pattern 'trunk.embeding.\*' matches nothing; names near it: trunk.embedding.weight"
    with pytest.raises(ValueError, match=message):
        apply_patterns(classifier(LLAMA), [FreezePattern("trunk.embeding.*", False)])


@pytest.mark.parametrize("layers", [0, 4])
def test_more_top_layers_than_there_are_are_refused(layers: int) -> None:
    with pytest.raises(ValueError, match=f"top {layers} of a model of 3 layers; expected 1 to 3"):
        top_patterns(classifier(LLAMA), layers)


def test_top_layers_of_a_recurrent_model_are_refused() -> None:
    model = LanguageModel(ModelConfig("gru", layers=2, width=8), VOCABULARY)
    with pytest.raises(ValueError, match="layers are one module"):
        top_patterns(model, 1)


def test_table_says_what_happened() -> None:
    model = classifier(LLAMA)
    apply_patterns(model, [*top_patterns(model, 1), FreezePattern("*.blocks.2.mlp.*", False)])
    changed, _ = changed_by(model, 1)
    table = freezing_table(model)
    assert [row.name for row in table] == [
        "trunk.embedding",
        "trunk.stack.blocks.0",
        "trunk.stack.blocks.1",
        "trunk.stack.blocks.2",
        "trunk.stack.norm",
        "head.score",
    ]
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    for row in table:
        inside = [name for name in sizes if name.startswith(f"{row.name}.")]
        assert row.parameters == sum(sizes[name] for name in inside)
        assert row.trained == sum(sizes[name] for name in inside if name in changed)


def test_table_reads_as_one_with_layers_that_fare_alike_in_one_line() -> None:
    layers = [Group(f"trunk.stack.blocks.{number}", 2000, 2000 if number == 3 else 0) for number in range(4)]
    lines = table_lines([Group("trunk.embedding", 1000, 0), *layers, Group("head.score", 30, 30), Group("head", 4, 1)])
    assert lines == [
        "part                       parameters  learns",
        "trunk.embedding                 1,000  no",
        "trunk.stack.blocks.0-2          6,000  no",
        "trunk.stack.blocks.3            2,000  yes",
        "head.score                         30  yes",
        "head                                4  1",
        "in all                          9,034  2,031",
    ]

import math

import pytest
import torch
from torch import Tensor

from model.config.heads import HeadSpec
from model.config.model_config import ModelConfig
from model.data.batches import Batch
from model.nn.models import LanguageModel, Model, MultiTask, Seq2SeqModel
from model.training.norms import LayerNorms, part_of

VOCAB = 61


def batch(rows: int = 2, seq2seq: bool = False) -> Batch:
    ids = torch.arange(rows * 8).view(rows, 8) % VOCAB
    return Batch(ids, ids.clone(), torch.full((rows,), 8), decoder_ids=ids.clone() if seq2seq else None)


def backward(model: Model, *batches: Batch) -> None:
    for one in batches:
        model.loss(one).nats.backward()


def norm(*gradients: Tensor | None) -> float:
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients if gradient is not None))


def test_norms_are_of_each_part_of_the_whole_step(tiny: ModelConfig) -> None:
    model = LanguageModel(tiny, VOCAB)
    with LayerNorms(model) as watched:
        backward(model, batch(2), batch(2))
    found = watched.norms()
    assert list(found) == [
        "gradient_norm.embedding",
        "gradient_norm.layers.0",
        "gradient_norm.layers.1",
        "gradient_norm.norm",
        "activation_norm.layers.0",
        "activation_norm.layers.1",
    ]
    block = model.trunk.get_submodule("stack.blocks.1")
    assert found["gradient_norm.layers.1"] == pytest.approx(norm(*(parameter.grad for parameter in block.parameters())), rel=1e-5)
    whole = norm(*(parameter.grad for parameter in model.parameters()))
    parts = [value for name, value in found.items() if name.startswith("gradient")]
    assert math.hypot(*parts) == pytest.approx(whole, rel=1e-5)


def test_activation_norm_is_the_root_of_the_mean_square_over_micro_batches(tiny: ModelConfig) -> None:
    model, outputs = LanguageModel(tiny, VOCAB), []
    first = model.trunk.get_submodule("stack.blocks.0")
    first.register_forward_hook(lambda block, given, output: outputs.append(output.detach()))
    with LayerNorms(model) as watched:
        backward(model, batch(2), Batch(batch(2).ids + 20, batch(2).targets, batch(2).lengths))
    assert watched.norms()["activation_norm.layers.0"] == pytest.approx(
        float(torch.stack(outputs).double().square().mean().sqrt()), rel=1e-5
    )


def test_nothing_is_hooked_outside(tiny: ModelConfig) -> None:
    model = LanguageModel(tiny, VOCAB)
    with LayerNorms(model) as watched:
        pass
    backward(model, batch())
    assert not any(name.startswith("activation") for name in watched.norms())


def test_both_stacks_of_seq2seq_have_their_names() -> None:
    model = Seq2SeqModel(ModelConfig("seq2seq", layers=2, decoder_layers=1, width=32, heads=4, context=16), VOCAB)
    with LayerNorms(model) as watched:
        backward(model, batch(seq2seq=True))
    found = watched.norms()
    for name in ("encoder.layers.0", "encoder.layers.1", "decoder.layers.0"):
        assert found[f"gradient_norm.{name}"] > 0
        assert found[f"activation_norm.{name}"] > 0


def test_layers_of_recurrent_cells_have_gradients_each_and_one_activation() -> None:
    model = LanguageModel(ModelConfig("lstm", layers=2, width=32, context=16), VOCAB)
    with LayerNorms(model) as watched:
        backward(model, batch())
    found = watched.norms()
    assert {"gradient_norm.layers.0", "gradient_norm.layers.1", "activation_norm.layers.1"} <= set(found)
    assert "activation_norm.layers.0" not in found


def test_what_has_no_gradient_is_left_out(tiny: ModelConfig) -> None:
    model = MultiTask(tiny, VOCAB, {"a": HeadSpec("sequence", 2), "b": HeadSpec("sequence", 2)})
    model.trunk.get_submodule("stack.blocks.0").requires_grad_(False)
    with LayerNorms(model) as watched:
        pass
    assert watched.norms() == {}


def test_parameters_of_heads_are_in_one_part() -> None:
    assert part_of("head.out.weight") == part_of("heads.a.out.weight") == "head"
    assert part_of("trunk.stack.positions.weight") == part_of("trunk.embedding_norm.weight") == "embedding"

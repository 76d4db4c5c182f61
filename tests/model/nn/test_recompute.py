"""Activation checkpointing: less is kept, nothing else changes."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from model.config.layout_config import Recomputed
from model.config.lora_config import LoraConfig
from model.config.model_config import ModelConfig
from model.data.batches import Batch
from model.data.packed_documents import find_documents
from model.distributed.parallel import Scored
from model.nn.lora import apply_lora
from model.nn.models import LanguageModel, MaskedLanguageModel, Model, Seq2SeqModel, set_compute_dtype, set_recomputed
from model.nn.transformer import Block

VOCAB, ROWS = 61, 3
KINDS: tuple[Recomputed, ...] = ("selective", "full")
CONFIGS = {
    family: ModelConfig(family, layers=2, width=32, heads=4, context=16, dropout=0.2)
    for family in ("gpt2", "llama", "bert", "modernbert", "seq2seq")
}


def build(config: ModelConfig) -> Model:
    torch.manual_seed(1)
    if config.family == "seq2seq":
        return Seq2SeqModel(config, VOCAB)
    return LanguageModel(config, VOCAB) if config.is_causal else MaskedLanguageModel(config, VOCAB)


def make_batch(config: ModelConfig, has_documents: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(2)
    ids, targets = torch.randint(VOCAB, (2, ROWS, config.context), generator=generator)
    documents = find_documents((torch.rand(ids.shape, generator=generator) < 0.2).numpy()) if has_documents else None
    return Batch(ids, targets, torch.tensor([16, 9, 3]), documents, decoder_ids=ids if config.family == "seq2seq" else None)


def learned(model: Model, batch: Batch, kind: Recomputed) -> tuple[Tensor, list[Tensor], int]:
    """Loss, gradients, and bytes that were kept for the backward pass."""
    set_recomputed(model, kind)
    torch.manual_seed(3)
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model.loss(batch).nats
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return loss, list(torch.autograd.grad(loss, trained)), sum(kept.values())


def check_same(model: Model, batch: Batch, kind: Recomputed) -> None:
    loss, gradients, _ = learned(model, batch, "none")
    again, gradients_again, _ = learned(model, batch, kind)
    assert torch.equal(loss, again)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(gradients_again, gradients, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", CONFIGS)
def test_losses_and_gradients_with_dropout_stay_to_the_last_bit(family: str, kind: Recomputed):
    check_same(build(CONFIGS[family]), make_batch(CONFIGS[family]), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_documents_windows_and_bfloat16_stay_to_the_last_bit(kind: Recomputed):
    config = replace(CONFIGS["llama"], dropout=0.0, qk_norm=True, activation="gelu_tanh", window=6, global_every=2)
    model = build(config)
    set_compute_dtype(model, torch.bfloat16)
    check_same(model, make_batch(config, has_documents=True), kind)
    check_same(model, make_batch(config), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_stay_to_the_last_bit(kind: Recomputed):
    model = build(CONFIGS["llama"])
    apply_lora(model, LoraConfig(rank=2, dropout=0.1))
    check_same(model, make_batch(CONFIGS["llama"]), kind)


def test_cells_cannot_be_computed_again():
    model = LanguageModel(ModelConfig("lstm", layers=1, width=32, context=16), VOCAB)
    set_recomputed(model, "none")
    with pytest.raises(ValueError, match="layers of lstm are one kernel.*set it to none"):
        set_recomputed(model, "full")


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_it_is_the_same_graph_with_less_kept(kind: Recomputed):
    config = replace(CONFIGS["gpt2"], layers=1, dropout=0.0, activation="gelu_tanh")
    model, batch = build(config), make_batch(config)
    loss, gradients, _ = learned(model, batch, "none")
    set_recomputed(model, kind)
    compiled = torch.compile(model.loss, backend="aot_eager", fullgraph=True)(batch).nats
    torch.testing.assert_close(compiled, loss)
    torch.testing.assert_close(list(torch.autograd.grad(compiled, list(model.parameters()))), gradients)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    gc.collect()  # wrappers are parts of cycles
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_sharded", [False, True])
def test_wrapped_for_several_processes_it_is_the_same(alone: None, is_sharded: bool, kind: Recomputed):
    config, batch = CONFIGS["llama"], make_batch(CONFIGS["llama"])
    loss, gradients, _ = learned(build(config), batch, "none")
    model = build(config)
    set_recomputed(model, kind)
    scored: nn.Module = Scored(model)
    if is_sharded:
        mesh = init_device_mesh("cpu", (1,))
        for block in [module for module in model.modules() if isinstance(module, Block)]:
            fully_shard(block, mesh=mesh)
        fully_shard(scored, mesh=mesh)
    else:
        scored = DistributedDataParallel(scored)
    torch.manual_seed(3)
    again, _ = scored(batch)
    again.backward()
    assert torch.equal(loss, again)
    found = [whole(parameter.grad) for parameter in model.parameters()]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, gradients, strict=True))


def whole(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.full_tensor() if isinstance(gradient, DTensor) else gradient

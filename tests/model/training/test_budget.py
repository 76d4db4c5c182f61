import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config.layout_config import LayoutConfig, Recomputed
from model.config.model_config import PRESETS, Activation, Bias, ModelConfig, Positions
from model.config.training_config import config_to_json
from model.distributed.device import choose_precision
from model.nn.models import LanguageModel, MaskedLanguageModel, Seq2SeqModel
from model.training.budget import ParameterCount, TrainingMemory, count_parameters, flops_per_token, parameters, training_memory

ROOT = Path(__file__).parents[3]
MLP: tuple[Activation, ...] = ("gelu", "gelu_tanh", "relu", "relu2", "swiglu", "geglu", "reglu", "silu")
BIASES: tuple[Bias | None, ...] = (None, "none", "qkv", "all")
SEQ2SEQ_POSITIONS: tuple[Positions, ...] = ("sinusoidal", "learned")


def build(config: ModelConfig, vocab_size: int) -> LanguageModel | MaskedLanguageModel | Seq2SeqModel:
    with torch.device("meta"):
        if config.family == "seq2seq":
            return Seq2SeqModel(config, vocab_size)
        return LanguageModel(config, vocab_size) if config.is_causal else MaskedLanguageModel(config, vocab_size)


def counted(config: ModelConfig, vocab_size: int) -> ParameterCount:
    """From the module, part by part."""
    parts = dict.fromkeys(("embeddings", "attention", "mlp", "norms", "head"), 0)
    for name, parameter in build(config, vocab_size).named_parameters():
        modules = name.split(".")
        if modules[0] == "head":
            part = "head"
        elif any(module.endswith("norm") for module in modules):
            part = "norms"
        elif {"attention", "cross", "cells"} & set(modules):
            part = "attention"
        else:
            part = "mlp" if "mlp" in modules else "embeddings"
        parts[part] += parameter.numel()
    return ParameterCount(**parts)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    family = draw(st.sampled_from(("gpt2", "llama", "bert", "modernbert", "seq2seq", "rnn", "lstm", "gru")))
    layers, heads, context = draw(st.integers(1, 4)), draw(st.sampled_from((2, 4))), draw(st.integers(4, 40))
    width = heads * 2 * draw(st.integers(1, 6))
    if family in ("rnn", "lstm", "gru"):
        return ModelConfig(family, layers=layers, width=width, context=context)
    activation, mlp_width = draw(st.sampled_from((None, *MLP))), draw(st.sampled_from((0, 24)))
    if family == "llama":
        return ModelConfig(
            family, layers=layers, width=width, heads=heads, context=context, kv_heads=draw(st.sampled_from((0, 1, 2))),
            head_dim=draw(st.sampled_from((0, 6))), mlp_width=mlp_width, activation=activation,
            bias=draw(st.sampled_from(BIASES)), qk_norm=draw(st.booleans()), tie_embeddings=draw(st.booleans()),
            window=draw(st.sampled_from((None, 3))),
        )  # fmt: skip
    if family == "seq2seq":
        positions, decoder_layers = draw(st.sampled_from(SEQ2SEQ_POSITIONS)), draw(st.integers(0, 3))
        return ModelConfig(
            family, layers=layers, width=width, heads=heads, context=context, mlp_width=mlp_width, activation=activation,
            positions=positions, decoder_layers=decoder_layers,
        )  # fmt: skip
    token_types = draw(st.sampled_from((None, 3))) if family == "bert" else None
    return ModelConfig(
        family, layers=layers, width=width, heads=heads, context=context, mlp_width=mlp_width, activation=activation,
        token_types=token_types,
    )  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(config=configs(), vocab_size=st.integers(5, 300))
def test_parameters_are_those_of_the_module_part_by_part(config: ModelConfig, vocab_size: int):
    assert count_parameters(config, vocab_size) == counted(config, vocab_size)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_as_many_parameters_as_its_module(name: str):
    assert parameters(PRESETS[name], 32_000) == sum(p.numel() for p in build(PRESETS[name], 32_000).parameters())


def test_window_and_documents_cost_less_attention():
    full, local, mixed = (
        ModelConfig("llama", layers=4, width=64, heads=2, context=1024, window=window, global_every=every)
        for window, every in ((None, None), (128, None), (128, 2))
    )
    costs = [flops_per_token(config, 100) for config in (full, mixed, local)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] - costs[2] == 12 * 64 * 4 * (512 - (128 - 128**2 / 2048))
    assert flops_per_token(full, 100, tokens=64) < costs[2]


def test_window_as_long_as_the_row_costs_what_full_attention_does():
    full, local = (ModelConfig("gpt2", layers=2, width=64, heads=2, context=64, window=window) for window in (None, 64))
    assert flops_per_token(full, 100) == flops_per_token(local, 100)


def test_accumulating_gradients_need_room_beside_the_activations():
    config = ModelConfig("gpt2", layers=2, width=64, heads=2, context=64)
    once, often = (training_memory(config, 512, 8, "float32", accumulates) for accumulates in (False, True))
    assert often.peak == once.peak + once.gradients


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision 'int8': expected one of float32, bfloat16"):
        training_memory(ModelConfig(), 512, 8, "int8")


CPU = torch.device("cpu")
MIXED = "bfloat16" if choose_precision("auto", CPU) == torch.bfloat16 else "float32"  # emulation takes minutes


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("config", "vocab_size", "rows", "precision", "recomputed"),
    [
        (ModelConfig("gpt2", layers=6, width=256, heads=4, context=256), 8192, 16, MIXED, "none"),
        (ModelConfig("llama", layers=4, width=256, heads=4, kv_heads=2, context=512), 8192, 6, "float32", "none"),
        (ModelConfig("bert", layers=4, width=256, heads=4, context=256), 8192, 12, "float32", "none"),
        (ModelConfig("seq2seq", layers=3, width=256, heads=4, context=128), 8192, 32, MIXED, "none"),
        (ModelConfig("lstm", layers=2, width=384, context=64), 8192, 32, "float32", "none"),
        (ModelConfig("gpt2", layers=6, width=256, heads=4, context=256), 8192, 16, MIXED, "selective"),
        (ModelConfig("llama", layers=4, width=256, heads=4, kv_heads=2, context=512), 8192, 6, "float32", "full"),
        (ModelConfig("seq2seq", layers=3, width=256, heads=4, context=128), 8192, 32, MIXED, "full"),
    ],
    ids=lambda value: f"{value.family}" if isinstance(value, ModelConfig) else str(value),
)
def test_memory_estimate_is_within_15_percent_of_the_measured_peak(
    config: ModelConfig, vocab_size: int, rows: int, precision: str, recomputed: Recomputed
):
    command = [
        sys.executable,
        "-m",
        "tests.model.training.peak_memory",
        config_to_json(config),
        str(vocab_size),
        str(rows),
        precision,
        recomputed,
    ]
    at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}  # what is freed is given back at once
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **at_once}, capture_output=True, text=True, check=True)
    estimate = training_memory(config, vocab_size, rows, precision, layout=LayoutConfig(activation_checkpointing=recomputed))
    assert estimate.peak == pytest.approx(int(done.stdout), rel=0.15), estimate


def test_shards_divide_what_is_kept_and_tensor_parallelism_the_inside_of_layers():
    config = ModelConfig("llama", layers=4, width=256, heads=4, context=512)

    def memory(layout: LayoutConfig) -> TrainingMemory:
        return training_memory(config, 8192, 6, "float32", layout=layout, processes=4)

    whole, sharded, tensor = (memory(layout) for layout in (LayoutConfig(), LayoutConfig(shards=True), LayoutConfig(tensor=4)))
    assert [4 * part for part in (sharded.gradients, sharded.optimizer, sharded.copy)] == [whole.gradients, whole.optimizer, whole.copy]
    assert sharded.activations == whole.activations > tensor.activations > whole.activations / 4
    assert whole.gradients > tensor.gradients > sharded.gradients
    assert memory(LayoutConfig(shards=True, reshards=False)).weights > sharded.weights


def test_optimizer_of_one_moment_keeps_and_copies_less():
    two, one = (training_memory(ModelConfig(), 8192, 1, "float32", state_bytes=size) for size in (8, 4))
    assert two.optimizer == 2 * one.optimizer
    assert two.copy - one.copy == one.optimizer

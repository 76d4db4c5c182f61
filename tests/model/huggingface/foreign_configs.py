"""Random tiny configs of transformers, family by family, without dropout, and models with random weights."""

from typing import Any

import torch
import transformers
from hypothesis import strategies as st

VOCAB, PAD, CONTEXT, TOKENS = 37, 36, 16, 13


@st.composite
def sizes(draw: st.DrawFn) -> dict[str, int]:
    """What every family has: `heads` divide `width`."""
    heads, head_width = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([4, 6]))
    layers = draw(st.integers(1, 4))
    return {"heads": heads, "width": heads * head_width, "layers": layers, "mlp": draw(st.integers(5, 30))}


def random_model(kind: Any, config: transformers.PretrainedConfig, seed: int) -> torch.nn.Module:
    """Of a class of transformers: all weights random, norms and biases too, so that no wrong mapping hides."""
    theirs = kind(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if not parameter.requires_grad:  # Marian's positions follow from their number
                continue
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            is_scale = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(1 + noise if is_scale else noise)
    return theirs


@st.composite
def rope_scalings(draw: st.DrawFn) -> dict[str, Any]:
    """None, linear, or llama3 with an original context shorter than the rows, so that angles of all three kinds occur."""
    kind, factor = draw(st.sampled_from(["default", "linear", "llama3"])), draw(st.sampled_from([1.5, 4.0, 32.0]))
    if kind == "default":
        return {"rope_type": kind}
    if kind == "linear":
        return {"rope_type": kind, "factor": factor}
    return {
        "rope_type": kind, "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": draw(st.sampled_from([2.0, 4.0])),
        "original_max_position_embeddings": draw(st.integers(2, TOKENS)),
    }  # fmt: skip


@st.composite
def gpt2_configs(draw: st.DrawFn) -> transformers.PretrainedConfig:
    size = draw(sizes())
    return transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=CONTEXT, n_embd=size["width"], n_layer=size["layers"], n_head=size["heads"],
        n_inner=draw(st.sampled_from([None, size["mlp"]])), resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        activation_function=draw(st.sampled_from(["gelu_new", "gelu", "relu2", "silu", "tanh"])), pad_token_id=PAD,
    )  # fmt: skip


@st.composite
def llama_keys(draw: st.DrawFn) -> dict[str, Any]:
    """Keys that all of the Llama family know; heads of keys and values divide those of queries."""
    size = draw(sizes())
    return {
        "vocab_size": VOCAB, "hidden_size": size["width"], "intermediate_size": size["mlp"],
        "num_hidden_layers": size["layers"], "num_attention_heads": size["heads"],
        "num_key_value_heads": draw(st.sampled_from([n for n in (1, 2, 4) if size["heads"] % n == 0])),
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": draw(st.booleans()), "pad_token_id": PAD,
        "rope_parameters": {"rope_theta": draw(st.sampled_from([10.0, 1e4, 5e5])), **draw(rope_scalings())},
        "rms_norm_eps": draw(st.sampled_from([1e-6, 1e-5])), "attention_dropout": 0.0,
        "hidden_act": draw(st.sampled_from(["silu", "gelu", "relu"])), "head_dim": draw(st.sampled_from([4, 10])),
    }  # fmt: skip


@st.composite
def layer_keys(draw: st.DrawFn, layers: int) -> dict[str, Any]:
    """A window shorter than the rows, in all layers, none, or all but every n-th."""
    every = draw(st.integers(1, 3))
    kinds = ["full_attention" if layer % every == 0 else "sliding_attention" for layer in range(layers)]
    if draw(st.booleans()):
        kinds = ["sliding_attention"] * layers
    return {"layer_types": kinds, "sliding_window": draw(st.integers(1, TOKENS - 1))}


@st.composite
def llama_configs(draw: st.DrawFn) -> transformers.PretrainedConfig:
    return transformers.LlamaConfig(**draw(llama_keys()), attention_bias=draw(st.booleans()))


@st.composite
def mistral_configs(draw: st.DrawFn) -> transformers.PretrainedConfig:
    return transformers.MistralConfig(**draw(llama_keys()), sliding_window=draw(st.integers(1, TOKENS - 1)))


@st.composite
def ministral_configs(draw: st.DrawFn) -> transformers.PretrainedConfig:
    keys = draw(llama_keys())
    return transformers.MinistralConfig(**keys, **draw(layer_keys(keys["num_hidden_layers"])))


@st.composite
def qwen2_configs(draw: st.DrawFn) -> transformers.PretrainedConfig:
    keys = draw(llama_keys())
    windows = draw(layer_keys(keys["num_hidden_layers"]))
    return transformers.Qwen2Config(**keys, use_sliding_window=True, **windows)


@st.composite
def qwen3_configs(draw: st.DrawFn) -> transformers.PretrainedConfig:
    keys = draw(llama_keys())
    windows = draw(layer_keys(keys["num_hidden_layers"]))
    bias = draw(st.booleans())
    return transformers.Qwen3Config(**keys, use_sliding_window=True, attention_bias=bias, **windows)


@st.composite
def bert_configs(draw: st.DrawFn) -> transformers.PretrainedConfig:
    size = draw(sizes())
    return transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=size["width"], num_hidden_layers=size["layers"], pad_token_id=PAD,
        num_attention_heads=size["heads"], intermediate_size=size["mlp"], max_position_embeddings=CONTEXT,
        type_vocab_size=draw(st.integers(1, 3)), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        hidden_act=draw(st.sampled_from(["gelu", "relu", "gelu_new"])), num_labels=draw(st.integers(2, 4)),
    )  # fmt: skip


@st.composite
def modernbert_configs(draw: st.DrawFn) -> transformers.PretrainedConfig:
    size = draw(sizes())
    activation = draw(st.sampled_from(["gelu", "silu"]))
    return transformers.ModernBertConfig(
        vocab_size=VOCAB, hidden_size=size["width"], num_hidden_layers=size["layers"], pad_token_id=PAD,
        num_attention_heads=size["heads"], intermediate_size=size["mlp"], max_position_embeddings=CONTEXT,
        local_attention=draw(st.integers(1, TOKENS)), global_attn_every_n_layers=draw(st.integers(1, 3)),
        global_rope_theta=draw(st.sampled_from([160000.0, 10000.0])), hidden_activation=activation,
        classifier_activation=activation, num_labels=draw(st.integers(2, 4)), rope_scaling=draw(rope_scalings()),
        classifier_pooling=draw(st.sampled_from(["cls", "mean"])),
    )  # fmt: skip


@st.composite
def marian_configs(draw: st.DrawFn) -> transformers.PretrainedConfig:
    size = draw(sizes())
    return transformers.MarianConfig(
        vocab_size=VOCAB, d_model=size["width"], encoder_layers=size["layers"], decoder_layers=draw(st.integers(1, 3)),
        encoder_attention_heads=size["heads"], decoder_attention_heads=size["heads"], encoder_ffn_dim=size["mlp"],
        decoder_ffn_dim=size["mlp"], max_position_embeddings=CONTEXT, scale_embedding=True, dropout=0.0,
        pad_token_id=PAD, decoder_start_token_id=PAD, eos_token_id=0,
        activation_function=draw(st.sampled_from(["swish", "relu", "gelu"])),
    )  # fmt: skip

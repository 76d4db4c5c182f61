"""Tensor names of trunks in Hugging Face's folders, family by family.

C channels, H query heads, G key and value heads, D channels a head, M channels inside the MLP, V vocabulary.
"""

from dataclasses import dataclass

from model.config.model_config import ModelConfig

Shape = tuple[int, ...]


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of ours, split along its first dimension into one or several of theirs."""

    ours: str
    names: tuple[str, ...]  # theirs
    sizes: tuple[int, ...]  # of the first dimension, one for each name
    rest: Shape  # the other dimensions
    transposed: bool = False  # GPT-2's matrices are stored as [in, out]

    def shapes(self) -> list[tuple[str, Shape]]:
        """Name and shape of each, as it is stored."""
        shapes = [(size, *self.rest) for size in self.sizes]
        return [(name, shape[::-1] if self.transposed else shape) for name, shape in zip(self.names, shapes, strict=True)]


def trunk_tensors(model_type: str, config: ModelConfig, vocab_size: int) -> list[StoredTensor]:
    """Every tensor of a trunk, once, by Hugging Face's name of the family."""
    if model_type == "gpt2":
        return _gpt2(config, vocab_size)
    if model_type == "bert":
        return _bert(config, vocab_size)
    if model_type == "modernbert":
        return _modernbert(config, vocab_size)
    return _marian(config, vocab_size) if model_type == "marian" else _llama(config, vocab_size)


def one(ours: str, theirs: str, first: int, *rest: int) -> StoredTensor:
    """A tensor that lies there as it does here."""
    return StoredTensor(ours, (theirs,), (first,), rest)


def with_bias(ours: str, theirs: str, first: int, *rest: int) -> list[StoredTensor]:
    """A layer: weight and bias."""
    return _fused_with_bias(ours, (theirs,), first, *rest)


def _fused_with_bias(ours: str, theirs: tuple[str, ...], first: int, *rest: int) -> list[StoredTensor]:
    """One layer of ours that is several of theirs, each with `first` outputs."""
    sizes = (first,) * len(theirs)
    return [
        StoredTensor(f"{ours}.weight", tuple(f"{name}.weight" for name in theirs), sizes, rest),
        StoredTensor(f"{ours}.bias", tuple(f"{name}.bias" for name in theirs), sizes, ()),
    ]


def _gpt2(config: ModelConfig, vocab_size: int) -> list[StoredTensor]:
    """GPT-2: matrices are stored as [in, out]."""
    C, M = config.width, config.hidden_width
    tensors = [
        one("trunk.embedding.weight", "transformer.wte.weight", vocab_size, C),
        one("trunk.stack.positions.weight", "transformer.wpe.weight", config.context, C),
        *with_bias("trunk.stack.norm", "transformer.ln_f", C),
    ]
    for layer in range(config.layers):
        ours, theirs = f"trunk.stack.blocks.{layer}", f"transformer.h.{layer}"
        tensors += with_bias(f"{ours}.attention_norm", f"{theirs}.ln_1", C)
        tensors += with_bias(f"{ours}.mlp_norm", f"{theirs}.ln_2", C)
        for name, convolution, outputs, inputs in (
            ("attention.qkv", "attn.c_attn", 3 * C, C),
            ("attention.output", "attn.c_proj", C, C),
            ("mlp.up", "mlp.c_fc", M, C),
            ("mlp.output", "mlp.c_proj", C, M),
        ):
            weight = (f"{theirs}.{convolution}.weight",)
            tensors.append(StoredTensor(f"{ours}.{name}.weight", weight, (outputs,), (inputs,), transposed=True))
            tensors.append(one(f"{ours}.{name}.bias", f"{theirs}.{convolution}.bias", outputs))
    return tensors


def _llama(config: ModelConfig, vocab_size: int) -> list[StoredTensor]:
    """Llama, Mistral, Ministral, Qwen2 and Qwen3."""
    C, M, D = config.width, config.hidden_width, config.head_width
    H_D, G_D = config.heads * D, config.key_value_heads * D
    tensors = [
        one("trunk.embedding.weight", "model.embed_tokens.weight", vocab_size, C),
        one("trunk.stack.norm.weight", "model.norm.weight", C),
    ]
    for layer in range(config.layers):
        ours, theirs = f"trunk.stack.blocks.{layer}", f"model.layers.{layer}"
        qkv = tuple(f"{theirs}.self_attn.{part}_proj" for part in "qkv")
        gate_up = (f"{theirs}.mlp.gate_proj.weight", f"{theirs}.mlp.up_proj.weight")
        weights, biases = (tuple(f"{name}.{kind}" for name in qkv) for kind in ("weight", "bias"))
        tensors += [
            one(f"{ours}.attention_norm.weight", f"{theirs}.input_layernorm.weight", C),
            StoredTensor(f"{ours}.attention.qkv.weight", weights, (H_D, G_D, G_D), (C,)),
            one(f"{ours}.attention.output.weight", f"{theirs}.self_attn.o_proj.weight", C, H_D),
            one(f"{ours}.mlp_norm.weight", f"{theirs}.post_attention_layernorm.weight", C),
            StoredTensor(f"{ours}.mlp.gate_up.weight", gate_up, (M, M), (C,)),
            one(f"{ours}.mlp.output.weight", f"{theirs}.mlp.down_proj.weight", C, M),
        ]
        if config.attention_bias != "none":
            tensors.append(StoredTensor(f"{ours}.attention.qkv.bias", biases, (H_D, G_D, G_D), ()))
        if config.attention_bias == "all":
            tensors.append(one(f"{ours}.attention.output.bias", f"{theirs}.self_attn.o_proj.bias", C))
        if config.qk_norm:
            tensors.append(one(f"{ours}.attention.query_norm.weight", f"{theirs}.self_attn.q_norm.weight", D))
            tensors.append(one(f"{ours}.attention.key_norm.weight", f"{theirs}.self_attn.k_norm.weight", D))
    return tensors


def _bert(config: ModelConfig, vocab_size: int) -> list[StoredTensor]:
    """BERT."""
    C, M = config.width, config.hidden_width
    tensors = [
        one("trunk.embedding.weight", "bert.embeddings.word_embeddings.weight", vocab_size, C),
        one("trunk.stack.positions.weight", "bert.embeddings.position_embeddings.weight", config.context, C),
        one("trunk.token_types.weight", "bert.embeddings.token_type_embeddings.weight", config.segment_kinds, C),
        *with_bias("trunk.embedding_norm", "bert.embeddings.LayerNorm", C),
    ]
    for layer in range(config.layers):
        ours, theirs = f"trunk.stack.blocks.{layer}", f"bert.encoder.layer.{layer}"
        qkv = tuple(f"{theirs}.attention.self.{part}" for part in ("query", "key", "value"))
        tensors += _fused_with_bias(f"{ours}.attention.qkv", qkv, C, C)
        tensors += with_bias(f"{ours}.attention.output", f"{theirs}.attention.output.dense", C, C)
        tensors += with_bias(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm", C)
        tensors += with_bias(f"{ours}.mlp.up", f"{theirs}.intermediate.dense", M, C)
        tensors += with_bias(f"{ours}.mlp.output", f"{theirs}.output.dense", C, M)
        tensors += with_bias(f"{ours}.mlp_norm", f"{theirs}.output.LayerNorm", C)
    return tensors


def _modernbert(config: ModelConfig, vocab_size: int) -> list[StoredTensor]:
    """ModernBERT: no biases, and no norm before the first attention."""
    C, M = config.width, config.hidden_width
    tensors = [
        one("trunk.embedding.weight", "model.embeddings.tok_embeddings.weight", vocab_size, C),
        one("trunk.embedding_norm.weight", "model.embeddings.norm.weight", C),
        one("trunk.stack.norm.weight", "model.final_norm.weight", C),
    ]
    for layer in range(config.layers):
        ours, theirs = f"trunk.stack.blocks.{layer}", f"model.layers.{layer}"
        if layer > 0:
            tensors.append(one(f"{ours}.attention_norm.weight", f"{theirs}.attn_norm.weight", C))
        tensors += [
            one(f"{ours}.attention.qkv.weight", f"{theirs}.attn.Wqkv.weight", 3 * C, C),
            one(f"{ours}.attention.output.weight", f"{theirs}.attn.Wo.weight", C, C),
            one(f"{ours}.mlp_norm.weight", f"{theirs}.mlp_norm.weight", C),
            one(f"{ours}.mlp.gate_up.weight", f"{theirs}.mlp.Wi.weight", 2 * M, C),
            one(f"{ours}.mlp.output.weight", f"{theirs}.mlp.Wo.weight", C, M),
        ]
    return tensors


def _marian(config: ModelConfig, vocab_size: int) -> list[StoredTensor]:
    """Marian: one embedding; positions follow from their number."""
    C, M = config.width, config.hidden_width
    tensors = [one("trunk.embedding.weight", "model.shared.weight", vocab_size, C)]
    for side, layers in (("encoder", config.layers), ("decoder", config.decoder_depth)):
        for layer in range(layers):
            ours, theirs = f"trunk.{side}.blocks.{layer}", f"model.{side}.layers.{layer}"
            qkv = tuple(f"{theirs}.self_attn.{part}_proj" for part in "qkv")
            tensors += _fused_with_bias(f"{ours}.attention.qkv", qkv, C, C)
            tensors += with_bias(f"{ours}.attention.output", f"{theirs}.self_attn.out_proj", C, C)
            tensors += with_bias(f"{ours}.attention_norm", f"{theirs}.self_attn_layer_norm", C)
            if side == "decoder":
                cross = f"{theirs}.encoder_attn"
                tensors += with_bias(f"{ours}.cross.query", f"{cross}.q_proj", C, C)
                tensors += _fused_with_bias(f"{ours}.cross.key_value", (f"{cross}.k_proj", f"{cross}.v_proj"), C, C)
                tensors += with_bias(f"{ours}.cross.output", f"{cross}.out_proj", C, C)
                tensors += with_bias(f"{ours}.cross_norm", f"{theirs}.encoder_attn_layer_norm", C)
            tensors += with_bias(f"{ours}.mlp.up", f"{theirs}.fc1", M, C)
            tensors += with_bias(f"{ours}.mlp.output", f"{theirs}.fc2", C, M)
            tensors += with_bias(f"{ours}.mlp_norm", f"{theirs}.final_layer_norm", C)
    return tensors

"""Which tensor of ours is which of Hugging Face's, and how it lies there.

C channels, H query heads, G key and value heads, D = C / H, M channels inside the MLP, V vocabulary.
"""

from dataclasses import dataclass

from model.huggingface_config import Head
from model.model_config import ModelConfig

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
        return [
            (name, shape[::-1] if self.transposed else shape) for name, shape in zip(self.names, shapes, strict=True)
        ]


def stored_tensors(config: ModelConfig, head: Head, vocab_size: int, classes: int) -> list[StoredTensor]:
    """Every tensor of a model, once; a tied head is not stored. `classes` is for classifiers."""
    if config.family == "gpt2":
        tensors = _gpt2_trunk(config, vocab_size)
    else:
        tensors = _llama_trunk(config, vocab_size)
    if head == "language_model" and not config.tie_embeddings:
        tensors.append(_one("head.weight", "lm_head.weight", vocab_size, config.width))
    if head == "sequence_classifier":
        tensors.append(_one("score.weight", "score.weight", classes, config.width))
    if head == "token_classifier":
        theirs = "classifier" if config.family == "gpt2" else "score"
        tensors.append(_one("score.weight", f"{theirs}.weight", classes, config.width))
        tensors.append(_one("score.bias", f"{theirs}.bias", classes))
    return tensors


def is_derived(name: str, config: ModelConfig) -> bool:
    """Whether a stored tensor follows from the others: masks and frequencies of old files, copies of a tied head."""
    is_buffer = name.endswith((".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"))
    return is_buffer or (config.tie_embeddings and name.endswith("lm_head.weight"))


def _gpt2_trunk(config: ModelConfig, vocab_size: int) -> list[StoredTensor]:
    C, M = config.width, config.hidden_width
    tensors = [
        _one("trunk.embedding.weight", "transformer.wte.weight", vocab_size, C),
        _one("trunk.positions.weight", "transformer.wpe.weight", config.context, C),
        *_with_bias("trunk.norm", "transformer.ln_f", C),
    ]
    for layer in range(config.layers):
        ours, theirs = f"trunk.blocks.{layer}", f"transformer.h.{layer}"
        tensors += _with_bias(f"{ours}.attention_norm", f"{theirs}.ln_1", C)
        tensors += _with_bias(f"{ours}.attention.qkv", f"{theirs}.attn.c_attn", 3 * C, C)
        tensors += _with_bias(f"{ours}.attention.output", f"{theirs}.attn.c_proj", C, C)
        tensors += _with_bias(f"{ours}.mlp_norm", f"{theirs}.ln_2", C)
        tensors += _with_bias(f"{ours}.mlp.up", f"{theirs}.mlp.c_fc", M, C)
        tensors += _with_bias(f"{ours}.mlp.output", f"{theirs}.mlp.c_proj", C, M)
    return tensors


def _llama_trunk(config: ModelConfig, vocab_size: int) -> list[StoredTensor]:
    C, M, kv_width = config.width, config.hidden_width, config.key_value_heads * config.head_width
    tensors = [
        _one("trunk.embedding.weight", "model.embed_tokens.weight", vocab_size, C),
        _one("trunk.norm.weight", "model.norm.weight", C),
    ]
    for layer in range(config.layers):
        ours, theirs = f"trunk.blocks.{layer}", f"model.layers.{layer}"
        qkv = tuple(f"{theirs}.self_attn.{part}_proj.weight" for part in "qkv")
        gate_up = (f"{theirs}.mlp.gate_proj.weight", f"{theirs}.mlp.up_proj.weight")
        tensors += [
            _one(f"{ours}.attention_norm.weight", f"{theirs}.input_layernorm.weight", C),
            StoredTensor(f"{ours}.attention.qkv.weight", qkv, (C, kv_width, kv_width), (C,)),
            _one(f"{ours}.attention.output.weight", f"{theirs}.self_attn.o_proj.weight", C, C),
            _one(f"{ours}.mlp_norm.weight", f"{theirs}.post_attention_layernorm.weight", C),
            StoredTensor(f"{ours}.mlp.gate_up.weight", gate_up, (M, M), (C,)),
            _one(f"{ours}.mlp.output.weight", f"{theirs}.mlp.down_proj.weight", C, M),
        ]
    return tensors


def _one(ours: str, theirs: str, first: int, *rest: int) -> StoredTensor:
    return StoredTensor(ours, (theirs,), (first,), rest)


def _with_bias(ours: str, theirs: str, first: int, *rest: int) -> list[StoredTensor]:
    """A GPT-2 layer; its matrices are transposed, its vectors cannot be."""
    weight = StoredTensor(f"{ours}.weight", (f"{theirs}.weight",), (first,), rest, transposed=bool(rest))
    return [weight, _one(f"{ours}.bias", f"{theirs}.bias", first)]

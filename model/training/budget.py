"""Compute budget: what a pretraining costs in parameters, arithmetic and memory, from its config alone. Imports no torch.

C channels, V vocabulary, T tokens of a row, H query heads, G key and value heads, D channels a head, M channels inside the MLP.
"""

from dataclasses import dataclass, replace

from model.config.layout_config import LayoutConfig
from model.config.model_config import GATED, ModelConfig

COMPUTE_BYTES = {"float32": 4, "bfloat16": 2}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
KEPT_BY_CELLS = {"rnn": 3, "gru": 9, "lstm": 11}  # numbers a position, layer and channel, measured on torch 2.13
MASKED_SHARE = 0.15  # of an encoder's tokens have a target


@dataclass(frozen=True)
class ParameterCount:
    """Trainable numbers by part; a tied head counts once, as embedding."""

    embeddings: int  # of tokens, positions and segments
    attention: int  # with their biases; of recurrent families the cells
    mlp: int
    norms: int
    head: int  # what is not the embedding

    @property
    def total(self) -> int:
        """All of them."""
        return self.embeddings + self.attention + self.mlp + self.norms + self.head


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes by part on one process, each at its own largest; not all are at the same moment, see `peak`."""

    weights: int  # float32, and in bfloat16 the copies that products read
    gradients: int
    optimizer: int  # AdamW's two moments
    activations: int  # what the forward pass keeps for the backward pass
    logits: int  # those held at a time, with their gradients
    head_gradient: int  # of the matrix of V x C behind the logits, once
    copy: int  # of weights and moments, from which checkpoints are written
    accumulates: bool  # several micro-batches to a step: gradients are there all the time

    @property
    def peak(self) -> int:
        """The largest of three moments: the loss, the first product of the backward pass, and its end."""
        moving = max(self.activations + max(self.logits + self.head_gradient, 2 * self.head_gradient), self.head_gradient)
        always = self.weights + self.optimizer + self.copy
        if self.accumulates:
            return always + self.gradients + moving
        return always + max(moving, self.gradients + self.head_gradient)


def count_parameters(config: ModelConfig, vocab_size: int) -> ParameterCount:
    """Of the model with the head that it is pretrained with: language model, or masked one of encoders."""
    C = config.width
    if config.is_recurrent:
        gates = GATES[config.family]
        return ParameterCount(vocab_size * C, config.layers * gates * (2 * C * C + 2 * C), 0, 0, 0)
    norm = C * (1 if config.family in ("llama", "modernbert") else 2)
    depth = config.layers + (config.decoder_depth if config.family == "seq2seq" else 0)
    stacks = 2 if config.family == "seq2seq" else 1
    positions = stacks * config.context * C if config.position_kind == "learned" else 0
    qkv = (config.heads + 2 * config.key_value_heads) * config.head_width
    biases = 0 if config.attention_bias == "none" else qkv + (C if config.attention_bias == "all" else 0)
    inner = config.hidden_width * (2 if config.mlp_activation in GATED else 1)
    attention = depth * (_attention_matrices(config) + biases) + _cross_layers(config) * (4 * C * C + 4 * C)
    mlp = depth * (_mlp_matrices(config) + (inner + C if config.has_mlp_bias else 0))
    norms = norm * (2 * depth + _cross_layers(config) + (1 if config.is_pre_norm else 0))
    norms += 2 * config.head_width * config.layers if config.qk_norm else 0
    head = 0 if config.tie_embeddings else vocab_size * C
    if not config.is_causal:
        norms += norm - (norm if config.family == "modernbert" else 0)  # behind the embedding; its first block has one less
        head = C * C + norm + vocab_size + (C if config.family == "bert" else 0)
    return ParameterCount((vocab_size + config.segment_kinds) * C + positions, attention, mlp, norms, head)


def parameters(config: ModelConfig, vocab_size: int) -> int:
    """Trainable numbers; a tied head counts once."""
    return count_parameters(config, vocab_size).total


def flops_per_token(config: ModelConfig, vocab_size: int, tokens: int = 0) -> float:
    """Floating-point operations of training on one token, forward and backward, in rows of `tokens` (0: the context).

    6 * (matrices of the layers + V * C) + 12 * H * D * keys, summed over layers; `keys` is how many a token sees on average:
    T / 2 before it, T on both sides, w - w^2 / 2T in a causal window. An embedding lookup is free. Source of the 6 and 12:
    arXiv 2204.02311, appendix B, which counts T for every layer. Where attention stops at documents, `tokens` is their mean
    length. seq2seq: of a target token and a source token, both in rows as long. Encoders: the head on all tokens that are
    masked, `MASKED_SHARE`.
    """
    C = config.width
    head = vocab_size * C if config.is_causal else MASKED_SHARE * (vocab_size * C + C * C)
    return trunk_flops_per_token(config, tokens) + 6 * head


def trunk_flops_per_token(config: ModelConfig, tokens: int = 0) -> float:
    """Of the layers alone, without the head: as `flops_per_token` counts them."""
    T, C = tokens or config.context, config.width
    if config.is_recurrent:
        return 6 * config.layers * GATES[config.family] * 2 * C * C
    depth = config.layers + (config.decoder_depth if config.family == "seq2seq" else 0)
    linear = depth * (_attention_matrices(config) + _mlp_matrices(config)) + _cross_layers(config) * 4 * C * C
    if config.family == "seq2seq":
        keys = config.layers * T + config.decoder_depth * (T / 2 + T)
    else:
        keys = sum(_keys_seen(config, layer, T) for layer in range(config.layers))
    return 6 * linear + 12 * config.heads * config.head_width * keys


def training_memory(
    config: ModelConfig,
    vocab_size: int,
    micro_rows: int,
    precision: str,
    accumulates: bool = False,
    tokens: int = 0,
    *,
    layout: LayoutConfig = LayoutConfig(),
    processes: int = 1,
    state_bytes: int = 8,
) -> TrainingMemory:
    """Of pretraining on one process' CPU, without the interpreter and its libraries, in rows of `tokens` (0: the context).

    `state_bytes`: of the optimizer, a parameter. seq2seq: source and target rows as long. Raises ValueError for a precision other than float32 and bfloat16.
    """
    if precision not in COMPUTE_BYTES:
        raise ValueError(f"precision {precision!r}: expected one of {', '.join(COMPUTE_BYTES)}")
    size = 4 if config.is_recurrent else COMPUTE_BYTES[precision]  # cells compute in float32
    T = tokens or config.context
    positions = micro_rows * T
    count = count_parameters(config, vocab_size)
    casts = 0 if size == 4 else size * (count.total - count.norms)
    whole = TrainingMemory(
        weights=4 * count.total + casts,
        gradients=4 * count.total,
        optimizer=state_bytes * count.total,
        activations=positions * _kept_bytes(config, T, size),
        logits=_logit_bytes(config, vocab_size, positions, size),
        head_gradient=4 * vocab_size * config.width,
        copy=(4 + state_bytes) * count.total,
        accumulates=accumulates,
    )
    shares = (processes if layout.shards else 1, layout.tensor)
    kept = {"none": 1.0, "selective": 0.6, "full": 0.15}[layout.activation_checkpointing]
    return replace(
        whole,
        weights=whole.weights // (shares[0] * shares[1]),
        gradients=whole.gradients // (shares[0] * shares[1]),
        optimizer=whole.optimizer // (shares[0] * shares[1]),
        copy=whole.copy // (shares[0] * shares[1]),
        activations=round(whole.activations * kept / shares[1]),
    )


def training_bytes(config: ModelConfig, vocab_size: int, micro_rows: int, precision: str, accumulates: bool = False) -> int:
    """The peak of `training_memory`."""
    return training_memory(config, vocab_size, micro_rows, precision, accumulates).peak


def _attention_matrices(config: ModelConfig) -> int:
    """Weights of one layer's own attention."""
    return config.width * config.head_width * (2 * config.heads + 2 * config.key_value_heads)


def _mlp_matrices(config: ModelConfig) -> int:
    """Weights of one layer's MLP."""
    return config.width * config.hidden_width * (3 if config.mlp_activation in GATED else 2)


def _cross_layers(config: ModelConfig) -> int:
    return config.decoder_depth if config.family == "seq2seq" else 0


def _keys_seen(config: ModelConfig, layer: int, tokens: int) -> float:
    """How many keys a token sees on average, as if positions were continuous."""
    window = config.window_of(layer)
    if config.is_causal:
        reach = min(window or tokens, tokens)
        return reach - reach**2 / (2 * tokens)
    reach = min(window // 2 if window else tokens, tokens)
    return 2 * reach - reach**2 / tokens


def _kept_bytes(config: ModelConfig, tokens: int, size: int) -> int:
    """Of one position, by all layers and around them; of seq2seq of a source and a target position."""
    C = config.width
    if config.is_recurrent:
        return size * C * (2 + config.layers * KEPT_BY_CELLS[config.family])
    if config.family == "seq2seq":
        layers = config.layers * _layer_bytes(config, 0, tokens, size, is_causal=False)
        layers += config.decoder_depth * _layer_bytes(config, 0, tokens, size, is_causal=True)
        layers += config.decoder_depth * size * 6 * C  # across: the sum, its norm, queries, keys, values, what they give
        return layers + 4 * size * C
    return 3 * size * C + sum(_layer_bytes(config, layer, tokens, size, config.is_causal) for layer in range(config.layers))


def _layer_bytes(config: ModelConfig, layer: int, tokens: int, size: int, is_causal: bool) -> int:
    """Of one position: two sums and two norms of them, queries, keys, values, what they give, and the MLP's inside."""
    C, H, G, D = config.width, config.heads, config.key_value_heads, config.head_width
    kept = 4 * C + (2 * H + 2 * G) * D + _mlp_kept(config)
    if config.family == "llama":
        kept += 2 * (4 * C if size == 2 else C)  # RMSNorm keeps what it divided, in float32
    if config.qk_norm:
        kept += 3 * (H + G) * D
    if config.window_of(layer) and config.window_of(layer) < tokens:
        kept += (2 if is_causal else 4) * 2 * G * D  # keys and values once for each block of queries that sees them
    if config.dropout:
        kept += 2 * C + 4 * H * tokens * 4 // size  # masks, and the float32 scores that a CPU's stock kernel then keeps
    elif is_causal and size == 2 and tokens <= 256 and not config.window_of(layer):
        kept += H * (tokens + 128) // 2  # probabilities of short rows
    return size * kept


def _mlp_kept(config: ModelConfig) -> int:
    """Numbers a position: what the activation and the last product want again."""
    if config.mlp_activation in GATED:
        return 4 * config.hidden_width
    return config.hidden_width * (1 if config.mlp_activation in ("relu", "tanh", "sigmoid") else 2)


def _logit_bytes(config: ModelConfig, vocab_size: int, positions: int, size: int) -> int:
    """Logits in float32 and in the products' dtype with their slope there; an encoder's head keeps all that are scored."""
    if not config.is_causal:
        return round(MASKED_SHARE * positions) * vocab_size * (3 * 4 + (2 * size if size == 2 else 0))
    held = min(positions, max(1, 2**22 // vocab_size)) * vocab_size  # model/nn/loss.py: CPU_LOGITS
    return held * (4 if size == 4 else 8)

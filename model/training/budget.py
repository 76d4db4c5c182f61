"""Compute budget: what a pretraining costs in parameters, arithmetic and memory, from its config alone. Imports no torch.

C channels, V vocabulary, T tokens of a row, H query heads, G key and value heads, D channels a head, M channels inside the MLP.
"""

from dataclasses import dataclass

from model.config.layout_config import LayoutConfig, Recomputed
from model.config.model_config import GATED, ModelConfig

COMPUTE_BYTES = {"float32": 4, "bfloat16": 2}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
KEPT_BY_CELLS = {"rnn": 3, "gru": 9, "lstm": 11}  # numbers a position, layer and channel, measured on torch 2.13
WHOLE = LayoutConfig()  # nothing is divided, nothing computed again
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

    weights: int  # float32, and in bfloat16 the copies that products read; of shards this process' own, and what it gathers
    gradients: int
    optimizer: int  # the optimizer's state: of AdamW two moments
    activations: int  # what the forward pass keeps for the backward pass
    logits: int  # those held at a time, with their gradients
    head_gradient: int  # of the matrix of V x C behind the logits, once
    copy: int  # of weights and state, from which checkpoints are written
    accumulates: bool  # several micro-batches to a step: gradients are there all the time
    layer: int = 0  # of the layer whose backward pass runs: what is computed again, and gradients on their way

    @property
    def peak(self) -> int:
        """The largest of four moments: the loss, the first product of the backward pass, its first layer, and its end."""
        head = self.head_gradient
        moving = self.activations + max(self.logits + head, 2 * head, self.layer + head)
        always = self.weights + self.optimizer + self.copy
        if self.accumulates:
            return always + self.gradients + moving
        return always + max(moving, self.gradients + head)


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
    layout: LayoutConfig = WHOLE,
    processes: int = 1,
    state_bytes: int = 8,
    frozen: int = 0,
    frozen_bytes: int = 4,
) -> TrainingMemory:
    """Of pretraining on one process' CPU, without the interpreter and its libraries, in rows of `tokens` (0: the context).

    seq2seq: source and target rows as long. `processes`: those of the whole training, among which `layout` divides. `state_bytes`: what the
    optimizer keeps for a parameter: AdamW 8, Muon, Lion and SGD with momentum 4, half of it in bfloat16. `frozen`: numbers that do not
    learn, each of `frozen_bytes`.
    Raises ValueError for a precision other than float32 and bfloat16.
    """
    if precision not in COMPUTE_BYTES:
        raise ValueError(f"precision {precision!r}: expected one of {', '.join(COMPUTE_BYTES)}")
    size = 4 if config.is_recurrent else COMPUTE_BYTES[precision]  # cells compute in float32
    T = tokens or config.context
    positions = micro_rows * T
    count = count_parameters(config, vocab_size)
    kind = layout.activation_checkpointing
    data = max(1, processes // layout.tensor) if layout.shards else 1
    whole = _of_tensor(config, count, layout.tensor)
    held = -(-whole // data)
    still = held * frozen // count.total
    learning, kept = held - still, 4 * (held - still) + frozen_bytes * still
    copies = _computed_with(config, count, layout, data > 1, size)
    is_whole = accumulates and data > 1 and not layout.reshards  # gradients are divided once a step
    passing = 0 if data == 1 else (size + 4) * _layer_numbers(config, count, layout.tensor)  # a layer's, whole, and as it is sent
    return TrainingMemory(
        weights=kept + (max(0, copies - size * still) if frozen_bytes == size else copies),
        gradients=4 * (whole - whole * frozen // count.total if is_whole else learning),
        optimizer=state_bytes * learning,
        activations=positions * _kept_bytes(config, T, size, kind, layout.tensor),
        logits=_logit_bytes(config, vocab_size, positions, size),
        head_gradient=4 * vocab_size * config.width,
        copy=kept + state_bytes * learning,
        accumulates=accumulates,
        layer=positions * _backward_bytes(config, T, size, kind, layout.tensor) + passing,
    )


def _of_tensor(config: ModelConfig, count: ParameterCount, tensor: int) -> int:
    """Numbers of one process of `tensor` that divide layers: embedding, head, norms and the biases behind a sum each has whole."""
    behind = config.layers * config.width * ((config.attention_bias == "all") + config.has_mlp_bias)
    divided = count.attention + count.mlp - behind
    return count.total if tensor == 1 else count.total - divided + divided // tensor


def _layer_numbers(config: ModelConfig, count: ParameterCount, tensor: int) -> int:
    """Of one layer, as a process of `tensor` has it; of recurrent families, which are sharded as one, all of them."""
    matrices = (count.attention + count.mlp) // tensor
    return (
        matrices if config.is_recurrent else matrices // max(1, config.layers + (config.decoder_depth if config.family == "seq2seq" else 0))
    )


def _computed_with(config: ModelConfig, count: ParameterCount, layout: LayoutConfig, is_sharded: bool, size: int) -> int:
    """Bytes of weights that are there only to compute with: bfloat16 copies, and of shards what is gathered.

    Of layers whose weights are let go there are two at a time, one on its way. What is no layer stays gathered, in float32.
    """
    matrices = (count.attention + count.mlp) // layout.tensor
    copies = 0 if size == 4 else size * (count.embeddings + count.head)
    if not is_sharded:
        return 0 if size == 4 else copies + size * matrices
    gathered = min(matrices, 2 * _layer_numbers(config, count, layout.tensor)) if layout.reshards else matrices
    return copies + size * gathered + 4 * (count.total - count.attention - count.mlp)


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


def _kept_bytes(config: ModelConfig, tokens: int, size: int, kind: Recomputed, tensor: int) -> int:
    """Of one position, by all layers and around them; of seq2seq of a source and a target position."""
    C = config.width
    if config.is_recurrent:
        return size * C * (2 + config.layers * KEPT_BY_CELLS[config.family])
    if config.family == "seq2seq":
        layers = config.layers * _layer_bytes(config, 0, tokens, size, kind, tensor, is_causal=False)
        layers += config.decoder_depth * _layer_bytes(config, 0, tokens, size, kind, tensor, is_causal=True)
        return layers + config.decoder_depth * size * _cross_kept(config, kind) + 4 * size * C
    return 3 * size * C + sum(_layer_bytes(config, layer, tokens, size, kind, tensor, config.is_causal) for layer in range(config.layers))


def _backward_bytes(config: ModelConfig, tokens: int, size: int, kind: Recomputed, tensor: int) -> int:
    """Of one position in the last layer, whose backward pass is the first: what it computes again, and gradients on their way."""
    if config.is_recurrent:
        return 0
    layer = max(config.layers, config.decoder_depth) - 1
    whole, kept = (_layer_bytes(config, layer, tokens, size, each, tensor, config.is_causal) for each in ("none", kind))
    if config.family == "seq2seq":
        whole, kept = whole + size * _cross_kept(config, "none"), kept + size * _cross_kept(config, kind)
    return whole - kept + size * (config.width + 2 * config.hidden_width // tensor)


def _layer_bytes(config: ModelConfig, layer: int, tokens: int, size: int, kind: Recomputed, tensor: int, is_causal: bool) -> int:
    """Of one position: two sums and two norms of them, queries, keys, values, what they give, and the MLP's inside.

    Computed again is, with "full", all but the layer's input; with "selective" all but results of products and of stock attention.
    """
    C, H, G, D = config.width, config.heads, config.key_value_heads, config.head_width
    if kind == "full":
        return size * C
    if kind == "selective":
        is_stock = not (is_causal and size == 2 and not config.dropout and not config.window_of(layer))
        attended = H * D if is_stock and not config.dropout else 0
        inner = config.hidden_width * (2 if config.mlp_activation in GATED else 1)
        return size * (3 * C + ((H + 2 * G) * D + attended + inner) // tensor)
    inside = (2 * H + 2 * G) * D + _mlp_kept(config)
    outside = 4 * C
    if config.family == "llama":
        outside += 2 * (4 * C if size == 2 else C)  # RMSNorm keeps what it divided, in float32
    if config.qk_norm:
        inside += 3 * (H + G) * D
    if config.window_of(layer) and config.window_of(layer) < tokens:
        inside += (2 if is_causal else 4) * 2 * G * D  # keys and values once for each block of queries that sees them
    if config.dropout:
        inside += 4 * H * tokens * 4 // size  # the float32 scores that a CPU's stock kernel then keeps
        outside += 2 * C  # masks
    elif is_causal and size == 2 and tokens <= 256 and not config.window_of(layer):
        inside += H * (tokens + 128) // 2  # probabilities of short rows
    return size * (outside + inside // tensor)


def _cross_kept(config: ModelConfig, kind: Recomputed) -> int:
    """Numbers a position, across: the sum, its norm, queries, keys, values, what they give."""
    return {"none": 6, "selective": 5, "full": 0}[kind] * config.width


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

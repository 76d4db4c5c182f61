"""What a model costs, from its config alone. Imports no torch."""

from model.model_config import ModelConfig

BYTES_PER_WEIGHT = 16  # float32 weight, gradient and the two moments of AdamW
ACTIVATION_BYTES = {"float32": 4, "bfloat16": 2}


def parameters(config: ModelConfig, vocab_size: int) -> int:
    """Trainable numbers of a language model; a tied head counts once."""
    embeddings = vocab_size * config.width * (1 if config.tie_embeddings else 2)
    is_gpt2 = config.family == "gpt2"
    positions = config.context * config.width if is_gpt2 else 0
    norms = (2 * config.layers + 1) * config.width * (2 if is_gpt2 else 1)
    biases = config.layers * (5 * config.width + config.hidden_width) if is_gpt2 else 0
    return embeddings + positions + norms + biases + matrix_parameters(config)


def matrix_parameters(config: ModelConfig) -> int:
    """Weights of the blocks' matrix products, embeddings and head left out."""
    key_value_width = config.key_value_heads * config.head_width
    attention = config.width * (2 * config.width + 2 * key_value_width)
    matrices = 2 if config.family == "gpt2" else 3
    return config.layers * (attention + matrices * config.width * config.hidden_width)


def flops_per_token(config: ModelConfig, vocab_size: int, tokens: int = 0) -> float:
    """Floating-point operations of training on one token, forward and backward, in rows of `tokens` (0: the context).

    6 * (block matrices + head) + 12 * layers * width * tokens / 2: an embedding lookup is free, and causal attention
    computes half of the square. Source of the 6 and 12: arXiv 2204.02311, appendix B, which counts the whole square.
    """
    linear = 6 * (matrix_parameters(config) + vocab_size * config.width)
    return linear + 12 * config.layers * config.width * (tokens or config.context) / 2


def training_bytes(config: ModelConfig, vocab_size: int, micro_rows: int, precision: str) -> int:
    """Rough peak memory of training on one process, without the interpreter and its libraries.

    Weights, gradients and moments; what the backward pass keeps; two copies of the embedding's gradient; the logits
    held at a time. Raises ValueError for a precision other than float32 and bfloat16.
    """
    if precision not in ACTIVATION_BYTES:
        raise ValueError(f"precision {precision!r}: expected one of {', '.join(ACTIVATION_BYTES)}")
    positions = micro_rows * config.context
    # Kept per position and layer: residuals and norms in float32, inputs and outputs of the products in `precision`.
    wide = 4 if config.family == "llama" else 3
    product_bytes = ACTIVATION_BYTES[precision] * (7 * config.width + wide * config.hidden_width)
    kept = config.layers * (4 * 4 * config.width + product_bytes) + 3 * 4 * config.width
    weights = parameters(config, vocab_size)
    half_copies = 2 * weights if precision == "bfloat16" else 0
    logits = min(positions * vocab_size, 2**28) * 8
    return BYTES_PER_WEIGHT * weights + half_copies + positions * kept + 8 * vocab_size * config.width + logits

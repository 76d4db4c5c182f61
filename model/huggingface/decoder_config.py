"""Hugging Face configs of decoders, GPT-2 and the Llama family: which class computes a config, and its keys. Imports no torch.

The Llama family is one code with options. Of the classes that Hugging Face has, the plainest that can compute a config is
written: Llama; Mistral, every layer with a window; Ministral, some; Qwen2, biases of query, key and value; Qwen3, norms of
queries and keys.
"""

from model.config.model_config import GATED, Bias, ModelConfig
from model.huggingface.folder_config import GATE_ACTIVATIONS, PLAIN_ACTIVATIONS, Settings, foreign_activation
from model.huggingface.rope_keys import describe_rope, read_rope

LLAMA_TYPES = ("llama", "mistral", "ministral", "qwen2", "qwen3")


def decoder_type(config: ModelConfig) -> str | None:
    """Hugging Face's name of the plainest family that computes the config; None when none does."""
    if decoder_obstacle(config) is not None:
        return None
    return "gpt2" if config.family == "gpt2" else _llama_type(config)


def decoder_obstacle(config: ModelConfig) -> str | None:
    """What no class of Hugging Face computes, in words; None when one does."""
    is_local = _local_layers(config)
    if config.logit_cap:
        return "it caps the logits"
    if config.family == "gpt2":
        if any(is_local):
            return "GPT-2 has no attention window"
        if config.mlp_activation in GATED:
            return f"GPT-2 has no gated activation such as {config.mlp_activation}"
        return None
    if config.mlp_activation not in GATED:
        return f"Llama's MLP is gated, and {config.mlp_activation} is not"
    if len({config.theta_of(layer) for layer in range(config.layers)}) > 1:
        return "local and global layers have rotary positions of different base"
    if _llama_type(config) is None:
        return (
            f"no class of the Llama family has bias {config.attention_bias}, qk_norm {config.qk_norm}, a window in "
            f"{sum(is_local)} of {config.layers} layers and {config.heads} heads in width {config.width}, all at once"
        )
    return None


def describe_decoder(config: ModelConfig) -> dict[str, object]:
    """The keys of config.json that follow from the shape."""
    if config.family == "gpt2":
        return {
            "n_layer": config.layers,
            "n_embd": config.width,
            "n_head": config.heads,
            "n_positions": config.context,
            "n_ctx": config.context,
            "n_inner": config.hidden_width,
            "activation_function": foreign_activation(config.mlp_activation, PLAIN_ACTIVATIONS),
            "layer_norm_epsilon": config.norm_epsilon,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
        }
    return {
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads,
        "head_dim": config.head_width,
        "max_position_embeddings": config.context,
        "intermediate_size": config.hidden_width,
        "hidden_act": foreign_activation(config.mlp_activation, GATE_ACTIVATIONS),
        "rms_norm_eps": config.norm_epsilon,
        **describe_rope(config.theta_of(0), config.rope_scaling),
        "attention_bias": config.attention_bias == "all",
        "mlp_bias": False,
        "attention_dropout": config.dropout,
        **_describe_window(config),
    }


def read_gpt2(settings: Settings) -> ModelConfig:
    """Raises ValueError naming the key that this code cannot follow."""
    settings.require("scale_attn_weights", (True,))
    settings.require("scale_attn_by_inverse_layer_idx", (False,))
    settings.require("add_cross_attention", (False,))
    settings.require("tie_word_embeddings", (True,))
    return ModelConfig(
        family="gpt2",
        layers=settings.integer("n_layer"),
        width=settings.integer("n_embd"),
        heads=settings.integer("n_head"),
        context=settings.integer("n_positions"),
        mlp_width=settings.integer("n_inner", 4 * settings.integer("n_embd")),
        activation=settings.activation("activation_function", "gelu_new", PLAIN_ACTIVATIONS),
        dropout=settings.number("resid_pdrop", 0.1),
        norm_epsilon=settings.number("layer_norm_epsilon", 1e-5),
        initial_std=settings.number("initializer_range", 0.02),
    )


def read_llama(settings: Settings, model_type: str) -> ModelConfig:
    """A config of one of LLAMA_TYPES. Raises ValueError naming the key that this code cannot follow."""
    settings.require("mlp_bias", (False,))
    width, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
    kv_heads = settings.integer("num_key_value_heads", 8 if model_type in ("mistral", "ministral") else heads)
    head_dim = settings.integer("head_dim", 128 if model_type == "qwen3" else width // heads)
    window, global_every = _read_window(settings, model_type)
    rope = read_rope(settings)
    return ModelConfig(
        family="llama",
        layers=settings.integer("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=0 if kv_heads == heads else kv_heads,
        head_dim=0 if head_dim * heads == width else head_dim,
        context=settings.integer("max_position_embeddings"),
        mlp_width=settings.integer("intermediate_size"),
        activation=settings.activation("hidden_act", "silu", GATE_ACTIVATIONS),
        bias=_read_bias(settings, model_type),
        qk_norm=model_type == "qwen3",
        window=window or None,
        global_every=global_every or None,
        dropout=settings.number("attention_dropout", 0.0),
        tie_embeddings=settings.values.get("tie_word_embeddings") is True,  # Hugging Face's default for Llama is false
        rope_theta=rope.theta,
        rope_scaling=rope.scaling,
        norm_epsilon=settings.number("rms_norm_eps", 1e-6),
        initial_std=settings.number("initializer_range", 0.02),
    )


def _llama_type(config: ModelConfig) -> str | None:
    bias, is_local = config.attention_bias, _local_layers(config)
    if config.qk_norm:
        return None if bias == "qkv" else "qwen3"
    if bias == "qkv":
        return "qwen2"
    can_be_llama = not any(is_local) and config.width % config.heads == 0  # which Hugging Face's Llama insists on
    if can_be_llama or bias == "all":
        return "llama" if can_be_llama else None
    return "ministral" if any(is_local) and not all(is_local) else "mistral"


def _local_layers(config: ModelConfig) -> list[bool]:
    return [config.window_of(layer) > 0 for layer in range(config.layers)]


def _describe_window(config: ModelConfig) -> dict[str, object]:
    """The keys about windows that the class knows."""
    is_local, model_type = _local_layers(config), _llama_type(config)
    window = config.local_window if any(is_local) else None
    kinds = ["sliding_attention" if local else "full_attention" for local in is_local]
    if model_type == "mistral":
        return {"sliding_window": window}
    if model_type == "ministral":
        return {"sliding_window": window, "layer_types": kinds}
    if model_type in ("qwen2", "qwen3"):
        full_layers = is_local.index(True) if any(is_local) else config.layers
        return {
            "use_sliding_window": window is not None,
            "sliding_window": window,
            "max_window_layers": full_layers,
            "layer_types": kinds,
        }
    return {}


def _read_window(settings: Settings, model_type: str) -> tuple[int, int]:
    """Window and period of global layers; 0 and 0 where every layer sees all."""
    layers = settings.integer("num_hidden_layers")
    if model_type == "llama":
        return 0, 0
    is_switched = model_type in ("qwen2", "qwen3")
    if is_switched and settings.values.get("use_sliding_window") is not True:
        if "sliding_attention" in (settings.strings("layer_types") or ()):
            settings.require("use_sliding_window", (True,))
        return 0, 0
    if settings.values.get("sliding_window", 4096) is None:
        return 0, 0
    window = settings.integer("sliding_window", 4096)
    if model_type == "mistral":
        settings.require("layer_types", (None,))
    first = settings.integer("max_window_layers", 28) if is_switched else 0
    return settings.layer_window(window, [layer >= first for layer in range(layers)])


def _read_bias(settings: Settings, model_type: str) -> Bias:
    if model_type == "qwen2":
        return "qkv"
    has_bias = settings.values.get("attention_bias") is True
    if has_bias and model_type in ("mistral", "ministral"):
        settings.require("attention_bias", (False,))
    return "all" if has_bias else "none"

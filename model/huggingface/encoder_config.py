"""Hugging Face configs of BERT, ModernBERT and Marian: what they cannot compute, and their keys. Imports no torch."""

from model.config.model_config import GATED, ModelConfig
from model.huggingface.folder_config import GATE_ACTIVATIONS, PLAIN_ACTIVATIONS, Settings, foreign_activation
from model.huggingface.rope_keys import Rope, describe_scaling, read_rope_object

MARIAN_NORM_EPSILON = 1e-5  # no key sets it


def encoder_obstacle(config: ModelConfig) -> str | None:
    """What BERT, ModernBERT or Marian, by the config's family, does not compute, in words; None when it does all."""
    is_gated = config.mlp_activation in GATED
    if config.family == "modernbert":
        return None if is_gated else f"ModernBERT's MLP is gated, and {config.mlp_activation} is not"
    if is_gated:
        return f"{'BERT' if config.family == 'bert' else 'Marian'} has no gated activation such as {config.mlp_activation}"
    if config.family == "bert":
        return None
    if config.position_kind != "sinusoidal":
        return "Marian's positions are sinusoidal, not learned"
    if config.norm_epsilon != MARIAN_NORM_EPSILON:
        return f"Marian's norm_epsilon is {MARIAN_NORM_EPSILON}, not {config.norm_epsilon}"
    return None


def describe_bert(config: ModelConfig) -> dict[str, object]:
    """The keys of config.json that follow from the shape."""
    return {
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context,
        "intermediate_size": config.hidden_width,
        "hidden_act": foreign_activation(config.mlp_activation, PLAIN_ACTIVATIONS),
        "type_vocab_size": config.segment_kinds,
        "layer_norm_eps": config.norm_epsilon,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "classifier_dropout": None,
        "position_embedding_type": "absolute",
    }


def describe_modernbert(config: ModelConfig) -> dict[str, object]:
    """Layers and rotary positions in the keys of transformers 5 and, where they can say it, of 4."""
    is_local = [config.window_of(layer) > 0 for layer in range(config.layers)]
    local_theta = config.local_rope_theta or config.rope_theta
    activation = foreign_activation(config.mlp_activation, GATE_ACTIVATIONS)
    keys: dict[str, object] = {
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context,
        "intermediate_size": config.hidden_width,
        "hidden_activation": activation,
        "classifier_activation": activation,
        "classifier_pooling": "mean" if config.pooling == "mean" else "cls",
        "classifier_bias": False,
        "classifier_dropout": config.dropout,
        "norm_eps": config.norm_epsilon,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "decoder_bias": True,
        "attention_dropout": config.dropout,
        "embedding_dropout": config.dropout,
        "mlp_dropout": config.dropout,
        "layer_types": ["sliding_attention" if local else "full_attention" for local in is_local],
        "local_attention": config.local_window or config.context,
        "rope_parameters": {
            "full_attention": {**describe_scaling(config.rope_scaling), "rope_theta": config.rope_theta},
            "sliding_attention": {**describe_scaling(config.rope_scaling), "rope_theta": local_theta},
        },
        "global_rope_theta": config.rope_theta,
        "local_rope_theta": local_theta,
    }
    if not any(is_local) or config.global_layer_every:
        keys["global_attn_every_n_layers"] = config.global_layer_every if any(is_local) else 1
    return keys


def describe_marian(config: ModelConfig) -> dict[str, object]:
    """The keys of config.json that follow from the shape."""
    return {
        "d_model": config.width,
        "encoder_layers": config.layers,
        "decoder_layers": config.decoder_depth,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.hidden_width,
        "decoder_ffn_dim": config.hidden_width,
        "max_position_embeddings": config.context,
        "activation_function": foreign_activation(config.mlp_activation, PLAIN_ACTIVATIONS),
        "init_std": config.weight_std,
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "scale_embedding": True,
        "static_position_embeddings": True,
        "share_encoder_decoder_embeddings": True,
        "is_encoder_decoder": True,
    }


def read_bert(settings: Settings) -> ModelConfig:
    """Raises ValueError naming the key that this code cannot follow."""
    settings.require("position_embedding_type", ("absolute",))
    settings.require("is_decoder", (False,))
    settings.require("add_cross_attention", (False,))
    settings.require("tie_word_embeddings", (True,))
    return ModelConfig(
        family="bert",
        layers=settings.integer("num_hidden_layers"),
        width=settings.integer("hidden_size"),
        heads=settings.integer("num_attention_heads"),
        context=settings.integer("max_position_embeddings"),
        mlp_width=settings.integer("intermediate_size"),
        activation=settings.activation("hidden_act", "gelu", PLAIN_ACTIVATIONS),
        token_types=settings.integer("type_vocab_size", 2),
        dropout=settings.number("hidden_dropout_prob", 0.1),
        norm_epsilon=settings.number("layer_norm_eps", 1e-12),
        initial_std=settings.number("initializer_range", 0.02),
    )


def read_modernbert(settings: Settings, has_head: bool) -> ModelConfig:
    """Raises ValueError naming the key that this code cannot follow; `has_head`: the keys of the head count too."""
    settings.require("tie_word_embeddings", (True,))
    for name in ("attention_bias", "mlp_bias", "norm_bias"):
        settings.require(name, (False,))
    activation = settings.activation("hidden_activation", "gelu", GATE_ACTIVATIONS)
    if has_head:
        settings.require("classifier_bias", (False,))
        settings.require("decoder_bias", (True,))
        if settings.activation("classifier_activation", "gelu", GATE_ACTIVATIONS) != activation:
            settings.require("classifier_activation", (settings.values.get("hidden_activation", "gelu"),))
    layers, every = settings.integer("num_hidden_layers"), settings.integer("global_attn_every_n_layers", 3)
    is_local = [layer % every > 0 for layer in range(layers)]
    window, global_every = settings.layer_window(settings.integer("local_attention", 128), is_local)
    far, near = _modernbert_ropes(settings)
    settings.require("classifier_pooling", ("cls", "mean"))
    return ModelConfig(
        family="modernbert",
        layers=layers,
        width=settings.integer("hidden_size"),
        heads=settings.integer("num_attention_heads"),
        context=settings.integer("max_position_embeddings"),
        mlp_width=settings.integer("intermediate_size"),
        activation=activation,
        window=window,
        global_every=global_every,
        dropout=settings.number("mlp_dropout", 0.0),
        rope_theta=far.theta,
        local_rope_theta=0.0 if near.theta == far.theta else near.theta,
        rope_scaling=far.scaling,
        pooling="mean" if settings.values.get("classifier_pooling") == "mean" else None,
        norm_epsilon=settings.number("norm_eps", 1e-5),
        initial_std=settings.number("initializer_range", 0.02),
    )


def read_marian(settings: Settings) -> ModelConfig:
    """Raises ValueError naming the key that this code cannot follow."""
    for name in ("normalize_before", "normalize_embedding", "add_final_layer_norm", "add_bias_logits", "is_decoder"):
        settings.require(name, (False,))
    for name in ("tie_word_embeddings", "share_encoder_decoder_embeddings", "static_position_embeddings"):
        settings.require(name, (True,))
    if settings.values.get("scale_embedding") is not True:
        raise ValueError("scale_embedding is not true, and this code computes only true")
    settings.require("decoder_attention_heads", (settings.integer("encoder_attention_heads"),))
    settings.require("decoder_ffn_dim", (settings.integer("encoder_ffn_dim"),))
    settings.require("decoder_vocab_size", (settings.integer("vocab_size"),))
    layers, decoder_layers = settings.integer("encoder_layers"), settings.integer("decoder_layers")
    return ModelConfig(
        family="seq2seq",
        layers=layers,
        decoder_layers=0 if decoder_layers == layers else decoder_layers,
        width=settings.integer("d_model"),
        heads=settings.integer("encoder_attention_heads"),
        context=settings.integer("max_position_embeddings"),
        mlp_width=settings.integer("encoder_ffn_dim"),
        activation=settings.activation("activation_function", "gelu", PLAIN_ACTIVATIONS),
        dropout=settings.number("dropout", 0.1),
        norm_epsilon=MARIAN_NORM_EPSILON,
        initial_std=settings.number("init_std", 0.02),
    )


def _modernbert_ropes(settings: Settings) -> tuple[Rope, Rope]:
    """Of global and of local layers, from `rope_parameters` (transformers 5) or two keys (4)."""
    scaling = settings.nested("rope_scaling") or Settings({})  # of both, where it is there
    rope = settings.nested("rope_parameters")
    global_theta = settings.number("global_rope_theta", 160000.0)
    is_told = "local_rope_theta" in settings.values and rope is None  # null means: as the global ones
    local_theta = settings.number("local_rope_theta", global_theta if is_told else 10000.0)
    ropes: list[Rope] = []
    for name, theta in (("full_attention", global_theta), ("sliding_attention", local_theta)):
        told = (None if rope is None else rope.nested(name)) or Settings({})
        place = f"rope_parameters: {name}" if rope is not None else "rope_scaling"
        ropes.append(read_rope_object(settings, place, Settings({**told.values, **scaling.values}), theta))
    far, near = ropes
    if far.scaling != near.scaling:
        raise ValueError(
            f"rope_parameters: full_attention has {far.told}, sliding_attention {near.told}, expected the same of both. "
            f"Fix: take a model whose layers are scaled alike"
        )
    return far, near

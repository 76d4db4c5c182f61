"""The config.json of a Hugging Face folder, written from a ModelConfig and read into one. Imports no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.model_config import Family, ModelConfig

CONFIG = "config.json"

Head = Literal["language_model", "sequence_classifier", "token_classifier"]

ARCHITECTURES: dict[str, tuple[Family, Head]] = {
    "GPT2LMHeadModel": ("gpt2", "language_model"),
    "GPT2ForSequenceClassification": ("gpt2", "sequence_classifier"),
    "GPT2ForTokenClassification": ("gpt2", "token_classifier"),
    "LlamaForCausalLM": ("llama", "language_model"),
    "LlamaForSequenceClassification": ("llama", "sequence_classifier"),
    "LlamaForTokenClassification": ("llama", "token_classifier"),
}


@dataclass(frozen=True)
class FolderDescription:
    """What config.json says, as far as this code needs it."""

    model: ModelConfig
    head: Head
    vocab_size: int
    labels: tuple[str, ...]  # of the classes, in order; empty for a language model


def read_folder(folder: Path) -> FolderDescription:
    """What config.json describes. Raises ValueError naming the file and the key that this code cannot follow."""
    settings = _Settings.read(folder / CONFIG)
    architectures = settings.values.get("architectures")
    name = str(architectures[0]) if isinstance(architectures, list) and architectures else "none"
    if name not in ARCHITECTURES:
        raise ValueError(
            f"{settings.path}: architectures names {name}; known architectures: {', '.join(ARCHITECTURES)}"
        )
    family, head = ARCHITECTURES[name]
    config = _gpt2_config(settings) if family == "gpt2" else _llama_config(settings)
    labels: tuple[str, ...] = ()
    if head != "language_model":
        names = settings.values.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # Hugging Face omits its default
        labels = label_names(names, len(names) if isinstance(names, Mapping) else 0)
    return FolderDescription(config, head, settings.integer("vocab_size"), labels)


def label_names(id2label: object, classes: int) -> tuple[str, ...]:
    """Names of the classes in order, from a mapping of class number to name, or LABEL_0 and so on from None."""
    if id2label is None:
        return tuple(f"LABEL_{number}" for number in range(classes))
    names = {int(number): str(name) for number, name in id2label.items()} if isinstance(id2label, Mapping) else {}
    if sorted(names) != list(range(classes)) or len(set(names.values())) != classes:
        raise ValueError(
            f"id2label is {id2label!r}, expected a different name for each class number 0 to {classes - 1}"
        )
    return tuple(names[number] for number in range(classes))


def describe(config: ModelConfig, vocab_size: int, head: Head) -> dict[str, object]:
    """The part of config.json that follows from the model."""
    shared: dict[str, object] = {
        "architectures": [name for name, kind in ARCHITECTURES.items() if kind == (config.family, head)],
        "model_type": config.family,
        "vocab_size": vocab_size,
        "initializer_range": config.initial_std,
        "tie_word_embeddings": config.tie_embeddings,
        "use_cache": True,
    }
    if config.family == "gpt2":
        return shared | {
            "n_layer": config.layers,
            "n_embd": config.width,
            "n_head": config.heads,
            "n_positions": config.context,
            "n_ctx": config.context,
            "n_inner": config.hidden_width,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": config.norm_epsilon,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
        }
    return shared | {
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_value_heads,
        "head_dim": config.head_width,
        "max_position_embeddings": config.context,
        "intermediate_size": config.hidden_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": config.dropout,
    }


@dataclass(frozen=True)
class _Settings:
    """The keys of a config.json, read with errors that name the file and the key."""

    path: Path
    values: Mapping[str, object]

    @classmethod
    def read(cls, path: Path) -> "_Settings":
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not a Hugging Face model folder ({error})") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path}: found {type(values).__name__}, expected an object")
        return cls(path, values)

    def number(self, name: str, default: float | None = None) -> float:
        value = self.values.get(name)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.path}: {name} is {value!r}, expected a number")
        return float(value)

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.number(name, default)
        if not value.is_integer():
            raise ValueError(f"{self.path}: {name} is {value}, expected a whole number")
        return int(value)

    def require(self, name: str, allowed: tuple[object, ...]) -> None:
        """The value, where there is one, must be of `allowed`: the model that this code computes has no other."""
        value = self.values.get(name, allowed[0])
        if value not in allowed:
            raise ValueError(f"{self.path}: {name} is {value!r}, this code computes only {allowed[0]!r}")


def _gpt2_config(settings: _Settings) -> ModelConfig:
    settings.require("activation_function", ("gelu_new", "gelu_pytorch_tanh"))
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
        dropout=settings.number("resid_pdrop", 0.1),
        norm_epsilon=settings.number("layer_norm_epsilon", 1e-5),
        initial_std=settings.number("initializer_range", 0.02),
    )


def _llama_config(settings: _Settings) -> ModelConfig:
    settings.require("hidden_act", ("silu", "swish"))
    settings.require("attention_bias", (False,))
    settings.require("mlp_bias", (False,))
    settings.require("rope_scaling", (None,))
    width, heads = settings.integer("hidden_size"), settings.integer("num_attention_heads")
    settings.require("head_dim", (width // heads, None))
    kv_heads = settings.integer("num_key_value_heads", heads)
    return ModelConfig(
        family="llama",
        layers=settings.integer("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=0 if kv_heads == heads else kv_heads,
        context=settings.integer("max_position_embeddings"),
        mlp_width=settings.integer("intermediate_size"),
        dropout=settings.number("attention_dropout", 0.0),
        tie_embeddings=settings.values.get("tie_word_embeddings") is True,  # Hugging Face's default for Llama is false
        rope_theta=_rope_theta(settings),
        norm_epsilon=settings.number("rms_norm_eps", 1e-6),
        initial_std=settings.number("initializer_range", 0.02),
    )


def _rope_theta(settings: _Settings) -> float:
    """From `rope_parameters` (transformers 5) or `rope_theta` (4)."""
    parameters = settings.values.get("rope_parameters")
    if not isinstance(parameters, dict):
        return settings.number("rope_theta", 10000.0)
    rope = _Settings(settings.path, parameters)
    rope.require("rope_type", ("default",))
    return rope.number("rope_theta", 10000.0)

"""Reading config.json: what a model folder says, key by key. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.config.heads import Head, Problem
from model.config.model_config import Activation, ModelConfig

CONFIG = "config.json"
OWN_TYPE = "wordmill"  # the model_type of a folder in our own words

CLASSIFIERS = ("sequence", "tokens")

PLAIN_ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}
GATE_ACTIVATIONS: dict[str, Activation] = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "relu": "reglu"}


@dataclass(frozen=True)
class FolderDescription:
    """What config.json says, as far as this code needs it."""

    model_type: str  # as Hugging Face calls the family; "wordmill" for a folder of our own form
    model: ModelConfig
    vocab_size: int
    head: Head
    labels: tuple[str, ...] = ()  # of the classes, in order; empty where there are none
    problem: Problem = "single"  # of a sequence classifier
    tasks: Mapping[str, object] = field(default_factory=dict[str, object])  # of a multi-task model, as they are written


@dataclass(frozen=True)
class Settings:
    """The keys of a config.json, read with errors that name the key. A key that is null counts as absent."""

    values: Mapping[str, object]

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Raises ValueError for what is no JSON object, or asks for code of the folder, or for quantized weights."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not a Hugging Face model folder ({error})") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path}: found {type(values).__name__}, expected an object")
        settings = cls(values)
        if values.get("auto_map"):
            raise ValueError(
                f"{path}: auto_map names {_code_files(values['auto_map'])}: the folder brings its own code, which is not "
                f"run. Fix: save the model as one of the architectures that transformers has itself"
            )
        settings.require("quantization_config", (None,))
        return settings

    def number(self, name: str, default: float | None = None) -> float:
        """A number; the default where the key is absent."""
        value = self.values.get(name)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} is {value!r}, expected a number")
        return float(value)

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        value = self.number(name, default)
        if not value.is_integer():
            raise ValueError(f"{name} is {value}, expected a whole number")
        return int(value)

    def require(self, name: str, allowed: tuple[object, ...]) -> None:
        """The value, where there is one, must be of `allowed`: the model that this code computes has no other."""
        value = self.values.get(name)
        if value is not None and value not in allowed:
            known = " or ".join(repr(one) for one in allowed)
            raise ValueError(f"{name} is {value!r}, this code computes only {known}. Fix: take a model that has it so")

    def activation(self, name: str, default: str, known: Mapping[str, Activation]) -> Activation:
        """Our name of the activation."""
        value = self.values.get(name) or default
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name} is {value!r}, this code computes only {', '.join(known)}. Fix: take a model that has one of these")
        return known[value]

    def nested(self, name: str) -> "Settings | None":
        """The object under `name`; None where there is none."""
        values = self.values.get(name)
        if values is None:
            return None
        if not isinstance(values, dict):
            raise ValueError(f"{name} is {values!r}, expected an object")
        return Settings(values)

    def strings(self, name: str) -> list[str] | None:
        """The list of texts under `name`; None where there is none."""
        values = self.values.get(name)
        if values is None:
            return None
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"{name} is {values!r}, expected a list of texts")
        return [str(value) for value in values]

    def global_every(self, is_local: Sequence[bool]) -> int:
        """The period of the layers that see all, from the first; 0: none does. Raises ValueError for other patterns."""
        if all(is_local):
            return 0
        for every in range(1, len(is_local) + 1):
            if all(local == (layer % every > 0) for layer, local in enumerate(is_local)):
                return every
        seeing_all = ", ".join(str(layer) for layer, local in enumerate(is_local) if not local)
        raise ValueError(
            f"of the {len(is_local)} layers, counted from 0, those that see all are {seeing_all}; this code "
            f"computes only every n-th from the first"
        )

    def layer_window(self, window: int, default: Sequence[bool]) -> tuple[int, int]:
        """Window and period of global layers, by layer_types or else `default`: whether each layer is local."""
        names = self.strings("layer_types")
        is_local = list(default)
        if names is not None:
            known = {"full_attention": False, "sliding_attention": True}
            if len(names) != len(is_local) or not set(names) <= set(known):
                raise ValueError(f"layer_types is {names}, expected {len(is_local)} of {', '.join(known)}: one a layer")
            is_local = [known[name] for name in names]
        return (window, self.global_every(is_local)) if any(is_local) else (0, 0)

    def labels(self) -> tuple[str, ...]:
        """Names of the classes; Hugging Face does not write its default, two of them."""
        names = self.values.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
        return label_names(names, len(names) if isinstance(names, Mapping) else 0)


def label_names(id2label: object, classes: int) -> tuple[str, ...]:
    """Names of the classes in order, from a mapping of class number to name, or LABEL_0 and so on from None."""
    if id2label is None:
        return tuple(f"LABEL_{number}" for number in range(classes))
    names = {int(number): str(name) for number, name in id2label.items()} if isinstance(id2label, Mapping) else {}
    if sorted(names) != list(range(classes)) or len(set(names.values())) != classes:
        raise ValueError(f"id2label is {id2label!r}, expected a different name for each class number 0 to {classes - 1}")
    return tuple(names[number] for number in range(classes))


def foreign_activation(activation: Activation, known: Mapping[str, Activation]) -> str | None:
    """Hugging Face's name of an activation; None when it is not one of `known`."""
    return next((name for name, ours in known.items() if ours == activation), None)


def _code_files(auto_map: object) -> str:
    """Files that auto_map points to, as `modeling_x.py`."""
    values = list(auto_map.values()) if isinstance(auto_map, dict) else [auto_map]
    return ", ".join(sorted({f"{str(value).split('.', maxsplit=1)[0]}.py" for value in values}))

"""RoPE keys of Hugging Face: `rope_parameters` of transformers 5, `rope_theta` and `rope_scaling` of 4. Imports no torch."""

from dataclasses import dataclass

from model.config.rope_scaling import RopeScaling
from model.huggingface.folder_config import Settings

SHARED_KEYS = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
SCALING_KEYS: dict[str, tuple[str, ...]] = {  # by rope_type
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


@dataclass(frozen=True)
class Rope:
    """Base of the angles, and how they are scaled."""

    theta: float
    scaling: RopeScaling | None

    @property
    def told(self) -> str:
        """The scaling in words."""
        return "none" if self.scaling is None else f"{self.scaling.kind} by {self.scaling.factor}"


def read_rope(settings: Settings) -> Rope:
    """Of a model whose layers turn alike. Where both spellings stand, `rope_scaling` counts, as in transformers.

    Raises ValueError naming the key that this code cannot follow.
    """
    settings.require("partial_rotary_factor", (1.0,))
    name = "rope_scaling" if settings.values.get("rope_scaling") else "rope_parameters"
    told = settings.nested(name) or Settings({})
    return read_rope_object(settings, name, told, settings.number("rope_theta", 10000.0))


def read_rope_object(settings: Settings, name: str, told: Settings, theta: float) -> Rope:
    """What the object `told`, under `name` in config.json, says; `theta` is for one that tells none."""
    try:
        return Rope(told.number("rope_theta", theta), _read_scaling(settings, told))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def describe_rope(theta: float, scaling: RopeScaling | None) -> dict[str, object]:
    """The keys of both spellings; without scaling there is no `rope_scaling`."""
    told = describe_scaling(scaling)
    keys: dict[str, object] = {"rope_theta": theta, "rope_parameters": {**told, "rope_theta": theta}}
    return keys if scaling is None else keys | {"rope_scaling": told}


def describe_scaling(scaling: RopeScaling | None) -> dict[str, object]:
    """The keys of `rope_scaling`, and of `rope_parameters` without the base."""
    if scaling is None:
        return {"rope_type": "default"}
    if scaling.kind == "linear":
        return {"rope_type": "linear", "factor": scaling.factor}
    low, high, original = scaling.llama3
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }


def _read_scaling(settings: Settings, told: Settings) -> RopeScaling | None:
    kind = told.values.get("rope_type") or told.values.get("type") or "default"
    if not isinstance(kind, str) or kind not in SCALING_KEYS:
        raise ValueError(
            f"rope_type is {kind!r}, this code computes only {', '.join(SCALING_KEYS)}. "
            "Fix: take a model with one of these, or remove what was added to read further than it was trained for"
        )
    known = (*SHARED_KEYS, *SCALING_KEYS[kind])
    unknown = sorted(name for name, value in told.values.items() if value is not None and name not in known)
    if unknown:
        raise ValueError(
            f"unknown keys {', '.join(unknown)} beside rope_type {kind!r}, expected {', '.join(known)}. "
            "Fix: remove them where the model does without, or name the rope_type that has them"
        )
    told.require("partial_rotary_factor", (1.0,))
    if kind == "default":
        return None
    factor = told.number("factor")
    if kind == "linear":
        return RopeScaling("linear", factor)
    original = told.integer("original_max_position_embeddings", settings.integer("max_position_embeddings"))
    original = settings.integer("original_max_position_embeddings", original)  # this one counts in transformers
    return RopeScaling("llama3", factor, told.number("low_freq_factor"), told.number("high_freq_factor"), original)

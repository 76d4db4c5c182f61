"""RoPE scaling: rotary angles that turn slower than in the first training, so that a model reads further. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, get_args

from model.config.checks import at_least, one_of, within

ScalingKind = Literal["linear", "llama3"]
LLAMA3_OPTIONS = ("low_freq_factor", "high_freq_factor", "original_context")


@dataclass(frozen=True)
class RopeScaling:
    """linear: every angle is divided by `factor` (arXiv 2306.15595), as in DeepSeek-Coder. llama3: as in Llama 3.1 and 3.2.

    llama3 divides an angle that turns less than `low_freq_factor` times in the original context, keeps one that turns more than
    `high_freq_factor` times, and blends between them.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    kind: ScalingKind
    factor: float
    low_freq_factor: float | None = None  # llama3; Llama 3.1 has 1
    high_freq_factor: float | None = None  # llama3; Llama 3.1 has 4
    original_context: int | None = None  # llama3: tokens that the model was first trained on; Llama 3.1 has 8192

    def __post_init__(self) -> None:
        """Raises ValueError, with the fix, for a value out of bounds, and for options that the kind lacks or would ignore."""
        one_of("kind", self.kind, get_args(ScalingKind))
        within("factor", self.factor, 1.0, math.inf)
        for name, value in zip(LLAMA3_OPTIONS, (self.low_freq_factor, self.high_freq_factor, self.original_context), strict=True):
            if value is not None and self.kind == "linear":
                raise ValueError(f"{name} {value}: linear has no such option; leave it out, or set kind to llama3")
            if value is None and self.kind == "llama3":
                raise ValueError(f"{name} is missing: llama3 needs factor, {', '.join(LLAMA3_OPTIONS)}")
        if self.kind == "llama3":
            low, high, original = self.llama3
            within("low_freq_factor", low, 0.0, math.inf, includes_low=False)
            within("high_freq_factor", high, low, math.inf, includes_low=False)
            at_least(1, original_context=original)

    @property
    def llama3(self) -> tuple[float, float, int]:
        """The three options that only llama3 has."""
        assert self.low_freq_factor is not None
        assert self.high_freq_factor is not None
        assert self.original_context is not None
        return self.low_freq_factor, self.high_freq_factor, self.original_context


def rope_scaling_from(values: object) -> RopeScaling:
    """From what JSON says. Raises ValueError for what is no object, unknown keys and bad values."""
    known = [field.name for field in fields(RopeScaling)]
    if not isinstance(values, Mapping):
        raise ValueError(f"rope_scaling is {values!r}, expected an object with {', '.join(known)}")
    unknown = sorted(str(key) for key in values if key not in known)
    if unknown:
        raise ValueError(f"rope_scaling: unknown keys {', '.join(unknown)}. Known keys: {', '.join(known)}")
    try:
        return RopeScaling(**values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"rope_scaling: {error}") from error

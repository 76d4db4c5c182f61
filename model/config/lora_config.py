"""LoRA settings. Imports no torch: the command line reads this on every start."""

import math
from dataclasses import dataclass
from typing import ClassVar

from model.config.checks import at_least, within
from model.config.model_config import FORBID_UNKNOWN_KEYS


@dataclass(frozen=True)
class LoraConfig:
    """Which layers of the trunk get adapters, and how thick they are.

    `targets` are patterns over module names, in order; one that begins with "!" takes layers out again.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    rank: int = 8
    alpha: float = 16.0  # the product counts alpha / rank times
    dropout: float = 0.0  # of the adapter's input
    targets: tuple[str, ...] = ("*.attention.qkv", "*.attention.output")

    def __post_init__(self) -> None:
        """Raises ValueError for what no adapter can be."""
        at_least(1, rank=self.rank)
        within("alpha", self.alpha, 0.0, math.inf, includes_low=False)
        within("dropout", self.dropout, 0.0, 1.0, includes_high=False)
        if not self.targets:
            raise ValueError("targets: none, expected patterns such as *.attention.qkv")

    @property
    def scale(self) -> float:
        """How often the product of the thin matrices counts."""
        return self.alpha / self.rank

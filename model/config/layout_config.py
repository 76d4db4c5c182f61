"""Layout: how a model lies on the processes that train it. It changes where numbers are, and no result beyond float error. Imports no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from model.config.checks import at_least, one_of
from model.config.model_config import FORBID_UNKNOWN_KEYS, ModelConfig

Recomputed = Literal["none", "selective", "full"]
RECOMPUTED: tuple[Recomputed, ...] = ("none", "selective", "full")


@dataclass(frozen=True)
class LayoutConfig:
    """What is divided among processes, and what is computed twice to save memory."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    shards: bool = False  # FSDP2: weights, gradients and moments are divided among the processes; else each has them all
    reshards: bool = True  # of shards: a layer's weights are let go behind its forward pass, and gathered again for the backward pass
    tensor: int = 1  # tensor parallelism: processes among which each layer's matrices are divided
    activation_checkpointing: Recomputed = "none"  # selective: all but products and attention is computed again; full: whole layers

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        at_least(1, tensor=self.tensor)
        one_of("activation_checkpointing", self.activation_checkpointing, RECOMPUTED)


def check_recomputed(model: ModelConfig, kind: Recomputed) -> None:
    """Raises ValueError for recurrent families, whose cells are one kernel that keeps what it wants."""
    if kind != "none" and model.is_recurrent:
        raise ValueError(
            f"activation_checkpointing {kind}: the layers of {model.family} are one kernel, of which nothing can be computed again; "
            "set it to none, or take fewer micro_rows"
        )

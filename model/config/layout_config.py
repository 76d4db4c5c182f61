"""Layout: how a model lies on the processes that train it. It changes no result beyond float error. Imports no torch."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from model.config.checks import at_least, one_of
from model.config.model_config import DECODERS, FORBID_UNKNOWN_KEYS, ModelConfig

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


def check_recomputed(model: ModelConfig, kind: Recomputed, place: str = "") -> None:
    """Raises ValueError for recurrent families, whose cells are one kernel that keeps what it wants. `place`: as in `check_layout`."""
    if kind != "none" and model.is_recurrent:
        raise ValueError(
            f"{place}layout.activation_checkpointing {kind}: the layers of {model.family} are one kernel, of which nothing can be computed "
            "again; set it to none, or take fewer micro_rows"
        )


def check_layout(
    layout: LayoutConfig, config: ModelConfig, workers: tuple[int, int], batch_rows: int, micro_rows: int, place: str = ""
) -> None:
    """Raises ValueError, with what would work, unless this model can lie so on every number of processes from the least to the most.

    `place`: what the layout's key stands in, with a dot.
    """
    check_tensor(layout.tensor, config, place)
    for count in range(workers[0], workers[1] + 1):
        check_processes(layout, count, batch_rows, micro_rows, workers, place)


def check_tensor(tensor: int, config: ModelConfig, place: str = "") -> None:
    """Raises ValueError unless the layers of this model can be divided among `tensor` processes."""
    key = f"{place}layout.tensor {tensor}"
    if tensor == 1:
        return
    if config.family not in DECODERS:
        raise ValueError(f"{key}: family {config.family} has no plan for it, {' and '.join(DECODERS)} have; set tensor to 1")
    parts = {"heads": config.heads, "kv_heads": config.key_value_heads, "mlp_width": config.hidden_width}
    wrong = [f"{name} {size}" for name, size in parts.items() if size % tensor]
    if wrong:
        fitting = _divisors(math.gcd(*parts.values()))
        raise ValueError(f"{key} does not divide the model's {', '.join(wrong)}; what divides {', '.join(parts)}: {fitting}")


def check_processes(
    layout: LayoutConfig, count: int, batch_rows: int, micro_rows: int, workers: tuple[int, int] | None = None, place: str = ""
) -> None:
    """Raises ValueError unless so many processes can follow the layout; `workers`: the least and the most that there may be."""
    is_elastic = workers is not None and workers[0] != workers[1]
    of = f", which workers {list(workers or ())} allows" if is_elastic else ""
    if count % layout.tensor:
        fix = "set workers to one number" if is_elastic else f"set workers to a multiple of {layout.tensor}"
        raise ValueError(
            f"{place}layout.tensor {layout.tensor} does not divide {count} process{'' if count == 1 else 'es'}{of}: {fix}, or tensor to "
            f"one of {_divisors(count)}"
        )
    data = count // layout.tensor
    if layout.shards and micro_rows == 1 and batch_rows % data and data < batch_rows:
        raise ValueError(
            f"{place}layout.shards: {data} processes{of} have unequal shares of {batch_rows} rows, and with micro_rows 1 some would pass "
            f"more often than others, which wait for them: set micro_rows to 2, or have one of {_divisors(batch_rows)} processes"
        )


def check_optimizer(layout: LayoutConfig, kind: str, place: str = "") -> None:
    """Raises ValueError for an optimizer that has to see more of a matrix than a process holds."""
    if layout.tensor > 1 and kind in ("muon", "adafactor"):
        fix = "set tensor to 1, and shards to true to save memory" if kind == "muon" else "set tensor to 1"
        raise ValueError(
            f"{place}layout.tensor {layout.tensor}: optimizer.kind {kind} needs whole matrices; {fix}, or kind to adamw or lion"
        )
    if layout.shards and kind == "adafactor":
        raise ValueError(
            f"{place}layout.shards: optimizer.kind adafactor needs whole matrices; set shards to false, or kind to adamw or lion"
        )


def _divisors(whole: int) -> str:
    return ", ".join(str(n) for n in range(1, whole + 1) if whole % n == 0)

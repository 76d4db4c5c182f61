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


def check_layout(layout: LayoutConfig, config: ModelConfig, workers: tuple[int, int], batch_rows: int, micro_rows: int) -> None:
    """Raises ValueError, with what would work, unless this model can lie so on any number of processes from `workers`' least to its most."""
    check_tensor(layout.tensor, config)
    for count in range(max(1, workers[0]), max(1, workers[1]) + 1):
        check_processes(layout, count, batch_rows, micro_rows, workers)


def check_tensor(tensor: int, config: ModelConfig) -> None:
    """Raises ValueError unless the layers of this model can be divided among `tensor` processes."""
    if tensor == 1:
        return
    if config.family not in DECODERS:
        raise ValueError(
            f"layout.tensor {tensor}: family {config.family} has no plan for it, {' and '.join(DECODERS)} have; set tensor to 1"
        )
    parts = {"heads": config.heads, "kv_heads": config.key_value_heads, "mlp_width": config.hidden_width}
    wrong = [f"{name} {size}" for name, size in parts.items() if size % tensor]
    if wrong:
        fitting = _divisors(math.gcd(*parts.values()))
        raise ValueError(
            f"layout.tensor {tensor} does not divide the model's {', '.join(wrong)}; those that divide {', '.join(parts)}: {fitting}"
        )


def check_processes(layout: LayoutConfig, count: int, batch_rows: int, micro_rows: int, workers: tuple[int, int] | None = None) -> None:
    """Raises ValueError unless so many processes can follow the layout; `workers`: the range that the number is of."""
    of = "" if workers is None or workers[0] == workers[1] else f", one of the counts of workers [{workers[0]}, {workers[1]}]"
    if count % layout.tensor:
        fitting = _divisors(count)
        fix = f"set workers to a multiple of {layout.tensor}" if not of else "set workers to one number"
        raise ValueError(
            f"layout.tensor {layout.tensor} does not divide {count} process{'' if count == 1 else 'es'}{of}: {fix}, or tensor to one of: "
            f"{fitting}"
        )
    data = count // layout.tensor
    if layout.shards and micro_rows == 1 and batch_rows % data and data < batch_rows:
        fitting = _divisors(batch_rows)
        raise ValueError(
            f"layout.shards: {data} processes{of} share batches of {batch_rows} rows unevenly, and with micro_rows 1 some would take more "
            f"passes than others, which wait for each other's weights: set micro_rows to 2, or have as many as divide the rows: {fitting}"
        )


def _divisors(whole: int) -> str:
    return ", ".join(str(n) for n in range(1, whole + 1) if whole % n == 0)

"""Low-rank adapters: a frozen matrix learns the product of two thin ones. Source: arXiv 2106.09685.

R rank; A [R, in] starts random, B [out, R] zero: before the first step the output is the base model's, bit for bit.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config.lora_config import LoraConfig
from model.nn.layers import Linear
from model.nn.name_patterns import check_patterns, last_match

TRUNK = "trunk."  # heads read their weights without calling the layer, so adapters stay out of them


class LoraLinear(nn.Linear):
    """x W' + bias + scale * dropout(x) A' B', in the dtype of x. Names of weight and bias stay as they were."""

    def __init__(self, source: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        has_bias = source.bias is not None  # pyright: ignore[reportUnnecessaryComparison]  (the stubs forget bias=False)
        super().__init__(source.in_features, source.out_features, has_bias, device="meta")
        self.weight, self.bias = source.weight, source.bias
        self.scale, self.dropout = scale, dropout
        self.lora_a = nn.Parameter(source.weight.new_empty(rank, source.in_features))
        self.lora_b = nn.Parameter(source.weight.new_zeros(source.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))  # as PEFT

    @property
    def rank(self) -> int:
        """R."""
        return self.lora_a.shape[0]

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        dtype = input.dtype
        bias = None if self.bias is None else self.bias.to(dtype)  # pyright: ignore[reportUnnecessaryComparison]
        whole = F.linear(input, self.weight.to(dtype), bias)
        thin = F.linear(F.dropout(input, self.dropout, self.training), self.lora_a.to(dtype))  # (..., R)
        return whole + self.scale * F.linear(thin, self.lora_b.to(dtype))

    def merged(self) -> Linear:
        """One layer that computes the same, the product added to its matrix."""
        with torch.device("meta"):
            layer = Linear(self.in_features, self.out_features, self.bias is not None)  # pyright: ignore[reportUnnecessaryComparison]
        with torch.no_grad():
            layer.weight = nn.Parameter(self.weight + self.scale * (self.lora_b @ self.lora_a))
        layer.bias = self.bias
        return layer.train(self.training)


def apply_lora(model: nn.Module, config: LoraConfig) -> tuple[str, ...]:
    """Puts adapters beside the layers that `config` names, freezes all else, and returns the layers' names.

    Raises ValueError for patterns that match no linear layer of the trunk.
    """
    names = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and name.startswith(TRUNK)]
    patterns = [pattern.removeprefix("!") for pattern in config.targets]
    check_patterns("lora target", patterns, names)
    matches = {name: last_match(name, patterns) for name in names}
    chosen = [name for name, at in matches.items() if at is not None and not config.targets[at].startswith("!")]
    if not chosen:
        raise ValueError(f"lora targets {', '.join(config.targets)}: the last ones take all layers out again")
    model.requires_grad_(False)
    for name in chosen:
        adapt(model, name, config.rank, config.scale, config.dropout)
    return tuple(chosen)


def adapt(model: nn.Module, name: str, rank: int, scale: float, dropout: float) -> LoraLinear:
    """Puts an adapter beside one layer, and returns the two as one layer."""
    source = model.get_submodule(name)
    if not isinstance(source, nn.Linear) or isinstance(source, LoraLinear):
        raise ValueError(f"{name} is {type(source).__name__}, expected a linear layer without an adapter")
    layer = LoraLinear(source, rank, scale, dropout).train(source.training)
    model.set_submodule(name, layer)
    return layer


def adapters(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """The layers with adapters, by name."""
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLinear):
            yield name, layer


def merge(model: nn.Module) -> None:
    """Adds every adapter to its matrix, in place: the same outputs, up to rounding, from the base's own layers."""
    for name, layer in list(adapters(model)):
        model.set_submodule(name, layer.merged())

"""Tensor parallelism: each process of a group computes some heads and some channels of the MLP, and the sums are added up.

The first matrix of a pair is cut by rows (of its outputs), the second by columns; between them nothing is exchanged. Behind
attention and MLP one sum over the group makes each residual whole, and one in the backward pass its gradient: arXiv 1909.08053,
section 3. Fused matrices ([q | k | v], [gate | up]) are cut in each of their parts, so that heads stay whole. Embeddings, norms and
heads are the same on all processes of a group, and so are their gradients, to the last bit.

Parameters are plain tensors under their old names: our own kernels take them as they are, and FSDP2 shards them further.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from model.config.layout_config import check_tensor
from model.config.model_config import ModelConfig
from model.distributed.mesh import Mesh
from model.distributed.slices import Range, Slice, whole_slice
from model.nn.layers import GatedMlp, RMSNorm
from model.nn.lora import adapters
from model.nn.models import Model
from model.nn.transformer import Block


class _Grouped(FunctionCtx):
    group: dist.ProcessGroup


class _Fan(torch.autograd.Function):
    """The same on all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: _Grouped, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the base takes any gradients)
        ctx: _Grouped, grad_output: Tensor
    ) -> tuple[Tensor, None]:
        return _sum(grad_output, ctx.group), None


class _Total(torch.autograd.Function):
    """The sum over all processes; its gradient is the same on all."""

    @staticmethod
    def forward(ctx: _Grouped, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        del ctx
        return _sum(x, group)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: _Grouped, grad_output: Tensor
    ) -> tuple[Tensor, None]:
        del ctx
        return grad_output, None


def _sum(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    summed = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(summed, group=group)
    return summed


def fan(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """What each process goes on with by itself."""
    y: Tensor = _Fan.apply(x, group)  # pyright: ignore[reportAssignmentType]
    return y


def total(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The sum of what each process came to."""
    y: Tensor = _Total.apply(x, group)  # pyright: ignore[reportAssignmentType]
    return y


class ColumnLinear(nn.Linear):
    """Some of a layer's outputs, in the dtype of its input, which all processes have whole."""

    def __init__(self, source: nn.Linear, held: Slice, group: dist.ProcessGroup) -> None:
        weight, bias = _cut(source.weight, held), _cut(source.bias, held)
        assert weight is not None
        super().__init__(source.in_features, held.height, bias is not None, device="meta")
        self.weight, self.group = weight, group
        self.register_parameter("bias", bias)

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., its outputs]."""
        bias = None if self.bias is None else self.bias.to(input.dtype)  # pyright: ignore[reportUnnecessaryComparison]
        return F.linear(fan(input, self.group), self.weight.to(input.dtype), bias)


class RowLinear(nn.Linear):
    """A layer that has some of its inputs, in their dtype; its outputs are whole."""

    def __init__(self, source: nn.Linear, held: Slice, group: dist.ProcessGroup) -> None:
        weight = _cut(source.weight, held)
        assert weight is not None
        super().__init__(weight.shape[1], source.out_features, source.bias is not None, device="meta")  # pyright: ignore[reportUnnecessaryComparison]
        self.weight, self.bias, self.group = weight, source.bias, group

    def forward(self, input: Tensor) -> Tensor:
        """[..., its inputs] -> [..., out]. The bias is added once, behind the sum."""
        y = total(F.linear(input, self.weight.to(input.dtype)), self.group)
        return y if self.bias is None else y + self.bias.to(y.dtype)  # pyright: ignore[reportUnnecessaryComparison]


class HeadNorm(nn.RMSNorm):
    """RMSNorm of this process' heads by a weight that all have."""

    def __init__(self, source: RMSNorm, group: dist.ProcessGroup) -> None:
        super().__init__(list(source.normalized_shape), eps=source.eps, device="meta")
        self.weight, self.group = source.weight, group

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return F.rms_norm(x, self.normalized_shape, fan(self.weight, self.group).to(x.dtype), self.eps)


def _cut(parameter: Tensor | None, held: Slice) -> nn.Parameter | None:
    if parameter is None:
        return None
    with torch.no_grad():
        return nn.Parameter(held.of(parameter).clone(), parameter.requires_grad)


def cut_layers(model: Model, mesh: Mesh) -> None:
    """Leaves in each layer what this process computes. Raises ValueError for a model that has no such plan."""
    if mesh.tensor == 1:
        return
    check_tensor(mesh.tensor, model.trunk.config)
    if any(True for _ in adapters(model)):
        raise ValueError(f"layout.tensor {mesh.tensor}: adapters (lora) are not cut; set tensor to 1, and shards to true to save memory")
    for name, block in list(model.named_modules()):
        if isinstance(block, Block):
            _cut_block(name, block, model.trunk.config, mesh)


def _cut_block(name: str, block: Block, config: ModelConfig, mesh: Mesh) -> None:
    group, attention = mesh.tensor_group, block.attention
    assert group is not None
    for path in ("attention.qkv", "attention.output", "mlp.gate_up" if isinstance(block.mlp, GatedMlp) else "mlp.up", "mlp.output"):
        source = block.get_submodule(path)
        assert isinstance(source, nn.Linear)
        held = tensor_slice(f"{name}.{path}.weight", source.weight.shape, config, mesh.tensor_rank, mesh.tensor)
        block.set_submodule(path, (RowLinear if held.columns else ColumnLinear)(source, held, group))
    attention.heads //= mesh.tensor
    attention.kv_heads //= mesh.tensor
    for path, norm in list(attention.named_children()):
        if isinstance(norm, RMSNorm):
            attention.set_submodule(path, HeadNorm(norm, group))


def tensor_slice(name: str, shape: Sequence[int], config: ModelConfig, rank: int, count: int) -> Slice:
    """What the `rank`-th of `count` processes of a group has of a parameter, by its name in the model and its whole shape."""
    if count == 1 or ".blocks." not in name:
        return whole_slice(shape)
    *_, module, layer, leaf = name.split(".")
    if layer in ("qkv", "up", "gate_up"):
        return _rows(_qkv_parts(config) if layer == "qkv" else _mlp_parts(config, layer), rank, count)
    if layer == "output" and leaf == "weight":
        width = config.heads * config.head_width if module == "attention" else config.hidden_width
        return Slice(((0, shape[0]),), (rank * width // count, (rank + 1) * width // count))
    return whole_slice(shape)


def is_cut(name: str, shape: Sequence[int], config: ModelConfig, count: int) -> bool:
    """Whether a parameter is divided among the `count` processes of a group; else each has all of it."""
    return tensor_slice(name, shape, config, 0, count) != whole_slice(shape)


def _qkv_parts(config: ModelConfig) -> list[int]:
    """Rows of queries, keys and values."""
    return [heads * config.head_width for heads in (config.heads, config.key_value_heads, config.key_value_heads)]


def _mlp_parts(config: ModelConfig, layer: str) -> list[int]:
    return [config.hidden_width] * (2 if layer == "gate_up" else 1)


def _rows(parts: Sequence[int], rank: int, count: int) -> Slice:
    """The share of each part."""
    found: list[Range] = []
    start = 0
    for size in parts:
        found.append((start + rank * size // count, start + (rank + 1) * size // count))
        start += size
    return Slice(tuple(found))

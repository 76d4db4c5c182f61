"""FSDP2: each process keeps a share of every weight, gradient and moment, and gathers a layer's weights where it computes with them.

Weights are gathered while the layer before computes, and gradients are summed while the next one is differentiated: torch's own order.
"""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from model.distributed.mesh import Mesh
from model.nn.transformer import Block


def shard(root: nn.Module, mesh: Mesh, reshards: bool, dtype: torch.dtype, compiles: bool) -> None:
    """Shards each block of the trunk, and what is left as one, in place; CUDA takes a block at a time from the CPU.

    Blocks that compute in bfloat16 gather their weights in it, half the bytes: each of their layers would round them the same way.
    Gradients are summed in float32. What is left (embedding, head, last norm) is gathered in float32: gradients of a row of the
    embedding are sums over many tokens.
    """
    group = dist.group.WORLD if mesh.data_group is None else mesh.data_group
    assert isinstance(group, dist.ProcessGroup)
    across = DeviceMesh.from_group(group, mesh.device.type)
    whole = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    gathered = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    policy = gathered if dtype == torch.bfloat16 else whole
    for module in list(root.modules()):
        if isinstance(module, Block):
            if compiles:
                module.compile()  # a layer each: what gathers and lets go between them is not compiled
            fully_shard(module, mesh=across, reshard_after_forward=reshards, mp_policy=policy)
    fully_shard(root, mesh=across, reshard_after_forward=None if reshards else False, mp_policy=whole)


def let_go(root: nn.Module) -> None:
    """Frees what passes without a backward pass left gathered: the modules' parameters are the shards again."""
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def set_sync(root: nn.Module, is_due: bool) -> None:
    """Whether the next backward pass sums gradients over the processes; it adds to those of the ones before."""
    if isinstance(root, FSDPModule):
        root.set_requires_gradient_sync(is_due)
        root.set_is_last_backward(is_due)


def local(tensor: Tensor) -> Tensor:
    """What this process has of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(parameter: Tensor, own: Tensor) -> Tensor:
    """A tensor laid out as `parameter`, of which this process has `own`."""
    if not isinstance(parameter, DTensor):
        return own
    return DTensor.from_local(
        own.to(parameter.device),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def gradients(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """What this process has of each gradient that there is."""
    return {name: local(parameter.grad) for name, parameter in parameters.items() if parameter.grad is not None}

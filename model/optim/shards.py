"""Shards: what a process holds of a weight that several share (a DTensor of FSDP2 or tensor parallelism), and the whole of it."""

from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate


def local(tensor: Tensor) -> Tensor:
    """This process' part, in the same storage; a tensor that is not shared is its own."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(part: Tensor, like: Tensor) -> Tensor:
    """The whole tensor of which `part` is this process' share, laid out as `like` is; all processes call it."""
    if not isinstance(like, DTensor):
        return part
    shared = DTensor.from_local(part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())
    return shared.full_tensor()


def share(full: Tensor, like: Tensor) -> Tensor:
    """This process' part of a tensor that every process holds whole, laid out as `like` is. Nothing is sent."""
    if not isinstance(like, DTensor):
        return full
    mesh = like.device_mesh
    return DTensor.from_local(full, mesh, [Replicate()] * mesh.ndim, run_check=False).redistribute(mesh, like.placements).to_local()

"""Layout: how one training's model lies on its processes. Every process makes one, and calls its methods at the same time.

Replicated: each process has the whole model, and gradients are averaged (DDP), as in a single one. Shards: FSDP2 divides the weights
among the processes. Tensor: groups of neighboring processes divide each layer, and see the same rows. Both may go together.
"""

import copy
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.config.layout_config import LayoutConfig, check_processes
from model.config.training_config import PLAIN, LossConfig
from model.data.batches import Batch, micro_slices, rank_rows
from model.distributed.control import Control
from model.distributed.fully_sharded import gradients, let_go, local, set_sync, shard
from model.distributed.mesh import Mesh
from model.distributed.parallel import Scored, gradient_sync, wrap
from model.distributed.slices import Range, Slice, chunk
from model.distributed.tensor_parallel import cut_layers, is_cut, tensor_slice
from model.nn.models import Model

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Held:
    """A parameter as this process has it."""

    parameter: nn.Parameter
    shape: tuple[int, ...]  # of the whole
    slice: Slice
    is_own: bool  # of all processes that have these numbers this one counts, and stores, them

    @property
    def tensor(self) -> Tensor:
        """The numbers themselves."""
        return local(self.parameter.detach())


class Layout:
    """What the loop asks for, whatever the layout."""

    def __init__(self, config: LayoutConfig, device: torch.device, dtype: torch.dtype) -> None:
        """`dtype`: what blocks may round their weights to before they are gathered: that of their products, or float32.

        Raises ValueError where `tensor` does not divide the processes.
        """
        self.config, self.device, self.dtype = config, device, dtype
        self.mesh = Mesh(config.tensor, device)
        self.shards = config.shards and self.mesh.data > 1
        self.is_divided = self.shards or self.mesh.tensor > 1
        self.held: Mapping[str, Held] = {}  # where the model is divided, by name
        self._root: nn.Module | None = None

    @property
    def told(self) -> str:
        """In words, as a checkpoint notes it."""
        parts = [f"shards on {self.mesh.data}"] if self.shards else []
        parts += [f"tensor {self.mesh.tensor}"] if self.mesh.tensor > 1 else []
        return ", ".join(parts) or "replicated"

    @property
    def writer(self) -> tuple[int | None, int]:
        """Which this process is of those that have numbers of their own (None: none of them), from 0, and how many there are."""
        if self.shards:
            return self.mesh.rank, self.mesh.world
        return (self.mesh.tensor_rank if self.mesh.data_rank == 0 else None), self.mesh.tensor

    # -- Before training ------------------------------------------------------------------------------------------------

    def slices(self, batch_rows: int, micro_rows: int) -> list[Range]:
        """This process' rows of a batch, in portions; of processes that share weights each has as many. ValueError where that cannot be."""
        start, stop = rank_rows(batch_rows, self.mesh.data_rank, self.mesh.data)
        check_processes(self.config, self.mesh.world, batch_rows, micro_rows)
        most = -(-batch_rows // self.mesh.data)
        return micro_slices(start, stop, micro_rows, -(-most // micro_rows) if self.shards else 0)

    def place(self, model: M, control: Control, compiles: bool = False, terms: LossConfig = PLAIN) -> Scored[M]:
        """The model where it is trained, compiled if asked for.

        One that is to be divided, on the CPU, takes rank 0's weights, and gives them away: until `gather` it is a frame without any.
        """
        if not self.is_divided:
            return _compiled(Scored(model.to(self.device), terms), compiles)
        for parameter in model.parameters():
            control.as_first(parameter.data)  # as DDP does
        twin = _twin(model)
        shapes = {name: tuple(parameter.shape) for name, parameter in twin.named_parameters()}
        cut_layers(twin, self.mesh)
        scored = Scored(twin, terms)
        if self.shards:
            shard(scored, self.mesh, self.config.reshards, self.dtype, compiles)
        else:
            _compiled(scored.to(self.device), compiles)
        self._root = scored
        self.held = {name: self._held(name, parameter, shapes[name], twin) for name, parameter in twin.named_parameters()}
        return scored

    def wrap(self, scored: Scored[M]) -> nn.Module:
        """`scored` such that gradients are averaged over the processes that see other rows."""
        return scored if self.shards or self.mesh.data == 1 else wrap(scored, self.mesh.data_group)

    def _held(self, name: str, parameter: nn.Parameter, shape: tuple[int, ...], model: Model) -> Held:
        held = self.slice_of(name, shape, model, self.mesh.rank)
        assert held.shape_of(shape) == tuple(local(parameter.detach()).shape), name
        return Held(parameter, shape, held, self._owns(name, shape, model, self.mesh.rank))

    def slice_of(self, name: str, shape: tuple[int, ...], model: Model, rank: int) -> Slice:
        """What the process `rank` has of a parameter of the whole shape `shape`."""
        data_rank, tensor_rank = divmod(rank, self.mesh.tensor)
        held = tensor_slice(name, shape, model.trunk.config, tensor_rank, self.mesh.tensor)
        return held.part(*chunk(held.height, data_rank, self.mesh.data)) if self.shards else held

    def _owns(self, name: str, shape: tuple[int, ...], model: Model, rank: int) -> bool:
        data_rank, tensor_rank = divmod(rank, self.mesh.tensor)
        is_first = tensor_rank == 0 or is_cut(name, shape, model.trunk.config, self.mesh.tensor)
        return is_first and (self.shards or data_rank == 0)

    # -- In a step ------------------------------------------------------------------------------------------------------

    def gradient_sync(self, wrapped: nn.Module, is_due: bool) -> AbstractContextManager[None]:
        """Around forward and backward: gradients are exchanged only where `is_due`, in the last micro-batch of a step.

        Shards that let weights go exchange them in each: those of all micro-batches would else be whole on every process until the last.
        """
        if self.shards:
            set_sync(wrapped, is_due or self.config.reshards)
            return nullcontext()
        return gradient_sync(wrapped, is_due)

    def clip(self, model: Model, largest: float) -> Tensor:
        """Scales the gradients such that their norm is at most `largest`; returns the norm before, a scalar equal on all processes."""
        if not self.is_divided:
            return nn.utils.clip_grad_norm_(model.parameters(), largest)
        (norm,) = self.norms([list(self.held)])
        factor = (largest / (norm + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        own = list(gradients(self._parameters()).values())
        if own:
            torch._foreach_mul_(own, factor)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]  (as torch's own does)
        return norm

    def norms(self, parts: Iterable[Iterable[str]]) -> list[Tensor]:
        """The norms of the whole gradients of parts of a divided model, given by the names of their parameters."""
        found = gradients(self._parameters())
        own = [[found[name] for name in part if name in found and self.held[name].is_own] for part in parts]
        squares = torch.stack([_squares(some, self.device) for some in own])
        if self.mesh.world > 1:
            dist.all_reduce(squares)
        return list(squares.sqrt())

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {name: held.parameter for name, held in self.held.items()}

    # -- Beside steps ---------------------------------------------------------------------------------------------------

    def nats(self, model: Model, batch: Batch) -> Tensor:
        """Sum of nats over the batch's targets, without gradients: scalar float32."""
        if self.shards and self._root is not None:
            _, nats = self._root(batch)
            return nats
        return model.loss(batch).nats

    def let_go(self) -> None:
        """Behind passes without gradients: what they left gathered is freed. Parameters are read and written only then."""
        if self.shards and self._root is not None:
            let_go(self._root)

    def gather(self, model: Model, control: Control) -> None:
        """Gives `model`, which was placed, its weights back, on rank 0's CPU; on others it stays a frame."""
        if not self.is_divided:
            return
        for name, held in self.held.items():
            if self.mesh.rank == 0:
                _set(model, name, self._whole(name, held, model, control))
            elif held.is_own and held.tensor.numel():
                control.sent_to_first(held.tensor.cpu())

    def _whole(self, name: str, held: Held, model: Model, control: Control) -> Tensor:
        whole = torch.empty(held.shape, dtype=held.parameter.dtype)
        for rank in range(self.mesh.world):
            its = self.slice_of(name, held.shape, model, rank)
            if not self._owns(name, held.shape, model, rank) or 0 in its.shape_of(held.shape):
                continue
            part = held.tensor.cpu() if rank == 0 else control.received(torch.empty(its.shape_of(held.shape), dtype=whole.dtype), rank)
            its.put(part, whole)
        return whole

    def rows_of(self, rows: int) -> Range:
        """[start, stop): this process' share of rows that are evaluated."""
        return self.mesh.data_rank * rows // self.mesh.data, (self.mesh.data_rank + 1) * rows // self.mesh.data


def _compiled(scored: Scored[M], compiles: bool) -> Scored[M]:
    if compiles:
        scored.compile()
    return scored


def _squares(gradients: list[Tensor], device: torch.device) -> Tensor:
    """Scalar float32: the sum of all squares."""
    if not gradients:
        return torch.zeros((), device=device)
    return torch.stack([torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]).square().sum()


def _twin(model: M) -> M:
    """A copy that has the parameters of `model`, which keeps tensors without numbers in their place."""
    twin = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    for name, parameter in list(model.named_parameters()):
        _set(model, name, torch.empty_like(parameter, device="meta"))
    return twin


def _set(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Puts a tensor in a parameter's place; whether it learns stays as it was."""
    path, _, leaf = name.rpartition(".")
    learns = model.get_parameter(name).requires_grad
    setattr(model.get_submodule(path), leaf, nn.Parameter(tensor, learns))

"""Norms by layer: of gradients and of activations, at one training step.

gradient_norm.NAME is the L2 norm of the gradients of all parameters of a part, as they are when it is asked for: after the last
micro-batch, averaged over processes, and not clipped unless that was done before. activation_norm.NAME is the RMS, the root of the
mean square, of all numbers that a layer gives on to the next, over the micro-batches of this process, padding included.

Parts: embedding (with positions and kinds of tokens; a tied head's gradient is in it), layers.0 and on, norm (behind the last
layer), head. seq2seq: encoder.layers.0, decoder.layers.0. Recurrent layers run inside one kernel: what the last of them gives is told.
"""

import re
from collections.abc import Callable
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from model.distributed.layout import Layout
from model.nn.models import Model, Trunk
from model.nn.recurrent import Recurrent
from model.nn.transformer import EncoderDecoder

RECURRENT_LAYER = re.compile(r"^trunk\.cells\.\w+_l(\d+)")
BLOCK = re.compile(r"^trunk\.(?:stack\.|((?:encoder|decoder)\.))blocks\.(\d+)\.")
LAST_NORM = re.compile(r"^trunk\.(?:stack|encoder|decoder)\.norm\.")


def layers_of(trunk: Trunk | EncoderDecoder) -> dict[str, nn.Module]:
    """The modules that a token passes one after another, by name; recurrent layers are one module, named as the last."""
    if isinstance(trunk, Recurrent):
        return {f"layers.{trunk.config.layers - 1}": trunk.cells}
    if isinstance(trunk, EncoderDecoder):
        stacks = {"encoder.": trunk.encoder, "decoder.": trunk.decoder}
    else:
        stacks = {"": trunk.stack}
    return {f"{prefix}layers.{number}": block for prefix, stack in stacks.items() for number, block in enumerate(stack.blocks)}


def part_of(parameter: str) -> str:
    """The part of a model that a parameter belongs to, by the parameter's name in the model."""
    if block := BLOCK.match(parameter):
        return f"{block[1] or ''}layers.{block[2]}"
    if cell := RECURRENT_LAYER.match(parameter):
        return f"layers.{cell[1]}"
    if LAST_NORM.match(parameter):
        return "norm"
    return "embedding" if parameter.startswith("trunk.") else "head"


class LayerNorms:
    """Watches the layers within a `with`, around the forward and backward passes of one step; outside of it nothing is hooked.

    The hooks are on the model inside, so that a wrapper for several processes changes nothing. A model that torch.compile has
    compiled runs past them: then the gradients alone are told. Within a `with` no figure waits for the device.
    """

    def __init__(self, model: Model, layout: Layout | None = None) -> None:
        self._model = model
        self._layout = layout if layout is not None and layout.is_divided else None
        self._hooks: list[RemovableHandle] = []
        self._squares: dict[str, list[Tensor]] = {}  # mean square of each micro-batch

    def norms(self) -> dict[str, float]:
        """By name, see the module. What has no gradient, or gave nothing, is left out. Others are asked where the model is divided."""
        found = {f"gradient_norm.{part}": norm for part, norm in self._gradient_norms().items()}
        for part, squares in self._squares.items():
            found[f"activation_norm.{part}"] = torch.stack(squares).mean().sqrt()
        values: list[float] = torch.stack(list(found.values())).tolist() if found else []
        return dict(zip(found, values, strict=True))

    def _gradient_norms(self) -> dict[str, Tensor]:
        names: dict[str, list[str]] = {}
        gradients: dict[str, list[Tensor]] = {}
        for name, parameter in self._model.named_parameters():
            if parameter.grad is not None:
                names.setdefault(part_of(name), []).append(name)
                gradients.setdefault(part_of(name), []).append(parameter.grad)
        if self._layout is not None:
            return dict(zip(names, self._layout.norms(names.values()), strict=True))
        return {
            part: torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one, dtype=torch.float32) for one in some]))
            for part, some in gradients.items()
        }

    def __enter__(self) -> Self:
        self._squares = {}
        for name, layer in layers_of(self._model.trunk).items():
            self._hooks.append(layer.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[object, ...], Tensor | tuple[Tensor, object]], None]:
        def keep(layer: nn.Module, given: tuple[object, ...], output: Tensor | tuple[Tensor, object]) -> None:
            del layer, given
            hidden = output[0] if isinstance(output, tuple) else output  # of recurrent cells with their state
            self._squares.setdefault(name, []).append(hidden.detach().float().square().mean())

        return keep

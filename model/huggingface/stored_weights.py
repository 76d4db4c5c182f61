"""Weight loading: from the tensors of a folder to those of a model; all that does not fit is told in one message."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from model.huggingface.folder_config import CONFIG, FolderDescription
from model.huggingface.tensor_names import PREFIXES, copies, current_name, is_ignored
from model.huggingface.trunk_tensors import StoredTensor
from model.nn.transformer import sinusoidal_positions

TOLD = 24  # problems in one message
READ_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
POSITION_TOLERANCE = 1e-3  # positions may be stored in half precision


def take_tensors(
    folder: Path, described: FolderDescription, stored: Sequence[StoredTensor], found: Mapping[str, Tensor], has_head: bool
) -> dict[str, Tensor]:
    """Our names -> float32 tensors, out of those of the folder. Without `has_head`, tensors outside the trunk are left.

    Raises ValueError listing what is missing, unknown, misshapen, no real number, NaN or infinite, or contradicts its copy.
    """
    prefix = PREFIXES.get(described.model_type, "model.")
    named = {current_name(name): tensor for name, tensor in found.items()}
    if not any(name.startswith(prefix) for name in named):  # a bare trunk, as OpenAI's GPT-2
        named = {f"{prefix}{name}": tensor for name, tensor in named.items()}
    problems = _settle_copies(described, named) + _fixed_problems(described, named)
    shapes = {name: shape for tensor in stored for name, shape in tensor.shapes()}
    for name, shape in shapes.items():
        problems += _tensor_problems(name, named[name], shape) if name in named else [f"missing {name}"]
    for name in named:
        is_outside = not has_head and not name.startswith(prefix)
        if name not in shapes and not is_outside and not is_ignored(name, described.model_type):
            problems.append(f"unknown {name}")
    if problems:
        told = _listed(problems)
        raise ValueError(f"{folder}: the weights do not fit {CONFIG}: {told}. Fix: copy the folder again, or take both of one model")
    return {tensor.ours: _joined(tensor, named) for tensor in stored}


def _listed(problems: Sequence[str]) -> str:
    """All that a reader takes in; the others counted."""
    told, left = sorted(problems)[:TOLD], len(problems) - TOLD
    return "; ".join([*told, f"and {left} more"] if left > 0 else told)


def _joined(stored: StoredTensor, named: Mapping[str, Tensor]) -> Tensor:
    parts = [named[name].float() for name in stored.names]
    return torch.cat([part.T if stored.transposed else part for part in parts])


def _tensor_problems(name: str, tensor: Tensor, shape: tuple[int, ...]) -> list[str]:
    if tuple(tensor.shape) != shape:
        return [f"{name} has shape {list(tensor.shape)}, expected {list(shape)}"]
    if tensor.dtype not in READ_TYPES:  # quantized weights, float8 among them, mean nothing without their scales
        return [f"{name} has {tensor.dtype}, expected float32, float16 or bfloat16"]
    bad = tensor.numel() - int(tensor.isfinite().sum())
    return [f"{name} has {bad} of {tensor.numel()} values NaN or infinite"] if bad else []


def _settle_copies(described: FolderDescription, named: dict[str, Tensor]) -> list[str]:
    """Removes copies of tied tensors, or lets one stand for its missing original; problems: copies that differ."""
    problems: list[str] = []
    for copy in copies(described):
        if copy.name not in named:
            continue
        tensor = named.pop(copy.name)
        original = named.setdefault(copy.original, tensor)
        if original.shape != tensor.shape or not torch.equal(original.float().nan_to_num(), tensor.float().nan_to_num()):
            problems.append(f"{copy.name} differs from {copy.original}, though {CONFIG} ties them")
    return problems


def _fixed_problems(described: FolderDescription, named: Mapping[str, Tensor]) -> list[str]:
    """Marian's tensors that this code does not learn: a bias that must be zero, positions that must be sinusoids."""
    if described.model_type != "marian":
        return []
    problems: list[str] = []
    bias = named.get("final_logits_bias")
    if bias is not None and bool(bias.any()):
        problems.append("final_logits_bias is not zero, and this code has no bias there")
    table = sinusoidal_positions(described.model.context, described.model.width)
    for name in ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"):
        positions = named.get(name)
        if positions is None:
            continue
        if positions.shape != table.shape or not torch.allclose(positions.float(), table, rtol=0, atol=POSITION_TOLERANCE):
            problems.append(f"{name} holds no sinusoidal positions, and this code computes no others")
    return problems

"""Weight files: one safetensors file or several, or pickled ones where the caller allows them."""

import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
UNPICKLING_ERRORS = (  # what torch.load raised for files with changed, lacking and random bytes
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    pickle.PickleError,
    struct.error,
)
INDEX = ".index.json"  # behind a name: which tensor is in which of several files


def read_weights(folder: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """All tensors of the folder, on the CPU, as they are stored.

    Raises ValueError for broken or missing files, and for pickled ones unless `allow_pickle`; even then nothing of a pickle
    but tensors is made (torch.load with weights_only).
    """
    if (folder / WEIGHTS).exists():
        return _read_safetensors(folder / WEIGHTS)
    if (folder / f"{WEIGHTS}{INDEX}").exists():
        return _merged({path: _read_safetensors(path) for path in _indexed_files(folder / f"{WEIGHTS}{INDEX}")})
    pickled = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth", "*.pkl") for path in folder.glob(kind))
    if not pickled:
        raise ValueError(f"{folder}: no {WEIGHTS}")
    if not allow_pickle:
        raise ValueError(
            f"{folder / pickled[0]}: pickled weights are not read, because a pickle can run code. Fix: convert them to "
            f"{WEIGHTS}: wordmill export --allow-pickle does, for a file that you trust"
        )
    if (folder / PICKLED_WEIGHTS).exists():
        return _read_pickled(folder / PICKLED_WEIGHTS)
    if (folder / f"{PICKLED_WEIGHTS}{INDEX}").exists():
        return _merged({path: _read_pickled(path) for path in _indexed_files(folder / f"{PICKLED_WEIGHTS}{INDEX}")})
    raise ValueError(f"{folder}: {', '.join(pickled)}, but no {PICKLED_WEIGHTS}: nothing says which holds the weights")


def save_unpickled(source: Path, folder: Path, allow_pickle: bool) -> None:
    """The tensors of `source` in the model.safetensors of `folder`. Raises ValueError as `read_weights` does."""
    tensors = read_weights(source, allow_pickle)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / WEIGHTS, metadata={"format": "pt"})


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected a part of the weights. Fix: copy the folder again")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error}). Fix: copy it again") from error


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except UNPICKLING_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a whole file of tensors ({reason})") from error
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise ValueError(f"{path}: expected tensors by name, found something else")
    return {str(name): value for name, value in values.items()}


def _merged(parts: Mapping[Path, dict[str, Tensor]]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path, part in parts.items():
        twice = sorted(tensors.keys() & part.keys())
        if twice:
            raise ValueError(f"{path}: holds {twice[0]}, which another part holds too, expected it in one. Fix: copy the folder again")
        tensors.update(part)
    return tensors


def _indexed_files(index: Path) -> list[Path]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index}: not a weight index ({error})") from error
    if not names:
        raise ValueError(f"{index}: weight_map is empty, expected the file of each tensor. Fix: copy the folder again")
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise ValueError(f"{index}: names {outside[0]}, which is not a file of its folder. Fix: copy the folder again")
    return [index.parent / name for name in names]

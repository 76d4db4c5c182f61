"""Stored tensors: one part of a checkpoint, whole in one file or in slices in several, read as any layout needs it.

Whole: model.safetensors. Divided among N processes: model-00001-of-0000N.safetensors and on, each with the slices that one process
wrote; which rows and columns of which whole tensor they are stands in the header of the same file. The same for optimizer.
"""

import json
import re
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.distributed.slices import Slice, whole_slice, within

MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"  # where a part is whole, and what it is called
SUFFIX = ".safetensors"
SLICES = "slices"  # in a file's header: by name the whole shape, rows and columns
DIVIDED = re.compile(r"^(model|optimizer)-(\d{5})-of-(\d{5})\.safetensors$")


@dataclass(frozen=True)
class Place:
    """Where a tensor belongs."""

    shape: tuple[int, ...]  # of the whole
    slice: Slice


def file_name(part: str, number: int | None = None, count: int = 1) -> str:
    """Of a part that is whole, or of the `number`-th (counted from 0) of `count` processes that divide it."""
    return part if number is None else f"{part.removesuffix(SUFFIX)}-{number + 1:05}-of-{count:05}{SUFFIX}"


def missing_files(part: str, names: Collection[str]) -> list[str]:
    """Which files of a part are not among `names`."""
    counts = {int(found[3]) for name in names if (found := DIVIDED.match(name)) and f"{found[1]}{SUFFIX}" == part}
    if part in names or not counts:
        return [] if part in names else [part]
    return [name for number in range(max(counts)) if (name := file_name(part, number, max(counts))) not in names]


def save_tensors(tensors: Mapping[str, Tensor], path: Path, places: Mapping[str, Place] | None = None) -> None:
    """Writes a file; `places`: of slices. OSError for what the disk does not take, which safetensors tells as an error of its own."""
    header = None if places is None else {SLICES: json.dumps({name: asdict(place) for name, place in places.items()})}
    try:
        save_file(dict(tensors), path, metadata=header)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error


class Stored:
    """The tensors of one part, open while the `with` is. Only what is asked for is read."""

    def __init__(self, folder: Path, part: str) -> None:
        self._stack = ExitStack()
        self.path = folder / part
        paths = [self.path] if self.path.exists() else sorted(path for path in folder.iterdir() if _is_of(path, part))
        self._files = [self._stack.enter_context(safe_open(path, "pt")) for path in paths]
        self._places: dict[str, list[tuple[int, Slice]]] = {}  # file, and what of the tensor it has
        self.shapes: dict[str, tuple[int, ...]] = {}  # of whole tensors
        for number, file in enumerate(self._files):
            told = (file.metadata() or {}).get(SLICES)
            known: dict[str, Place] = {} if told is None else {name: _place(values) for name, values in json.loads(told).items()}
            for name in file.keys():
                shape = tuple(file.get_slice(name).get_shape())
                place = known.get(name, Place(shape, whole_slice(shape)))
                self.shapes[name] = place.shape
                self._places.setdefault(name, []).append((number, place.slice))

    def read(self, name: str, wanted: Slice | None = None) -> Tensor:
        """What `wanted` says of a tensor, or all of it, on the CPU. Raises ValueError where the files do not have all of that."""
        shape = self.shapes[name]
        wanted = whole_slice(shape) if wanted is None else wanted
        places = self._places[name]
        if not shape:
            return self._files[places[0][0]].get_tensor(name).clone()  # else it is the mapped file, whose room stays taken
        if places[0][1] == wanted:
            return self._files[places[0][0]].get_tensor(name).clone()
        found = torch.empty(wanted.shape_of(shape), dtype=self._files[places[0][0]].get_slice(name)[0:0].dtype)
        filled = 0
        for number, held in places:
            source = self._files[number].get_slice(name)
            for own, its, columns in wanted.overlaps(held):
                rows = source[its[0] : its[1]]
                target = found[slice(*own)]
                if columns is None:
                    target.copy_(rows)
                else:
                    target = target[:, within(columns, wanted.columns)]
                    target.copy_(rows[:, within(columns, held.columns)])
                filled += target.numel()
        if filled != found.numel():
            raise ValueError(f"{self.path.parent}: {name} is not all there: {filled} of {found.numel()} numbers")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()


def _is_of(path: Path, part: str) -> bool:
    found = DIVIDED.match(path.name)
    return found is not None and f"{found[1]}{SUFFIX}" == part


def _place(values: Mapping[str, Mapping[str, object]]) -> Place:
    held = values["slice"]
    rows, columns = held["rows"], held["columns"]
    assert isinstance(rows, list)
    assert columns is None or isinstance(columns, list)
    whole = [int(size) for size in values["shape"]]
    return Place(tuple(whole), Slice(tuple((start, stop) for start, stop in rows), None if columns is None else (columns[0], columns[1])))

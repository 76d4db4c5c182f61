"""Checkpoints: training state on disk, such that a folder with a manifest is whole.

checkpoints/step-00000100/ holds model.safetensors, optimizer.safetensors, random.safetensors (of all processes),
guard.safetensors, state.json and, written last, manifest.json with the size and SHA-256 of each. It is made under another name,
flushed to the disk and renamed. Nothing is pickled. Where a layout divides the model, each process writes its slices in files of
its own instead (model/training/stored.py): docs/decisions/0016-layouts.md.
"""

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from model.config.checks import IS_LATER, LATER
from model.distributed.control import Control
from model.distributed.device import process_rank
from model.distributed.fully_sharded import like, local
from model.distributed.layout import Held
from model.distributed.slices import Slice
from model.training.step_guard import StepGuard
from model.training.stored import MODEL, OPTIMIZER, Place, Stored, file_name, missing_files, save_tensors

MANIFEST = "manifest.json"
RANDOM = "random.safetensors"
GUARD = "guard.safetensors"
STATE = "state.json"
UNFINISHED = ".unfinished-"
MOST_ENTRIES = 1024  # bytes of JSON: two files, their sizes and digests
FOLDER = re.compile(r"step-(\d{8,})")

logger = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]
WHOLE: Mapping[str, Held] = MappingProxyType({})  # of a model that is not divided


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands, and what it must be resumed with."""

    step: int  # optimizer steps done
    tokens: int  # seen, without padding, over all processes
    identity: str  # digest of the data and whatever else the caller counts in
    config: str  # digest of the model, optimizer and training settings that bear on the result
    seed: int
    world: int  # processes
    threads: int  # of torch, per process
    torch: str  # version
    device: str  # cpu or cuda
    precision: str  # of matrix products
    micro_rows: int  # rows of one forward pass
    loss: float | None = None  # the latest reported, nats per target
    validation_loss: float | None = None  # the latest measured, nats per target
    skipped: int = 0  # steps whose update was left out
    in_a_row: int = 0  # of these the last ones, without a step between
    returns: int = 0  # how often the run had gone back: entries of left_out.json
    best: float | None = None  # the least so far of the figure that decides
    best_step: int | None = None
    waited: int = 0  # evaluations since then
    layout: str = field(default="replicated", metadata=LATER)  # of the model on its processes, in words


@dataclass(frozen=True)
class Share:
    """What one of several processes that divide a model writes of it."""

    number: int | None  # among those that write, counted from 0; None: nothing
    count: int  # of those
    places: Mapping[str, Place]  # by name of the parameter


@dataclass(frozen=True)
class Snapshot:
    """All that a checkpoint holds, on the CPU; nothing of it changes any more while it is written."""

    state: TrainingState
    model: Tensors
    optimizer: Tensors  # each parameter's state as "parameter/key"
    random: Tensors  # "<rank>/cpu", "<rank>/cuda": ranks among the processes that see other rows
    guard: Tensors
    share: Share | None = None  # None: model and optimizer are whole, and this process writes alone

    def places(self) -> dict[str, Place] | None:
        """Of the optimizer's tensors; what has no place of its own is a number."""
        if self.share is None:
            return None
        scalar = Place((), Slice(()))
        return {name: self.share.places[name.rsplit("/", 1)[0]] if value.dim() else scalar for name, value in self.optimizer.items()}


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies in `folder`."""
    return folder / f"step-{step:08d}"


def write_checkpoint(folder: Path, snapshot: Snapshot, meeting: Control | None = None) -> int:
    """Writes `folder`/step-XXXXXXXX, in place of one that is there; returns its bytes, on rank 0.

    One process calls it; where the model is divided all do, with a `meeting` of their own. Raises OSError where it cannot be written,
    by any of them; what was there before is then still there, and nothing of this one.
    """
    target = checkpoint_path(folder, snapshot.state.step)
    work = folder / f"{UNFINISHED}{target.name}"
    is_first = meeting is None or meeting.rank == 0
    try:
        _together(meeting, lambda: _begin(work) if is_first else None)
        entries = _together(meeting, lambda: _write_share(work, snapshot))
        told = _gathered(meeting, entries)
        return _together(meeting, lambda: _finish(work, target, snapshot, told) if is_first else 0)
    except OSError:
        if is_first:
            shutil.rmtree(work, ignore_errors=True)  # its room is needed, and what it was written for is told
        raise


T = TypeVar("T")
Entries = dict[str, dict[str, int | str]]  # of the manifest: by file its bytes and sha256


def _together(meeting: Control | None, act: Callable[[], T]) -> T:
    """What `act` gives, once every process has done its own. Raises what it raised, else OSError where another's failed."""
    fault: BaseException | None = None
    result: T | None = None
    try:
        result = act()
    except BaseException as error:  # noqa: BLE001 - raised below, once the others know
        fault = error
    failed = [] if meeting is None else [bool(one.item()) for one in meeting.gathered(torch.tensor([fault is not None]))]
    if fault is not None:
        raise fault
    if any(failed):
        raise OSError(f"process {failed.index(True)} could not write its part")
    return result  # type: ignore[return-value]  (act came to its end)


def _begin(work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)


def _write_share(work: Path, snapshot: Snapshot) -> Entries:
    """Writes what this process has of model and optimizer."""
    share = snapshot.share
    if share is not None and share.number is None:
        return {}
    number, count = (None, 1) if share is None else (share.number, share.count)
    names = [file_name(part, number, count) for part in (MODEL, OPTIMIZER)]
    save_tensors(snapshot.model, work / names[0], None if share is None else share.places)
    save_tensors(snapshot.optimizer, work / names[1], snapshot.places())
    return _entries([work / name for name in names])


def _gathered(meeting: Control | None, entries: Entries) -> Entries:
    """Those of all processes."""
    if meeting is None:
        return entries
    text = json.dumps(entries).encode()
    padded = torch.frombuffer(bytearray(text.ljust(MOST_ENTRIES)), dtype=torch.uint8)
    assert len(padded) == MOST_ENTRIES
    found: Entries = {}
    for one in meeting.gathered(padded):
        found |= json.loads(bytes(one.tolist()))
    return found


def _finish(work: Path, target: Path, snapshot: Snapshot, entries: Entries) -> int:
    """Writes what all processes know, the manifest last, and gives the folder its name. Returns the bytes of the files."""
    save_tensors(snapshot.random, work / RANDOM)
    save_tensors(snapshot.guard, work / GUARD)
    (work / STATE).write_text(json.dumps(dataclasses.asdict(snapshot.state), indent=1))
    entries = {**entries, **_entries([work / name for name in (RANDOM, GUARD, STATE)])}
    (work / MANIFEST).write_text(json.dumps({"files": dict(sorted(entries.items()))}, indent=1))
    _flush(work / MANIFEST)
    _flush(work)
    if target.exists():
        delete_checkpoint(target)
    work.rename(target)
    _flush(target.parent)
    return sum(int(entry["bytes"]) for entry in entries.values())


def _entries(files: Sequence[Path]) -> Entries:
    """Flushes files, and tells what a manifest says of them."""
    for file in files:
        _flush(file)
    return {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files}


def kept_steps(steps: Sequence[int], every: int, newest: int, for_good: int | None, pinned: Collection[int]) -> set[int]:
    """Which of these steps' checkpoints stay.

    The newest, the `newest` newest of those at multiples of `every`, those at multiples of `for_good`, and the pinned ones.
    """
    regular = sorted(step for step in steps if step % every == 0)
    permanent = {step for step in steps if for_good is not None and step % for_good == 0}
    return {*sorted(steps)[-1:], *regular[-newest:], *permanent, *(set(steps) & set(pinned))}


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None. Those that are not whole are passed over with a warning."""
    whole, damaged = survey(folder)
    for path, damage in damaged.items():
        logger.warning("%s: passed over: %s", path, damage)
    return whole


def survey(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest whole checkpoint, and what is wrong with each that is newer."""
    damaged: dict[Path, str] = {}
    for path in checkpoints_in(folder):
        damage = find_damage(path)
        if damage is None:
            return path, damaged
        damaged[path] = damage
    return None, damaged


def whole_steps(folder: Path) -> list[int]:
    """Steps whose checkpoints are whole, ascending; every file is hashed."""
    return sorted(step_of(path) for path in checkpoints_in(folder) if find_damage(path) is None)


def find_damage(path: Path) -> str | None:
    """What is wrong with the checkpoint at `path`, by its manifest's sizes and SHA-256; None when it is whole."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is missing or unreadable ({error})"
    for name, (size, digest) in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, expected {size}"
        if _sha256(file) != digest:
            return f"{name} was altered: its SHA-256 is not the manifest's"
    missing = {RANDOM, GUARD, STATE} - set(files) | {*missing_files(MODEL, files), *missing_files(OPTIMIZER, files)}
    return f"the manifest lacks {', '.join(sorted(missing))}" if missing else None


def read_state(path: Path) -> TrainingState:
    """The state in a whole checkpoint. Raises ValueError when another version of this code wrote it."""
    values = json.loads((path / STATE).read_text())
    known = {field.name for field in dataclasses.fields(TrainingState)}
    later = {field.name for field in dataclasses.fields(TrainingState) if field.metadata.get(IS_LATER)}
    if not known - later <= set(values) <= known:
        raise ValueError(f"{path / STATE}: keys {sorted(values)}, expected {sorted(known)}; train into an empty folder")
    return TrainingState(**values)


def check_resumable(path: Path, found: TrainingState, expected: TrainingState) -> None:
    """Raises ValueError when data or settings differ; warns of what keeps the run from being bit-identical."""
    for name, ours, theirs in (
        ("data", expected.identity, found.identity),
        ("config", expected.config, found.config),
        ("seed", expected.seed, found.seed),
    ):
        if ours != theirs:
            raise ValueError(
                f"{path}: written with {name} {theirs}, but this run has {ours}; "
                f"restore what it was trained with, or train into an empty folder"
            )
    for name, ours, theirs in (
        ("processes", expected.world, found.world),
        ("threads", expected.threads, found.threads),
        ("torch", expected.torch, found.torch),
        ("device", expected.device, found.device),
        ("precision", expected.precision, found.precision),
        ("micro_rows", expected.micro_rows, found.micro_rows),
        ("layout", expected.layout, found.layout),
    ):
        if ours != theirs:
            logger.warning("%s: %s was %s and is now %s: losses will differ in the last digits", path, name, theirs, ours)


def load_weights(path: Path, model: nn.Module, held: Mapping[str, Held] = WHOLE) -> None:
    """Restores the model alone, in place; `held`: where it is divided. Raises ValueError when the tensors are not this model's."""
    expected = {name: one.shape for name, one in held.items()} or {name: tuple(value.shape) for name, value in model.state_dict().items()}
    with Stored(path, MODEL) as stored:
        if stored.shapes != expected:
            found = stored.shapes
            differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
            raise ValueError(f"{stored.path}: not this model's: {', '.join(differing[:8])} differ in name or shape")
        if not held:
            model.load_state_dict({name: stored.read(name) for name in expected})
        for name, one in held.items():
            one.tensor.copy_(stored.read(name, one.slice))


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    guard: StepGuard,
    held: Mapping[str, Held] = WHOLE,
    rank: int | None = None,
) -> None:
    """Restores model, optimizer, guard and, where this rank has one, the random state, in place.

    `held`: where the model is divided; `rank`: among the processes that see other rows. Raises ValueError when the tensors are not
    this model's.
    """
    load_weights(path, model, held)
    load_optimizer(path, model, optimizer, held)
    guard.load(load_file(path / GUARD))
    load_random(path, process_rank()[0] if rank is None else rank)


def load_random(path: Path, rank: int) -> None:
    """Sets this process' random generators as they were; of a rank that there was not they stay as they are."""
    random = load_file(path / RANDOM)
    if f"{rank}/cpu" in random:
        torch.set_rng_state(random[f"{rank}/cpu"])
    if f"{rank}/cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random[f"{rank}/cuda"])


def remove_unfinished(folder: Path) -> None:
    """Deletes what an interrupted `write_checkpoint` left in `folder`. Rank 0 alone calls it, before training."""
    for path in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path)


def checkpoints_in(folder: Path) -> list[Path]:
    """Newest first; whole or not."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and FOLDER.fullmatch(path.name)]
    return sorted(found, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step that a checkpoint's folder is called after."""
    return int(path.name.removeprefix("step-"))


def random_states(control: Control, tensor: int = 1) -> dict[str, Tensor]:
    """Of all processes, each of which calls it; of every `tensor` that see the same rows, and are alike, one."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return {f"{rank}/{name}": found for name, state in states.items() for rank, found in enumerate(control.gathered(state)[::tensor])}


def _trained_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the optimizer's parameters, in the order that numbers its state."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Each parameter's state as "parameter/key"; rates and decays follow from the config and are not stored."""
    states: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    names = _trained_names(model, optimizer)
    return {f"{names[n]}/{key}": local(value) for n, state in states.items() for key, value in state.items()}


def load_optimizer(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, held: Mapping[str, Held] = WHOLE) -> None:
    """Restores the optimizer's moments from a checkpoint. Raises ValueError for parameters that it does not train."""
    numbers = {name: number for number, name in enumerate(_trained_names(model, optimizer))}
    states: dict[int, dict[str, Tensor]] = {}
    with Stored(path, OPTIMIZER) as stored:
        for full_name, shape in stored.shapes.items():
            name, key = full_name.rsplit("/", 1)
            if name not in numbers:
                raise ValueError(f"{stored.path}: holds state of {name}, which this run does not train")
            one = held.get(name)
            value = stored.read(full_name, one.slice if one is not None and shape == one.shape else None)
            states.setdefault(numbers[name], {})[key] = like(one.parameter, value) if one is not None and shape else value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def delete_checkpoint(path: Path) -> None:
    """The manifest first: what is left by an interruption does not count as a checkpoint."""
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

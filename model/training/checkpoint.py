"""Checkpoints: training state on disk, such that a folder with a manifest is whole.

checkpoints/step-00000100/ holds model.safetensors, optimizer.safetensors, random.safetensors (of all processes),
guard.safetensors, average.safetensors where weights are averaged, state.json and, written last, manifest.json with the size and
SHA-256 of each. It is made under another name, flushed to the disk and renamed. Nothing is pickled. The manifest names the files, so
that a layout of several shards can take the place of model.safetensors and optimizer.safetensors: docs/decisions/0014-checkpoints.md.
"""

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.distributed.control import Control
from model.distributed.device import process_rank
from model.optim.average import Average
from model.optim.optimizer import check_kind
from model.training.step_guard import StepGuard

MANIFEST = "manifest.json"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
RANDOM = "random.safetensors"
GUARD = "guard.safetensors"
AVERAGE = "average.safetensors"  # where weights are averaged
STATE = "state.json"
UNFINISHED = ".unfinished-"
FOLDER = re.compile(r"step-(\d{8,})")

logger = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]


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


@dataclass(frozen=True)
class Snapshot:
    """All that a checkpoint holds, on the CPU; nothing of it changes any more while it is written."""

    state: TrainingState
    model: Tensors
    optimizer: Tensors  # each parameter's state as "parameter/key"
    random: Tensors  # "<rank>/cpu", "<rank>/cuda"
    guard: Tensors
    average: Tensors  # none where nothing is averaged


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies in `folder`."""
    return folder / f"step-{step:08d}"


def write_checkpoint(folder: Path, snapshot: Snapshot) -> int:
    """Writes `folder`/step-XXXXXXXX, in place of one that is there; returns its bytes. One process calls it.

    Raises OSError where it cannot be written; what was there before is then still there, and nothing of this one.
    """
    target = checkpoint_path(folder, snapshot.state.step)
    work = folder / f"{UNFINISHED}{target.name}"
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(parents=True)
        parts = [(MODEL, snapshot.model), (OPTIMIZER, snapshot.optimizer), (RANDOM, snapshot.random), (GUARD, snapshot.guard)]
        parts += [(AVERAGE, snapshot.average)] if snapshot.average else []
        for name, tensors in parts:
            _save_file(dict(tensors), work / name)
        (work / STATE).write_text(json.dumps(dataclasses.asdict(snapshot.state), indent=1))
        size = _write_manifest(work)
        if target.exists():
            delete_checkpoint(target)
        work.rename(target)
        _flush(folder)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)  # its room is needed, and what it was written for is told
        raise
    return size


def _save_file(tensors: dict[str, Tensor], path: Path) -> None:
    """OSError for what the disk does not take, which safetensors tells as an error of its own."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error


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
    missing = {MODEL, OPTIMIZER, RANDOM, GUARD, STATE} - set(files)
    return f"the manifest lacks {', '.join(sorted(missing))}" if missing else None


def read_state(path: Path) -> TrainingState:
    """The state in a whole checkpoint. Raises ValueError when another version of this code wrote it."""
    values = json.loads((path / STATE).read_text())
    known = {field.name for field in dataclasses.fields(TrainingState)}
    if set(values) != known:
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
    ):
        if ours != theirs:
            logger.warning("%s: %s was %s and is now %s: losses will differ in the last digits", path, name, theirs, ours)


def load_weights(path: Path, model: nn.Module) -> None:
    """Restores the model alone, in place. Raises ValueError when the tensors are not this model's."""
    tensors = load_file(path / MODEL)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise ValueError(f"{path / MODEL}: not this model's: {', '.join(differing[:8])} differ in name or shape")
    model.load_state_dict(tensors)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, guard: StepGuard) -> None:
    """Restores model, optimizer, guard and, where this rank has one, the random state, in place.

    Raises ValueError when the tensors are not this model's.
    """
    load_weights(path, model)
    load_optimizer(path / OPTIMIZER, model, optimizer)
    guard.load(load_file(path / GUARD))
    load_random(path)


def load_average(path: Path, average: Average | None) -> None:
    """Restores the averaged weights, in place, where the checkpoint has such an average; another run's may have none, or another."""
    if average is not None and (path / AVERAGE).is_file():
        state = load_file(path / AVERAGE)
        if average.fits(state):
            average.load(state)


def load_random(path: Path) -> None:
    """Sets this rank's random generators as they were; of a rank that there was not they stay as they are."""
    rank, random = process_rank()[0], load_file(path / RANDOM)
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


def random_states(control: Control) -> dict[str, Tensor]:
    """Of all processes, each of which calls it."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return {f"{rank}/{name}": found for name, state in states.items() for rank, found in enumerate(control.gathered(state))}


def _trained_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the optimizer's parameters, in the order that numbers its state."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Each parameter's state as "parameter/key"; rates and decays follow from the config and are not stored."""
    states: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    names = _trained_names(model, optimizer)
    return {f"{names[n]}/{key}": value for n, state in states.items() for key, value in state.items()}


def check_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """`check_kind` before anything is read but names; ahead of `check_resumable`, which tells no more than that settings differ."""
    with safe_open(path, "pt") as file:
        check_kind(str(path), file.keys(), optimizer)


def load_optimizer(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restores the optimizer's moments from optimizer.safetensors.

    Raises ValueError for those of another kind of optimizer, and of parameters that it does not train.
    """
    numbers = {name: number for number, name in enumerate(_trained_names(model, optimizer))}
    states: dict[int, dict[str, Tensor]] = {}
    tensors = load_file(path)
    check_kind(str(path), tensors, optimizer)
    for full_name, tensor in tensors.items():
        name, key = full_name.rsplit("/", 1)
        if name not in numbers:
            raise ValueError(f"{path}: holds state of {name}, which this run does not train")
        states.setdefault(numbers[name], {})[key] = tensor.clone()  # else it is the mapped file, whose room stays taken when it is deleted
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _write_manifest(work: Path) -> int:
    """Flushes every file, then writes the manifest over them and flushes that and the folder. Returns the bytes of the files."""
    files = sorted(work.iterdir())
    for file in files:
        _flush(file)
    entries = {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files}
    (work / MANIFEST).write_text(json.dumps({"files": entries}, indent=1))
    _flush(work / MANIFEST)
    _flush(work)
    return sum(file.stat().st_size for file in files)


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

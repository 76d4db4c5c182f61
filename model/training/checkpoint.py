"""Checkpoints: training state on disk, such that a folder with a manifest is whole.

checkpoints/step-00000100/ holds model.safetensors, optimizer.safetensors, random-<rank>.safetensors, state.json and,
written last, manifest.json. It is made under another name, flushed to the disk and renamed. Nothing is pickled.
"""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.distributed.device import process_rank, wait_for_all

MANIFEST = "manifest.json"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
UNFINISHED = ".unfinished-"

logger = logging.getLogger(__name__)


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


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies in `folder`."""
    return folder / f"step-{step:08d}"


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainingState, keep: int) -> Path:
    """Writes `folder`/step-XXXXXXXX and deletes all but the newest `keep`. Every process calls it; rank 0 writes most.

    Several processes need the same `folder`, one that all of them see.
    """
    rank, _ = process_rank()
    device = next(model.parameters()).device
    target = checkpoint_path(folder, state.step)
    work = folder / f"{UNFINISHED}{target.name}"
    if rank == 0:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
    wait_for_all(device)
    save_file(_random_states(), work / _random_name(rank))
    wait_for_all(device)
    if rank == 0:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, work / MODEL)
        save_file(_optimizer_tensors(model, optimizer), work / OPTIMIZER)
        (work / STATE).write_text(json.dumps(dataclasses.asdict(state), indent=1))
        _write_manifest(work)
        if target.exists():
            _delete(target)
        work.rename(target)
        _flush(folder)
        for old in _checkpoints(folder)[keep:]:
            _delete(old)
    wait_for_all(device)
    return target


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None. Those that are not whole are skipped with a warning."""
    for path in _checkpoints(folder):
        damage = find_damage(path)
        if damage is None:
            return path
        logger.warning("%s: skipped: %s", path, damage)
    return None


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
    missing = {MODEL, OPTIMIZER, STATE} - set(files)
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


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Restores model, optimizer and, where this rank has one, the random state, in place.

    Raises ValueError when the tensors are not this model's.
    """
    tensors = load_file(path / MODEL)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise ValueError(f"{path / MODEL}: not this model's: {', '.join(differing[:8])} differ in name or shape")
    model.load_state_dict(tensors)
    _load_optimizer(path / OPTIMIZER, model, optimizer)
    random_file = path / _random_name(process_rank()[0])
    if random_file.exists():
        random = load_file(random_file)
        torch.set_rng_state(random["cpu"])
        if "cuda" in random and torch.cuda.is_available():
            torch.cuda.set_rng_state(random["cuda"])


def remove_unfinished(folder: Path) -> None:
    """Deletes what an interrupted `save_checkpoint` left in `folder`. Rank 0 alone calls it, before training."""
    for path in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first; whole or not."""
    return sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def _random_name(rank: int) -> str:
    return f"random-{rank}.safetensors"


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _trained_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the optimizer's parameters, in the order that numbers its state."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Each parameter's state as "parameter/key"; rates and decays follow from the config and are not stored."""
    states: Mapping[int, Mapping[str, Tensor]] = optimizer.state_dict()["state"]
    names = _trained_names(model, optimizer)
    return {f"{names[n]}/{key}": value.contiguous() for n, state in states.items() for key, value in state.items()}


def _load_optimizer(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    numbers = {name: number for number, name in enumerate(_trained_names(model, optimizer))}
    states: dict[int, dict[str, Tensor]] = {}
    for full_name, tensor in load_file(path).items():
        name, key = full_name.rsplit("/", 1)
        if name not in numbers:
            raise ValueError(f"{path}: holds state of {name}, which this run does not train")
        states.setdefault(numbers[name], {})[key] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _write_manifest(work: Path) -> None:
    """Flushes every file, then writes the manifest over them and flushes that and the folder."""
    files = sorted(work.iterdir())
    for file in files:
        _flush(file)
    entries = {file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files}
    (work / MANIFEST).write_text(json.dumps({"files": entries}, indent=1))
    _flush(work / MANIFEST)
    _flush(work)


def _delete(path: Path) -> None:
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

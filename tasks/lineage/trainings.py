"""Trainings of a workspace: how far each came, its best figure, the checkpoints that it keeps, and whether these are whole."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from model.training.batch_steps import ONE, BatchSteps
from model.training.curve import CURVE, CurvePoint, CurveReader
from model.training.events import EVENTS, read_events, skipped_steps
from model.training.left_out import LeftOut, read_left_out
from tasks.artifacts import Manifest, Workspace, fault, read_manifest
from tasks.errors import UserError
from tasks.lineage.step_trace import CHECKPOINTS
from tasks.pretrain.job import read_job
from tasks.settings import given_path

STAGES = ("pretrain", "finetune")
PARTIAL = ".partial"
STATE = "state.json"  # of a checkpoint


@dataclass(frozen=True)
class KeptCheckpoint:
    """A checkpoint that lies in a training's folder."""

    step: int  # optimizer steps done
    bytes: int
    damage: str | None  # what is wrong with it; None: it is whole


@dataclass(frozen=True)
class Reached:
    """A figure, and the step that had it."""

    step: int
    value: float


@dataclass(frozen=True)
class TrainingRecord:
    """What a training's folder tells."""

    stage: str
    fingerprint: str
    folder: Path
    finished: str | None  # ISO 8601; None: a folder that is being trained in, or was left
    step: int  # done, as far as it tells
    steps: int | None  # that it is to have; None: it has not told yet
    best: Reached | None  # the lowest validation loss, or the figure that checkpoints are kept by: nats per target
    bits_per_byte: float | None  # at the best, where that could be measured
    loss: float | None  # the last, nats per target
    skipped: int  # steps
    left_out: tuple[LeftOut, ...]  # a range for each return
    ended_early: str | None  # why
    checkpoints: tuple[KeptCheckpoint, ...]  # newest first
    written: datetime  # when anything of it was last written

    @property
    def whole(self) -> KeptCheckpoint | None:
        """The newest checkpoint that is whole: where it goes on from."""
        return next((one for one in self.checkpoints if one.damage is None), None)

    @property
    def damaged(self) -> tuple[KeptCheckpoint, ...]:
        """Those that are not."""
        return tuple(one for one in self.checkpoints if one.damage is not None)

    @property
    def key(self) -> str:
        """What its lock in the workspace is called."""
        return f"{self.stage}-{self.fingerprint}"


@dataclass(frozen=True)
class FoundTrainings:
    """The trainings of a workspace."""

    trainings: tuple[TrainingRecord, ...]  # the latest first
    unreadable: tuple[str, ...]  # what is wrong with those that cannot be told of, and the fix


def find_trainings(workspace: Workspace) -> FoundTrainings:
    """All trainings of the workspace. UserError where there is no workspace."""
    if not workspace.root.is_dir():
        raise UserError(f"no workspace {workspace.root}. Fix: name it with --workspace DIR, or run a recipe first.")
    found: list[TrainingRecord] = []
    unreadable: list[str] = []
    for folder in training_folders(workspace):
        try:
            found.append(read_training(folder))
        except UserError as error:
            unreadable.append(str(error))
    return FoundTrainings(tuple(sorted(found, key=lambda one: one.written, reverse=True)), tuple(unreadable))


def training_folders(workspace: Workspace) -> list[Path]:
    """Where trainings lie in the workspace, finished or not."""
    return [folder for stage in STAGES for folder in sorted((workspace.root / stage).glob("*")) if _is_training(folder)]


def find_training(reference: str, workspace: Workspace) -> TrainingRecord:
    """The training with this fingerprint, or the start of it, or in this folder. UserError where there is none, or several."""
    folders, given = training_folders(workspace), given_path(reference).absolute()
    if given.is_dir():
        found = [folder for folder in folders if folder in (given, *given.parents)]
    else:
        fits = re.fullmatch(r"[0-9a-f]{4,16}", reference)
        found = [folder for folder in folders if fits and folder.name.startswith(reference)]
    finished = {folder.name for folder in found if folder.suffix != PARTIAL}
    found = [folder for folder in found if folder.suffix != PARTIAL or folder.stem not in finished]
    if len(found) == 1:
        return read_training(found[0])
    expected = "Expected a fingerprint, or the start of one: wordmill runs lists them."
    if found:
        raise UserError(f"{reference!r}: several trainings begin so: {_named(found)}. Fix: give more digits.")
    left = [folder for folder in folders if folder.suffix == PARTIAL]
    raise UserError(
        f"{reference!r}: no training of that name in {workspace.root}, where {_named(left) if left else 'none'} is not finished. {expected}"
    )


def _named(folders: Sequence[Path]) -> str:
    return ", ".join(f"{folder.parent.name} {folder.name.removesuffix(PARTIAL)}" for folder in folders)


def _is_training(folder: Path) -> bool:
    is_partial = folder.suffix == PARTIAL
    return (
        folder.is_dir()
        and bool(re.fullmatch(r"[0-9a-f]{16}", folder.name.removesuffix(PARTIAL)))
        and (is_partial or (folder / "manifest.json").is_file())
    )


def read_training(folder: Path) -> TrainingRecord:
    """What a training's folder tells, its checkpoints looked through. UserError for records in it that were altered."""
    manifest = None if folder.suffix == PARTIAL else read_manifest(folder)
    try:
        points, events = CurveReader(folder).new_points(), read_events(folder)
        left_out = read_left_out(folder / CHECKPOINTS)
    except ValueError as error:
        raise UserError(f"{error}. Fix: put it back as it was, or delete {folder}: the next run of its recipe trains anew.") from error
    checkpoints = checkpoints_of(folder, manifest)
    whole = next((one.step for one in checkpoints if one.damage is None), 0)
    best = best_of(folder, points, whole)
    early = next((event.told for event in reversed(events) if event.kind == "ended early"), None)
    return TrainingRecord(
        stage=folder.parent.name,
        fingerprint=folder.name.removesuffix(PARTIAL),
        folder=folder,
        finished=None if manifest is None else manifest.finished,
        step=_step(manifest, points, whole),
        steps=_steps(folder, points),
        best=best,
        bits_per_byte=None if manifest is None or best is None else _bits_per_byte(manifest, best.value),
        loss=points[-1].loss if points else None,
        skipped=len(skipped_steps(events, left_out, _batch_steps(folder))),
        left_out=left_out,
        ended_early=early if manifest is not None else None,
        checkpoints=checkpoints,
        written=_written(folder, manifest),
    )


def checkpoints_of(folder: Path, manifest: Manifest | None) -> tuple[KeptCheckpoint, ...]:
    """The checkpoints in a training's folder, newest first.

    Those of a finished one are compared with its manifest as a cached artifact is, any other by their own: all hashed.
    """
    found = {path.name: path for path in (folder / CHECKPOINTS).glob("step-*") if path.is_dir()}
    if manifest is None:
        return tuple(KeptCheckpoint(_number(name), _size(path), damage_of(path)) for name, path in sorted(found.items(), reverse=True))
    listed: dict[str, list[str]] = {}
    for entry in manifest.files:
        parts = entry.path.split("/")
        if parts[0] == CHECKPOINTS and len(parts) > 2:
            listed.setdefault(parts[1], []).append(entry.path)
    return tuple(
        KeptCheckpoint(
            _number(name),
            _size(folder / CHECKPOINTS / name),
            fault(folder, replace(manifest, files=tuple(entry for entry in manifest.files if entry.path in listed.get(name, ())))),
        )
        for name in sorted({*found, *listed}, reverse=True)
    )


def damage_of(path: Path) -> str | None:
    """What is wrong with a checkpoint; None when it is whole."""
    from model.training.checkpoint import find_damage

    return find_damage(path)


def best_of(folder: Path, points: Sequence[CurvePoint], step: int) -> Reached | None:
    """The best figure: as the state of the checkpoint of `step` has it, where checkpoints are kept by one; else of the curve."""
    try:
        state = json.loads((folder / CHECKPOINTS / f"step-{step:08d}" / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        state = {}
    if isinstance(state, dict) and state.get("best_step") is not None and state.get("best") is not None:
        return Reached(int(state["best_step"]), float(state["best"]))
    measured = [Reached(point.step, point.validation_loss) for point in points if point.validation_loss is not None]
    return min(measured, key=lambda one: one.value, default=None)


def _step(manifest: Manifest | None, points: Sequence[CurvePoint], checkpoint: int) -> int:
    """Steps done."""
    if manifest is not None and "steps" in manifest.figures:
        return int(manifest.figures["steps"])
    return max(checkpoint, points[-1].step if points else 0)


def _steps(folder: Path, points: Sequence[CurvePoint]) -> int | None:
    if points:
        return points[-1].steps
    try:
        return read_job(folder).training.steps
    except (FileNotFoundError, ValueError):
        return None


def _batch_steps(folder: Path) -> BatchSteps:
    """Of a pretraining; a fine-tuning's steps take one batch each."""
    try:
        return BatchSteps(read_job(folder).training.step_batches)
    except (FileNotFoundError, ValueError):
        return ONE


def _bits_per_byte(manifest: Manifest, loss: float) -> float | None:
    """Of a validation loss, by what the last one came to: the text is the same, so one is in proportion to the other."""
    last, bits = manifest.figures.get("validation_loss"), manifest.figures.get("validation_bits_per_byte")
    return None if not last or bits is None else bits * loss / last


def _number(name: str) -> int:
    digits = name.removeprefix("step-")
    return int(digits) if digits.isdigit() else 0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _written(folder: Path, manifest: Manifest | None) -> datetime:
    if manifest is not None:
        return datetime.fromisoformat(manifest.finished)
    paths = [folder, *(path for name in (CURVE, EVENTS, CHECKPOINTS) if (path := folder / name).exists())]
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC)

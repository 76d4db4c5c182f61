"""Trainings as they lie in a workspace, finished or left in the middle, for tests of what tells of them: nothing is trained."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from model.training.checkpoint import checkpoint_path
from model.training.curve import CurvePoint, append_point
from model.training.events import Event, append_event
from tasks.artifacts import Workspace, describe
from tasks.ledger import StageOutcome
from tests.curve_points import point

FILES = ("model.safetensors", "optimizer.safetensors", "random.safetensors", "guard.safetensors")


def curve_to(step: int, every: int = 10, seconds: float = 1.0) -> list[CurvePoint]:
    """Points of a training of 100 steps up to `step`, evaluated at each; the loss falls. `seconds` a point."""
    steps = range(every, step + 1, every)
    return [replace(point(at, 4 - at / 50, validation=5 - at / 50), seconds=seconds * number) for number, at in enumerate(steps, start=1)]


def write_checkpoint(folder: Path, step: int, **state: object) -> Path:
    """A checkpoint that is whole, of a few bytes, in a training's folder."""
    path = checkpoint_path(folder / "checkpoints", step)
    path.mkdir(parents=True)
    for name in FILES:
        (path / name).write_bytes(f"{name} at {step}".encode())
    (path / "state.json").write_text(json.dumps({"step": step, **state}))
    entries = {
        file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} for file in path.iterdir()
    }
    (path / "manifest.json").write_text(json.dumps({"files": entries}))
    return path


def leave_training(
    workspace: Workspace,
    stage: str,
    fingerprint: str,
    points: Sequence[CurvePoint],
    checkpoints: Sequence[int] = (),
    events: Sequence[Event] = (),
    figures: Mapping[str, float] | None = None,
) -> Path:
    """With `figures` it is finished, else it was left in the middle; returns its folder."""
    folder = workspace.begin(stage, fingerprint, keep=False)
    for one in points:
        append_point(folder, one)
    for event in events:
        append_event(folder, event)
    for step in checkpoints:
        write_checkpoint(folder, step)
    if figures is None:
        return folder
    return workspace.publish(describe(stage, fingerprint, None, {}, folder, StageOutcome(figures=figures), 1.0))

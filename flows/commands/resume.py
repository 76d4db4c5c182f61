"""`wordmill resume`: finds what a training that was stopped or killed left, and runs the recipe that made it: it goes on from there."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.commands.runs import ListedTraining, listed, moment, rest_text, step_text
from flows.dags import Loaded, load
from flows.runner.locks import ArtifactLocks
from flows.runner.origin import Noted, read_origin
from flows.runner.plan import Plan
from flows.runner.summaries import amount, duration
from model.training.curve import CurveReader
from tasks.artifacts import Workspace
from tasks.errors import UserError
from tasks.lineage.training_cost import seconds_behind
from tasks.lineage.trainings import TrainingRecord, find_training
from tasks.tracking.address import tracking_address


@dataclass(frozen=True)
class ToResume:
    """A training that can go on, and the recipe to run for it."""

    training: ListedTraining
    noted: Noted
    changes: tuple[str, ...]  # in the recipe
    loaded: Loaded
    lost_steps: int  # behind the checkpoint that it goes on from, as far as its curve tells
    lost_seconds: float  # that these took


def look(reference: str, workspace: Workspace) -> ListedTraining:
    """The training that is meant. UserError where there is none, or another run is at work on it."""
    record = find_training(reference, workspace)
    found = listed(workspace, record, ArtifactLocks(workspace.root / "locks"))
    if found.state == "in training":
        raise UserError(
            f"{record.stage} {record.fingerprint} is being trained now, by another run: step {step_text(record)}. Nothing was done. "
            "Fix: wait for it, or stop that run first; wordmill runs tells how far it is."
        )
    return found


def prepare(found: ListedTraining, workspace: Workspace) -> ToResume:
    """Reads the recipe, in the folder in which it was run, and makes sure that it still makes this training.

    Changes this process' folder. UserError where no checkpoint is whole, where the recipe was not noted, or makes another one now.
    """
    record = found.record
    check_checkpoints(record)
    noted = read_origin(workspace, record.stage, record.fingerprint)
    if noted is None:
        raise UserError(
            f"{record.stage} {record.fingerprint}: which recipe makes it was not noted, as since this version each run does. Fix: "
            f"wordmill run RECIPE --workspace {workspace.root}: it goes on from the same checkpoint."
        )
    enter(Path(noted.folder), noted)
    changes = (f"workspace={workspace.root}",)
    loaded = load(str(noted.recipe), changes, noted.flow)
    check_plan(loaded, found, noted, workspace)
    step = record.whole.step if record.whole else 0
    lost = max(0, record.step - step)
    return ToResume(found, noted, changes, loaded, lost, seconds_behind(CurveReader(record.folder).new_points(), step))


def check_checkpoints(record: TrainingRecord) -> None:
    """UserError where there are checkpoints and none of them is whole: beginning anew is for a person to decide."""
    if record.checkpoints and record.whole is None:
        told = "; ".join(f"step {one.step:,}: {one.damage}" for one in record.damaged)
        raise UserError(
            f"{record.stage} {record.fingerprint}: none of its checkpoints is whole ({told}). Nothing was done. Fix: put one back, or "
            f"delete {record.folder / 'checkpoints'} and resume again, which begins at the first step."
        )


def enter(folder: Path, noted: Noted) -> None:
    """Makes `folder` this process' own: the recipe's relative paths begin there. UserError where it is gone."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(
            f"{folder}: {error.strerror}; relative paths of the recipe begin in this folder. Fix: put it back, or go where they lie now "
            f"and type: wordmill run {noted.recipe}"
        ) from error


def check_plan(loaded: Loaded, found: ListedTraining, noted: Noted, workspace: Workspace) -> None:
    """UserError where a run of the recipe would make another training now: what it reads has changed, or Wordmill has."""
    plan = Plan(workspace, tracking_address(loaded.recipe.tracking.uri, workspace))
    loaded.dag(plan)
    record = found.record
    if any((row.stage, row.fingerprint) == (record.stage, record.fingerprint) for row in plan.rows):
        return
    first = next((row for row in plan.rows if not row.cached), None)
    why = "" if first is None else f" What differs first: {first.label}: {'; '.join(first.why)[:300]}."
    now = [row.fingerprint for row in plan.rows if row.label == found.label]
    instead = f"{record.stage} {now[0]}" if now else "none of that name"
    raise UserError(
        f"{record.stage} {record.fingerprint}: its recipe would make {instead} now.{why} Nothing was done. Fix: put back what it read "
        f"then, or train anew: wordmill run {noted.recipe}"
    )


def found_lines(ready: ToResume) -> list[str]:
    """What was found, and what is lost, for people."""
    record, label = ready.training.record, ready.training.label
    lines = [
        f"{label} {record.fingerprint} of recipe {ready.noted.name}: interrupted at step {step_text(record)}, {moment(record.written)}"
    ]
    lines += [f"passed over: checkpoint {one.step:,}: {one.damage}" for one in record.damaged]
    if record.whole is None:
        lines.append("it wrote no checkpoint yet: it begins at its first step")
    else:
        lines.append(f"goes on from checkpoint {record.whole.step:,}, which is whole ({amount(record.whole.bytes)})")
    if ready.lost_steps:
        taken = f", which took {duration(ready.lost_seconds)}" if ready.lost_seconds else ""
        lines.append(f"lost: {ready.lost_steps:,} {'step' if ready.lost_steps == 1 else 'steps'}{taken}; they are taken again")
    else:
        lines.append("lost: nothing, as far as its curve tells")
    lines += [f"so far: {rest_text(record)}"] if record.loss is not None else []
    lines += [
        f"left out: batches of data steps {one.first:,} to {one.first + one.count - 1:,}, after it went back to step {one.step:,}"
        for one in record.left_out
    ]
    return [*lines, f"runs {ready.noted.recipe} in {ready.noted.folder}"]


def found_json(ready: ToResume) -> dict[str, object]:
    """The same as JSON."""
    record = ready.training.record
    return {
        "artifact": record.fingerprint,
        "stage": record.stage,
        "recipe": str(ready.noted.recipe),
        "step": record.step,
        "steps": record.steps,
        "checkpoint": None if record.whole is None else record.whole.step,
        "passed_over": [asdict(one) for one in record.damaged],
        "lost_steps": ready.lost_steps,
        "lost_seconds": round(ready.lost_seconds, 1),
        "skipped": record.skipped,
        "left_out": [asdict(one) for one in record.left_out],
    }


def finished_text(found: ListedTraining) -> str:
    """What to say of a training that needs no resuming, and how to make it longer."""
    record = found.record
    early = f" It ended early: {record.ended_early}." if record.ended_early else ""
    longer = (
        f"To train on: raise pretrain.steps in its recipe, add pretrain.start: {{from: {record.fingerprint}}}, and run it."
        if record.stage == "pretrain"
        else "A longer fine-tuning is another one: raise its steps or epochs in the recipe, and run that."
    )
    return f"{found.label} {record.fingerprint} is finished: step {step_text(record)}, {moment(record.written)}.{early} {longer}"

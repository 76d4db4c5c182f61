"""Probing: some steps of each training of a plan, run here as a run would, where no earlier run tells how fast they are."""

import logging
import shutil
import time

from flows.recipe import AnyRecipe
from flows.runner.plan import Plan
from flows.runner.planned_trainings import planned_trainings
from flows.runner.summaries import amount, duration
from model.training.curve import CurvePoint, read_curve
from tasks.artifacts import Workspace
from tasks.cluster import Launcher, LostWorkers, Training
from tasks.errors import UserError
from tasks.machine import Machine
from tasks.planning.fitting import fit_of
from tasks.planning.hardware import hardware_of
from tasks.planning.past_training import pace_of, past_trainings
from tasks.planning.probe import probe_job, run_probe
from tasks.planning.probes import Probed, probe_path, write_probe
from tasks.planning.training_time import is_same
from tasks.planning.training_work import TrainingWork

logger = logging.getLogger("wordmill")


def probe_trainings(plan: Plan, recipe: AnyRecipe, machine: Machine) -> list[str]:
    """Of all trainings that are to run and never ran as they are; what was found is kept in the workspace. Returns what could not be."""
    workspace = Workspace(recipe.workspace).open()
    past = past_trainings(plan.history)
    waiting = {row.label for row in plan.rows if not row.cached}
    launcher, notes, done = Launcher(recipe.cluster, workspace.root / "logs"), list[str](), set[str]()
    try:
        for work in planned_trainings(plan, recipe, past).known:
            path = probe_path(workspace.root, work, machine)
            if work.label not in waiting or path.name in done or any(is_same(work, machine, one) for one in past):
                continue
            done.add(path.name)
            why = _hindrance(work, recipe, machine) or _probe(work, machine, workspace, launcher)
            notes += [f"{work.label} was not probed: {why}"] if why else []
    finally:
        launcher.stop()
    return notes


def _hindrance(work: TrainingWork, recipe: AnyRecipe, machine: Machine) -> str:
    """Why a training cannot be tried here; empty where it can."""
    hardware = hardware_of(work, recipe.cluster, machine)
    if not hardware.is_here:
        return f"it wants {hardware.name}, which is not here; run plan --probe there"
    fit = fit_of(work, hardware, machine)
    return f"it would take {amount(fit.peak)} of {amount(fit.room or 0)}" if fit.is_refused else ""


def _probe(work: TrainingWork, machine: Machine, workspace: Workspace, launcher: Launcher) -> str:
    """Runs one, and keeps what it measured; what hindered it, if anything did."""
    path = probe_path(workspace.root, work, machine)
    out = path.with_suffix(".partial")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    began = time.monotonic()
    try:
        launcher.launch(Training(run_probe, probe_job(work, out).to_json(), out, work.workers), _ignore)
        points = read_curve(out)
    except (UserError, LostWorkers, RuntimeError) as error:
        return next(iter(str(error).splitlines()), type(error).__name__)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    pace = pace_of(points)
    if pace is None:
        return "it came to no step"
    found = Probed(points[-1].step, pace, float(points[-1].memory_bytes), time.monotonic() - began - points[-1].seconds)
    write_probe(path, work, machine, found)
    told = f"{found.tokens_per_second:,.0f} tokens/s, {amount(found.memory_bytes)} of memory"
    logger.info("%s: %d steps probed in %s: %s", work.label, found.steps, duration(time.monotonic() - began), told)
    return ""


def _ignore(point: CurvePoint) -> None:
    """The curve is read when it is whole."""

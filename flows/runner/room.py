"""Room: a run whose trainings plainly do not fit into memory is refused before anything starts."""

from collections.abc import Callable

from flows.recipe import AnyRecipe
from flows.runner.plan import Plan
from flows.runner.planned_trainings import planned_trainings
from flows.runner.summaries import amount
from tasks.artifacts import Workspace
from tasks.errors import UserError
from tasks.machine import Machine
from tasks.planning.fitting import REFUSED, Fit, fit_of
from tasks.planning.hardware import hardware_of
from tasks.tracking.address import tracking_address


def require_room(recipe: AnyRecipe, dag: Callable[[Plan], object], machine: Machine) -> None:
    """UserError for a training that is to run here and would take far more memory than there is; one that is done needs none.

    Where it runs elsewhere, what there is is known from `cluster.device_memory` alone, and the run goes on.
    """
    workspace = Workspace(recipe.workspace)
    plan = Plan(workspace, tracking_address(recipe.tracking.uri, workspace))
    refused: dict[str, Fit] = {}
    for work in planned_trainings(plan, recipe, ()).known:
        hardware = hardware_of(work, recipe.cluster, machine)
        fit = fit_of(work, hardware, machine)
        if hardware.is_here and fit.is_refused:
            refused[work.label] = fit
    if not refused:
        return
    dag(plan)  # the rest is looked at only now: which of them are done
    waiting = {row.label for row in plan.rows if not row.cached}
    told = ["\n".join(unfit_told(label, fit)) for label, fit in refused.items() if label in waiting]
    if told:
        raise UserError(
            "\n".join(told) + f"\nNothing was started, since the estimate is more than {REFUSED:g} times what there is. Fix: take one of "
            "these settings; or, where you know better, set cluster.device_memory to what a worker may take, such as 30GB."
        )


def unfit_told(label: str, fit: Fit) -> list[str]:
    """That a training has no room, the largest part, and settings that have."""
    assert fit.room is not None
    largest = f"{fit.largest} {amount(getattr(fit.memory, fit.largest))}"
    lines = [f"{label} does not fit: {amount(fit.peak)} of {amount(fit.room)} for a worker, most of it {largest}"]
    if not fit.nearest:
        return [*lines, "  no setting that was tried would fit: take a smaller model, or a device with more memory"]
    return [*lines, *(f"  would fit: --set {' --set '.join(one.keys)} ({amount(one.peak)})" for one in fit.nearest)]

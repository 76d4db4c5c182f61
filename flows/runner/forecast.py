"""Forecast: seconds, memory and cost of a planned run, each with its bounds and what it is told from, before anything is spent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flows.recipe import AnyRecipe, CorpusSections
from flows.runner.plan import Plan, Planned
from flows.runner.planned_trainings import planned_trainings
from tasks.corpus.ingest import source_bytes
from tasks.machine import Machine
from tasks.planning.advice import epoch_advice, size_advice
from tasks.planning.estimate import Estimate
from tasks.planning.fitting import Fit, fit_of
from tasks.planning.hardware import Hardware, hardware_of
from tasks.planning.past_training import PastTraining, past_trainings
from tasks.planning.peak_here import peak_of_a_core
from tasks.planning.probes import Probed, read_probe
from tasks.planning.schedule import Job, wall_seconds
from tasks.planning.shorter import Shorter, shorter_settings
from tasks.planning.stage_time import BY_MODEL, BY_SIZE, Asked, stage_estimate, work_of
from tasks.planning.training_time import assumed, is_same, training_estimate
from tasks.planning.training_work import TrainingWork


@dataclass(frozen=True)
class TrainingForecast:
    """One training, whether it is to run or done."""

    work: TrainingWork
    is_cached: bool
    hardware: Hardware
    fit: Fit
    estimate: Estimate | None  # of its whole stage; None: nothing tells, or it is done
    here: Estimate | None  # on this machine's processors, where its hardware is elsewhere
    shorter: tuple[Shorter, ...]  # settings with which it would be through in a day, where it is not
    measured_memory: float | None  # bytes that one process of such a training held; None: none ran here
    advice: tuple[str, ...]
    cost: float | None  # of its GPUs, and of the machine meanwhile


@dataclass(frozen=True)
class CostBounds:
    """What a run costs, in the recipe's currency."""

    amount: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """Of a whole run."""

    stages: Mapping[str, Estimate | None]  # by label, of those that are to run; None: nothing tells
    trainings: tuple[TrainingForecast, ...]
    untold: Mapping[str, str]  # trainings of which not even the shape is known -> why
    seconds: Estimate | None  # of all stages, one after the other; None: of none is anything known
    wall: Estimate | None  # with as many at a time as the recipe's concurrency allows
    cost: CostBounds | None  # None: no price, or no time

    @property
    def unknown(self) -> tuple[str, ...]:
        """Labels of the stages that are not in the sums."""
        return tuple(label for label, found in self.stages.items() if found is None)


def forecast(plan: Plan, recipe: AnyRecipe, machine: Machine) -> Forecast:
    """Of what the plan says is to run."""
    past = past_trainings(plan.history)
    planned = planned_trainings(plan, recipe, past)
    trainings = tuple(_training(plan, recipe, machine, work, past) for work in planned.known)
    trained = {one.work.label: one.estimate for one in trainings} | dict.fromkeys(planned.untold)
    sizes = _sizes(plan, recipe)
    parameters = {one.work.label: float(one.work.parameters) for one in trainings}
    stages = {
        row.label: trained[row.label]
        if row.label in trained
        else stage_estimate(_asked(row, plan, recipe, sizes, parameters), plan.history, machine.kind)
        for row in plan.rows
        if not row.cached
    }
    return _summed(recipe, plan.rows, stages, trainings, planned.untold)


# ---------------------------------------------------------------------------------------------------------------------
# Trainings


def _training(plan: Plan, recipe: AnyRecipe, machine: Machine, work: TrainingWork, past: Sequence[PastTraining]) -> TrainingForecast:
    row = next(row for row in plan.rows if row.label == work.label)
    hardware = hardware_of(work, recipe.cluster, machine)
    probe = read_probe(plan.workspace.root, work, machine)
    peak = None if row.cached or (hardware.is_here and (hardware.is_gpu or past or probe)) else peak_of_a_core() * machine.cores
    found = None if row.cached else training_estimate(work, hardware, machine, past, probe, peak)
    away = None if hardware.is_here or row.cached else replace(hardware, is_here=True, is_gpu=False, sheet=None)
    return TrainingForecast(
        work,
        row.cached,
        hardware,
        fit_of(work, hardware, machine),
        found,
        None if away is None else assumed(work, away, peak),
        () if found is None else shorter_settings(work, found, hardware.is_gpu),
        _measured_memory(work, machine, past, probe),
        () if row.cached else _advice(plan, work),
        None if found is None else recipe.prices.cost(found.seconds, found.seconds * work.gpus),
    )


def _measured_memory(work: TrainingWork, machine: Machine, past: Sequence[PastTraining], probe: Probed | None) -> float | None:
    """What such a training held when it ran here, or was probed."""
    same = [one.memory_bytes for one in past if is_same(work, machine, one) and one.memory_bytes]
    return max(same) if same else None if probe is None else probe.memory_bytes


def _advice(plan: Plan, work: TrainingWork) -> tuple[str, ...]:
    if work.stage != "pretrain" or work.tokens is None:
        return ()
    shards = next((row for row in plan.rows if row.stage == "shards" and row.cached), None)
    found = None if shards is None else plan.history.find(shards.fingerprint)
    text = 0 if found is None else found.manifest.ledger.tokens_out
    return (size_advice(work.parameters, work.tokens), *([told] if text and (told := epoch_advice(work.tokens, text)) else []))


# ---------------------------------------------------------------------------------------------------------------------
# Other stages


def _sizes(plan: Plan, recipe: AnyRecipe) -> Mapping[str, float]:
    """Bytes of each stage's artifact by label: as they are, or as they will be if they grow with what they are made from."""
    sizes: dict[str, float] = {}
    for row in plan.rows:
        sizes[row.label] = float(row.bytes)
        nearest = plan.nearest.get(row.label)
        if nearest is not None and row.stage in BY_SIZE:
            before, now = work_of(nearest, plan.history), _bytes_read(row, recipe, sizes)
            sizes[row.label] *= now / before if now and before else 1.0
    return sizes


def _bytes_read(row: Planned, recipe: AnyRecipe, sizes: Mapping[str, float]) -> float:
    """0: not known."""
    if row.stage == "ingest":
        assert isinstance(recipe, CorpusSections)
        return float(source_bytes(recipe.ingest))
    read = [sizes[label] for label in row.depends]
    return sum(read) if all(read) else 0.0


def _asked(row: Planned, plan: Plan, recipe: AnyRecipe, sizes: Mapping[str, float], parameters: Mapping[str, float]) -> Asked:
    work = _bytes_read(row, recipe, sizes) if row.stage in BY_SIZE else None
    if row.stage in BY_MODEL:
        work = next((parameters[label] for label in row.depends if label in parameters), None)
    return Asked(row.stage, row.subject, row.asked.config, work or None)


# ---------------------------------------------------------------------------------------------------------------------
# The whole


def _summed(
    recipe: AnyRecipe,
    rows: Sequence[Planned],
    stages: Mapping[str, Estimate | None],
    trainings: tuple[TrainingForecast, ...],
    untold: Mapping[str, str],
) -> Forecast:
    known = {label: found for label, found in stages.items() if found is not None}
    if not known:
        return Forecast(stages, trainings, untold, None, None, None)
    on_ray = {one.work.label for one in trainings if one.work.workers.count > 0 and recipe.cluster.address is None}
    gpus = {one.work.label: one.work.gpus for one in trainings}
    ends = [{label: getattr(one, end) for label, one in known.items()} for end in ("seconds", "low", "high")]
    sums = [sum(seconds.values()) for seconds in ends]
    walls = [_wall(recipe, rows, seconds, on_ray) for seconds in ends]
    held = [sum(taken * gpus.get(label, 0) for label, taken in seconds.items()) for seconds in ends]
    costs = [recipe.prices.cost(wall, of_gpus) for wall, of_gpus in zip(walls, held, strict=True)]
    known_costs = [one for one in costs if one is not None]
    cost = CostBounds(known_costs[0], known_costs[1], known_costs[2]) if known_costs else None
    total, wall = (Estimate(three[0], three[1], three[2], "") for three in (sums, walls))
    return Forecast(stages, trainings, untold, total, wall, cost)


def _wall(recipe: AnyRecipe, rows: Sequence[Planned], seconds: Mapping[str, float], on_ray: set[str]) -> float:
    jobs = [Job(row.label, seconds.get(row.label, 0.0), row.depends, row.label in on_ray) for row in rows]
    return wall_seconds(jobs, recipe.concurrency)

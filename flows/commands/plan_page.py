"""Plan page: what a run would do, take and cost, as `wordmill plan` shows it, and the same as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.text import Text

from flows.commands.tables import rendered, table_of
from flows.recipe import AnyRecipe, CorpusRecipe
from flows.runner.forecast import Forecast, TrainingForecast
from flows.runner.plan import NEVER, Planned
from flows.runner.room import unfit_told
from flows.runner.summaries import amount
from tasks.planning.advice import short
from tasks.planning.estimate import Estimate
from tasks.planning.fitting import LIBRARY_BYTES
from tasks.planning.hardware import ASSUMED_GPU
from tasks.planning.training_work import MEMORY_PARTS

UNITS = (("s", 1.0, 90.0), ("min", 60.0, 5400.0), ("h", 3600.0, 129_600.0), ("days", 86_400.0, float("inf")))  # each up to so many seconds
UNKNOWN = "unknown: run --probe"
REASONS = 3  # of a stage, in words
NAMED = 4  # stages of which nothing is known, by name


def plan_view(rows: Sequence[Planned], recipe: AnyRecipe, found: Forecast, notes: Sequence[str] = ()) -> str:
    """Stages, trainings, memory, the sum, and what a reader should know before the run."""
    parts = [*_stages(rows, found), *_reasons(rows)]
    if found.trainings:
        parts += ["", _trainings(found.trainings, recipe), "", _memory(found.trainings)]
    parts += ["", *_sums(rows, recipe, found), *_remarks(found), *(f"note: {note}" for note in notes)]
    return "\n".join(parts)


def _stages(rows: Sequence[Planned], found: Forecast) -> list[str]:
    cached = [row.label for row in rows if row.cached]
    table = table_of("will run", "time>", "told from")
    for row in rows:
        estimate = found.stages.get(row.label)
        if not row.cached:
            unknown = Text("unknown", "dim")
            table.add_row(row.label, "" if estimate is None else span(estimate), unknown if estimate is None else estimate.told)
    return [*([f"cached: {', '.join(cached)}"] if cached else []), *([rendered(table)] if len(cached) < len(rows) else [])]


def _reasons(rows: Sequence[Planned]) -> list[str]:
    """Why stages run: those that have a reason of their own. Others follow, since what they read changes; `--json` has all reasons."""
    waiting = [row for row in rows if not row.cached]
    lines: list[str] = []
    for row in waiting:
        own = [why for why in row.why if why != NEVER and (why.startswith("file ") or not why.endswith(": changed"))]
        more = f"; and {len(own) - REASONS} more" if len(own) > REASONS else ""
        lines += [f"{row.label} will run: {'; '.join(own[:REASONS])}{more}"] if own else []
    new = [row.label for row in waiting if row.why == (NEVER,)]
    if new:
        lines.append(f"{'all stages' if len(new) == len(rows) else listed(new)}: {NEVER}")
    return lines


def _trainings(trainings: Sequence[TrainingForecast], recipe: AnyRecipe) -> str:
    has_prices = recipe.prices.are_known
    table = table_of("training", "parameters>", "steps>", "tokens>", "FLOPs>", *(["cost>"] if has_prices else []), "on")
    for one in trainings:
        work = one.work
        most = "" if work.mean_tokens else "≤ "
        cost = "" if one.cost is None else f"{one.cost:,.2f} {recipe.prices.currency}"
        table.add_row(
            work.label,
            short(work.parameters),
            "unknown" if work.steps is None else f"{'≤ ' if work.ends_early else ''}{work.steps:,}",
            "unknown" if work.tokens is None else most + short(work.tokens),
            "unknown" if work.flops is None else most + _scientific(work.flops),
            *([cost] if has_prices else []),
            Text("cached", "cyan") if one.is_cached else "this machine" if not one.hardware.is_gpu else one.hardware.name,
        )
    if len(trainings) > 1:
        sums = training_sums(trainings)
        table.add_row("in all", "", f"{sums.steps:,}", short(sums.tokens), _scientific(sums.flops))
    return rendered(table)


def _scientific(value: float) -> str:
    return f"{value:.1e}".replace("e+", "e")


@dataclass(frozen=True)
class TrainingSums:
    """Of the trainings that are to run, as far as they are known; at most."""

    steps: int
    tokens: float
    flops: float


def training_sums(trainings: Sequence[TrainingForecast]) -> TrainingSums:
    """Of all together."""
    works = [one.work for one in trainings if not one.is_cached]
    return TrainingSums(sum(one.steps or 0 for one in works), sum(one.tokens or 0 for one in works), sum(one.flops or 0 for one in works))


def _memory(trainings: Sequence[TrainingForecast]) -> str:
    title = f"its parts at their largest, beside {amount(LIBRARY_BYTES)} of libraries"
    table = table_of("memory of a worker", "peak>", "there is>", title)
    for one in trainings:
        fit = one.fit
        parts = ", ".join(f"{name} {amount(getattr(fit.memory, name))}" for name in MEMORY_PARTS if getattr(fit.memory, name))
        measured = "" if one.measured_memory is None else f"; measured {amount(one.measured_memory)}"
        color = {"does not fit": "red", "tight": "yellow"}.get(fit.verdict, "")
        room = "unknown" if fit.room is None else amount(fit.room)
        table.add_row(one.work.label, Text(amount(fit.peak), color), room, f"{parts}{measured}")
    return rendered(table)


def _sums(rows: Sequence[Planned], recipe: AnyRecipe, found: Forecast) -> list[str]:
    waiting = sum(not row.cached for row in rows)
    first = f"{waiting} will run, {len(rows) - waiting} cached"
    if not waiting:
        return [f"{first}: nothing takes any time", *_names(recipe)]
    if found.wall is None or found.seconds is None:
        return [first, f"time: {UNKNOWN}", *_names(recipe)]
    lines = [first, f"time: {'at least ' if found.unknown else ''}{span(found.wall)}"]
    if found.seconds.seconds > 1.02 * found.wall.seconds:
        lines[-1] += f" with {recipe.concurrency} stages at a time; one after the other {span(found.seconds)}"
    if found.unknown:
        lines[-1] += f"; of {listed(found.unknown)} nothing is known"
    return [*lines, _cost(recipe, found), *_names(recipe)]


def listed(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) <= NAMED else f"{len(labels)} stages ({', '.join(labels[:NAMED])}, …)"


def _cost(recipe: AnyRecipe, found: Forecast) -> str:
    if found.cost is None:
        return "cost: unknown; set prices.machine_hour, prices.gpu_hour (docs/plan.md)"
    least = "at least " if found.unknown else ""
    bounds = f"{found.cost.low:,.2f}–{found.cost.high:,.2f}"
    return f"cost: {least}{found.cost.amount:,.2f} {recipe.prices.currency} ({bounds}), at {recipe.prices.told()}"


def _names(recipe: AnyRecipe) -> list[str]:
    names = [f"{name} ({model or 'the base'})" for model, name in registry_names_of(recipe).items()]
    return [f"competes as {', '.join(names)}"] if names else []


def _remarks(found: Forecast) -> list[str]:
    """What does not fit, what takes long, what is assumed, and advice."""
    lines: list[str] = []
    for one in found.trainings:
        if one.is_cached:
            continue
        if one.fit.verdict == "does not fit":
            lines += unfit_told(one.work.label, one.fit)
        lines += _long_told(one)
        lines += [f"{one.work.label}: {told}" for told in one.advice]
    return lines + _hardware_told(found.trainings) + [f"{label}: {why}" for label, why in found.untold.items()]


def _long_told(one: TrainingForecast) -> list[str]:
    if not one.shorter or one.estimate is None:
        return []
    settings = [f"--set {setting.key} ({span_of(setting.seconds)})" for setting in one.shorter]
    return [f"{one.work.label} takes {span(one.estimate)}; through in a day: {', or '.join(settings)}"]


def _hardware_told(trainings: Sequence[TrainingForecast]) -> list[str]:
    """On what those run that do not run here, what that is assumed from, and how long it would take here."""
    away = [one for one in trainings if not one.hardware.is_here and not one.is_cached]
    lines: list[str] = []
    if any(one.hardware.is_assumed for one in away):
        named = ", ".join(one.work.label for one in away if one.hardware.is_assumed)
        lines.append(f"{named}: no such GPUs here; {ASSUMED_GPU} is assumed: set cluster.gpu, cluster.device_memory")
    for one in away:
        if one.here is not None:
            lines.append(f"{one.work.label} on this machine, without GPUs, would take {span(one.here)}, {one.here.told}")
    return lines


def span(found: Estimate) -> str:
    """`4.8 min (3.5–6.5)`."""
    unit, size = _unit(found.seconds)
    return f"{_figure(found.seconds / size)} {unit} ({_figure(found.low / size)}–{_figure(found.high / size)})"


def span_of(seconds: float) -> str:
    """`4.8 min`."""
    unit, size = _unit(seconds)
    return f"{_figure(seconds / size)} {unit}"


def _unit(seconds: float) -> tuple[str, float]:
    return next((unit, size) for unit, size, most in UNITS if seconds < most)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def registry_names_of(recipe: AnyRecipe) -> dict[str, str]:
    """Model -> the name that it competes for; none in a recipe that ends at a corpus."""
    return {} if isinstance(recipe, CorpusRecipe) else recipe.names


# ---------------------------------------------------------------------------------------------------------------------
# As data


def plan_json(rows: Sequence[Planned], recipe: AnyRecipe, found: Forecast, notes: Sequence[str] = ()) -> dict[str, object]:
    """The same as `plan_view`, as docs/architecture.md describes it."""
    return {
        "stages": [_stage_json(row, found.stages) for row in rows],
        "trainings": [_training_json(one) for one in found.trainings],
        "total": {
            "seconds": _estimate_json(found.seconds),
            "wall": _estimate_json(found.wall),
            "unknown": [*found.unknown],
            "cost": None if found.cost is None else asdict(found.cost),
            "currency": recipe.prices.currency,
            "parameters": max((one.work.parameters for one in found.trainings), default=0),
            **asdict(training_sums(found.trainings)),
        },
        "remarks": _remarks(found),
        "registers": {model or "base": name for model, name in registry_names_of(recipe).items()},
        "notes": [*notes],
    }


def _stage_json(row: Planned, stages: Mapping[str, Estimate | None]) -> dict[str, object]:
    kept = ("label", "stage", "subject", "fingerprint", "cached", "why", "seconds", "bytes")
    return {**{name: getattr(row, name) for name in kept}, "estimate": _estimate_json(stages.get(row.label))}


def _training_json(one: TrainingForecast) -> dict[str, object]:
    work, fit = one.work, one.fit
    return {
        "label": work.label,
        "cached": one.is_cached,
        "parameters": work.parameters,
        "trained": work.trained,
        "steps": work.steps,
        "tokens": work.tokens,
        "flops": work.flops,
        "precision": fit.precision,
        "processes": work.processes,
        "hardware": {"name": one.hardware.name, "here": one.hardware.is_here, "assumed": one.hardware.is_assumed},
        "memory": {
            **asdict(fit.memory),
            "libraries": LIBRARY_BYTES,
            "peak": fit.peak,
            "room": fit.room,
            "verdict": fit.verdict,
            "largest": fit.largest,
            "nearest": [asdict(setting) for setting in fit.nearest],
            "measured": one.measured_memory,
        },
        "estimate": _estimate_json(one.estimate),
        "here": _estimate_json(one.here),
        "shorter": [asdict(setting) for setting in one.shorter],
        "cost": one.cost,
        "advice": [*one.advice],
    }


def _estimate_json(found: Estimate | None) -> dict[str, object] | None:
    """`from` says what it was told from."""
    if found is None:
        return None
    return {"seconds": round(found.seconds, 3), "low": round(found.low, 3), "high": round(found.high, 3), "from": found.told}

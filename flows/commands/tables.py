"""Terminal tables: of a run, a plan, scores."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from flows.recipe import AnyRecipe, CorpusRecipe, Recipe
from flows.runner.plan import Planned
from flows.runner.summaries import AWAITS, amount, duration, reasons
from model.training.budget import ParameterCount, TrainingMemory, count_parameters, flops_per_token, training_memory

MEMORY_PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "copy")  # each at its own largest
COLORS = {"ran": "green", "cached": "cyan", "failed": "red", AWAITS: "yellow"}


def run_table(summary: Mapping[str, object]) -> str:
    """What a run did: a stage a row, the scores, and where to look next."""
    stages: list[dict[str, object]] = summary["stages"]  # type: ignore[assignment]
    table = table_of("stage", "status", "time>", "rows in>", "rows out>", "dropped")
    for stage in stages:
        dropped: Mapping[str, int] = stage["dropped"]  # type: ignore[assignment]
        status = str(stage["status"])
        seconds = float(str(stage["seconds"]))
        table.add_row(
            str(stage["stage"]),
            Text(status, COLORS.get(status, "")),
            duration(seconds) if status == "ran" else "",
            _count(stage["rows_in"]),
            _count(stage["rows_out"]),
            reasons(dropped),
        )
    ran, cached, away = (sum(stage["status"] == status for stage in stages) for status in ("ran", "cached", AWAITS))
    scores: list[Mapping[str, object]] = summary["scores"]  # type: ignore[assignment]
    lines = [*([rendered(table)] if stages else []), *([score_table(scores)] if scores else []), ""]
    left = f", {away} {AWAITS}" if away else ""
    lines.append(f"{ran} ran, {cached} cached{left}, {duration(float(str(summary['seconds'])))}")
    lines += [f"report: {summary['report']}"] if summary["report"] else []
    registered: list[Mapping[str, str]] = summary["registered"]  # type: ignore[assignment]
    for number, model in enumerate(registered):
        stays = "champion still" if model["verdict"] != "promoted" else "champion"
        verdict = stays if model["promoted"] == "true" else model["verdict"]
        lines.append(f"{'model:' if number == 0 else '':<7} {model['uri']} ({verdict}: {model['why']})")
    lines += [f"MLflow: {summary['tracking']}"] if summary["tracking"] else []
    notes: list[str] = summary["notes"]  # type: ignore[assignment]
    lines += [f"note:   {note}" for note in notes]
    return "\n".join(lines)


def plan_table(rows: Sequence[Planned], recipe: AnyRecipe, notes: Sequence[str] = ()) -> str:
    """What a run would do and why, then what the model takes."""
    table = table_of("stage", "plan", "last took>", "size>", "why")
    for row in rows:
        status = Text("cached", "cyan") if row.cached else Text("will run", "green")
        table.add_row(
            row.label,
            status,
            "" if row.seconds is None else duration(row.seconds),
            amount(row.bytes) if row.bytes else "",
            "\n".join(row.why),
        )
    waiting = [row for row in rows if not row.cached]
    known = [row.seconds for row in waiting if row.seconds is not None]
    total = f"{len(waiting)} will run, {len(rows) - len(waiting)} cached"
    if known:
        total += f"; those that ran before took {duration(sum(known))} then"
    return "\n".join(
        [
            rendered(table),
            total,
            *([budget_line(plan_budget(recipe))] if isinstance(recipe, Recipe) and recipe.start is None else []),
            *(f"competes as {name}: {model or 'the base'}" for model, name in registry_names_of(recipe).items()),
            *(f"note: {note}" for note in notes),
        ]
    )


def plan_json(rows: Sequence[Planned], recipe: AnyRecipe, notes: Sequence[str] = ()) -> dict[str, object]:
    """The same as `plan_table`, as data; `budget` is null for a recipe that makes no new model."""
    budget = asdict(plan_budget(recipe)) if isinstance(recipe, Recipe) and recipe.start is None else None
    names = {model or "base": name for model, name in registry_names_of(recipe).items()}
    return {"stages": [asdict(row) for row in rows], "budget": budget, "registers": names, "notes": [*notes]}


def registry_names_of(recipe: AnyRecipe) -> dict[str, str]:
    """Model -> the name that it competes for; none in a recipe that ends at a corpus."""
    return {} if isinstance(recipe, CorpusRecipe) else recipe.names


@dataclass(frozen=True)
class PlanBudget:
    """What the pretraining takes."""

    parameters: ParameterCount
    tokens: int  # of training, all steps
    flops: float
    memory: TrainingMemory  # of one worker
    memory_peak: int


def plan_budget(recipe: Recipe) -> PlanBudget:
    """From the recipe alone; `precision: auto` counts as float32."""
    config, pretrain, vocabulary = recipe.model, recipe.pretrain, recipe.tokenizer.vocab_size
    context = recipe.shards.context
    tokens = pretrain.steps * pretrain.batch_tokens
    placed = pretrain.placement
    rows = -(-pretrain.batch_tokens // context // max(1, placed.least or placed.count))  # of one worker's step, where they are fewest
    micro_rows = rows if pretrain.micro_rows == "auto" else min(rows, pretrain.micro_rows)
    precision = "float32" if pretrain.precision == "auto" else pretrain.precision
    memory = training_memory(config, vocabulary, micro_rows, precision, rows > micro_rows, context)
    return PlanBudget(
        count_parameters(config, vocabulary), tokens, flops_per_token(config, vocabulary, context) * tokens, memory, memory.peak
    )


def budget_line(budget: PlanBudget) -> str:
    """Parameters, arithmetic and memory of the pretraining."""
    parts = asdict(budget.memory)
    memory = ", ".join(f"{name} {amount(parts[name])}" for name in MEMORY_PARTS)
    return (
        f"model: {budget.parameters.total / 1e6:,.1f} M parameters; pretraining: {budget.tokens / 1e6:,.1f} M tokens, "
        f"{budget.flops:.2e} FLOPs, about {amount(budget.memory_peak)} of memory per worker at its peak ({memory})"
    )


def score_table(scores: Sequence[Mapping[str, object]]) -> str:
    """Scores with their 95 % intervals."""
    table = table_of("of", "task", "metric", "model", "value>", "95 % interval>", "n>")
    for row in scores:
        table.add_row(
            str(row.get("subject", "")),
            str(row["task"]),
            str(row["metric"]),
            str(row["model"]),
            f"{row['value']:.4f}",
            f"{row['ci_low']:.4f} to {row['ci_high']:.4f}",
            _count(row["n"]),
        )
    return rendered(table)


def _count(value: object) -> str:
    return f"{value:,}" if value else ""


def table_of(*columns: str) -> Table:
    """A table without lines; a column whose name ends in > is of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    return table


def rendered(table: RenderableType) -> str:
    """As text, in colour where the terminal shows it."""
    stdout = Console()
    console = Console(file=io.StringIO(), width=max(stdout.width, 100), force_terminal=stdout.is_terminal, highlight=False)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.rstrip("\n")

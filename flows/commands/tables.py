"""Terminal tables: of a run, of scores; and how tables are shown."""

import io
from collections.abc import Mapping, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from flows.runner.summaries import AWAITS, duration, reasons

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
    """As text, in colour where the terminal shows it; as wide as that is, elsewhere at least 100 columns."""
    stdout = Console()
    width = stdout.width if stdout.is_terminal else max(stdout.width, 100)
    console = Console(file=io.StringIO(), width=width, force_terminal=stdout.is_terminal, highlight=False)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.rstrip("\n")

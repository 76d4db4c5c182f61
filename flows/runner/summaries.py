"""Summaries of stages: one line for people, figures for MLflow, tables for the Prefect UI."""

import re
from collections.abc import Mapping

from tasks.artifacts import Artifact
from tasks.ledger import Ledger
from tasks.settings import Json

REASONS = 6  # named one by one
AWAITS = "waiting for the registry"  # status of a registration, or a decision before it, that MLflow did not answer


def amount(size: float) -> str:
    """1234567 bytes as 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """94.2 seconds as 1 min 34 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def reasons(dropped: Mapping[str, int]) -> str:
    """Drops by reason, the most frequent first; of many reasons the rare ones together."""
    ranked = sorted(((name, count) for name, count in dropped.items() if count), key=lambda item: (-item[1], item[0]))
    shown = ranked if len(ranked) <= REASONS + 1 else ranked[:REASONS]
    rest = ranked[len(shown) :]
    told = [f"{name} {count:,}" for name, count in shown]
    return ", ".join([*told, *([f"{len(rest)} other reasons {sum(count for _, count in rest):,}"] if rest else [])])


def summary_line(ledger: Ledger, seconds: float) -> str:
    """Counts in and out, seconds, drops by reason."""
    parts: list[str] = []
    if ledger.rows_in:
        parts.append(f"{ledger.rows_in:,} rows in, {ledger.rows_out:,} out")
    elif ledger.rows_out:
        parts.append(f"{ledger.rows_out:,} out")
    if ledger.tokens_out:
        parts.append(f"{ledger.tokens_out:,} tokens")
    parts.append(duration(seconds))
    dropped = reasons(ledger.dropped)
    return "; ".join(parts) + (f"; dropped: {dropped}" if dropped else "")


def ledger_figures(ledger: Ledger) -> dict[str, float]:
    """The ledger as metrics, drops as `dropped.<reason>`."""
    figures: dict[str, float] = {
        name: float(value)
        for name, value in (
            ("rows_in", ledger.rows_in),
            ("rows_out", ledger.rows_out),
            ("bytes_in", ledger.bytes_in),
            ("bytes_out", ledger.bytes_out),
            ("tokens_out", ledger.tokens_out),
        )
        if value
    }
    return figures | {f"dropped.{slug(reason)}": float(count) for reason, count in ledger.dropped.items()}


def ledger_columns(ledger: Ledger) -> dict[str, list[str | int]]:
    """The ledger as a table for MLflow: what came in, what was dropped by reason, what repairs took, what went out."""
    reasons = list({**ledger.dropped, **ledger.dropped_bytes})
    rows = [ledger.rows_in, *(ledger.dropped.get(reason, 0) for reason in reasons), 0, ledger.rows_out]
    sizes = [ledger.bytes_in, *(ledger.dropped_bytes.get(reason, 0) for reason in reasons), ledger.repaired_bytes]
    return {
        "what": ["in", *(f"dropped: {reason}" for reason in reasons), "repaired", "out"],
        "rows": list(rows),
        "bytes": [*sizes, ledger.bytes_out],
    }


def ledger_table(artifact: Artifact) -> list[dict[str, str]]:
    """Rows for a Prefect table artifact."""
    ledger = artifact.ledger
    rows = [{"what": "in", "rows": f"{ledger.rows_in:,}", "bytes": amount(ledger.bytes_in)}]
    for reason, count in ledger.dropped.items():
        rows.append({"what": f"dropped: {reason}", "rows": f"{count:,}", "bytes": amount(ledger.dropped_bytes.get(reason, 0))})
    rows.append({"what": "out", "rows": f"{ledger.rows_out:,}", "bytes": amount(ledger.bytes_out)})
    return rows


def flattened(value: Json, prefix: str = "") -> dict[str, str]:
    """A config as dotted keys and texts: `optimizer.learning_rate` -> `0.001`."""
    if isinstance(value, dict):
        items = [(f"{prefix}.{key}" if prefix else key, item) for key, item in value.items()]
    elif isinstance(value, list) and value and any(isinstance(item, dict | list) for item in value):
        items = [(f"{prefix}.{index}", item) for index, item in enumerate(value)]
    else:
        return {prefix: str(value)}
    return {key: text for name, item in items for key, text in flattened(item, name).items()}


def slug(text: str) -> str:
    """Lower-case words joined by hyphens, for keys."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")

"""Morning: what became of a night, gathered from its artifacts for the page, for Prefect and for the webhook."""

import os
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.runtime import flow_run

from flows.recipe import FinetuneRecipe
from flows.runner.decision_summary import decision_markdown
from flows.runner.execution import Execution
from flows.runner.notify import notify
from flows.runner.report_facts import gpu_seconds
from flows.runner.session import RunSummary
from tasks.artifacts import Artifact, Workspace
from tasks.promotion.decision import FILE, Decision, Verdict, read_decision
from tasks.promotion.drift import read_drift
from tasks.promotion.gather import ENDS, WHY
from tasks.promotion.new_rows import NewRows, NightVerdict, nights_folder, read_nights
from tasks.report.morning_facts import DriftRow, Morning, NightRows, State
from tasks.report.morning_facts import Night as EarlierNight
from tasks.report.morning_page import write_morning_page

PAGE = "morning.html"
DECIDED: tuple[Verdict, ...] = ("promoted", "refused", "cannot tell")
SHOWN_NIGHTS = 14
STATES: dict[NightVerdict, State] = {  # of a night that came to an end, as the page calls it
    "promoted": "decided",
    "refused": "decided",
    "cannot tell": "decided",
    "nothing new": "nothing new",
    "nothing to learn from": "all rows refused",
    "drift": "drift",
    "waiting": "waiting",
}
RANK: tuple[NightVerdict, ...] = ("promoted", "waiting", "cannot tell", "refused", "drift", "nothing to learn from")  # of several models


@dataclass(frozen=True)
class Told:
    """Which night it is."""

    recipe: FinetuneRecipe
    workspace: Workspace
    started: datetime
    clock: float  # time.monotonic() at its start


@dataclass(frozen=True)
class NightEnd:
    """How it ended."""

    verdict: NightVerdict
    why: str

    @property
    def state(self) -> State:
        """As the page calls it."""
        return STATES[self.verdict]


def artifacts_of(execution: Execution, stage: str) -> list[Artifact]:
    """Those of a stage, in the order of the DAG."""
    return [record.artifact for record in execution.records if record.stage == stage and record.artifact is not None]


def decisions_of(execution: Execution) -> list[Decision]:
    """A decision for each model: the one by which it was registered, else the gate's."""
    registered = [one.path for one in artifacts_of(execution, "register")]
    found = [path for path in registered if (path / FILE).is_file()] or [one.path for one in artifacts_of(execution, "gate")]
    return [read_decision(path) for path in found]


def night_of(execution: Execution) -> NightEnd:
    """The verdict on the night: of several models the best one."""
    ends = [NightEnd(one.verdict, one.why) for one in decisions_of(execution)]
    ends += [
        NightEnd("waiting", "the registry did not answer") for record in execution.records if record.status == "waiting for the registry"
    ]
    for one in artifacts_of(execution, "gather"):
        if ENDS in one.notes:
            ends.append(NightEnd(verdict_named(one.notes[ENDS]), one.notes[WHY]))
    return min(ends, key=lambda end: RANK.index(end.verdict))


def verdict_named(name: str) -> NightVerdict:
    """The verdict that a note holds."""
    return next(verdict for verdict in RANK if verdict == name)


def leave_morning(
    told: Told, news: NewRows, state: State, why: str, execution: Execution | None = None, summary: RunSummary | None = None
) -> None:
    """Write WORKSPACE/morning.html, keep it with the night, link it in Prefect and MLflow, and tell the webhook."""
    morning = morning_of(told, news, state, why, execution, summary)
    page = told.workspace.root / PAGE
    write_morning_page(morning, page)
    kept = nights_folder(told.workspace.root, told.recipe.name)
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(page, kept / f"morning-{told.started:%Y%m%dT%H%M%SZ}.html")
    if execution is not None:
        execution.journal.artifact(execution.journal.run, kept / f"morning-{told.started:%Y%m%dT%H%M%SZ}.html")
    create_link_artifact(link=page.as_uri(), link_text="morning page", key="morning", description=f"{told.recipe.name}: {why}"[:500])
    if morning.decision is not None:
        create_markdown_artifact(key="decision", markdown=decision_markdown(morning.decision))
    assert told.recipe.night is not None
    notify(told.recipe.night.notify, morning)


def morning_of(told: Told, news: NewRows, state: State, why: str, execution: Execution | None, summary: RunSummary | None) -> Morning:
    """The facts of the page."""
    decisions = [] if execution is None else decisions_of(execution)
    registered = summary.registered[0] if summary is not None and summary.registered else {}
    trained = [] if execution is None else artifacts_of(execution, "finetune")
    return Morning(
        name=next(iter(told.recipe.names.values())),
        recipe=told.recipe.name,
        state=state,
        why=why,
        started=told.started.isoformat(timespec="seconds"),
        seconds=time.monotonic() - told.clock,
        decision=decisions[0] if decisions else None,
        version=registered.get("version", ""),
        cost=told.recipe.prices.spent(time.monotonic() - told.clock, 0.0 if execution is None else gpu_seconds(execution, told.recipe)),
        rows=night_rows(news, execution),
        drift=() if execution is None else drift_rows(told, execution),
        training=trained[0].figures if trained else {},
        links=links(execution, summary),
        nights=earlier_nights(told),
    )


def night_rows(news: NewRows, execution: Execution | None) -> NightRows:
    """The rows of all sets."""
    gathered = [] if execution is None else artifacts_of(execution, "gather")
    aside = Counter[str]()
    for one in gathered:
        aside.update(one.ledger.dropped)

    def total(figure: str) -> int:
        return int(sum(one.figures.get(figure, 0) for one in gathered))

    sets = news.sets.values()
    return NightRows(
        new=sum(one.new + sum(one.refused.values()) for one in sets),
        changed=sum(one.changed for one in sets),
        removed=sum(one.removed for one in sets),
        waiting=sum(one.waiting for one in sets),
        set_aside=dict(aside),
        learned=total("train_examples"),
        replayed=total("replay_examples"),
        heldout=total("heldout_examples"),
    )


def drift_rows(told: Told, execution: Execution) -> tuple[DriftRow, ...]:
    """What was held against what the champion learned from."""
    assert told.recipe.night is not None
    limit = told.recipe.night.drift.told_from
    found = [read_drift(one.path) for one in artifacts_of(execution, "gather")]
    return tuple(
        DriftRow(
            figure.of,
            figure.index,
            max(limit, figure.noise),
            "stopped" if drift.stops and figure.level == "strong" else "even" if figure.level == "none" else "told",
        )
        for drift in found
        for figure in drift.figures
    )


def links(execution: Execution | None, summary: RunSummary | None) -> dict[str, str]:
    """Where to look next."""
    found = {"Prefect": flow_run.ui_url or "", "MLflow": os.environ.get("MLFLOW_TRACKING_URI", "")}
    if execution is not None:
        gates = artifacts_of(execution, "gate")
        if gates:
            found["decision"] = page_of(gates[0].path / "decision.html")
    if summary is not None and summary.report is not None:
        found["report"] = page_of(summary.report)
    return {name: url for name, url in found.items() if url}


def page_of(path: Path) -> str:
    """As a link."""
    return path.as_uri()


def earlier_nights(told: Told) -> tuple[EarlierNight, ...]:
    """The last ones of the recipe."""
    nights = read_nights(told.workspace.root, told.recipe.name)[-SHOWN_NIGHTS:]
    return tuple(
        EarlierNight(one.ended, one.verdict if one.verdict in ("promoted", "refused", "cannot tell") else STATES[one.verdict])
        for one in nights
    )

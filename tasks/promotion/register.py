"""Model registration: a version is registered, and the champion alias moves only by a decision that was made against that champion."""

import json
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.artifacts import FinetunedModel, GateDecision, ModelMemory, PretrainedModel, Report
from tasks.ledger import Ledger, StageOutcome
from tasks.promotion.champion import Registry
from tasks.promotion.decision import Decision, read_decision, write_decision
from tasks.promotion.history import Entry, champion_after, decision_on, described, now, settle_history, take_over, who
from tasks.promotion.versions import decision_tag, find_version, log_version, set_tags
from tasks.settings import PLACEMENT
from tasks.tracking.patience import WAIT_SECONDS, Patience
from tasks.tracking.registered import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger("wordmill")

MOST_DECISIONS = 5  # of one registration, while others promote
MOST_WORDS = 500  # characters of a reason, in an entry


@dataclass(frozen=True)
class Registration:
    """One model to register, under a name."""

    name: str
    wait_seconds: float = field(default=WAIT_SECONDS, metadata={PLACEMENT: True})  # for an MLflow that does not answer
    revision: int = 2


@dataclass(frozen=True)
class Candidate:
    """What is registered, and the decision on it."""

    model: PretrainedModel | FinetunedModel
    memory: ModelMemory | None
    decision: GateDecision | None  # None: MLflow, which knows the champion, did not answer when it was to be made
    report: Report | None


def register_model(
    config: Registration, candidate: Candidate, out: Path, registry: Registry, again: Callable[[Path], Decision]
) -> StageOutcome:
    """Find or log the version, enter the decision into the history, and move the alias if it says so.

    Where the champion is no longer the one of the decision, or another takes its place meanwhile, `again` decides against the new one,
    writing into the folder that it is given; so it does where there is no decision yet. A model that was decided on before is not
    decided on again. UserError for what MLflow refuses, RegistryAway where it does not answer for `wait_seconds`.
    """
    import mlflow

    client = mlflow.MlflowClient(registry.uri, registry.uri)
    patience = Patience(registry.uri, config.wait_seconds, f"register: {config.name}")
    model = candidate.model
    entries = patience.ask(lambda: settle_history(client, config.name))
    version = patience.ask(lambda: find_version(client, config.name, model.fingerprint)) or log_version(
        client, config.name, model, candidate.memory, registry, lead_back(candidate, registry), patience
    )
    made = None if candidate.decision is None else read_decision(candidate.decision.path)
    earlier = None if made is not None and made.is_order else decision_on(entries, model.fingerprint)
    figures: dict[str, float] = {}
    if earlier is None:
        decision, folder = contend(config, client, patience, candidate, version, registry, out, again)
        tags = decision_tags(decision, folder)
        patience.ask(lambda: set_tags(client, config.name, version, tags))
        entries = patience.ask(lambda: settle_history(client, config.name))
        write_decision(decision, out)
        verdict, why, figures = decision.verdict, decision.why, figures_of(decision)
    else:
        verdict, why = earlier.kind, f"decided before, on {earlier.at} as entry {earlier.number}: {described(earlier)}"
        tags = {"wordmill.verdict": verdict, "wordmill.why": earlier.why}  # whoever decided may have died before it wrote them
        patience.ask(lambda: set_tags(client, config.name, version, tags))
    is_champion = champion_after(entries) == version
    notes = {
        "name": config.name,
        "version": version,
        "uri": f"models:/{config.name}@{CHAMPION}" if is_champion else f"models:/{config.name}/{version}",
        "promoted": str(is_champion).lower(),
        "verdict": verdict,
        "why": why,
    }
    (out / "registered.json").write_text(json.dumps(notes, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return StageOutcome(Ledger(rows_out=1), figures={**figures, "promoted": float(is_champion)}, notes=notes)


def contend(
    config: Registration,
    client: "MlflowClient",
    patience: Patience,
    candidate: Candidate,
    version: str,
    registry: Registry,
    out: Path,
    again: Callable[[Path], Decision],
) -> tuple[Decision, Path]:
    """The decision that counts, with the folder that it is published in; it is in the history then, and the alias as it says."""
    published = out.with_suffix("") if out.suffix == ".partial" else out  # what a stage builds gets its own name when it is whole
    made = None if candidate.decision is None else (read_decision(candidate.decision.path), candidate.decision.path)
    for number in range(1, MOST_DECISIONS + 1):
        champion = champion_after(patience.ask(lambda: settle_history(client, config.name)))
        if made is not None and made[0].rival_version == champion:
            entry, mark = entry_of(made[0], version, who(registry.tags)), uuid.uuid4().hex
            if patience.ask(lambda: take_over(client, config.name, entry, mark)):  # noqa: B023 - asked before the next round
                return made
            champion = champion_after(patience.ask(lambda: settle_history(client, config.name)))
        if made is not None:
            logger.warning(
                "register: %s: the champion is %s by now, and the decision was made against %s: decided again",
                config.name,
                f"version {champion}" if champion else "none",
                f"version {made[0].rival_version}" if made[0].rival_version else "none",
            )
        folder = out / f"again-{number}"
        folder.mkdir(exist_ok=True)
        made = again(folder), published / folder.name
    raise ConnectionError(
        f"register: {config.name}: the champion changed {MOST_DECISIONS} times while version {version} was decided on; it is registered "
        "and not promoted. Fix: run again when that is over"
    )


def entry_of(decision: Decision, version: str, by: str) -> Entry:
    """The entry of a decision on `version`."""
    champion = version if decision.verdict == "promoted" else decision.rival_version
    level, rate = (0.0, 0.0) if decision.budget is None else (decision.budget.level, decision.budget.rate)
    deciding = next((one for one in decision.comparisons if one.role == "deciding"), None)
    metric, gain = ("", None) if deciding is None else (deciding.metric, deciding.gain)
    why = decision.why[:MOST_WORDS]
    before = decision.rival_version
    return Entry(0, decision.verdict, now(), by, version, before, champion, why, decision.challenger, level, rate, metric, gain)


def lead_back(candidate: Candidate, registry: Registry) -> dict[str, str]:
    """Tags that lead back to the artifacts and the run."""
    others = {"memory": candidate.memory, "report": candidate.report}
    return {
        "wordmill.fingerprint": candidate.model.fingerprint,
        "wordmill.artifact": candidate.model.folder,
        **{f"wordmill.{name}": artifact.folder for name, artifact in others.items() if artifact is not None},
        **registry.tags,
    }


def decision_tags(decision: Decision, folder: Path) -> dict[str, str]:
    """Tags that say what was decided, and by what."""
    return {
        "wordmill.verdict": decision.verdict,
        "wordmill.why": decision.why[:MOST_WORDS],
        "wordmill.decision": decision_tag(decision),
        "wordmill.decision_artifact": str(folder),
    }


def figures_of(decision: Decision) -> dict[str, float]:
    """The deciding figure and its gain, where there is one."""
    return {
        key: value
        for one in decision.comparisons
        if one.role == "deciding"
        for key, value in ((one.metric, one.challenger), ("gain", one.gain))
    }

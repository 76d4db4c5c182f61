"""Promotion gate: whether a challenger takes the champion's place, by what both do with the same held-out items.

It does where its deciding figure is surely better (tasks/paired.py, at the level that tasks/promotion/budget.py allows), no guard
is worse than is tolerated (tasks/promotion/guards.py) and every condition holds (tasks/promotion/conditions.py). What cannot be
compared is no reason to promote.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.artifacts import Examples, FinetunedModel, ModelMemory, PretrainedModel, Scores, read_manifest
from tasks.contracts import check_table
from tasks.errors import UserError
from tasks.examples.deciding import deciding_metric, lower_is_better
from tasks.examples.rows import read_examples
from tasks.items import Asked, ItemFigures, Judge
from tasks.ledger import Ledger, StageOutcome
from tasks.memory import memory_of
from tasks.paired import value_of
from tasks.promotion.asking import Asking, Challenger, Unscorable
from tasks.promotion.budget import error_budget
from tasks.promotion.champion import Rival
from tasks.promotion.comparing import Match, Sheet, best_and_worst, compared, part_figures, parts
from tasks.promotion.conditions import Certify, Leaks, find_leaks, is_separate, is_whole, round_trip
from tasks.promotion.decision import TABLE, Comparison, Condition, Decision, Verdict, write_decision, write_table
from tasks.promotion.gate_config import GateConfig
from tasks.promotion.guards import base_rows, guard_rows
from tasks.promotion.history import DECIDED, Entry, decision_on
from tasks.promotion.register_config import Promote
from tasks.scores import OWN


@dataclass(frozen=True)
class Contest:
    """What is competed for, and by which rule."""

    gate: GateConfig
    promote: Promote
    name: str  # in the registry
    metric: str | None  # that decides; None: that of the examples


def gate(
    config: Contest,
    model: PretrainedModel | FinetunedModel,
    scores: Scores,
    memory: ModelMemory,
    examples: Examples | None,
    out: Path,
    rival: Rival | None,
    entries: Sequence[Entry],
    judge: Judge,
    certify: Certify,
    base: Path | None = None,
) -> Decision:
    """Whether `model` takes the place of `rival`, the champion; None: there is none yet. `entries`: the history of the name.

    `judge` scores a model's folder on given items, `certify` says whether its round trip holds; `base`: the folder of the model that it
    started from, where that is to be shown beside. UserError for a figure or a suite that the recipe asks for and the challenger does
    not have.
    """
    began = time.monotonic()
    settled = _without_comparing(config, model, rival, entries)
    if settled is None:
        leaks = None if examples is None else find_leaks(examples.path, memory_of(memory.path))
        conditions = (is_whole(model), round_trip(certify, model.path / "model"), is_separate(scores, leaks))
        challenger = Challenger(
            model,
            Sheet.read(scores.path),
            memory_of(memory.path),
            None if examples is None else examples.path,
            "" if examples is None else _name_of(examples),
        )
        settled = _weigh(config, challenger, Asking(judge, challenger.folder, rival, out, base), conditions, leaks, entries)
    return replace(settled, seconds=round(time.monotonic() - began, 3))


def record(decision: Decision, out: Path) -> StageOutcome:
    """Write decision.json and decision.parquet (contract Decisions)."""
    write_decision(decision, out)
    write_table(decision, out)
    figures = {"promoted": float(decision.verdict == "promoted")}
    for one in decision.comparisons[:1]:
        figures |= {one.metric: one.challenger, "gain": one.gain}
    if decision.budget is not None:
        figures |= {"level": decision.budget.level, "spent": decision.budget.spent}
    notes = {"name": decision.name, "verdict": decision.verdict, "why": decision.why}
    return StageOutcome(Ledger(rows_out=len(decision.comparisons)), (check_table("Decisions", out / TABLE),), figures, notes)


def _decision(config: Contest, fingerprint: str, rival: Rival | None, verdict: Verdict, why: str) -> Decision:
    """Without figures yet."""
    against = ("", "", "") if rival is None else (f"champion, version {rival.version}", rival.version, rival.fingerprint)
    return Decision(config.name, fingerprint, *against, verdict, why, datetime.now(UTC).isoformat(timespec="seconds"), 0.0)


def _without_comparing(
    config: Contest, model: PretrainedModel | FinetunedModel, rival: Rival | None, entries: Sequence[Entry]
) -> Decision | None:
    """What is settled by the recipe's word, or was decided before."""
    if config.promote != "better":
        verdict = "promoted" if config.promote == "always" else "refused"
        why = f"the recipe says promote: {config.promote}; nothing was compared"
        return replace(_decision(config, model.fingerprint, rival, verdict, why), is_order=True)
    entry = decision_on(entries, model.fingerprint)
    if entry is not None and entry.kind in DECIDED:
        why = f"decided on before, as entry {entry.number} of the history ({entry.at}): {entry.why}"
        return replace(_decision(config, model.fingerprint, rival, entry.kind, why), earlier=True)
    if rival is not None and rival.fingerprint == model.fingerprint:
        return _decision(config, model.fingerprint, rival, "refused", f"it is the champion already, version {rival.version}")
    return None


def _weigh(
    config: Contest,
    challenger: Challenger,
    asking: Asking,
    conditions: tuple[Condition, ...],
    leaks: Leaks | None,
    entries: Sequence[Entry],
) -> Decision:
    """By conditions, the deciding figure and the guards, in this order; what fails a condition is not scored."""
    start = replace(_decision(config, challenger.artifact.fingerprint, asking.rival, "refused", ""), conditions=conditions)
    failed = [one for one in conditions if not one.passed]
    if failed:
        return replace(start, why="; ".join(f"condition failed: {one.name}: {one.found}" for one in failed))
    try:
        found = _deciding(config, challenger, asking)
        if isinstance(found, str):
            return replace(start, verdict="cannot tell", why=found)
        match, others, against = found
        start = replace(start, rival=against)
        if leaks is not None and leaks.all:
            match = match.among(lambda item: item.item not in leaks.all)
        return _judge_match(config.gate, start, match, others, challenger, asking, entries)
    except Unscorable as error:
        return replace(start, why=f"the champion cannot be scored: {error}")


def _judge_match(
    config: GateConfig,
    start: Decision,
    match: Match,
    others: Sequence[tuple[ItemFigures, ItemFigures]],
    challenger: Challenger,
    asking: Asking,
    entries: Sequence[Entry],
) -> Decision:
    """The verdict on figures of the same items."""
    clusters = len({item.cluster or item.item for item in match.items})
    if clusters < config.min_items:
        what = f"{len(match.items):,} items" + ("" if clusters == len(match.items) else f" of {clusters:,} groups")
        why = f"{match.label} has {what} to judge on, the gate needs {config.min_items:,} (gate.min_items)"
        return replace(start, verdict="cannot tell", why=why)
    budget = error_budget(entries, 1 - config.confidence)
    deciding = compared(match, "deciding", config, budget.level, config.margin)
    guards = guard_rows(config, challenger, asking)
    better, worse = best_and_worst(match)
    verdict, why = judge_rows(deciding, guards, start.rival)
    return replace(
        start,
        verdict=verdict,
        why=why,
        comparisons=(deciding, *guards, *base_rows(config, challenger, asking)),
        budget=budget,
        better=better,
        worse=worse,
        parts=parts(match, others),
    )


def judge_rows(deciding: Comparison, guards: Sequence[Comparison], against: str) -> tuple[Verdict, str]:
    """The verdict on measured rows, and why in a sentence."""
    found = f"{deciding.metric} {deciding.challenger:.4f} against {deciding.rival:.4f} of the {against} on {deciding.items:,} items"
    broken = [f"{one.task}: {one.metric} {one.reason}" for one in guards if not one.passed]
    unknown = [f"{one.task} {one.reason}" for one in guards if one.reason.startswith("not measured")]
    why = "; ".join([*(f"guard {told}" for told in broken), f"{deciding.reason} ({found})", *unknown])
    if broken:
        return "refused", why
    if deciding.passed:
        return "promoted", why
    return "refused" if deciding.gain <= deciding.margin else "cannot tell", why


Found = tuple[Match, list[tuple[ItemFigures, ItemFigures]], str]  # the deciding match, parts of its figure, whom it is held against


def _deciding(config: Contest, challenger: Challenger, asking: Asking) -> Found | str:
    """On the examples that the challenger was tuned for, or on both models' held-out text; why not, where there is nothing to ask."""
    examples = challenger.examples
    metric = config.metric or (None if examples is None else deciding_metric(examples))
    assert metric is not None, "a contest of pretrained models names its figure"
    if asking.rival is None:
        task = None if examples is None else read_examples(examples, "heldout").kind.name
        return _against_baseline(challenger, metric, task)
    if examples is None:
        return _of_documents(config.gate, challenger, asking, metric)
    return _of_examples(challenger, examples, asking, metric)


def _own(challenger: Challenger, metric: str, task: str | None) -> ItemFigures:
    mine = challenger.scores.figure(metric, task)
    if mine is None:
        raise UserError(
            f"gate: the suite measured no {metric}{'' if task is None else f' of {task}'}, only: {challenger.scores.known()}. "
            "Fix: add its task to evaluate.tasks."
        )
    return mine


def _against_baseline(challenger: Challenger, metric: str, task: str | None) -> Found | str:
    """The first of its name must beat the best of the trivial ones."""
    mine, sheet = _own(challenger, metric, task), challenger.scores
    baselines = [one for one in sheet.figures if one.model != OWN and (one.task, one.metric) == (mine.task, metric)]
    if not baselines:
        return f"there is no champion, and no baseline's {metric} to beat"
    best = (min if lower_is_better(metric) else max)(baselines, key=value_of)
    label = challenger.learned or "held-out text"
    return Match(label, sheet.asked(mine), mine, best), [], f"baseline: {best.model}"


def _of_examples(challenger: Challenger, examples: Path, asking: Asking, metric: str) -> Found:
    """The challenger's own scores, and the champion's on the same items; both anew where a suite's seed chose others."""
    task = read_examples(examples, "heldout").kind.name
    sheet, mine = challenger.scores, _own(challenger, metric, task)
    asked = Asked(challenger.learned, sum(one == task for one, _ in sheet.items), examples=examples)
    answers = asking.of_rival(asked)
    theirs = answers.figure(metric, task)
    if theirs is not None and theirs.items != mine.items:
        sheet = asking.of_challenger(asked)
        mine = sheet.figure(metric, task) or mine
    return _matched(challenger.learned, sheet, mine, answers, asking)


def _of_documents(gate: GateConfig, challenger: Challenger, asking: Asking, metric: str) -> Found | str:
    """Both judged anew, on the held-out text of the one and of the other."""
    assert asking.rival is not None
    memories = (challenger.memory, asking.rival.memory)
    documents = _joined([one.validation for one in memories if one is not None and one.validation is not None], asking.out)
    if documents is None:
        return "no held-out text travels with the challenger or the champion, so there is nothing to judge on"
    label = "held-out text of both"
    asked = Asked(label, gate.max_items, documents=documents)
    sheet = asking.of_challenger(asked)
    mine = sheet.figure(metric)
    if mine is None:
        raise UserError(f"gate: on held-out text the challenger yields no {metric}, only: {sheet.known()}. Fix: name one of these.")
    return _matched(label, sheet, mine, asking.of_rival(asked), asking)


def _matched(label: str, sheet: Sheet, mine: ItemFigures, answers: Sheet, asking: Asking) -> Found:
    theirs = answers.figure(mine.metric, mine.task)
    if theirs is None:
        raise Unscorable(f"{label}: it yields no {mine.metric}, only: {answers.known()}")
    if mine.metric.endswith("_loss") and (mine.columns[:, 1] != theirs.columns[:, 1]).any():
        raise Unscorable(f"{label}: {mine.metric} is a mean over tokens, and its tokenizer makes others of the same text")
    assert asking.rival is not None
    match = Match(label, sheet.asked(mine), mine, theirs)
    return match, part_figures(sheet, answers, match), f"champion, version {asking.rival.version}"


def _joined(documents: Sequence[Path], out: Path) -> Path | None:
    """Each document once; the challenger's first."""
    rows: Mapping[str, dict[str, object]] = {row["id"]: row for path in documents[::-1] for row in pq.read_table(path).to_pylist()}
    if not rows:
        return None
    path = out / "documents.parquet"
    pq.write_table(pa.Table.from_pylist(list(rows.values()), pq.read_schema(documents[0])), path)
    return path


def _name_of(examples: Examples) -> str:
    """What the recipe calls them; those of a night are named in the section that they were gathered for."""
    manifest = read_manifest(examples.path)
    config = manifest.config if manifest is not None else None
    section = config.get("examples", config) if isinstance(config, dict) else None
    named = section.get("name") if isinstance(section, dict) else None
    return str(named or examples.path.name)

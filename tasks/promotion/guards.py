"""Guards: what a challenger may not be worse at than the champion, and than the base that both came from."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from model.huggingface.huggingface_config import read_folder
from tasks.errors import UserError
from tasks.examples.deciding import deciding_metric
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.rows import read_examples
from tasks.inference.task_file import ModelTask, read_task
from tasks.items import Asked
from tasks.promotion.asking import Asking, Challenger, Unscorable
from tasks.promotion.comparing import Match, Sheet, compared, not_compared, restricted
from tasks.promotion.decision import Comparison
from tasks.promotion.gate_config import GateConfig

GENERAL, GENERAL_METRIC = "general text", "bits_per_byte"


def guard_rows(gate: GateConfig, challenger: Challenger, asking: Asking) -> list[Comparison]:
    """A row for each guard, measured or with the reason why it is not. Unscorable where the champion cannot be judged."""
    return [*_general(gate, challenger, asking), *_other_tasks(gate, challenger, asking), *_suites(gate, challenger, asking)]


def _guard(gate: GateConfig, label: str, mine: Sheet, theirs: Sheet, metric: str, tolerance: float) -> Comparison:
    """One figure that both are known to have."""
    ours, rivals = mine.figure(metric), theirs.figure(metric)
    assert ours is not None
    if rivals is None:
        raise Unscorable(f"{label}: it yields no {metric}, only: {theirs.known()}")
    return compared(Match(label, mine.asked(ours), ours, rivals), "guard", gate, 1 - gate.confidence, tolerance)


def _general(gate: GateConfig, challenger: Challenger, asking: Asking) -> Iterator[Comparison]:
    """Held-out text that travels with the champion, else with the challenger; of pretrained models it is what decides."""
    tolerance = gate.general_tolerance
    if tolerance is None or challenger.examples is None:
        return
    silent = _why_silent(challenger.folder)
    if silent:
        yield not_compared(GENERAL, GENERAL_METRIC, gate, tolerance, f"not asked: {silent}")
        return
    memories = [None if asking.rival is None else asking.rival.memory, challenger.memory]
    memory = next((one for one in memories if one is not None and one.validation is not None), None)
    if memory is None:
        yield not_compared(
            GENERAL, GENERAL_METRIC, gate, tolerance, "not measured: no general text travels with the champion or the challenger"
        )
        return
    asked = Asked(GENERAL, gate.max_items, documents=memory.validation)
    mine = asking.of_challenger(asked)
    if asking.rival is not None:
        yield _guard(gate, f"{GENERAL}, against the champion", mine, asking.of_rival(asked), GENERAL_METRIC, tolerance)
    if memory.anchor is not None:
        yield _against_base(gate, mine, Sheet.read(memory.anchor), tolerance)


def _against_base(gate: GateConfig, mine: Sheet, base: Sheet, tolerance: float) -> Comparison:
    """On the items of which the base's figures are known: many nights may not lose what one may not."""
    label = f"{GENERAL}, against the base"
    ours, bases = mine.figure(GENERAL_METRIC), base.figure(GENERAL_METRIC)
    common = set() if ours is None or bases is None else set(ours.items) & set(bases.items)
    if ours is None or bases is None or not common:
        return not_compared(label, GENERAL_METRIC, gate, tolerance, "not measured: the base's figures are of other items")
    known = [item for item in ours.items if item in common]
    places = {item: row for row, item in enumerate(bases.items)}
    rows = [places[item] for item in known]
    ours = restricted(ours, common)
    bases = replace(bases, items=tuple(known), columns=bases.columns[rows], answers=tuple(bases.answers[row] for row in rows))
    return compared(Match(label, mine.asked(ours), ours, bases), "guard", gate, 1 - gate.confidence, tolerance)


def base_rows(gate: GateConfig, challenger: Challenger, asking: Asking) -> list[Comparison]:
    """The deciding figure of the base on the challenger's examples, where the recipe asks for it; it decides nothing."""
    if asking.base is None or challenger.examples is None:
        return []
    label, metric = f"{challenger.learned}, against the base", deciding_metric(challenger.examples)
    asked = Asked(challenger.learned, gate.max_items, examples=challenger.examples)
    try:
        mine, theirs = asking.of_challenger(asked), asking.of_base(asked)
    except UserError as error:
        return [replace(not_compared(label, metric, gate, 0.0, f"not measured: {error}"), role="base")]
    ours, bases = mine.figure(metric), theirs.figure(metric)
    if ours is None or bases is None:
        return [replace(not_compared(label, metric, gate, 0.0, f"not measured: the base yields only {theirs.known()}"), role="base")]
    found = compared(Match(label, mine.asked(ours), ours, bases), "guard", gate, 1 - gate.confidence, 0.0)
    return [replace(found, role="base", passed=True, reason="shown, and decides nothing")]


def _why_silent(folder: Path) -> str:
    """Why a model has no bits per byte of text; empty where it has."""
    task = read_task(folder)
    if task is not None and not task.is_chat:
        return f"a model of {task.kind} writes no text"
    head = read_folder(folder).head
    return "" if head == "language" else f"a model with the head {head!r} has no bits per byte of text"


def _other_tasks(gate: GateConfig, challenger: Challenger, asking: Asking) -> Iterator[Comparison]:
    """What the champion was tuned for beside what decides; of that, the rows that it was judged on before, where they are enough."""
    tolerance = gate.task_tolerance
    memory = None if asking.rival is None else asking.rival.memory
    if tolerance is None or memory is None:
        return
    task = read_task(challenger.folder)
    for name, folder in memory.examples.items():
        metric, held = deciding_metric(folder), read_examples(folder, "heldout")
        is_same = name == challenger.learned
        if is_same and held.table.num_rows < gate.min_items:
            continue
        if not _can_do(task, held):
            yield not_compared(name, metric, gate, tolerance, f"not asked: the challenger has no head for {held.kind.name} of these labels")
        elif held.table.num_rows == 0:
            yield not_compared(name, metric, gate, tolerance, "not measured: no held-out example travels with the champion")
        else:
            label = f"{name}, rows of before" if is_same else name
            asked = Asked(label, gate.max_items, examples=folder)
            mine = asking.of_challenger(asked)
            yield _guard(gate, label, mine, asking.of_rival(asked), metric, tolerance)


def _can_do(task: ModelTask | None, held: LabelledExamples) -> bool:
    if held.kind.writes:
        return task is None or task.is_chat
    return task is not None and task.kind == held.kind.name and set(held.kind.names(held.labels)) <= set(task.labels)


def _suites(gate: GateConfig, challenger: Challenger, asking: Asking) -> Iterator[Comparison]:
    """Whatever the recipe names."""
    for guard in gate.guards:
        label = Path(guard.suite).stem
        if asking.rival is None:
            yield not_compared(label, guard.metric, gate, guard.tolerance, "not measured: there is no champion to hold it against")
            continue
        asked = Asked(label, gate.max_items, suite=guard.suite)
        mine = asking.of_challenger(asked)
        if mine.figure(guard.metric) is None:
            raise UserError(
                f"gate.guards: the suite {guard.suite} yields no {guard.metric} of this model, but: {mine.known()}. "
                "Fix: name one of these, or add its task to the suite."
            )
        yield _guard(gate, label, mine, asking.of_rival(asked), guard.metric, guard.tolerance)

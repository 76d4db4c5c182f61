"""`wordmill compare`: any two models on the same items, by the gate's own comparison; nothing is moved."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.commands.compare_table import comparison_table
from flows.judging import judge
from tasks.artifacts import Workspace, read_manifest
from tasks.errors import UserError
from tasks.inference.saved_models import resolve_model
from tasks.items import Asked
from tasks.memory import FOLDER, Memory, memory_of
from tasks.promotion.comparing import PART, Match, Sheet, best_and_worst, compared, part_figures, parts
from tasks.promotion.decision import Comparison, Pair, Part
from tasks.promotion.gate_config import GateConfig
from tasks.report.compare_page import Compared
from tasks.scores import OWN

LEVEL = 0.025  # on either side of a gain, so that intervals are those of 95 %


def compare_models(first: str, second: str, suite: str | None, workspace: Workspace, address: str) -> Compared:
    """`first` held against `second` on a suite, or without one on all that travels with either.

    UserError where one of them cannot be had, or where there is no figure that both have.
    """
    began, at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    folders = [resolve_model(one, workspace, address) for one in (first, second)]
    comparisons, found = list[Comparison](), list[tuple[Match, tuple[Part, ...]]]()
    refused = list[str]()
    with TemporaryDirectory(prefix="wordmill-") as scratch:
        for number, asked in enumerate(what_to_ask(suite, [known_memory(folder, workspace) for folder in folders])):
            try:
                ours, theirs = (sheet_of(folder, asked, Path(scratch) / f"{number}-{who}") for who, folder in enumerate(folders))
            except UserError as error:
                refused.append(f"{asked.label}: {error}")
                continue
            for match in matches(asked.label, ours, theirs):
                comparisons.append(compared(match, "deciding", GateConfig(), LEVEL, 0.0))
                found.append((match, parts(match, part_figures(ours, theirs, match))))
    if not found:
        told = "; ".join(refused) or "nothing travels with either"
        raise UserError(f"compare: {first} and {second} have no figure in common ({told}). Fix: name a --suite that both can be asked.")
    match, its_parts = found[0]
    better, worse = best_and_worst(match)
    return Compared(
        first, second, suite or "what travels with them", at, time.monotonic() - began, tuple(comparisons), its_parts, better, worse
    )


def what_to_ask(suite: str | None, memories: list[Memory | None]) -> Iterator[Asked]:
    """The suite; without one, held-out text and examples that travel with the models, of each name those of the first that has them."""
    if suite is not None:
        yield Asked(Path(suite).stem, GateConfig().max_items, suite=suite)
        return
    known = [one for one in memories if one is not None]
    texts = next((one.validation for one in known if one.validation is not None), None)
    if texts is not None:
        yield Asked("general text", GateConfig().max_items, documents=texts)
    examples: dict[str, Path] = {name: path for one in reversed(known) for name, path in one.examples.items()}
    for name, path in sorted(examples.items()):
        yield Asked(name, GateConfig().max_items, examples=path)


def sheet_of(model: Path, asked: Asked, out: Path) -> Sheet:
    """What a model makes of it."""
    out.mkdir()
    judge(model, asked, out)
    return Sheet.read(out)


def matches(label: str, first: Sheet, second: Sheet) -> Iterator[Match]:
    """Every figure that both have, but for parts of others."""
    for ours in first.figures:
        theirs = second.figure(ours.metric, ours.task)
        if ours.model == OWN and PART not in ours.metric and theirs is not None:
            yield Match(label, first.asked(ours), ours, theirs)


def known_memory(folder: Path, workspace: Workspace) -> Memory | None:
    """What travels with the model of a folder: it lies beside a registered one; that of an artifact is an artifact of its own."""
    beside = memory_of(folder.parent)
    if beside is not None:
        return beside
    for path in sorted((workspace.root / FOLDER).glob("*/manifest.json")):
        manifest = read_manifest(path.parent)
        if manifest is not None and manifest.inputs.get("model") == folder.parent.name:
            return memory_of(path.parent)
    return None


def compared_view(found: Compared) -> str:
    """The table, its parts and a few items, for the terminal."""
    lines = [f"A: {found.first}", f"B: {found.second}", f"on: {found.suite}", "", comparison_table(found.comparisons)]
    if found.parts:
        lines += ["", *(f"{one.by} {one.part}: A {one.challenger:.4f}, B {one.rival:.4f}, {one.items:,} items" for one in found.parts)]
    for title, pairs in (("A does best", found.better), ("B does best", found.worse)):
        lines += [f"{title}: {told(one)}" for one in pairs[:1]]
    return "\n".join(lines)


def told(pair: Pair) -> str:
    """An item in a line."""
    return f"{' '.join(pair.shown.split())[:70]!r}, A {pair.challenger:.4f}, B {pair.rival:.4f}"


def compared_json(found: Compared) -> str:
    """All of it."""
    return json.dumps(asdict(found), ensure_ascii=False, indent=1)

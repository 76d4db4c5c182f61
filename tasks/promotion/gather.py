"""Gather: the examples of one night, out of rows that no night has used and what the champion remembers of the same task."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from tasks.artifacts import PretrainedModel
from tasks.contracts import check_rows, check_table
from tasks.documents import MATCHES, TableWriter, example_text
from tasks.examples.examples import (
    Sides,
    keep_equal,
    label_story,
    leak_key,
    place_of,
    reject_if,
    split_examples,
    write_examples,
    write_rejects,
)
from tasks.examples.kinds.kind import Example, Kind
from tasks.examples.kinds.table import AnyExamples, kind_named
from tasks.examples.label_values import sorted_labels
from tasks.examples.rows import read_examples, stored_examples
from tasks.inference.task_file import read_task
from tasks.ledger import Ledger, Receipt, StageOutcome
from tasks.memory import Memory, memory_of
from tasks.promotion.drift import Drift, DriftConfig, Sample, measure_drift, write_drift
from tasks.promotion.held_out_text import Match, find_held_out
from tasks.promotion.new_rows import NightVerdict, SetNews, read_chosen, rejected_id
from tasks.promotion.remember import lowest_rows
from tasks.settings import Placement, Section

REPLAY_FILE = "replay.parquet"
REPLAY_ROWS = 5_000
ENDS = "ends"  # note: the verdict of a night that has nothing to train on
WHY = "why"  # note: in words

logger = logging.getLogger("wordmill")


class GatherConfig(Section):
    """Which rows a night takes, and what it sets beside them."""

    stage: ClassVar[str] = "gather"
    revision: Literal[1] = 1
    examples: AnyExamples
    ids: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of the chosen rows' ids")
    chosen: Annotated[str, Placement()] = Field(min_length=1, description="file of those ids")
    replay_rows: int = Field(
        default=REPLAY_ROWS, ge=0, description="examples that the champion learned, at most, to be learned again; 0: none"
    )
    drift: DriftConfig = DriftConfig()


def gathering(examples: AnyExamples, news: SetNews, chosen: Path, replay: float, drift: DriftConfig) -> GatherConfig:
    """The stage's config for what `look_for_new` found of one set."""
    rows = REPLAY_ROWS if replay else 0
    return GatherConfig(examples=examples, ids=news.digest, chosen=str(chosen), replay_rows=rows, drift=drift)


@dataclass(frozen=True)
class Remembered:
    """What a champion remembers of one task; nothing, where it never learned it."""

    labels: tuple[str, ...]
    train: tuple[Example, ...] = ()
    heldout: tuple[Example, ...] = ()

    @classmethod
    def of(cls, champion: Path, memory: Memory | None, kind: Kind, name: str) -> "Remembered":
        """Labels are those of the model itself, where it is of that kind and knows all that it remembers."""
        task = read_task(champion / "model")
        own = task.labels if task is not None and task.kind == kind.name and kind.labels is not None else ()
        folder = None if memory is None else memory.examples.get(name)
        if folder is None or (train := read_examples(folder, "train")).kind is not kind:
            return cls(own)
        labels = own if set(train.labels) <= set(own) else train.labels
        return cls(labels, tuple(stored_examples(train)), tuple(stored_examples(read_examples(folder, "heldout"))))


def gather_examples(config: GatherConfig, champion: PretrainedModel, out: Path) -> StageOutcome:
    """Writes what `prepare_examples` writes, of the chosen rows alone, and replay.parquet, matches.parquet, drift.json.

    `heldout.parquet` holds what the champion remembers as held out, and the chosen rows of that side. Where nothing is to be
    learned the notes say which verdict ends the night (`ends`) and why (`why`).
    """
    kind = kind_named(config.examples.kind, place_of(config.examples))
    chosen, memory = read_chosen(Path(config.chosen), config.ids), memory_of(champion.path)
    before = Remembered.of(champion.path, memory, kind, config.examples.name)
    sides = _chosen_sides(config, kind, chosen)
    gone = len(chosen) - len(sides.train) - len(sides.heldout) - len(sides.rejected)
    matches = _set_aside(kind, sides, before, memory)
    names = _label_names(kind, sides, before)
    drift = measure_drift(config.drift, _sample(kind, [*sides.train, *sides.heldout]), _sample(kind, before.train))
    new_heldout = len(sides.heldout)
    heldout = _with_remembered(kind, sides.heldout, before.heldout, sides.train)
    replayed = _replayed(config, kind, before.train, [*sides.train, *heldout])
    _write(config, kind, out, sides, heldout, replayed, names, matches, drift)
    dropped = Counter(one.reason for one in sides.rejected) + Counter({"gone": gone})
    kept = len(sides.train) + new_heldout
    notes = label_story(kind, names, sides) | {"drift": drift.why}
    if known := len({one.id for one in before.train} & {one.id for one in sides.train}):
        notes["learned_before"] = f"{known:,} of {len(sides.train):,} rows to learn from are among those that the champion has learned"
    notes |= _ending(kind, sides, heldout, names, drift, dropped)
    logger.info("%s: %s", place_of(config.examples), "; ".join(f"{name.replace('_', ' ')}: {told}" for name, told in notes.items()))
    figures = {
        "train_examples": len(sides.train),
        "heldout_examples": len(heldout),
        "new_heldout_examples": new_heldout,
        "replay_examples": len(replayed),
        "set_aside": dropped.total(),
        "labels": len(names),
        **{f"drift.{one.of}": one.index for one in drift.figures},
    }
    return StageOutcome(
        Ledger(rows_in=kept + dropped.total(), rows_out=kept, dropped=dict(sorted(dropped.items()))),
        _receipts(kind, names, out),
        figures,
        notes,
    )


def _chosen_sides(config: GatherConfig, kind: Kind, chosen: frozenset[str]) -> Sides:
    """The chosen rows, on the sides that the recipe's split gives them."""
    sides = keep_equal(kind.equal, split_examples(config.examples, kind))
    sides.train = [one for one in sides.train if one.id in chosen]
    sides.heldout = [one for one in sides.heldout if one.id in chosen]
    rejected = {rejected_id(one): one for one in sides.rejected}
    sides.rejected = [one for id_, one in rejected.items() if id_ in chosen]
    sides.structure.clear()
    return sides


def _set_aside(kind: Kind, sides: Sides, before: Remembered, memory: Memory | None) -> list[dict[str, object]]:
    """Takes out rows to learn from that hold text that models are judged on, and rows to judge on that the champion has learned.

    And those of another number (of choices) than the champion's. Returns the evidence, as rows of MATCHES.
    """
    if kind.equal is not None and before.train:
        equal, usual = kind.equal, kind.equal.count(before.train[0].values)
        for side in (sides.train, sides.heldout):
            side[:] = [one for one in side if not reject_if(equal.count(one.values) != usual, one, equal.reason, sides.rejected)]
    learned = {leak_key(kind, one) for one in before.train}
    sides.heldout = [one for one in sides.heldout if not reject_if(leak_key(kind, one) in learned, one, "learned_before", sides.rejected)]
    judged = _judged_texts(memory) | {f"examples/{one.id}": example_text(one.values) for one in sides.heldout}
    found = find_held_out([example_text(one.values) for one in sides.train], judged)
    held = {leak_key(kind, one): one for one in before.heldout}
    kept: list[Example] = []
    evidence: list[dict[str, object]] = []
    for number, one in enumerate(sides.train):
        match, twin = found.get(number), held.get(leak_key(kind, one))
        if match is None and twin is not None:
            match = Match(f"examples/{twin.id}", "held_out_text", example_text(twin.values), 1, 1.0, 1.0)
        if match is None:
            kept.append(one)
            continue
        reject_if(True, one, match.reason, sides.rejected)
        shares = {"item_share": match.item_share, "document_share": match.row_share}
        evidence.append({"id": one.id, "item": match.item, "text": match.text, "units": match.units, **shares, "action": "drop"})
    sides.train = kept
    return evidence


def _judged_texts(memory: Memory | None) -> dict[str, str]:
    """Held-out examples of all tasks, and general held-out text, by name."""
    if memory is None:
        return {}
    texts = dict[str, str]()
    for folder in memory.examples.values():
        texts |= {f"examples/{row['id']}": example_text(row) for row in pq.read_table(folder / "heldout.parquet").to_pylist()}
    if memory.validation is not None:
        texts |= {f"validation/{row['id']}": row["text"] for row in pq.read_table(memory.validation, columns=["id", "text"]).to_pylist()}
    return texts


def _label_names(kind: Kind, sides: Sides, before: Remembered) -> list[str]:
    """The champion's labels in their order, then those that are new; held-out rows with a label that nothing teaches are dropped.

    Of a champion that remembers no such examples the labels count where the new rows have one of them: else they are of another task.
    """
    labels = kind.labels
    if labels is None:
        return []
    found = {label for one in sides.train for label in labels(one.values)}
    known = before.labels if before.train or found.intersection(before.labels) else ()
    names = [*known, *sorted_labels(found - set(known))]
    taught = set(names)
    sides.unseen.update(label for one in sides.heldout for label in set(labels(one.values)) - taught)
    sides.heldout = [
        one for one in sides.heldout if not reject_if(not taught.issuperset(labels(one.values)), one, "unseen_label", sides.rejected)
    ]
    return names


def _sample(kind: Kind, rows: Sequence[Example]) -> Sample:
    """What drift is measured of."""
    texts, labels = [example_text(one.values) for one in rows], kind.labels
    values = [one.values[kind.output] for one in rows] if kind.output in kind.columns else None
    return Sample(
        texts,
        None if labels is None else [labels(one.values) for one in rows],
        None if values is None else [value for value in values if isinstance(value, int | float)],
    )


def _with_remembered(kind: Kind, new: Sequence[Example], before: Sequence[Example], train: Sequence[Example]) -> list[Example]:
    """New rows first, then those remembered whose question is neither among them nor learned from now."""
    taken = {leak_key(kind, one) for one in (*new, *train)}
    return [*new, *(one for one in before if leak_key(kind, one) not in taken)]


def _replayed(config: GatherConfig, kind: Kind, before: Sequence[Example], now: Sequence[Example]) -> list[Example]:
    """A sample, another one each night, of what was learned; not of questions that are answered anew or judged on."""
    asked = {one.question for one in now}
    rows = {one.id: one for one in before if one.question not in asked}
    ids = lowest_rows(pa.table({"id": pa.array(list(rows), pa.string())}), config.replay_rows, int(config.ids[:12], 16))
    return [rows[one] for one in ids["id"].to_pylist()]


def _ending(
    kind: Kind, sides: Sides, heldout: Sequence[Example], names: Sequence[str], drift: Drift, dropped: Mapping[str, int]
) -> dict[str, str]:
    """Notes on a night that has nothing to train on; empty for one that has."""
    total = len(sides.train) + len(sides.heldout) + sum(dropped.values())
    verdict: NightVerdict = "nothing to learn from"
    aside = ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items(), key=lambda one: (-one[1], one[0])) if count)
    if not sides.train:
        rest = f"{len(sides.heldout):,} to be judged on" if sides.heldout else "all set aside"
        return {ENDS: verdict, WHY: f"nothing to learn from: {total:,} new rows, {rest}{': ' if aside else ''}{aside}"}
    if kind.labels is not None and len(names) < 2:
        return {ENDS: verdict, WHY: f"nothing to learn from: {total:,} new rows with one label, {', '.join(names)}, and none known before"}
    if not heldout:
        verdict = "cannot tell"
        return {ENDS: verdict, WHY: f"cannot tell: of {total:,} new rows none is held out, and the champion remembers none to judge on"}
    if drift.stops:
        verdict = "drift"
        return {ENDS: verdict, WHY: f"stopped: {drift.why}. Fix: look at the new rows; to learn from them, set night.drift.stop to false"}
    return {}


def _write(
    config: GatherConfig,
    kind: Kind,
    out: Path,
    sides: Sides,
    heldout: Sequence[Example],
    replayed: Sequence[Example],
    names: Sequence[str],
    matches: Sequence[dict[str, object]],
    drift: Drift,
) -> None:
    for name, rows in (("train.parquet", sides.train), ("heldout.parquet", heldout), (REPLAY_FILE, replayed)):
        write_examples(kind.columns, rows, out / name)
    write_rejects(config.examples, sides.rejected, out / "rejects.parquet")
    with TableWriter(out / "matches.parquet", MATCHES) as file:
        file.write(pa.RecordBatch.from_pylist(list(matches), MATCHES))
    (out / "labels.json").write_text(json.dumps(list(names), ensure_ascii=False) + "\n", encoding="utf-8")
    write_drift(drift, out)


def _receipts(kind: Kind, names: Sequence[str], out: Path) -> tuple[Receipt, ...]:
    contract = kind.contract(names or None)
    tables = [check_rows(contract, out / name) for name in ("train.parquet", "heldout.parquet", REPLAY_FILE)]
    return (*tables, check_table("Dropped", out / "rejects.parquet"), check_table("Matches", out / "matches.parquet"))

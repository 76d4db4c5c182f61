"""Promotion decision: what was compared, by how much the challenger is better, under which rule, and the verdict."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import TypeAdapter

from tasks.documents import TableWriter

FILE, TABLE = "decision.json", "decision.parquet"
FIGURES = ("challenger", "rival", "gain", "low", "high", "level")  # null where nothing was compared
DECISIONS = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("name", "fingerprint", "against", "verdict", "role", "task", "metric")]
    + [pa.field(name, pa.int64(), nullable=False) for name in ("items", "clusters")]
    + [pa.field(name, pa.float64()) for name in (*FIGURES, "p", "margin")]
    + [pa.field("method", pa.string(), nullable=False), pa.field("passed", pa.bool_(), nullable=False)]
    + [pa.field("reason", pa.large_string(), nullable=False)]
)
Verdict = Literal["promoted", "refused", "cannot tell"]
Role = Literal["deciding", "guard", "base"]  # base: the model that a fine-tuning started from, shown beside


@dataclass(frozen=True)
class Comparison:
    """One figure of both models on the same items. `gain` is positive where the challenger is better, whatever the figure."""

    role: Role
    task: str  # as people read it: areas; general text; quick
    metric: str
    items: int
    clusters: int  # documents or groups that were drawn
    challenger: float
    rival: float
    gain: float
    low: float  # of the gain, one-sided at `level`; high likewise
    high: float
    level: float  # chance of error that this comparison was allowed
    p: float | None  # of no better than the margin; None for a guard
    margin: float  # the gain must be above it (deciding), or not below minus it (guard)
    method: str  # paired bootstrap, 10,000 draws of 48 documents
    passed: bool
    reason: str  # in words; why there is no figure where n is 0


@dataclass(frozen=True)
class Condition:
    """What must hold beside the figures: the artifact is whole, its round trip, its contamination check."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Budget:
    """The share of promotions under a name that luck alone may account for, and what of it this decision was given."""

    rate: float
    number: int  # of this decision under the name, from 1
    promotions: int  # before it
    level: float  # error that this decision may make
    spent: float  # by all decisions so far, this one included


@dataclass(frozen=True)
class Pair:
    """An item that both models were asked, with what they made of it."""

    task: str
    metric: str
    item: str
    source: str
    language: str
    shown: str
    expected: str
    challenger: float
    rival: float
    gain: float
    challenger_answer: str
    rival_answer: str


@dataclass(frozen=True)
class Part:
    """The deciding figure over a part of the items: a source, a language, a kind of byte."""

    by: str  # source, language, kind of byte
    part: str
    items: int
    challenger: float
    rival: float
    gain: float


@dataclass(frozen=True)
class Decision:
    """Everything that a person needs to check a promotion, or its refusal."""

    name: str  # in the registry
    challenger: str  # fingerprint of its artifact
    rival: str  # "champion, version 3"; "baseline: majority"; "" where there was none to compare with
    rival_version: str  # "" for a baseline
    rival_fingerprint: str
    verdict: Verdict
    why: str  # one sentence
    decided: str  # ISO 8601, UTC
    seconds: float
    comparisons: tuple[Comparison, ...] = ()
    conditions: tuple[Condition, ...] = ()
    budget: Budget | None = None
    better: tuple[Pair, ...] = ()  # by the deciding figure, largest gain first
    worse: tuple[Pair, ...] = ()  # largest loss first
    parts: tuple[Part, ...] = ()
    is_order: bool = False  # the recipe's own word, without a comparison
    earlier: bool = False  # the same model was decided on before, and is not again


def write_decision(decision: Decision, folder: Path) -> None:
    """decision.json."""
    text = TypeAdapter(Decision).dump_json(decision, indent=1).decode()
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def write_table(decision: Decision, folder: Path) -> None:
    """decision.parquet (contract Decisions): a row for each comparison and each condition."""
    shared = {"name": decision.name, "fingerprint": decision.challenger, "against": decision.rival, "verdict": decision.verdict}
    rows = [
        {
            **shared,
            **{
                name: getattr(one, name) for name in ("role", "task", "metric", "items", "clusters", "margin", "method", "passed", "reason")
            },
            **({name: getattr(one, name) for name in (*FIGURES, "p")} if one.items else {}),
        }
        for one in decision.comparisons
    ]
    empty = {"metric": "", "items": 0, "clusters": 0, "method": ""}
    rows += [
        {**shared, "role": "condition", "task": one.name, **empty, "passed": one.passed, "reason": one.found} for one in decision.conditions
    ]
    with TableWriter(folder / TABLE, DECISIONS) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, DECISIONS))


def read_decision(folder: Path) -> Decision:
    """What `write_decision` wrote."""
    return TypeAdapter(Decision).validate_python(json.loads((folder / FILE).read_text(encoding="utf-8")))

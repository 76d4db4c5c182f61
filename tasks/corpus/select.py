"""Select: rules over the statistics of the documents decide which are kept. No text is read, so new thresholds take seconds.

The first rule that a document breaks, in the order of the presets and then of the recipe, is its reason.
"""

import difflib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator, model_validator

from tasks.artifacts import AnnotatedCorpus, file_digest
from tasks.contracts import check_table
from tasks.documents import VERDICTS
from tasks.errors import UserError
from tasks.executor.filetasks import FileTasks
from tasks.executor.parts import combined, gather
from tasks.executor.tables import TableWork, tables_of
from tasks.kernels.statistics_columns import COLUMNS
from tasks.ledger import Ledger, StageOutcome
from tasks.settings import Json, Section, identity

DEFAULT_RULES = "default_rules"  # the note that a rule which nobody asked for dropped much
TOLD_SHARE = 0.1  # of the documents
PRESETS = Path(__file__).parent / "presets"


class Rule(Section):
    """Bounds of one statistic, both inclusive. A null statistic breaks no rule."""

    column: str = Field(description="a column of the statistics; docs/corpus.md lists them")
    min: float | None = Field(default=None, description="smallest value kept; 0 is a bound like any other")
    max: float | None = Field(default=None, description="largest value kept")
    languages: list[str] | None = Field(default=None, min_length=1, description="documents it looks at; null: all")
    sources: list[str] | None = Field(default=None, min_length=1, description="the same by source; null: all")
    name: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]*$", description="the reason shown; null: min_ or max_ and the column")

    @field_validator("column")
    @classmethod
    def _is_known(cls, column: str) -> str:
        if column not in COLUMNS:
            near = difflib.get_close_matches(column, COLUMNS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(COLUMNS)}"
            raise ValueError(f"no statistic is called {column!r}; {hint}")
        return column

    @model_validator(mode="after")
    def _has_bounds(self) -> "Rule":
        if self.min is None and self.max is None:
            raise ValueError(f"the rule on {self.column} has neither min nor max; give one, or leave the rule out")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"{self.column}: min ({self.min:g}) is above max ({self.max:g}): nothing would be left")
        return self

    def reason(self, side: Literal["min", "max"]) -> str:
        """What a document that breaks this bound is dropped for."""
        if self.name is None:
            return f"{side}_{self.column}"
        return self.name if self.min is None or self.max is None else f"{self.name}_{side}"


class Preset(Section):
    """A published set of rules."""

    name: str
    source: str = Field(description="paper or code the thresholds come from")
    rules: list[Rule] = Field(min_length=1)


PresetName = Literal["basic", "gopher", "c4", "fineweb", "fineweb2-zh", "classic"]


class SelectConfig(Section):
    """Which documents are kept."""

    stage: ClassVar[str] = "select"
    revision: Literal[1] = 1
    languages: list[str] | None = Field(default=None, min_length=1, description="those kept; null: all")
    presets: list[PresetName] = Field(default=["basic"], description="sets of rules in tasks/corpus/presets, in this order")
    rules: list[Rule] = Field(default=[], description="one with the reason of an earlier rule takes its place")
    off: list[str] = Field(default=[], description="reasons of rules that are left out")

    @model_validator(mode="after")
    def _switches_exist(self) -> "SelectConfig":
        known = {bound.reason for bound in bounds_of(self.presets, self.rules)} if self.off else set[str]()
        for reason in self.off:
            if reason not in known:
                near = difflib.get_close_matches(reason, known, 1)
                hint = f"did you mean {near[0]}?" if near else f"rules: {', '.join(sorted(known))}"
                raise ValueError(f"off: no rule is called {reason!r}; {hint}")
        return self


@dataclass(frozen=True)
class Bound:
    """One side of a rule."""

    reason: str
    rule: Rule
    is_minimum: bool
    threshold: float


@cache
def read_preset(name: str) -> Preset:
    """A preset of tasks/corpus/presets."""
    import yaml

    return Preset.model_validate(yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8")))


def bounds_of(presets: list[PresetName], rules: list[Rule]) -> list[Bound]:
    """Every bound in order; a later one with the same reason replaces the earlier one where that stands."""
    bounds: dict[str, Bound] = {}
    for rule in [rule for name in presets for rule in read_preset(name).rules] + rules:
        if rule.min is not None:
            bounds[rule.reason("min")] = Bound(rule.reason("min"), rule, True, rule.min)
        if rule.max is not None:
            bounds[rule.reason("max")] = Bound(rule.reason("max"), rule, False, rule.max)
    return list(bounds.values())


def preset_digests(config: SelectConfig) -> dict[str, str]:
    """What the presets say, so that a changed preset is a changed input."""
    return {f"preset {name}": file_digest(PRESETS / f"{name}.yaml") for name in config.presets}


@dataclass(frozen=True)
class Judged:
    """Per document: the reason to drop it, or None, and the figure behind it."""

    reasons: npt.NDArray[np.object_]
    values: npt.NDArray[np.float64]

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Which documents no rule dropped."""
        return np.array([reason is None for reason in self.reasons], dtype=np.bool_)


def judge(config: SelectConfig, statistics: pa.Table) -> Judged:
    """Applies the rules to a table of statistics."""
    rows = statistics.num_rows
    judged = Judged(np.full(rows, None, dtype=object), np.full(rows, np.nan))
    languages = np.array(statistics["language"].to_pylist(), dtype=object)
    sources = np.array(statistics["source"].to_pylist(), dtype=object)
    _drop(judged, _column(statistics, "chars") == 0, "empty", np.zeros(rows))
    if config.languages is not None:
        _drop(judged, ~np.isin(languages, config.languages), "languages", np.full(rows, np.nan))
    for bound in bounds_of(config.presets, config.rules):
        if bound.reason in config.off:
            continue
        values = _column(statistics, bound.rule.column)
        threshold = bound.threshold
        if pa.types.is_float32(statistics.schema.field(bound.rule.column).type):
            threshold = float(np.float32(threshold))  # 0.3 in 32 bits is above 0.3 in 64: both are rounded alike
        broken = values < threshold if bound.is_minimum else values > threshold
        if bound.rule.languages is not None:
            broken &= np.isin(languages, bound.rule.languages)
        if bound.rule.sources is not None:
            broken &= np.isin(sources, bound.rule.sources)
        _drop(judged, broken, bound.reason, values)
    return judged


def _column(statistics: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """A statistic as numbers; nulls are NaN, which no comparison holds for."""
    return statistics[name].cast(pa.float64()).to_numpy()


def _drop(judged: Judged, broken: npt.NDArray[np.bool_], reason: str, values: npt.NDArray[np.float64]) -> None:
    new = broken & judged.kept
    judged.reasons[new] = reason
    judged.values[new] = values[new]


@dataclass(frozen=True)
class SelectWork(TableWork):
    """The statistics of one document table, and the rules."""

    config: SelectConfig
    presets: dict[str, str]

    def identity(self) -> dict[str, Json]:
        return {"statistics": self.table.digest, "rules": identity(self.config), "presets": identity(self.presets)}


def select_table(work: SelectWork, out: Path) -> StageOutcome:
    """One table's verdicts: `verdicts-000.parquet`, a row for each document in its order."""
    columns = {bound.rule.column for bound in bounds_of(work.config.presets, work.config.rules)} | {"chars", "bytes"}
    table = pq.read_table(work.table.path, columns=["id", "language", "source", *sorted(columns)])
    judged = judge(work.config, table)
    return write_verdicts(table, judged, out)


def write_verdicts(table: pa.Table, judged: Judged, out: Path) -> StageOutcome:
    """Writes the verdicts and counts them."""
    kept = judged.kept
    sizes = table["bytes"].to_numpy()
    verdicts = pa.table(
        [
            table["id"],
            pa.array(kept),
            pa.nulls(len(kept), pa.string()),
            pa.array([None if stays else "select" for stays in kept], pa.string()),
            pa.array(judged.reasons, pa.string()),
            pa.array(judged.values, pa.float64(), from_pandas=True),
        ],
        schema=VERDICTS,
    )
    path = out / "verdicts-000.parquet"
    pq.write_table(verdicts, path, compression="zstd")
    reasons = sorted({reason for reason in judged.reasons if reason is not None})
    masks = {reason: np.equal(judged.reasons, reason) for reason in reasons}
    ledger = Ledger(
        rows_in=len(kept),
        rows_out=int(kept.sum()),
        bytes_in=int(sizes.sum()),
        bytes_out=int(sizes[kept].sum()),
        dropped={reason: int(mask.sum()) for reason, mask in masks.items()},
        dropped_bytes={reason: int(sizes[mask].sum()) for reason, mask in masks.items()},
    )
    return StageOutcome(ledger, (check_table("Verdicts", path),))


def select_documents(config: SelectConfig, clean: AnnotatedCorpus, out: Path, files: FileTasks) -> StageOutcome:
    """Verdicts over the annotated documents: `verdicts-*.parquet`, one for each of its tables."""
    presets = preset_digests(config)
    works = [SelectWork(table, config, presets) for table in tables_of(clean, "statistics-*.parquet")]
    parts = files.run("select", config.revision, select_table, works)
    gather(parts, ["verdicts-*.parquet"], out)
    outcome = combined(parts)
    _check_some_left(config, outcome.ledger)
    told = told_defaults(config, outcome.ledger)
    return replace(outcome, notes={DEFAULT_RULES: told}) if told else outcome


def told_defaults(config: SelectConfig, ledger: Ledger) -> str:
    """A sentence on the rules that nobody asked for and that dropped more than a tenth; empty where there is none."""
    if "presets" in config.model_fields_set:
        return ""
    own = {bound.reason for bound in bounds_of([], config.rules)}
    much = [
        bound
        for bound in bounds_of(config.presets, [])
        if bound.reason not in own and ledger.dropped.get(bound.reason, 0) > TOLD_SHARE * ledger.rows_in
    ]
    if not much:
        return ""
    told = [
        f"{bound.reason} ({bound.threshold:g}) dropped {ledger.dropped[bound.reason]:,} of {ledger.rows_in:,} documents "
        f"({ledger.dropped[bound.reason] / ledger.rows_in:.0%})"
        for bound in much
    ]
    return (
        f"select: by default {'; '.join(told)}. To set another bound: clean.select.rules=[{', '.join(map(_spelled, much))}]; "
        f"to leave it out: clean.select.off=[{', '.join(bound.reason for bound in much)}]; "
        "to say that it is meant: clean.select.presets=[basic]."
    )


def _spelled(bound: Bound) -> str:
    """The rule that takes a bound's place, as a recipe has it."""
    side = "min" if bound.is_minimum else "max"
    name = "" if bound.reason == f"{side}_{bound.rule.column}" else f"name: {bound.reason}, "
    return f"{{{name}column: {bound.rule.column}, {side}: …}}"


def _check_some_left(config: SelectConfig, ledger: Ledger) -> None:
    """UserError that names the rule to loosen when no document passed."""
    if ledger.rows_out:
        return
    if not ledger.dropped:
        raise UserError("select: found no documents, expected at least one. Fix: check the sources.")
    reason, count = max(ledger.dropped.items(), key=lambda entry: entry[1])
    bound = next((bound for bound in bounds_of(config.presets, config.rules) if bound.reason == reason), None)
    fix = f"add to clean.select.languages ({', '.join(config.languages or [])})"
    shown = ""
    if bound is not None:
        shown = f" ({bound.threshold:g})"
        fix = (
            f"{'lower' if bound.is_minimum else 'raise'} it with clean.select.rules=[{_spelled(bound)}], "
            f"or leave it out with clean.select.off=[{reason}]"
        )
    elif reason != "languages":
        fix = "check the sources: they hold no text"
    raise UserError(f"select: 0 of {ledger.rows_in} documents left; {reason}{shown} dropped {count} of them. Fix: {fix}.")

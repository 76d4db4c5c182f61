"""Examples: one labelled task read, checked, and split into what a model is tuned on and what it is judged on."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from model.config.targets import ExampleKind
from tasks.contracts import ContractName, check_table
from tasks.documents import DROPPED, TableWriter, stable_id
from tasks.errors import UserError
from tasks.examples.sources import (
    FIELD_KEYS,
    ConllExamples,
    Example,
    ExampleSource,
    Rejected,
    RowExamples,
    read_examples,
)
from tasks.ledger import Ledger, StageOutcome
from tasks.reading.files import digest_of, find_files
from tasks.reading.stdlib import python_digest
from tasks.sampling import HELDOUT_SEED, HELDOUT_SHARE, is_heldout, unit_hash
from tasks.settings import Section

CONTRACTS: Mapping[ExampleKind, ContractName] = {
    "instruction": "InstructionExamples",
    "classification": "ClassificationExamples",
    "multi_label": "MultiLabelExamples",
    "regression": "RegressionExamples",
    "token_labels": "TokenLabelExamples",
    "multiple_choice": "ChoiceExamples",
}
TEXT, TEXTS = pa.string(), pa.list_(pa.string())
COLUMNS: Mapping[ExampleKind, Mapping[str, pa.DataType]] = {
    "instruction": {"id": TEXT, "group": TEXT, "prompt": TEXT, "response": TEXT},
    "classification": {"id": TEXT, "group": TEXT, "text": TEXT, "label": TEXT},
    "multi_label": {"id": TEXT, "group": TEXT, "text": TEXT, "labels": TEXTS},
    "regression": {"id": TEXT, "group": TEXT, "text": TEXT, "value": pa.float64()},
    "token_labels": {"id": TEXT, "group": TEXT, "tokens": TEXTS, "labels": TEXTS},
    "multiple_choice": {"id": TEXT, "group": TEXT, "question": TEXT, "choices": TEXTS, "answer": pa.int64()},
}
LABELLED = ("classification", "multi_label", "token_labels")  # with names that answers are chosen from
WRITE_ROWS = 1_000
FIXED_KINDS: Mapping[str, ExampleKind] = {
    "python_signatures": "instruction",
    "python_areas": "classification",
    "python_token_kinds": "token_labels",
    "conll": "token_labels",
}


class ExamplesConfig(Section):
    """One labelled task."""

    stage: ClassVar[str] = "examples"
    revision: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="shown beside its scores")
    kind: ExampleKind
    source: Annotated[ExampleSource, Field(discriminator="kind")]
    heldout_share: float = Field(
        default=HELDOUT_SHARE, gt=0, lt=1, description="of the groups; without groups, of the examples"
    )
    seed: int = Field(
        default=HELDOUT_SEED,
        ge=0,
        description="of the choice by heldout_share; decontaminate.heldout_seed must be the same",
    )
    limit: int | None = Field(default=None, ge=2, description="most examples of both sides together, chosen by hash")

    @model_validator(mode="after")
    def _source_fits_kind(self) -> "ExamplesConfig":
        source = self.source
        made = FIXED_KINDS.get(source.kind, self.kind)
        if made != self.kind:
            raise ValueError(f"source {source.kind} gives {made} examples, but kind is {self.kind}; make them agree")
        if isinstance(source, RowExamples):
            allowed = {"kind", "paths", "heldout_paths", "group_field", *FIELD_KEYS[self.kind]}
            allowed |= {"delimiter", "header"} if source.kind == "csv" else set()
            idle = sorted(source.model_fields_set - allowed)
            if idle:
                raise ValueError(
                    f"source.{idle[0]} has no meaning for {self.kind} examples from {source.kind}; leave it out"
                )
            if self.kind in ("token_labels", "multi_label", "multiple_choice") and source.kind == "csv":
                raise ValueError(f"{self.kind} examples need lists, which CSV has not; use jsonl or parquet")
        return self


def example_digests(config: ExamplesConfig) -> dict[str, str]:
    """What the source holds, by file name: the identity of the input, wherever it lies."""
    source = config.source
    if not isinstance(source, RowExamples | ConllExamples):
        return {"python": python_digest()}
    digests = {f"train/{file.name}": digest_of(file) for file in find_files(_place(config), source.paths)}
    for file in find_files(_place(config), source.heldout_paths or []):
        digests[f"heldout/{file.name}"] = digest_of(file)
    return digests


def _place(config: ExamplesConfig) -> str:
    return f"examples {config.name!r}"


@dataclass
class Sides:
    """The examples of both sides in the order read, and what was left out."""

    train: list[Example] = field(default_factory=list[Example])
    heldout: list[Example] = field(default_factory=list[Example])
    rejected: list[Rejected] = field(default_factory=list[Rejected])
    over_limit: int = 0


def split_examples(config: ExamplesConfig) -> Sides:
    """Reads and splits: by files where `heldout_paths` is given, else by group, else by the question.

    A classified or tagged text that stands on both sides leaves the training side, and so does an instruction with its
    answer (signatures such as `def close(self):` recur with others). A copy on the same side is dropped.
    """
    source = config.source
    files = source if isinstance(source, RowExamples | ConllExamples) else None
    judged_on = list(files.heldout_paths or ()) if files else []
    sides = Sides()
    for found in read_examples(_place(config), config.kind, source, files.paths if files else ()):
        if isinstance(found, Rejected):
            sides.rejected.append(found)
        elif not judged_on and is_heldout(found.group or found.question, config.heldout_share, config.seed):
            sides.heldout.append(found)
        else:
            sides.train.append(found)
    for found in read_examples(_place(config), config.kind, source, judged_on) if judged_on else ():
        if isinstance(found, Rejected):
            sides.rejected.append(found)
        else:
            sides.heldout.append(found)
    sides.heldout = _without_copies(sides.heldout, sides.rejected)
    held = {_leak_key(config.kind, one) for one in sides.heldout}
    kept = [
        one
        for one in sides.train
        if not _reject_if(_leak_key(config.kind, one) in held, one, "also_held_out", sides.rejected)
    ]
    sides.train = _without_copies(kept, sides.rejected)
    return sides


def _leak_key(kind: ExampleKind, example: Example) -> str:
    return example.id if kind == "instruction" else example.question


def _reject_if(condition: bool, example: Example, reason: str, rejected: list[Rejected]) -> bool:
    if condition:
        first = next(iter(example.values.values()))
        rejected.append(
            Rejected(example.place, reason, first if isinstance(first, str) else "".join(map(str, [first])))
        )
    return condition


def _without_copies(examples: Sequence[Example], rejected: list[Rejected]) -> list[Example]:
    kept: list[Example] = []
    seen: set[str] = set()
    for example in examples:
        if not _reject_if(example.id in seen, example, "duplicate_example", rejected):
            kept.append(example)
            seen.add(example.id)
    return kept


def apply_limit(sides: Sides, limit: int | None, seed: int) -> Sides:
    """The examples with the smallest hashes, so that both sides shrink alike."""
    total = len(sides.train) + len(sides.heldout)
    if limit is None or total <= limit:
        return sides
    ranks = sorted((unit_hash(one.id, seed), one.id) for one in (*sides.train, *sides.heldout))
    last = ranks[limit - 1]

    def chosen(examples: Sequence[Example]) -> list[Example]:
        return [one for one in examples if (unit_hash(one.id, seed), one.id) <= last]

    return Sides(chosen(sides.train), chosen(sides.heldout), sides.rejected, total - limit)


def label_names(config: ExamplesConfig, sides: Sides) -> list[str]:
    """Labels of the training side, sorted; held-out examples with any other are dropped. Empty for kinds without labels."""
    if config.kind not in LABELLED:
        return []
    names = sorted({label for example in sides.train for label in example.labels})
    if len(names) < 2:
        raise UserError(
            f"{_place(config)}: found {len(names)} label ({', '.join(names) or 'none'}) in {len(sides.train)} training examples, "
            "expected two or more. Fix: name the label's field, or add examples of another label."
        )
    known = set(names)
    sides.heldout = [
        one
        for one in sides.heldout
        if not _reject_if(not known.issuperset(one.labels), one, "unseen_label", sides.rejected)
    ]
    return names


def keep_equal_choices(sides: Sides) -> Sides:
    """Models compare as many choices in every question: those with another number than most are left out."""
    counts = Counter(_choice_count(one) for one in (*sides.train, *sides.heldout))
    if len(counts) < 2:
        return sides
    usual = max(counts, key=lambda count: (counts[count], count))

    def kept(examples: Sequence[Example]) -> list[Example]:
        return [
            one
            for one in examples
            if not _reject_if(_choice_count(one) != usual, one, "other_number_of_choices", sides.rejected)
        ]

    return Sides(kept(sides.train), kept(sides.heldout), sides.rejected, sides.over_limit)


def _choice_count(example: Example) -> int:
    choices = example.values.get("choices", ())
    return 0 if isinstance(choices, float | int) else len(choices)


def _check_sides(config: ExamplesConfig, sides: Sides) -> None:
    for side, found, other in (("train", sides.train, sides.heldout), ("held-out", sides.heldout, sides.train)):
        if not found:
            reasons = Counter(one.reason for one in sides.rejected).most_common(3)
            lost = ", ".join(f"{reason} {count}" for reason, count in reasons)
            raise UserError(
                f"{_place(config)}: no {side} example ({len(other)} on the other side, refused: {lost or 'none'}), expected at "
                f"least one. Fix: change heldout_share ({config.heldout_share}) or seed ({config.seed}), raise limit, or add examples."
            )


def _write_examples(config: ExamplesConfig, examples: Sequence[Example], path: Path) -> None:
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in COLUMNS[config.kind].items()])
    with TableWriter(path, schema) as file:
        for start in range(0, len(examples), WRITE_ROWS):
            part = examples[start : start + WRITE_ROWS]
            rows = [{"id": one.id, "group": one.group or one.id, **one.values} for one in part]
            file.write(pa.RecordBatch.from_pylist(rows, schema=schema))


def _write_rejects(config: ExamplesConfig, rejected: Sequence[Rejected], path: Path) -> None:
    rows = [
        {
            "id": stable_id(config.name, one.place, str(number)),
            "text": one.evidence[:256],
            "source": config.name,
            "path": one.place,
            "language": "und",
            "bytes": len(one.evidence[:256].encode()),
            "meta": [],
            "stage": "examples",
            "reason": one.reason,
            "value": None,
        }
        for number, one in enumerate(rejected)
    ]
    with TableWriter(path, DROPPED) as file:
        file.write(pa.RecordBatch.from_pylist(rows, schema=DROPPED))


def prepare_examples(config: ExamplesConfig, out: Path) -> StageOutcome:
    """Writes `train.parquet`, `heldout.parquet`, `labels.json` and `rejects.parquet`."""
    sides = apply_limit(keep_equal_choices(split_examples(config)), config.limit, config.seed)
    _check_sides(config, sides)
    names = label_names(config, sides)
    _check_sides(config, sides)
    _write_examples(config, sides.train, out / "train.parquet")
    _write_examples(config, sides.heldout, out / "heldout.parquet")
    _write_rejects(config, sides.rejected, out / "rejects.parquet")
    (out / "labels.json").write_text(json.dumps(names, ensure_ascii=False) + "\n", encoding="utf-8")
    dropped = Counter(one.reason for one in sides.rejected)
    if sides.over_limit:
        dropped["over_limit"] = sides.over_limit
    kept = len(sides.train) + len(sides.heldout)
    receipts = [
        check_table(CONTRACTS[config.kind], out / name, names or None) for name in ("train.parquet", "heldout.parquet")
    ]
    return StageOutcome(
        ledger=Ledger(rows_in=kept + dropped.total(), rows_out=kept, dropped=dict(sorted(dropped.items()))),
        receipts=(*receipts, check_table("Dropped", out / "rejects.parquet")),
        figures={"train_examples": len(sides.train), "heldout_examples": len(sides.heldout), "labels": len(names)},
    )

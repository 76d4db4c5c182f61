"""Examples: one labelled task read, checked, and split into what a model is tuned on and what it is judged on."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from tasks.contracts import ContractName, check_table
from tasks.corpus import stable_id
from tasks.documents import DROPPED, TableWriter
from tasks.errors import UserError
from tasks.heldout import HELDOUT_SEED, HELDOUT_SHARE, is_heldout, unit_hash
from tasks.ledger import Ledger, StageOutcome
from tasks.records import Fault, Record, RecordFormat, Table, digest_of, find_files, read_records, read_text, shown, text_fault
from tasks.settings import Placement, Section
from tasks.stdlib import python_digest
from tasks.stdlib_examples import LabelledTokens, area_examples, signature_examples, token_kind_examples

TaskKind = Literal["instruction", "classification", "token_labels"]
CONTRACTS: Mapping[TaskKind, ContractName] = {
    "instruction": "InstructionExamples",
    "classification": "ClassificationExamples",
    "token_labels": "TokenLabelExamples",
}
TEXT, TEXTS = pa.string(), pa.list_(pa.string())
COLUMNS: Mapping[TaskKind, Mapping[str, pa.DataType]] = {
    "instruction": {"id": TEXT, "group": TEXT, "prompt": TEXT, "response": TEXT},
    "classification": {"id": TEXT, "group": TEXT, "text": TEXT, "label": TEXT},
    "token_labels": {"id": TEXT, "group": TEXT, "tokens": TEXTS, "labels": TEXTS},
}
FIELD_KEYS: Mapping[TaskKind, tuple[str, ...]] = {
    "instruction": ("prompt_field", "input_field", "response_field"),
    "classification": ("text_field", "label_field"),
    "token_labels": ("tokens_field", "labels_field"),
}
WRITE_ROWS = 1_000


class PythonSignatures(Section):
    """Signature of a function of the standard library -> first paragraph of its docstring. Kind: instruction."""

    kind: Literal["python_signatures"]


class PythonAreas(Section):
    """Docstring of the standard library -> area of the library. Kind: classification."""

    kind: Literal["python_areas"]


class PythonTokenKinds(Section):
    """Token of a function of the standard library -> its kind. Kind: token_labels."""

    kind: Literal["python_token_kinds"]


class ExampleFiles(Section):
    """Labelled files of the user."""

    paths: Annotated[list[str], Placement()] = Field(min_length=1, description="files, folders, globs or URLs")
    heldout_paths: Annotated[list[str] | None, Placement()] = Field(
        None, min_length=1, description="files to judge on; without them a share of `paths` is held out"
    )


class RowExamples(ExampleFiles):
    """Rows of JSON Lines, JSON, CSV (or TSV by its ending) or Parquet; only the fields of the task's kind may be set."""

    kind: Literal["jsonl", "json", "csv", "parquet"]
    delimiter: str | None = Field(None, min_length=1, max_length=1, description="CSV only; by the ending when absent")
    header: bool = Field(True, description="CSV only; without a header, fields are named 0, 1, 2")
    group_field: str | None = Field(None, description="rows of one group are never split over both sides")
    prompt_field: str = Field("prompt", min_length=1)
    input_field: str | None = Field(None, min_length=1, description="put below the prompt where it is not empty")
    response_field: str = Field("response", min_length=1)
    text_field: str = Field("text", min_length=1)
    label_field: str = Field("label", min_length=1)
    tokens_field: str = Field("tokens", min_length=1, description="a list of strings")
    labels_field: str = Field("labels", min_length=1, description="a list of labels, one a token")


class ConllExamples(ExampleFiles):
    """A token and its label a line, columns set apart by white space, a blank line after each sentence. Kind: token_labels."""

    kind: Literal["conll"]
    token_column: int = Field(0, description="counted from 0; -1 is the last")
    label_column: int = Field(-1, description="counted from 0; -1 is the last")


ExampleSource = PythonSignatures | PythonAreas | PythonTokenKinds | RowExamples | ConllExamples
FIXED_KINDS: Mapping[str, TaskKind] = {
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
    kind: TaskKind
    source: Annotated[ExampleSource, Field(discriminator="kind")]
    heldout_share: float = Field(HELDOUT_SHARE, gt=0, lt=1, description="of the groups; without groups, of the examples")
    seed: int = Field(HELDOUT_SEED, ge=0, description="of the choice by heldout_share; decontaminate.heldout_seed must be the same")
    limit: int | None = Field(None, ge=2, description="most examples of both sides together, chosen by hash")

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
                raise ValueError(f"source.{idle[0]} has no meaning for {self.kind} examples from {source.kind}; leave it out")
            if self.kind == "token_labels" and source.kind == "csv":
                raise ValueError("token_labels need lists, which CSV has not; use jsonl, parquet or conll")
        return self


@dataclass(frozen=True)
class Example:
    """A row of the table to be; `values` are its columns but for id and group."""

    group: str
    values: Mapping[str, str | Sequence[str]]
    place: str

    @cached_property
    def id(self) -> str:
        """Equal for equal examples, so that copies can be found."""
        return stable_id(*(part if isinstance(part, str) else "\x01".join(part) for part in self.values.values()))

    @cached_property
    def question(self) -> str:
        """Equal for examples that differ in their answer alone, so that they always fall on one side."""
        text = next(iter(self.values.values()))
        return stable_id(text if isinstance(text, str) else "\x01".join(text))

    @property
    def labels(self) -> Sequence[str]:
        """The label or labels; none for an instruction."""
        label = self.values.get("label")
        return [label] if isinstance(label, str) else self.values.get("labels", ())


@dataclass(frozen=True)
class Rejected:
    """What is no example, or may not be used as one: reason, and how it begins."""

    place: str
    reason: str
    evidence: str


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


def read_examples(config: ExamplesConfig, paths: Sequence[str]) -> Iterator[Example | Rejected]:
    """Everything the source holds, in a fixed order; `paths` is not used for examples of the standard library."""
    source = config.source
    match source:
        case PythonSignatures():
            for found in signature_examples():
                yield Example(found.group, {"prompt": found.text, "response": found.answer}, found.group)
        case PythonAreas():
            for found in area_examples():
                yield Example(found.group, {"text": found.text, "label": found.answer}, found.group)
        case PythonTokenKinds():
            for tokens in token_kind_examples():
                yield _token_example(tokens)
        case ConllExamples():
            for file in find_files(_place(config), paths):
                yield from _read_conll(source, file.name, read_text(file))
        case RowExamples():
            yield from _read_rows(config, source, paths)


def _token_example(found: LabelledTokens) -> Example:
    return Example(found.group, {"tokens": found.tokens, "labels": found.labels}, found.group)


def _read_conll(source: ConllExamples, name: str, lines: Iterable[str | Fault]) -> Iterator[Example | Rejected]:
    """One example a sentence. A line with too few columns, or bytes that are no UTF-8, refuse the whole sentence."""
    held: list[str] = []
    number = 0
    for number, line in enumerate(lines, 1):
        if isinstance(line, Fault):
            yield Rejected(f"{name}:{number}", line.reason, line.evidence)
        elif line.strip():
            held.append(line)
        elif held:
            yield _conll_sentence(source, f"{name}:{number - len(held)}", held)
            held = []
    if held:
        yield _conll_sentence(source, f"{name}:{number - len(held) + 1}", held)


def _conll_sentence(source: ConllExamples, place: str, lines: Sequence[str]) -> Example | Rejected:
    text = "".join(lines)
    fault = text_fault(text)
    if fault is not None:
        return Rejected(place, fault.reason, fault.evidence)
    rows = [line.split() for line in lines if not line.startswith("-DOCSTART-")]
    least = max(column + 1 if column >= 0 else -column for column in (source.token_column, source.label_column))
    if not rows or any(len(row) < max(2, least) for row in rows):
        return Rejected(place, "malformed", text[:256])
    tokens = spaced([row[source.token_column] for row in rows])
    return Example("", {"tokens": tokens, "labels": [row[source.label_column] for row in rows]}, place)


def spaced(tokens: Sequence[str]) -> list[str]:
    """Tokens with a space before each but the first, save beside wide characters, as in Chinese, and between single ones.

    So all token tables read alike: the text is the concatenation of the tokens.
    """
    if all(len(token) == 1 for token in tokens):  # tagged by character: the digits of a year are no words
        return list(tokens)
    return [
        token if place == 0 or _is_wide(token[0]) or _is_wide(tokens[place - 1][-1]) else " " + token
        for place, token in enumerate(tokens)
    ]


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _read_rows(config: ExamplesConfig, source: RowExamples, paths: Sequence[str]) -> Iterator[Example | Rejected]:
    form: RecordFormat = source.kind
    for file in find_files(_place(config), paths):
        wrong: list[Record] = []
        rows = 0
        for rows, record in enumerate(read_records(_place(config), file, form, Table(source.delimiter, source.header)), 1):
            if isinstance(record, Fault):
                yield Rejected(f"{file.name}:{rows}", record.reason, record.evidence)
                continue
            found = row_example(config.kind, source, f"{file.name}:{record.number}", record.fields)
            if isinstance(found, Rejected) and found.reason == "missing_field":
                wrong.append(record)
            yield found
        if len(wrong) * 2 > rows:
            settings = source.model_dump()
            needed = [str(settings[key]) for key in FIELD_KEYS[config.kind] if key != "input_field"]
            raise UserError(
                f"{_place(config)}: {file.url}:{wrong[0].number}: {len(wrong)} of {rows} rows lack one of "
                f"{', '.join(needed)}; this row has {', '.join(map(str, wrong[0].fields)) or 'no fields'}. "
                f"Fix: set {', '.join(FIELD_KEYS[config.kind])} to the fields of the file."
            )


def row_example(kind: TaskKind, source: RowExamples, place: str, fields: Mapping[str, object]) -> Example | Rejected:
    """The example of one row, by the fields that the source names."""
    group = fields.get(source.group_field) if source.group_field else None
    match kind:
        case "instruction":
            prompt, extra = fields.get(source.prompt_field), fields.get(source.input_field or "")
            joined = f"{prompt}\n{extra}" if isinstance(prompt, str) and isinstance(extra, str) and extra.strip() else prompt
            values = {"prompt": joined, "response": fields.get(source.response_field)}
        case "classification":
            label = fields.get(source.label_field)
            values = {"text": fields.get(source.text_field), "label": str(label) if isinstance(label, int | str) else label}
        case "token_labels":
            values = {"tokens": fields.get(source.tokens_field), "labels": fields.get(source.labels_field)}
    evidence = shown(str(dict(fields)).encode("utf-8", "replace"))
    if any(value is None for value in values.values()):
        return Rejected(place, "missing_field", evidence)
    checked = _token_values(values) if kind == "token_labels" else _text_values(values)
    return Rejected(place, checked, evidence) if isinstance(checked, str) else Example(str(group or ""), checked, place)


def _text_values(values: Mapping[str, object]) -> dict[str, str] | str:
    """The values when all are texts that can be stored, else the reason they are not."""
    kept: dict[str, str] = {}
    for name, value in values.items():
        if not isinstance(value, str):
            return "not_text"
        if not value.strip():
            return "empty_text"
        if text_fault(value) is not None:
            return "not_utf8"
        kept[name] = value.strip() if name == "label" else value
    return kept


def _token_values(values: Mapping[str, object]) -> dict[str, list[str]] | str:
    """Tokens and labels when they are lists of the same length, of texts that can be stored, else the reason."""
    tokens, labels = values["tokens"], values["labels"]
    if not isinstance(tokens, list) or not isinstance(labels, list) or len(tokens) != len(labels):
        return "uneven_labels"
    words = [str(token) for token in tokens]
    if not words or not all(words):
        return "empty_text"
    if any(text_fault(word) for word in words):
        return "not_utf8"
    return {"tokens": spaced(words), "labels": [str(label) for label in labels]}


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
    sides = Sides()
    source = config.source
    files = source if isinstance(source, RowExamples | ConllExamples) else None
    for found in read_examples(config, files.paths if files else ()):
        if isinstance(found, Rejected):
            sides.rejected.append(found)
        elif files and files.heldout_paths:
            sides.train.append(found)
        else:
            is_held = is_heldout(found.group or found.question, config.heldout_share, config.seed)
            (sides.heldout if is_held else sides.train).append(found)
    for found in read_examples(config, files.heldout_paths) if files and files.heldout_paths else ():
        sides.rejected.append(found) if isinstance(found, Rejected) else sides.heldout.append(found)
    sides.heldout = _without_copies(sides.heldout, sides.rejected)
    held = {_leak_key(config.kind, one) for one in sides.heldout}
    kept = [one for one in sides.train if not _reject_if(_leak_key(config.kind, one) in held, one, "also_held_out", sides.rejected)]
    sides.train = _without_copies(kept, sides.rejected)
    return sides


def _leak_key(kind: TaskKind, example: Example) -> str:
    return example.id if kind == "instruction" else example.question


def _reject_if(condition: bool, example: Example, reason: str, rejected: list[Rejected]) -> bool:
    if condition:
        first = next(iter(example.values.values()))
        rejected.append(Rejected(example.place, reason, first if isinstance(first, str) else "".join(first)))
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
    """Labels of the training side, sorted; held-out examples with any other are dropped. Empty for instructions."""
    if config.kind == "instruction":
        return []
    names = sorted({label for example in sides.train for label in example.labels})
    if len(names) < 2:
        raise UserError(
            f"{_place(config)}: found {len(names)} label ({', '.join(names) or 'none'}) in {len(sides.train)} training examples, "
            "expected two or more. Fix: name the label's field, or add examples of another label."
        )
    known = set(names)
    sides.heldout = [
        one for one in sides.heldout if not _reject_if(not known.issuperset(one.labels), one, "unseen_label", sides.rejected)
    ]
    return names


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
    sides = apply_limit(split_examples(config), config.limit, config.seed)
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
    receipts = [check_table(CONTRACTS[config.kind], out / name, names or None) for name in ("train.parquet", "heldout.parquet")]
    return StageOutcome(
        ledger=Ledger(rows_in=kept + dropped.total(), rows_out=kept, dropped=dict(sorted(dropped.items()))),
        receipts=(*receipts, check_table("Dropped", out / "rejects.parquet")),
        figures={"train_examples": len(sides.train), "heldout_examples": len(sides.heldout), "labels": len(names)},
    )

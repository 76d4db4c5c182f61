"""Examples: one labelled task read, checked, and split into what a model is tuned on and what it is judged on."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from tasks.contracts import check_rows, check_table
from tasks.documents import DROPPED, TableWriter, stable_id
from tasks.errors import UserError
from tasks.examples.config import ConllExamples, RowExamples
from tasks.examples.kinds.kind import Equal, Example, Kind, Rejected, Structure, Values
from tasks.examples.kinds.table import AnyExamples, kind_named
from tasks.examples.kinds.token_labels import TOKEN_LABELS
from tasks.examples.label_values import IGNORED_LABEL, label_notes, sorted_labels, tag_scheme, whole_names
from tasks.examples.sources import read_source
from tasks.ledger import Ledger, StageOutcome
from tasks.reading.faults import shown_text
from tasks.reading.files import digest_of, list_files
from tasks.reading.stdlib import python_digest
from tasks.sampling import is_heldout, unit_hash

logger = logging.getLogger("wordmill")

WRITE_ROWS = 1_000


def example_digests(config: AnyExamples) -> dict[str, str]:
    """What the source holds, by file name: the identity of the input, wherever it lies."""
    source = config.source
    if not isinstance(source, RowExamples | ConllExamples):
        return {"python": python_digest()}
    digests = {f"train/{file.name}": digest_of(file) for file in list_files(place_of(config), source.paths).files}
    for file in list_files(place_of(config), source.heldout_paths or []).files:
        digests[f"heldout/{file.name}"] = digest_of(file)
    return digests


def place_of(config: AnyExamples) -> str:
    """What errors call the examples."""
    return f"examples {config.name!r}"


@dataclass
class Sides:
    """The examples of both sides in the order read, and what was left out."""

    train: list[Example] = field(default_factory=list[Example])
    heldout: list[Example] = field(default_factory=list[Example])
    rejected: list[Rejected] = field(default_factory=list[Rejected])
    over_limit: int = 0
    structure: Counter[str] = field(default_factory=Counter[str])  # lines that are no examples, by what they are
    unseen: Counter[str] = field(default_factory=Counter[str])  # labels of held-out examples that training has not
    notes: dict[str, str] = field(default_factory=dict[str, str])


def split_examples(config: AnyExamples, kind: Kind) -> Sides:
    """Reads and splits: by files where `heldout_paths` is given, else by group, else by the question.

    A question that stands on both sides leaves the training side; of a kind that `leaks_whole`, such as instructions, one that
    stands there with its answer (signatures such as `def close(self):` recur with others). A copy on the same side is dropped.
    """
    source = config.source
    files = source if isinstance(source, RowExamples | ConllExamples) else None
    judged_on = list(files.heldout_paths or ()) if files else []
    sides = Sides()
    found = _taken(read_source(place_of(config), kind, source, files.paths if files else ()), sides)
    judged = _taken(read_source(place_of(config), kind, source, judged_on), sides) if judged_on else []
    found, judged = _settled(kind, found, judged, sides)
    sides.heldout = judged
    for one in found:
        is_judged = not judged_on and is_heldout(one.group or one.question, config.heldout_share, config.seed)
        (sides.heldout if is_judged else sides.train).append(one)
    sides.heldout = _without_copies(sides.heldout, sides.rejected)
    held = {leak_key(kind, one) for one in sides.heldout}
    kept = [one for one in sides.train if not reject_if(leak_key(kind, one) in held, one, "also_held_out", sides.rejected)]
    sides.train = _without_copies(kept, sides.rejected)
    return sides


def _taken(read: Iterable[Example | Rejected | Structure], sides: Sides) -> list[Example]:
    """The examples; what is none goes to `sides`."""
    examples: list[Example] = []
    for one in read:
        match one:
            case Example():
                examples.append(one)
            case Rejected():
                sides.rejected.append(one)
            case Structure():
                sides.structure[one.what] += 1
    return examples


def _settled(kind: Kind, found: list[Example], judged: list[Example], sides: Sides) -> tuple[list[Example], list[Example]]:
    """Both with the answers that only all of them explain: choices by number, and whole numbers that are spelled as 2.0."""
    if kind.settle is not None:
        settled = kind.settle([one.values for one in (*found, *judged)])
        sides.notes |= settled.notes
        pairs = list(zip((*found, *judged), settled.values, strict=True))
        found, judged = (
            [replace(one, values=values) for one, values in part if not isinstance(values, str)]
            for part in (pairs[: len(found)], pairs[len(found) :])
        )
        sides.rejected += [
            Rejected(one.place, values, shown_text(str(dict(one.values)))) for one, values in pairs if isinstance(values, str)
        ]
    if kind.labels is not None:
        own = kind.labels
        names = whole_names({label for one in (*found, *judged) for label in own(one.values)})
        if names:
            sides.notes["labels_renamed"] = ", ".join(f"{old} is {new}" for old, new in sorted(names.items())[:10])
            found, judged = ([replace(one, values=renamed(one.values, names)) for one in part] for part in (found, judged))
        padded = sum(one.is_padded for one in (*found, *judged))
        if padded:
            sides.notes["labels_trimmed"] = f"space around labels was taken off in {padded:,} examples"
    return found, judged


def renamed(values: Values, names: Mapping[str, str]) -> Values:
    """The example with other names for its labels, which stand last."""
    last, answer = list(values.items())[-1]
    if isinstance(answer, str):
        return {**values, last: names.get(answer, answer)}
    assert isinstance(answer, Sequence)
    return {**values, last: [names.get(name, name) for name in answer]}


def label_story(kind: Kind, names: Sequence[str], sides: Sides) -> dict[str, str]:
    """What a person should know of the labels and of the lines that were read, in words."""
    notes = dict(sides.notes)
    if sides.structure:
        lines = (f"{count:,} {what}{'' if count == 1 else 's'}" for what, count in sorted(sides.structure.items()))
        notes["structure"] = f"no tokens: {', '.join(lines)}"
    if kind.labels is None:
        return notes
    counts = Counter(label for one in sides.train for label in set(kind.labels(one.values)))
    notes |= label_notes(names, counts)
    unseen = sides.unseen.most_common(10)
    if unseen:
        notes["labels_never_trained"] = "held out, but in no training example: " + ", ".join(
            f"{name} ({count:,})" for name, count in unseen
        )
    if kind.name == TOKEN_LABELS.name:
        sentences = [labels for one in (*sides.train, *sides.heldout) if isinstance(labels := one.values["labels"], Sequence)]
        ignored = sum(label == IGNORED_LABEL for labels in sentences for label in labels)
        if ignored:
            notes["labels_ignored"] = f"{ignored:,} tokens are read but not learnt: their label is null or -100"
        scheme = tag_scheme(sentences)
        if scheme is not None:
            notes["tags"] = f"{scheme}, learnt as they stand"
    return notes


def leak_key(kind: Kind, example: Example) -> str:
    """Equal for two examples of which only one side may hold one."""
    return example.id if kind.leaks_whole else example.question


def reject_if(condition: bool, example: Example, reason: str, rejected: list[Rejected]) -> bool:
    """The condition; where it holds, the example is among the rejected."""
    if condition:
        first = next(iter(example.values.values()))
        rejected.append(Rejected(example.place, reason, first if isinstance(first, str) else "".join(map(str, [first]))))
    return condition


def _without_copies(examples: Sequence[Example], rejected: list[Rejected]) -> list[Example]:
    kept: list[Example] = []
    seen: set[str] = set()
    for example in examples:
        if not reject_if(example.id in seen, example, "duplicate_example", rejected):
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

    return replace(sides, train=chosen(sides.train), heldout=chosen(sides.heldout), over_limit=total - limit)


def label_names(config: AnyExamples, kind: Kind, sides: Sides) -> list[str]:
    """Labels of the training side, sorted; held-out examples with any other are dropped. Empty for kinds without labels."""
    labels = kind.labels
    if labels is None:
        return []
    names = sorted_labels({label for example in sides.train for label in labels(example.values)})
    if len(names) < 2:
        raise UserError(
            f"{place_of(config)}: found {len(names)} label ({', '.join(names) or 'none'}) in {len(sides.train)} training examples "
            f"({len(sides.heldout)} held out, refused: {_refused(sides)}), "
            "expected two or more. Fix: name the label's field, or add examples of another label."
        )
    known = set(names)
    sides.unseen.update(label for one in sides.heldout for label in set(labels(one.values)) - known)
    sides.heldout = [
        one for one in sides.heldout if not reject_if(not known.issuperset(labels(one.values)), one, "unseen_label", sides.rejected)
    ]
    return names


def keep_equal(equal: Equal | None, sides: Sides) -> Sides:
    """The examples whose number is that of most, on both sides together."""
    if equal is None:
        return sides
    counts = Counter(equal.count(one.values) for one in (*sides.train, *sides.heldout))
    usual = max(counts, key=lambda count: (counts[count], count), default=0)

    def kept(examples: Sequence[Example]) -> list[Example]:
        return [one for one in examples if not reject_if(equal.count(one.values) != usual, one, equal.reason, sides.rejected)]

    return replace(sides, train=kept(sides.train), heldout=kept(sides.heldout))


def _refused(sides: Sides) -> str:
    reasons = Counter(one.reason for one in sides.rejected).most_common(3)
    return ", ".join(f"{reason} {count}" for reason, count in reasons) or "none"


def _check_sides(config: AnyExamples, sides: Sides) -> None:
    for side, found, other in (("train", sides.train, sides.heldout), ("held-out", sides.heldout, sides.train)):
        if not found:
            raise UserError(
                f"{place_of(config)}: no {side} example ({len(other)} on the other side, refused: {_refused(sides)}), expected at "
                f"least one. Fix: {_side_fix(config, sides)}."
            )


def _side_fix(config: AnyExamples, sides: Sides) -> str:
    """What helps: another share only where there are examples to share out."""
    if len(sides.train) + len(sides.heldout) > 1:
        return f"change heldout_share ({config.heldout_share}) or seed ({config.seed}), raise limit, or add examples"
    if sides.rejected:
        first = sides.rejected[0]
        return f"correct the fields, the labels or the rows; the first refused is {first.place} ({first.reason}): {first.evidence[:120]!r}"
    return "add examples"


def write_examples(columns: Mapping[str, pa.DataType], examples: Sequence[Example], path: Path) -> None:
    """A table of examples: id, group (their own id, where they have none) and the columns of their kind."""
    named = {"id": pa.string(), "group": pa.string(), **columns}
    schema = pa.schema([pa.field(name, dtype, nullable=False) for name, dtype in named.items()])
    with TableWriter(path, schema) as file:
        for start in range(0, len(examples), WRITE_ROWS):
            part = examples[start : start + WRITE_ROWS]
            rows = [{"id": one.id, "group": one.group or one.id, **one.values} for one in part]
            file.write(pa.RecordBatch.from_pylist(rows, schema=schema))


def write_rejects(config: AnyExamples, rejected: Sequence[Rejected], path: Path) -> None:
    """What was left out, and why, as a table of DROPPED."""
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


def prepare_examples(config: AnyExamples, out: Path) -> StageOutcome:
    """Writes `train.parquet`, `heldout.parquet`, `labels.json` and `rejects.parquet`."""
    kind = kind_named(config.kind, place_of(config))
    sides = apply_limit(keep_equal(kind.equal, split_examples(config, kind)), config.limit, config.seed)
    _check_sides(config, sides)
    names = label_names(config, kind, sides)
    _check_sides(config, sides)
    write_examples(kind.columns, sides.train, out / "train.parquet")
    write_examples(kind.columns, sides.heldout, out / "heldout.parquet")
    write_rejects(config, sides.rejected, out / "rejects.parquet")
    (out / "labels.json").write_text(json.dumps(names, ensure_ascii=False) + "\n", encoding="utf-8")
    notes = label_story(kind, names, sides)
    if notes:
        logger.info("%s: %s", place_of(config), "; ".join(f"{name.replace('_', ' ')}: {told}" for name, told in notes.items()))
    dropped = Counter(one.reason for one in sides.rejected)
    if sides.over_limit:
        dropped["over_limit"] = sides.over_limit
    kept = len(sides.train) + len(sides.heldout)
    contract = kind.contract(names or None)
    receipts = [check_rows(contract, out / name) for name in ("train.parquet", "heldout.parquet")]
    return StageOutcome(
        ledger=Ledger(rows_in=kept + dropped.total(), rows_out=kept, dropped=dict(sorted(dropped.items()))),
        receipts=(*receipts, check_table("Dropped", out / "rejects.parquet")),
        figures={"train_examples": len(sides.train), "heldout_examples": len(sides.heldout), "labels": len(names)},
        notes=notes,
    )

"""Label values: what a person means by the cell of a label: a name, a position that is not to be learnt, or nothing that is a label."""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, cast

from tasks.reading.encodings import has_surrogates

IGNORE_INDEX = -100  # by which torch and Hugging Face mark what is not to be learnt
IGNORED_LABEL = ""  # in a table, of a token whose label is not to be learnt
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
WHOLE = re.compile(r"([+-]?\d+)\.0+", re.ASCII)  # a whole number, as pandas writes a column in which some are missing
INVISIBLE = ("Cf", "Cc")  # general categories
SKEWED = 1.5  # two classes at 75 to 25, ten of which one has 15 %
MISSING_WORDS = ("na", "n/a", "nan", "none", "null", "<na>", "unknown")

NotALabel = Literal["no_label", "ignored_label", "nested_label", "unclear_label", "not_utf8"]


@dataclass(frozen=True)
class Unlabelled:
    """Why a cell is no label."""

    reason: NotALabel


def label_of(cell: object) -> str | Unlabelled:
    """The name of a label. Space around it is no part of it; a whole number is its digits, however it was stored."""
    match cell:
        case None:
            return Unlabelled("no_label")
        case bool():
            return str(cell)
        case str():
            name = cell.strip()
            if has_surrogates(name):
                return Unlabelled("not_utf8")
            if not name:
                return Unlabelled("no_label")
            return Unlabelled("ignored_label") if name == str(IGNORE_INDEX) else name
        case int() | float() | Decimal():
            if isinstance(cell, float | Decimal) and math.isnan(cell):
                return Unlabelled("no_label")
            if isinstance(cell, float | Decimal) and (math.isinf(cell) or cell != int(cell)):
                return Unlabelled("unclear_label")
            return Unlabelled("ignored_label") if cell == IGNORE_INDEX else str(int(cell))
        case list() | tuple() | dict():
            return Unlabelled("nested_label")
        case _:
            return Unlabelled("unclear_label")


def token_label_of(cell: object) -> str | Unlabelled:
    """The same of a token, whose sentence is learnt without it: null and -100 are the ignored label."""
    found = label_of(cell)
    is_ignored = cell is None or (isinstance(found, Unlabelled) and found.reason == "ignored_label")
    return IGNORED_LABEL if is_ignored else found


def as_list(cell: object) -> list[object] | None:
    """A list, also one that is spelled as JSON in a text; None for anything else."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return None
    return list(cast("Sequence[object]", cell)) if isinstance(cell, list | tuple) else None


def is_padded(cell: object) -> bool:
    """Whether space stands around a label, or around one in a list."""
    if isinstance(cell, list):
        return any(isinstance(entry, str) and entry != entry.strip() for entry in cast("list[object]", cell))
    return isinstance(cell, str) and cell != cell.strip()


def sorted_labels(names: set[str]) -> list[str]:
    """By number when all are numbers, else by text."""
    if all(NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (Decimal(name), name))
    return sorted(names)


def whole_names(names: set[str]) -> dict[str, str]:
    """`2.0` -> `2`, when all are whole numbers and some are spelled so; else nothing is to be renamed."""
    found = {name: match.group(1) for name in names if (match := WHOLE.fullmatch(name))}
    if not all(name in found or re.fullmatch(r"[+-]?\d+", name, re.ASCII) for name in names):
        return {}
    return found


def alike(names: Sequence[str]) -> list[list[str]]:
    """Labels that differ only in case, space, invisible characters or normal form."""
    groups: dict[str, list[str]] = {}
    for name in names:
        seen = "".join(one for one in unicodedata.normalize("NFKC", name) if unicodedata.category(one) not in INVISIBLE or one.isspace())
        groups.setdefault(" ".join(seen.casefold().split()), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def tag_scheme(sentences: Sequence[Sequence[str]]) -> str | None:
    """How spans are tagged, where labels are of such a form; they are learnt as they stand.

    IOB1 opens a span by I- and writes B- only between two of one kind; IOB2 (BIO) opens every span by B-.
    """
    tags = {name[0] for names in sentences for name in names if re.match(r"[BIESLUM]-.", name)}
    if not tags & {"B", "I"} or any(not re.match(r"[BIESLUM]-.|O$|$", name) for names in sentences for name in names):
        return None
    if tags & {"E", "S"}:
        return "BIOES"
    if tags & {"L", "U"}:
        return "BILOU"
    opened = [
        name[0]
        for names in sentences
        for before, name in zip(("O", *names), names, strict=False)
        if name[:1] in ("B", "I") and before[2:] != name[2:]
    ]
    if "I" not in opened:
        return "IOB2 (BIO)"
    return "IOB1" if "B" not in opened else f"BIO in which {opened.count('I'):,} of {len(opened):,} spans begin by I-"


def by_classes(labels: Sequence[str]) -> str:
    """The figure that decides between models that name one class of several, by the labels that they learn from.

    Accuracy, or macro F1 where the commonest class has SKEWED times its even share or more: there, to name it always is often right.
    """
    counts = Counter(labels)
    return "macro_f1" if max(counts.values()) * len(counts) >= SKEWED * counts.total() else "accuracy"


def class_names(feature: object) -> tuple[str, ...]:
    """The names of a `ClassLabel` as the library datasets describes it, alone or of the entries of a list; empty for others."""
    while isinstance(feature, list) and len(cast("list[object]", feature)) == 1:
        feature = cast("list[object]", feature)[0]
    if not isinstance(feature, dict):
        return ()
    told = cast("dict[str, object]", feature)
    names = told.get("names")
    if told.get("_type") == "ClassLabel" and isinstance(names, list):
        return tuple(str(name) for name in cast("list[object]", names))
    return class_names(told["feature"]) if "feature" in told else ()


def named(cell: object, names: Sequence[str]) -> object:
    """A number as the name that it stands for, in lists too; -1 and what has no name are no label."""
    if isinstance(cell, list):
        return [named(entry, names) for entry in cast("list[object]", cell)]
    if isinstance(cell, bool) or not isinstance(cell, int):
        return cell
    if cell == IGNORE_INDEX:
        return cell
    return names[cell] if 0 <= cell < len(names) else None


def label_notes(names: Sequence[str], counts: Mapping[str, int]) -> dict[str, str]:
    """What a person should know of a set's labels, in words; `counts`: training examples of each."""
    notes: dict[str, str] = {}
    groups = alike(names)
    if groups:
        notes["labels_alike"] = "; ".join(" and ".join(map(repr, group)) for group in groups[:5]) + " are labels by themselves"
    missing = [name for name in names if name.casefold() in MISSING_WORDS]
    if missing:
        notes["labels_like_no_label"] = ", ".join(f"{name!r} ({counts.get(name, 0):,})" for name in missing) + ": taken as a label"
    rare = [name for name in names if counts.get(name, 0) == 1]
    if rare:
        notes["labels_with_one_example"] = f"{len(rare):,}: {', '.join(rare[:10])}{', …' if len(rare) > 10 else ''}"
    return notes

"""Train, validation and test split: which documents a model learns from, and which it is judged on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from pydantic import Field

from tasks.artifacts import UniqueCorpus
from tasks.errors import UserError
from tasks.executor.tables import TableFile
from tasks.sampling import HELDOUT_SEED, HELDOUT_SHARE, is_heldout, unit_hash
from tasks.settings import Section

TRAIN, VALIDATION, TEST, GONE = 0, 1, 2, 3

Sides = npt.NDArray[np.uint8]


class SplitConfig(Section):
    """How many documents are set apart."""

    validation_share: float = Field(default=0.02, gt=0, lt=1, description="of the documents that belong to no group")
    test_share: float = Field(default=0.0, ge=0, lt=1, description="the same, for a test set nobody looks at")
    max_validation_bytes: int = Field(
        default=64 * 2**20, ge=1, description="of text in each of the two, about; larger corpora give a smaller share"
    )
    seed: int = Field(default=1, ge=0, description="of the choice by these shares")
    heldout_share: float = Field(
        default=HELDOUT_SHARE, gt=0, lt=1, description="of the groups (meta.group); a recipe sets it once, as heldout.share"
    )
    heldout_seed: int = Field(
        default=HELDOUT_SEED, ge=0, description="of the choice by heldout_share; a recipe sets it once, as heldout.seed"
    )


@dataclass(frozen=True)
class Split:
    """The side of each document, over all tables in order."""

    sides: Sides
    sizes: list[int]

    def of(self, number: int) -> Sides:
        """The sides of one table's documents."""
        start = sum(self.sizes[:number])
        return self.sides[start : start + self.sizes[number]]


def verdicts_of(unique: UniqueCorpus, table: TableFile) -> Path:
    """The verdicts on a document table."""
    return unique.path / Path(table.path).name.replace("documents", "verdicts")


def choose_split(config: SplitConfig, tables: Sequence[TableFile], unique: UniqueCorpus) -> Split:
    """Validation and test: held-out groups, and a share of what has no group, by the id of its cluster's first.

    So no near copy crosses. Where a share chooses nothing, the document with the smallest hash is taken, so that small
    corpora work too. Memory: a byte a document, beside one table's ids.
    """
    total_bytes, group_of_first = _survey(tables, unique)
    most = config.max_validation_bytes / max(1, total_bytes)
    shares = min(config.validation_share, most), min(config.test_share, most)
    held: dict[str, bool] = {}
    sides: list[Sides] = [np.zeros(0, np.uint8)]
    loose: list[tuple[float, int]] = []  # the training documents without a group that have the smallest hashes
    start = ungrouped = 0
    for table in tables:
        verdicts = pq.read_table(verdicts_of(unique, table), columns=["kept", "cluster"])
        columns = pq.read_table(table.path, columns=["id", "meta"])
        here = np.full(columns.num_rows, GONE, np.uint8)
        rows = zip(
            verdicts["kept"].to_pylist(),
            verdicts["cluster"].to_pylist(),
            columns["id"].to_pylist(),
            columns["meta"].to_pylist(),
            strict=True,
        )
        for row, (keep, first, document_id, meta) in enumerate(rows):
            if not keep:
                continue
            group = group_of_first.get(first) if first else dict(meta or ()).get("group")
            value = unit_hash(first or document_id, config.seed)
            if group and group not in held:
                held[group] = is_heldout(group, config.heldout_share, config.heldout_seed)
            here[row] = _side(held, group, value, *shares)
            ungrouped += not group
            if not group and here[row] == TRAIN:
                loose = sorted([*loose, (value, start + row)])[:2]
        start += len(here)
        sides.append(here)
    split = Split(np.concatenate(sides), [len(part) for part in sides[1:]])
    _fill_empty(split.sides, [number for _, number in loose], config.test_share > 0)
    _check_both_sides(config, split.sides, len(held), ungrouped)
    return split


def _survey(tables: Sequence[TableFile], unique: UniqueCorpus) -> tuple[int, dict[str, str]]:
    """Bytes of the documents that are left, and the groups of those clusters whose first has one."""
    total = 0
    groups: dict[str, str] = {}
    for table in tables:
        verdicts = pq.read_table(verdicts_of(unique, table), columns=["id", "kept", "cluster"])
        columns = pq.read_table(table.path, columns=["bytes", "meta"])
        kept = verdicts["kept"].to_numpy()
        total += int(columns["bytes"].to_numpy()[kept].sum())
        firsts = np.flatnonzero(kept & np.equal(verdicts["id"].to_numpy(), verdicts["cluster"].to_numpy())).tolist()
        for row in firsts:
            group = dict(columns["meta"][row].as_py() or ()).get("group")
            if group:
                groups[verdicts["id"][row].as_py()] = group
    return total, groups


def _side(held: dict[str, bool], group: str | None, value: float, validation: float, test: float) -> int:
    """Where a document goes: with its group, or by its hash where it has none."""
    if group:
        return VALIDATION if held[group] else TRAIN
    if value < validation:
        return VALIDATION
    return TEST if value < validation + test else TRAIN


def _fill_empty(sides: Sides, loose: list[int], wants_test: bool) -> None:
    """Gives an empty validation set, and a test set that is asked for, a document each of `loose`."""
    left = iter(loose)
    for side in (VALIDATION, TEST) if wants_test else (VALIDATION,):
        if not (sides == side).any() and (sides != GONE).sum() > 1 and (number := next(left, None)) is not None:
            sides[number] = side


def _check_both_sides(config: SplitConfig, sides: Sides, groups: int, ungrouped: int) -> None:
    """UserError that names the shares to change where there is nothing to learn from, or nothing to judge on."""
    validation, train = int((sides == VALIDATION).sum()), int((sides == TRAIN).sum())
    total = int((sides != GONE).sum())
    if validation and train:
        return
    if total < 2:
        raise UserError(
            f"decontaminate: found {total} documents, expected one to learn from and one to judge on. "
            "Fix: give more text, or loosen clean.select; the ledgers of the stages before say what was dropped."
        )
    fixes: list[str] = []
    if train == 0 and ungrouped:
        shares = f"decontaminate.validation_share ({config.validation_share}) and test_share ({config.test_share})"
        fixes.append(f"lower {shares}, or choose another decontaminate.seed")
    if validation == 0 and ungrouped:
        fixes.append(f"lower decontaminate.test_share ({config.test_share})")
    if groups and not (validation == 0 and ungrouped):
        fixes.append(f"{'raise' if validation == 0 else 'lower'} heldout.share ({config.heldout_share}), or choose another heldout.seed")
    raise UserError(
        f"decontaminate: {validation} of {total} documents in the validation set, {train} left for training "
        f"({groups} groups, {ungrouped} documents in none). Fix: {'; or '.join(fixes)}."
    )

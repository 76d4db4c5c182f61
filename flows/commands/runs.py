"""`wordmill runs`: all trainings of a workspace, how far each came, and what it keeps."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from flows.commands.tables import rendered, table_of
from flows.runner.locks import ArtifactLocks
from flows.runner.origin import read_origin
from flows.runner.summaries import amount
from tasks.artifacts import Workspace
from tasks.errors import UserError
from tasks.lineage.trainings import KeptCheckpoint, TrainingRecord, find_trainings

State = Literal["finished", "ended early", "in training", "interrupted"]
COLORS: dict[State, str] = {"finished": "green", "ended early": "cyan", "in training": "magenta", "interrupted": "yellow"}
LEAST_DIGITS = 8  # of a fingerprint as it is shown


@dataclass(frozen=True)
class ListedTraining:
    """A training, and what the workspace knows of it beside its folder."""

    record: TrainingRecord
    recipe: str  # its name; "" where that was not noted
    label: str  # of the stage: "finetune: areas"
    state: State


@dataclass(frozen=True)
class Listing:
    """What the command shows."""

    trainings: tuple[ListedTraining, ...]  # the latest first
    unreadable: tuple[str, ...]


def list_trainings(workspace: Workspace) -> Listing:
    """All trainings of the workspace, finished or not. UserError where there is no workspace."""
    found = find_trainings(workspace)
    locks = ArtifactLocks(workspace.root / "locks")
    return Listing(tuple(listed(workspace, record, locks) for record in found.trainings), found.unreadable)


def listed(workspace: Workspace, record: TrainingRecord, locks: ArtifactLocks) -> ListedTraining:
    """A training with its recipe and its state."""
    try:
        noted = read_origin(workspace, record.stage, record.fingerprint)
    except UserError:  # told where it is needed: by wordmill resume
        noted = None
    return ListedTraining(record, noted.name if noted else "", noted.label if noted else record.stage, state_of(record, locks))


def state_of(record: TrainingRecord, locks: ArtifactLocks) -> State:
    """What has become of a training; one that is being trained has its lock taken."""
    if record.finished is not None:
        return "ended early" if record.ended_early else "finished"
    return "in training" if locks.is_locked(record.key) else "interrupted"


def listing_json(listing: Listing) -> dict[str, object]:
    """As JSON."""
    return {"trainings": [_training_json(one) for one in listing.trainings], "unreadable": [*listing.unreadable]}


def _training_json(one: ListedTraining) -> dict[str, object]:
    record = one.record
    best = None if record.best is None else {**asdict(record.best), "bits_per_byte": record.bits_per_byte}
    return {
        "artifact": record.fingerprint,
        "stage": record.stage,
        "label": one.label,
        "recipe": one.recipe,
        "folder": str(record.folder),
        "state": one.state,
        "step": record.step,
        "steps": record.steps,
        "best": best,
        "loss": record.loss,
        "skipped": record.skipped,
        "returns": [asdict(left) for left in record.left_out],
        "checkpoints": [asdict(kept) for kept in record.checkpoints],
        "bytes": sum(kept.bytes for kept in record.checkpoints),
        "ended_early": record.ended_early,
        "written": record.written.isoformat(timespec="seconds"),
    }


def listing_view(listing: Listing) -> str:
    """In the terminal: the trainings, then what is wrong with any, and what can be resumed."""
    if not listing.trainings and not listing.unreadable:
        return "no training in this workspace yet"
    digits = shown_digits([one.record.fingerprint for one in listing.trainings])
    table = listing_table(listing.trainings, digits)
    lines: list[Table | Text] = [table]
    damaged = [(one.record, kept) for one in listing.trainings for kept in one.record.damaged]
    lines += [Text(f"{record.fingerprint[:digits]}: checkpoint {kept.step:,} is damaged: {kept.damage}", "red") for record, kept in damaged]
    lines += [Text(told, "red") for told in listing.unreadable]
    left = [one.record.fingerprint[:digits] for one in listing.trainings if one.state == "interrupted"]
    lines += [Text(f"to go on: wordmill resume {' or '.join(left)}")] if left else []
    return rendered(Lines(*lines))


def listing_table(trainings: Sequence[ListedTraining], digits: int) -> Table:
    """Two lines a training, so that it fits a terminal: below what is asked for first stands the rest."""
    table = table_of("artifact", "training", "step", "loss", "checkpoints")
    for column in table.columns[:3]:
        column.no_wrap = True
    for one in trainings:
        record = one.record
        table.add_row(
            Text(record.fingerprint[:digits]).append(f"\n{one.state}", COLORS[one.state]),
            Text(one.label).append(f"\nof {one.recipe}" if one.recipe else "\n–", "dim"),
            Text(step_text(record)).append(f"\n{moment(record.written)}", "dim"),
            Text(f"best {best_text(record)}").append(f"\n{rest_text(record)}", "dim"),
            Text(checkpoints_text(record) or "none").append(f"\n{amount(sum(kept.bytes for kept in record.checkpoints))}", "dim"),
        )
    return table


def rest_text(record: TrainingRecord) -> str:
    """`last 2.410, 12 skipped, 1 return`."""
    returns = len(record.left_out)
    parts = [f"last {'–' if record.loss is None else f'{record.loss:.3f}'}"]
    parts += [f"{record.skipped:,} skipped"] if record.skipped or returns else []
    return ", ".join([*parts, *([f"{returns} {'return' if returns == 1 else 'returns'}"] if returns else [])])


def shown_digits(fingerprints: Sequence[str]) -> int:
    """Digits by which each of these is told from the others, and which other commands take for it."""
    different = set(fingerprints)
    return next(digits for digits in range(LEAST_DIGITS, 17) if len({one[:digits] for one in different}) == len(different))


def step_text(record: TrainingRecord) -> str:
    """`430 of 1,000`."""
    return f"{record.step:,}" + ("" if record.steps is None else f" of {record.steps:,}")


def best_text(record: TrainingRecord) -> str:
    """`1.94 bits/byte at 400`, or the loss where that is not known: `2.314 at 400`."""
    if record.best is None:
        return "–"
    figure = f"{record.best.value:.3f}" if record.bits_per_byte is None else f"{record.bits_per_byte:.2f} bits/byte"
    return f"{figure} at {record.best.step:,}"


def checkpoints_text(record: TrainingRecord) -> str:
    """`600, 400 best, 200 damaged`, the newest first."""
    return ", ".join(_checkpoint_text(kept, record) for kept in record.checkpoints)


def _checkpoint_text(kept: KeptCheckpoint, record: TrainingRecord) -> str:
    best = " best" if record.best is not None and record.best.step == kept.step else ""
    return f"{kept.step:,}{best}{' damaged' if kept.damage else ''}"


def moment(time: datetime) -> str:
    """In the time zone of this machine."""
    return f"{time.astimezone():%Y-%m-%d %H:%M}"

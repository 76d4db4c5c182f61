"""New rows: which labelled examples of a recipe no night has used, by content digest; and the state that nights leave.

WORKSPACE/nights/<recipe>/<number>/seen.parquet     every row that a night has seen: set, id, question, status
WORKSPACE/nights/<recipe>/<number>/looked.json      digest of each set's files at that night
WORKSPACE/nights/<recipe>/<number>/nights.jsonl     a line for each night
WORKSPACE/nights/<recipe>/rows/<digest>.txt         the ids that a night has chosen, a line each; gone when it has ended

The state of the highest number counts. A night that has ended adds the next one by one rename, so that one that failed leaves nothing,
and the clock does not matter.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from tasks.artifacts import canonical
from tasks.documents import TableWriter, stable_id
from tasks.errors import UserError
from tasks.examples.examples import apply_limit, example_digests, keep_equal, place_of, split_examples
from tasks.examples.kinds.kind import Rejected
from tasks.examples.kinds.table import AnyExamples, kind_named
from tasks.settings import identity

Status = Literal["new", "newly refused", "waiting", "used", "gone", "refused"]
CHOSEN: tuple[Status, ...] = ("new", "newly refused", "waiting")
Fate = Literal["used", "waiting", "unread"]
NightVerdict = Literal["promoted", "refused", "cannot tell", "waiting", "nothing new", "nothing to learn from", "drift"]
FATES: dict[NightVerdict, Fate] = {  # what becomes of the rows that a night has chosen
    "promoted": "used",
    "refused": "used",
    "cannot tell": "waiting",  # they join the next night that has something new
    "waiting": "used",  # the challenger that learned from them waits for the registry
    "nothing new": "waiting",  # there were none but those that wait
    "nothing to learn from": "used",
    "drift": "unread",  # nothing was learned: they are new until a person has looked
}
KNOWN_ROWS = ("duplicate_example",)  # reasons of rows that stand elsewhere too, so that they are no news
SEEN = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("set", "id", "question", "status")])
SEEN_FILE, LOOKED_FILE, NIGHTS_FILE, ROWS = "seen.parquet", "looked.json", "nights.jsonl", "rows"
KEPT_STATES = 2  # the one that counts, and the one before, which a reader may have open


@dataclass(frozen=True)
class SeenRow:
    """A labelled row by what it says."""

    id: str
    question: str  # equal for rows that differ in their answer alone; of a refused row ""
    status: Status


@dataclass(frozen=True)
class SetNews:
    """One set of examples, as a night finds it."""

    new: int  # rows that no night has seen, changed ones among them
    waiting: int  # rows of earlier nights that could not tell
    changed: int  # of the new: the same question was known with another answer, which is gone
    removed: int  # known rows that are gone, and were not changed
    refused: Mapping[str, int]  # rows that no night has seen and that are no examples, by reason
    rows: tuple[SeenRow, ...]  # every row of the set that is known now
    looked: str  # digest of its files and of how they are read

    @property
    def ids(self) -> tuple[str, ...]:
        """What a night would take: new, waiting and newly refused rows, in one order."""
        return tuple(sorted(row.id for row in self.rows if row.status in CHOSEN))

    @property
    def digest(self) -> str:
        """Of the ids: equal for equal rows, in whatever files, order and format."""
        return ids_digest(self.ids)


@dataclass(frozen=True)
class NewRows:
    """What is new in all sets of a recipe, and which state it was compared with."""

    number: int  # of the state: 0 before the first night
    sets: Mapping[str, SetNews]

    @property
    def has_news(self) -> bool:
        """Whether a night has something to do: rows that wait are none, for they were judged before."""
        return any(one.new or one.refused for one in self.sets.values())

    @property
    def told(self) -> str:
        """In words, for people."""
        totals = Counter[str]()
        for one in self.sets.values():
            totals.update(new=one.new, waiting=one.waiting, changed=one.changed, removed=one.removed, refused=sum(one.refused.values()))
        parts = [f"{totals[name]:,} {name}" for name in ("changed", "waiting", "removed", "refused") if totals[name]]
        head = f"{totals['new']:,} new row{'' if totals['new'] == 1 else 's'}" if totals["new"] else "nothing new"
        return f"{head} ({', '.join(parts)})" if parts else head


@dataclass(frozen=True)
class NightSet:
    """The counts of one set in the record of a night."""

    new: int
    waiting: int
    changed: int
    removed: int
    refused: Mapping[str, int]
    ids: str  # digest


@dataclass(frozen=True)
class Night:
    """One night that has ended. Its number gives the order; `ended` is what the clock said."""

    number: int
    ended: str  # ISO 8601, UTC
    verdict: NightVerdict
    why: str
    sets: Mapping[str, NightSet]


def ids_digest(ids: Iterable[str]) -> str:
    """Of a set of ids, whatever their order."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def nights_folder(workspace: Path, recipe: str) -> Path:
    """Where the state of a recipe's nights lies."""
    return workspace / "nights" / recipe


def look_for_new(workspace: Path, recipe: str, examples: Sequence[AnyExamples]) -> NewRows:
    """Compares what the sets hold now with what nights have seen. Sets whose files are as they were are not parsed."""
    state = _latest(nights_folder(workspace, recipe))
    known = _read_seen(state)
    looked = {} if state is None else json.loads((state / LOOKED_FILE).read_text(encoding="utf-8"))
    sets = dict[str, SetNews]()
    for config in examples:
        digest = _digest(config)
        rows = known.get(config.name, [])
        sets[config.name] = _unchanged(rows, digest) if looked.get(config.name) == digest else _compared(config, rows, digest)
    return NewRows(0 if state is None else int(state.name), sets)


def _digest(config: AnyExamples) -> str:
    """Of a set's files and of the settings by which they are read."""
    return hashlib.sha256(canonical([identity(config), dict(example_digests(config))]).encode()).hexdigest()


def _unchanged(rows: Sequence[SeenRow], digest: str) -> SetNews:
    return SetNews(0, sum(row.status == "waiting" for row in rows), 0, 0, {}, tuple(rows), digest)


def _compared(config: AnyExamples, known: Sequence[SeenRow], digest: str) -> SetNews:
    """Reads the set, and sets it against the rows that are known of it."""
    kind = kind_named(config.kind, place_of(config))
    everything = keep_equal(kind.equal, split_examples(config, kind))
    there = {one.id: one.question for one in (*everything.train, *everything.heldout)}
    taken = apply_limit(everything, config.limit, config.seed)
    before = {row.id: row for row in known}
    gone = {row.id for row in known if row.status in ("used", "waiting") and row.id not in there}
    lost_questions = {before[one].question for one in gone}
    new = [SeenRow(one.id, one.question, "new") for one in (*taken.train, *taken.heldout) if one.id not in before]
    changed = {row.question for row in new} & lost_questions
    refused = {rejected_id(one): one.reason for one in everything.rejected if one.reason not in KNOWN_ROWS}
    fresh = {one: reason for one, reason in refused.items() if one not in before}
    rows = [_as_it_is_now(row, row.id in there) for row in known if row.status != "waiting" or row.id in there]
    rows += [*new, *(SeenRow(one, "", "newly refused") for one in fresh)]
    return SetNews(
        new=len(new),
        waiting=sum(row.status == "waiting" for row in rows),
        changed=sum(row.question in changed for row in new),
        removed=sum(before[one].question not in changed for one in gone),
        refused=dict(sorted(Counter(fresh.values()).items())),
        rows=tuple(rows),
        looked=digest,
    )


def _as_it_is_now(row: SeenRow, is_there: bool) -> SeenRow:
    """A used row may go, and come back; it is never new again."""
    return SeenRow(row.id, row.question, "used" if is_there else "gone") if row.status in ("used", "gone") else row


def rejected_id(rejected: Rejected) -> str:
    """Equal for rows that were refused for the same reason with the same content, wherever they stand."""
    return stable_id("refused", rejected.reason, rejected.evidence)


def write_chosen(workspace: Path, recipe: str, news: SetNews) -> Path:
    """The ids that a night takes, in a file that is named for them."""
    folder = nights_folder(workspace, recipe) / ROWS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{news.digest}.txt"
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(f"{one}\n" for one in news.ids), encoding="utf-8")
    temporary.rename(path)
    return path


def read_chosen(path: Path, digest: str) -> frozenset[str]:
    """What `write_chosen` wrote of the ids with this digest. UserError where it is gone, or another."""
    found = path.read_text(encoding="utf-8").split() if path.is_file() else []
    if ids_digest(found) != digest:
        what = f"{len(found):,} other ids" if path.is_file() else "nothing"
        raise UserError(f"{path}: found {what}, expected the ids of the rows that the night has chosen. Fix: run the night again.")
    return frozenset(found)


def close_night(workspace: Path, recipe: str, news: NewRows, verdict: NightVerdict, why: str) -> Night:
    """Makes what the night has seen the state, by one rename. UserError where another night of the recipe has ended meanwhile."""
    folder, fate = nights_folder(workspace, recipe), FATES[verdict]
    folder.mkdir(parents=True, exist_ok=True)
    before = _latest(folder)
    number = news.number + 1
    sets = {
        name: NightSet(one.new, one.waiting, one.changed, one.removed, dict(one.refused), one.digest) for name, one in news.sets.items()
    }
    night = Night(number, datetime.now(UTC).isoformat(timespec="seconds"), verdict, why, sets)
    partial = folder / f"{number:06d}.{uuid4().hex}.partial"
    partial.mkdir()
    known = _read_seen(before)
    looked = {} if before is None else json.loads((before / LOOKED_FILE).read_text(encoding="utf-8"))
    if fate != "unread":
        known |= {name: [_settled(row, fate) for row in one.rows] for name, one in news.sets.items()}
        looked |= {name: one.looked for name, one in news.sets.items()}
    _write_seen(known, partial / SEEN_FILE)
    (partial / LOOKED_FILE).write_text(json.dumps(looked, indent=1) + "\n", encoding="utf-8")
    earlier = "" if before is None else (before / NIGHTS_FILE).read_text(encoding="utf-8")
    (partial / NIGHTS_FILE).write_text(f"{earlier}{json.dumps(asdict(night), ensure_ascii=False)}\n", encoding="utf-8")
    _publish(partial, folder / f"{number:06d}", before)
    for old in _states(folder)[:-KEPT_STATES]:
        shutil.rmtree(old, ignore_errors=True)
    for left in (folder / ROWS, *folder.glob("*.partial")):
        shutil.rmtree(left, ignore_errors=True)
    return night


def _settled(row: SeenRow, fate: Fate) -> SeenRow:
    """What a row is once the night has ended."""
    if row.status == "newly refused":
        return SeenRow(row.id, row.question, "refused")
    return SeenRow(row.id, row.question, "waiting" if fate == "waiting" else "used") if row.status in CHOSEN else row


def _publish(partial: Path, final: Path, before: Path | None) -> None:
    if before is None or before.name < final.name:
        try:
            partial.rename(final)
            return
        except OSError:  # it is there and not empty
            pass
    shutil.rmtree(partial, ignore_errors=True)
    raise UserError(
        f"{final.parent}: another night of this recipe has ended since this one looked for new rows (state {final.name} is there). "
        "What this night decided stands; its rows are new to the next. Fix: run nights of one recipe one after another."
    )


def read_nights(workspace: Path, recipe: str) -> list[Night]:
    """All nights that have ended, the first one first."""
    state = _latest(nights_folder(workspace, recipe))
    if state is None:
        return []
    return [TypeAdapter(Night).validate_json(line) for line in (state / NIGHTS_FILE).read_text(encoding="utf-8").splitlines()]


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.name.isdigit())


def _latest(folder: Path) -> Path | None:
    return next(reversed(_states(folder)), None)


def _read_seen(state: Path | None) -> dict[str, list[SeenRow]]:
    """Rows by set. UserError for a state that cannot be read."""
    if state is None:
        return {}
    try:
        table = pq.read_table(state / SEEN_FILE, schema=SEEN)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{state / SEEN_FILE}: cannot be read ({str(error).splitlines()[0]}). "
            f"Fix: remove the folder {state}; the state of the night before counts then, or without one all rows are new."
        ) from error
    found = dict[str, list[SeenRow]]()
    for name, *row in zip(*(table[column].to_pylist() for column in SEEN.names), strict=True):
        found.setdefault(name, []).append(SeenRow(*row))
    return found


def _write_seen(known: Mapping[str, Sequence[SeenRow]], path: Path) -> None:
    columns = [(name, row.id, row.question, row.status) for name in sorted(known) for row in known[name]]
    with TableWriter(path, SEEN) as file:
        arrays = [pa.array([row[number] for row in columns], pa.string()) for number in range(len(SEEN))]
        file.write(pa.RecordBatch.from_arrays(arrays, schema=SEEN))

"""Champion history: every decision under a name and every move of its alias, in one order that all hosts see.

The entries are the versions of the registered model NAME.history: MLflow numbers versions in its database, so that two hosts never
get one number, and whoever reads entry N can read all before it. An entry counts only if its `before` is the champion after the last
entry that counts: of two that promote at once from the same champion, the second in the order has lost (compare-and-set). The alias
follows: it is set to the champion after the last entry that counts, by whoever appended that, or, should that one have died, by the
next who reads.
"""

import logging
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import psutil
from pydantic import TypeAdapter, ValidationError

from tasks.tracking.registered import CHAMPION, HISTORY, find_champion

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger("wordmill")

EntryKind = Literal["promoted", "refused", "cannot tell", "set", "rolled back", "found"]  # found: moved by hand, outside Wordmill
DECIDED = ("promoted", "refused", "cannot tell")
ENTRY = "wordmill.entry"  # tag of a version of NAME.history: the entry as JSON
MARK = "wordmill.id"  # tag: tells an entry that was sent twice, its first answer lost
MOVED = "wordmill.moved"  # tag: the alias was seen where the entry moved it
PAGE = 1000  # versions in an answer
MOST_DESCRIBED = 1000  # characters
TRIES = 20  # of a number, or of the alias, while others take theirs
SURE_SECONDS = 1.0  # until an alias that is not where it should be is looked at again: it may just be on its way


@dataclass(frozen=True)
class Entry:
    """One line of a name's history."""

    number: int  # from 1, in the order in which the registry took them
    kind: EntryKind
    at: str  # ISO 8601, UTC
    by: str  # user@machine, flow run
    version: str  # that the entry is about
    before: str  # the champion's version before it; "" for none
    champion: str  # the champion's version after it; "" for none
    why: str
    fingerprint: str = ""  # of the model of `version`
    level: float = 0.0  # of a decision: the error that it was allowed
    rate: float = 0.0  # of a decision: the error rate of the gate's setting then
    metric: str = ""
    gain: float | None = None


STORED = TypeAdapter(Entry)


@dataclass(frozen=True)
class Line:
    """An entry as the registry has it."""

    entry: Entry
    mark: str
    moved: bool


def now() -> str:
    """The time as entries have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def who(tags: Mapping[str, str]) -> str:
    """Who appends an entry: user@machine, and the flow run where `tags` of a registry name one."""
    flow = tags.get("prefect.flow_run_name", "")
    return f"{psutil.Process().username()}@{platform.node()}" + (f", flow run {flow}" if flow else "")


def read_history(client: "MlflowClient", name: str) -> tuple[Entry, ...]:
    """The entries that count, in their order; () where the name has none. Changes nothing."""
    return tuple(line.entry for line in _lines(client, name))


def champion_after(entries: Sequence[Entry]) -> str:
    """The champion's version after the last entry; "" for none."""
    return entries[-1].champion if entries else ""


def decision_on(entries: Sequence[Entry], fingerprint: str) -> Entry | None:
    """The last decision on the model with this fingerprint; one that compared no figures, and promoted nothing, does not count."""
    found = [entry for entry in entries if entry.fingerprint == fingerprint and entry.kind in DECIDED]
    return next((entry for entry in reversed(found) if entry.metric or entry.kind == "promoted"), None)


def valid(lines: Sequence[Line]) -> list[Line]:
    """The lines that count, of all in the order of their numbers."""
    kept: list[Line] = []
    marks: set[str] = set()
    champion = ""
    for line in lines:
        if line.entry.before == champion and line.mark not in marks:
            kept.append(line)
            marks.add(line.mark)
            champion = line.entry.champion
    return kept


def append(client: "MlflowClient", name: str, entry: Entry) -> Entry:
    """The entry with the number that MLflow gave it. Whether it counts is seen by reading the history."""
    return _append(client, name, entry, uuid.uuid4().hex)


def take_over(client: "MlflowClient", name: str, entry: Entry, mark: str = "") -> bool:
    """Append the entry; False where it does not count, because the champion is no longer the one it started from.

    The alias is then where the last entry that counts has it, whoever wrote that. A caller that may ask twice gives the same `mark`.
    """
    mark = mark or uuid.uuid4().hex
    if all(line.mark != mark for line in _lines(client, name)):
        _append(client, name, entry, mark)
    won = any(line.mark == mark for line in _lines(client, name))
    settle_history(client, name, started=won and entry.before != entry.champion)
    return won


def settle_history(client: "MlflowClient", name: str, started: bool = False) -> tuple[Entry, ...]:
    """Bring alias and history together, and return the history.

    A move whose alias was never set is completed. An alias that is elsewhere was moved outside Wordmill, by hand, by other software
    or before there was a history: an entry `found` says so. `started`: the caller appended a move just now and sets the alias first.
    """
    from mlflow.exceptions import MlflowException

    look = Look(started)
    for _ in range(TRIES):
        try:
            lines = _settle_once(client, name, look)
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":  # the database's: another wrote the same row at the same moment
                raise
            continue
        if lines is not None:
            return tuple(line.entry for line in lines)
    raise ConnectionError(f"{name}: its champion alias was moved {TRIES} times while it was read. Fix: run again when that is over.")


@dataclass
class Look:
    """What a settling has seen and done so far."""

    started: bool
    ours: str = ""  # where it set the alias: a later move may have come in between
    doubt: tuple[str, int] | None = None  # an alias that is not where it should be, after so many entries


def _settle_once(client: "MlflowClient", name: str, look: Look) -> list[Line] | None:
    """The lines where alias and history agree; None after something was done about it."""
    lines = _lines(client, name)
    held = find_champion(client, name)
    alias, champion = "" if held is None else str(held.version), lines[-1].entry.champion if lines else ""
    move = next((line for line in reversed(lines) if line.entry.before != line.entry.champion), None)
    if alias == champion:
        if move is not None and not move.moved:
            client.set_model_version_tag(name + HISTORY, str(move.entry.number), MOVED, "yes")
        return lines
    unfinished = move is not None and not move.moved and (look.started or alias == move.entry.before)
    if (unfinished or (look.ours and alias == look.ours)) and set_alias(client, name, champion):
        look.ours = champion
    elif look.doubt == (alias, len(lines)):
        fingerprint = "" if held is None else held.tags.get("wordmill.fingerprint", "")
        why = "moved outside Wordmill" if lines else "champion before there was a history"
        append(client, name, Entry(0, "found", now(), who({}), alias, champion, alias, why, fingerprint))
    else:
        look.doubt = (alias, len(lines))
        time.sleep(SURE_SECONDS)
    return None


def described(entry: Entry) -> str:
    """An entry as one line for people."""
    of = f"version {entry.version}"
    stays = f"{entry.before} stays" if entry.before else "no champion yet"
    place = f" in place of {entry.before}" if entry.before else ", the first"
    match entry.kind:
        case "promoted":
            text = f"promoted {of}{place}"
        case "refused":
            text = f"refused {of}, {stays}"
        case "cannot tell":
            text = f"cannot tell of {of}, {stays}"
        case "set":
            text = f"set to {of}{place}"
        case "rolled back":
            text = f"rolled back to {of}{place}"
        case "found":
            text = f"found {of if entry.version else 'no champion'}{place}"
    return f"{text}: {entry.why}" if entry.why else text


def set_alias(client: "MlflowClient", name: str, version: str) -> bool:
    """Whether the version could be made the champion; False where it was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(name, CHAMPION, version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _append(client: "MlflowClient", name: str, entry: Entry, mark: str) -> Entry:
    """Append under a mark of the caller's."""
    from mlflow.exceptions import MlflowException

    tags = {ENTRY: STORED.dump_json(entry).decode(), MARK: mark}
    source = f"wordmill:/{name}/{entry.version}"  # no file: MLflow wants an address, and takes one of a version that is gone
    for _ in range(TRIES):
        try:
            told = described(entry)[:MOST_DESCRIBED]
            made = client.create_model_version(name + HISTORY, source, tags=tags, description=told, await_creation_for=0)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                _create_history(client, name)
            elif "Model Version creation error" not in str(error):  # MLflow gave up: others took the number, three times over
                raise
        else:
            return replace(entry, number=int(made.version))
    raise ConnectionError(f"{name}{HISTORY}: MLflow gave no number in {TRIES} tries. Fix: run again.")


def _create_history(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    about = f"History of the champion of {name}. No models: each version is an entry, and none may be deleted."
    try:
        client.create_registered_model(name + HISTORY, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _lines(client: "MlflowClient", name: str) -> list[Line]:
    """The lines that count."""
    found: list[Line] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}{HISTORY}'", PAGE, ["version_number ASC"], token)
        for version in page:
            if ENTRY not in version.tags:
                continue  # not one of ours
            try:
                entry = STORED.validate_json(version.tags[ENTRY])
            except ValidationError as error:
                told = error.errors(include_url=False)[0]["msg"]
                logger.warning("%s%s, version %s: no entry of a history (%s); it does not count", name, HISTORY, version.version, told)
                continue
            number = int(version.version)
            found.append(Line(replace(entry, number=number), version.tags.get(MARK, str(number)), MOVED in version.tags))
        token = page.token or None
        if token is None:
            return valid(sorted(found, key=lambda line: line.entry.number))

"""`wordmill champion`: who was champion of a name when and why; back to an earlier version, or to any other."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from flows.commands.tables import rendered, table_of
from tasks.errors import UserError
from tasks.promotion.history import Entry, champion_after, described, now, settle_history, take_over, who
from tasks.tracking.address import is_absent, require_answer
from tasks.tracking.patience import Patience
from tasks.tracking.registered import ABSENT, MOST_NAMED, registered_names

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECONDS = 10.0  # that a command waits for MLflow
NAME = re.compile(r"[^/:@'\"]+")


@dataclass(frozen=True)
class Reign:
    """A name's champion and its history."""

    name: str
    address: str
    entries: tuple[Entry, ...]

    @property
    def champion(self) -> str:
        """Its version; "" for none."""
        return champion_after(self.entries)


def check_asked(rollback: bool, version: str | None, why: str) -> None:
    """UserError for options that do not go together."""
    if rollback and version is not None:
        raise UserError("champion: --rollback and --set are two moves. Fix: give one of them.")
    if version is not None and not why.strip():
        raise UserError('champion: --set needs a reason, for the history. Fix: add --why "…".')
    if why and version is None and not rollback:
        raise UserError("champion: --why is the reason of a move. Fix: give --rollback or --set VERSION too.")


def reign_of(name: str, address: str) -> Reign:
    """The champion of `name` and how it came to be. UserError, naming what is registered, for a name that is not."""
    client, patience = _client(name, address)
    entries = patience.ask(lambda: settle_history(client, name))
    if not entries and not patience.ask(lambda: client.search_registered_models(f"name = '{name}'")):
        raise _unknown(name, address, patience.ask(lambda: registered_names(client)))
    return Reign(name, address, entries)


def roll_back(name: str, address: str, why: str) -> Reign:
    """Make the version champion that was it before. UserError where there is none, or it was deleted."""
    reign = reign_of(name, address)
    earlier = next((entry.champion for entry in reversed(reign.entries) if entry.champion not in ("", reign.champion)), None)
    if earlier is None:
        held = f"version {reign.champion} was it from the first" if reign.champion else "it never had one"
        raise UserError(f"champion {name}: there is no champion before: {held}. Fix: --set VERSION makes another one champion.")
    return _move(reign, earlier, "rolled back", why or "asked for by hand")


def set_champion(name: str, address: str, version: str, why: str) -> Reign:
    """Make any version champion. UserError where it does not exist, or is champion already."""
    reign = reign_of(name, address)
    if version == reign.champion:
        raise UserError(f"champion {name}: version {version} is the champion already. Nothing was moved.")
    return _move(reign, version, "set", why)


def _move(reign: Reign, version: str, kind: Literal["set", "rolled back"], why: str) -> Reign:
    client, patience = _client(reign.name, reign.address)
    fingerprint = patience.ask(lambda: _fingerprint(client, reign, version))
    entry = Entry(0, kind, now(), who({}), version, reign.champion, version, why.strip(), fingerprint)
    if not patience.ask(lambda: take_over(client, reign.name, entry)):
        raise UserError(
            f"champion {reign.name}: another moved it at the same moment, and nothing was moved here. "
            f"Fix: look again, wordmill champion {reign.name}"
        )
    return reign_of(reign.name, reign.address)


def _fingerprint(client: "MlflowClient", reign: Reign, version: str) -> str:
    """Of the artifact that the version was made from; "" where other software registered it."""
    from mlflow.exceptions import MlflowException

    try:
        if version.isdecimal():
            return client.get_model_version(reign.name, version).tags.get("wordmill.fingerprint", "")
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
    there = client.search_model_versions(f"name = '{reign.name}'", MOST_NAMED, ["version_number DESC"])
    was = " any more" if any(entry.version == version for entry in reign.entries) else ""
    known = ", ".join(str(one.version) for one in there)
    raise UserError(f"champion {reign.name}: there is no version {version}{was} at {reign.address}, but {known}. Fix: --set one of these.")


def _client(name: str, address: str) -> "tuple[MlflowClient, Patience]":
    if NAME.fullmatch(name) is None:
        raise UserError(f"champion {name}: found {name!r}, expected the name of a registered model, such as wordmill.")
    if is_absent(address):
        raise UserError(f"champion {name}: nothing is registered at {address}. Fix: wordmill run registers a model.")
    require_answer(address)
    import mlflow

    return mlflow.MlflowClient(address, address), Patience(address, SECONDS, f"champion {name}")


def _unknown(name: str, address: str, known: Sequence[str]) -> UserError:
    told = ", ".join(known[:MOST_NAMED]) or "nothing at all"
    return UserError(f"champion {name}: nothing is registered as {name!r} at {address}, only {told}. Fix: name one of these.")


def reign_json(reign: Reign) -> dict[str, object]:
    """As data; the last entry last."""
    return {"name": reign.name, "champion": reign.champion or None, "history": [asdict(entry) for entry in reign.entries]}


def reign_view(reign: Reign) -> str:
    """The champion, and the history under it, the newest first."""
    if not reign.entries:
        return f"{reign.name}: no champion yet, and nothing was decided"
    table = table_of("number>", "when (UTC)", "what", "version>", "champion after>", "by", "why")
    for entry in reversed(reign.entries):
        when = entry.at[:19].replace("T", " ")
        table.add_row(str(entry.number), when, entry.kind, entry.version, entry.champion or "none", entry.by, entry.why)
    return "\n".join([_held(reign), "", rendered(table)])


def moved_view(reign: Reign) -> str:
    """One line on a move."""
    return f"{reign.name}: {described(reign.entries[-1])}"


def _held(reign: Reign) -> str:
    if not reign.champion:
        return f"{reign.name}: no champion"
    since = next(entry for entry in reversed(reign.entries) if entry.champion == reign.champion and entry.before != reign.champion)
    when = since.at[:19].replace("T", " ")
    return f"{reign.name}: version {reign.champion} is the champion since {when} UTC (models:/{reign.name}@champion)"

"""Champion history: every decision under a name and every move of its alias, in one order that all hosts see."""

from dataclasses import dataclass
from typing import Literal

EntryKind = Literal["promoted", "refused", "cannot tell", "set", "rolled back", "found"]  # found: moved by hand, outside Wordmill
DECIDED = ("promoted", "refused", "cannot tell")


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

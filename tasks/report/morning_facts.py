"""Morning facts: what became of a night, gathered by the flow. Plain and frozen; `morning_page.py` makes HTML of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tasks.prices import Cost
from tasks.promotion.decision import Decision, Verdict

State = Literal["decided", "nothing new", "all rows refused", "drift", "waiting", "failed"]  # waiting: for the registry to take the model


@dataclass(frozen=True)
class NightRows:
    """Labelled rows of a night, counted."""

    new: int = 0  # that no night has used
    changed: int = 0
    removed: int = 0
    waiting: int = 0  # new ones that this night did not use, and the next one takes
    set_aside: Mapping[str, int] = field(default_factory=dict[str, int])  # reason -> rows
    learned: int = 0
    replayed: int = 0  # of what was learned before
    heldout: int = 0


@dataclass(frozen=True)
class DriftRow:
    """One thing in which new rows were held against those that the champion learned from."""

    name: str  # labels, lengths, vocabulary, language
    index: float  # population stability index, or what stands for it
    limit: float
    state: Literal["even", "told", "stopped"]


@dataclass(frozen=True)
class Night:
    """An earlier night, in a line."""

    at: str  # ISO 8601, UTC
    verdict: Verdict | State
    metric: str = ""  # the deciding one; empty where nothing was decided
    value: float | None = None  # of that night's challenger
    gain: float | None = None


@dataclass(frozen=True)
class Morning:
    """Everything the page says of a night."""

    name: str  # in the registry
    recipe: str
    state: State
    why: str  # in one sentence; of a decided night the decision has it
    started: str  # ISO 8601, with offset
    seconds: float
    decision: Decision | None = None
    version: str = ""  # that was registered
    cost: Cost | None = None  # None: the recipe has no prices
    rows: NightRows = field(default_factory=NightRows)
    drift: tuple[DriftRow, ...] = ()
    training: Mapping[str, float] = field(default_factory=dict[str, float])  # figures of the fine-tuning
    links: Mapping[str, str] = field(default_factory=dict[str, str])  # "report" -> URL, or a path from the page
    nights: tuple[Night, ...] = ()  # before this one, oldest first

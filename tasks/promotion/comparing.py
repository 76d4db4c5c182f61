"""Comparison of two models: their figures on the same items become a row of the decision, pairs of items, and parts.

N items, C columns of a figure.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tasks.examples.deciding import lower_is_better
from tasks.items import Floats, Item, ItemFigures, read_figures, read_items
from tasks.paired import compare, value_of
from tasks.promotion.decision import Comparison, Pair, Part, Role
from tasks.promotion.gate_config import GateConfig
from tasks.scores import OWN

SHOWN_PAIRS = 5
PART = ":"  # in the name of a figure that is a part of another one: bits_per_byte:digits


@dataclass(frozen=True)
class Sheet:
    """What models made of a set of items: a folder that `tasks.items.write_items` filled."""

    items: Mapping[tuple[str, str], Item]  # by task and id
    figures: tuple[ItemFigures, ...]

    @staticmethod
    def read(folder: Path) -> "Sheet":
        """The whole folder."""
        return Sheet({(item.task, item.item): item for item in read_items(folder)}, tuple(read_figures(folder)))

    def figure(self, metric: str, task: str | None = None, model: str = OWN) -> ItemFigures | None:
        """That figure of a model: of one task, or of the first that has it."""
        found = (one for one in self.figures if one.metric == metric and one.model == model and task in (None, one.task))
        return next(found, None)

    def known(self) -> str:
        """The names of the model's own figures."""
        return ", ".join(sorted({one.metric for one in self.figures if one.model == OWN and PART not in one.metric})) or "none"

    def asked(self, figures: ItemFigures) -> tuple[Item, ...]:
        """The items of a figure, in its order."""
        return tuple(self.items[figures.task, item] for item in figures.items)


@dataclass(frozen=True)
class Match:
    """One figure of both models on the same items."""

    label: str  # of what they were asked, as people read it
    items: tuple[Item, ...]
    challenger: ItemFigures
    rival: ItemFigures

    def __post_init__(self) -> None:
        ours, theirs = set(self.challenger.items), set(self.rival.items)
        assert self.challenger.items == self.rival.items, (
            f"{self.label}: the models were asked other items ({len(ours - theirs)} of the challenger's {len(ours)} are not the rival's)"
        )

    @property
    def metric(self) -> str:
        """The figure's name."""
        return self.challenger.metric

    def among(self, chosen: Callable[[Item], bool]) -> "Match":
        """Of those items alone."""
        kept = {item.item for item in self.items if chosen(item)}
        items = tuple(item for item in self.items if item.item in kept)
        return Match(self.label, items, restricted(self.challenger, kept), restricted(self.rival, kept))

    def gain(self, challenger: float, rival: float) -> float:
        """Positive where the challenger is better."""
        return rival - challenger if lower_is_better(self.metric) else challenger - rival


def restricted(figures: ItemFigures, kept: Collection[str]) -> ItemFigures:
    """The figure over some of its items."""
    rows = [number for number, item in enumerate(figures.items) if item in kept]
    return replace(
        figures,
        items=tuple(figures.items[row] for row in rows),
        columns=figures.columns[rows],
        answers=tuple(figures.answers[row] for row in rows),
    )


def compared(match: Match, role: Role, gate: GateConfig, level: float, margin: float) -> Comparison:
    """The row of a match. A deciding one passes where p is not above the level; a guard where it loses no more than the margin."""
    found = compare(
        match.challenger,
        match.rival,
        [item.cluster or item.item for item in match.items],
        lower_is_better=lower_is_better(match.metric),
        margin=margin if role == "deciding" else -margin,
        level=level,
        resamples=gate.resamples,
        seed=gate.seed,
    )
    is_deciding = role == "deciding"
    passed = found.p <= level if is_deciding else found.gain >= -margin
    return Comparison(
        role,
        match.label,
        match.metric,
        found.items,
        found.clusters,
        found.challenger,
        found.rival,
        found.gain,
        found.low,
        found.high,
        level,
        found.p if is_deciding else None,
        margin,
        found.method,
        passed,
        _deciding_reason(found.gain, found.p, level, margin) if is_deciding else _guard_reason(found.gain, margin),
    )


def _deciding_reason(gain: float, p: float, level: float, margin: float) -> str:
    than = "" if margin == 0 else f" by more than {margin:g}"
    if p <= level:
        return f"surely better{than}: luck alone does as well with a chance of {p:.2g}, {level:.2g} is allowed"
    if gain <= margin:
        return f"not better{than}"
    return f"better{than}, but not surely: luck alone does as well with a chance of {p:.2g}, {level:.2g} is allowed"


def _guard_reason(gain: float, tolerance: float) -> str:
    if gain >= 0:
        return "no worse"
    return f"worse by {-gain:.4f}, {'more than' if gain < -tolerance else 'within'} the {tolerance:g} that is tolerated"


def not_compared(label: str, metric: str, gate: GateConfig, margin: float, reason: str) -> Comparison:
    """The row of a guard that cannot be measured, or does not bear on these models; it holds nobody back."""
    return Comparison("guard", label, metric, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 1 - gate.confidence, None, margin, "", True, reason)


def item_values(figures: ItemFigures) -> Floats:
    """The figure of each item by itself, [N]: of classes the share that is right, of a correlation minus the distance."""
    match figures.statistic:
        case "ratio":
            above, below = figures.columns.T
        case "macro_f1":
            hits, predicted, actual = np.split(figures.columns, 3, axis=1)
            above, below = 2 * hits.sum(axis=1), (predicted + actual).sum(axis=1)
        case "pearson":
            found, wanted = figures.columns.T
            above, below = -np.abs(found - wanted), np.ones(len(found))
    alone = np.where(above == 0, 1.0, np.nan)  # nothing was to be found; nothing was, or something
    return np.divide(above, below, out=alone, where=below != 0)


def best_and_worst(match: Match) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """The items with the largest gains and with the largest losses, a few of each."""
    ours, theirs = item_values(match.challenger), item_values(match.rival)
    gains = np.array([match.gain(one, other) for one, other in zip(ours, theirs, strict=True)])
    order = [int(row) for row in np.argsort(-np.nan_to_num(gains), kind="stable")]

    def pair(row: int) -> Pair:
        item = match.items[row]
        answers = match.challenger.answers[row], match.rival.answers[row]
        figures = float(ours[row]), float(theirs[row]), float(gains[row])
        return Pair(match.label, match.metric, item.item, item.source, item.language, item.shown, item.expected, *figures, *answers)

    better = tuple(pair(row) for row in order[:SHOWN_PAIRS] if gains[row] > 0)
    worse = tuple(pair(row) for row in order[::-1][:SHOWN_PAIRS] if gains[row] < 0)
    return better, worse


def parts(match: Match, others: Sequence[tuple[ItemFigures, ItemFigures]]) -> tuple[Part, ...]:
    """The deciding figure by source and by language, where there are several, and its own parts: `others`, of both models."""
    found: list[Part] = []
    for by, values in (("source", [one.source for one in match.items]), ("language", [one.language for one in match.items])):
        names = sorted(set(values) - {""})
        for name in names if len(names) > 1 else []:
            part = match.among(lambda item, by=by, name=name: (item.source if by == "source" else item.language) == name)
            found += _part(match, by, name, part.challenger, part.rival)
    for ours, theirs in others:
        found += _part(match, "kind of byte", ours.metric.partition(PART)[2], ours, theirs)
    return tuple(found)


def _part(match: Match, by: str, name: str, ours: ItemFigures, theirs: ItemFigures) -> Iterator[Part]:
    """Nothing where the part has no figure."""
    if len(ours.items):
        values = value_of(ours), value_of(theirs)
        if np.isfinite(values).all():
            yield Part(by, name, len(ours.items), *values, match.gain(*values))


def part_figures(challenger: Sheet, rival: Sheet, match: Match) -> list[tuple[ItemFigures, ItemFigures]]:
    """The parts of the match's figure that both models have."""
    prefix = match.metric + PART
    ours = [one for one in challenger.figures if one.model == OWN and one.task == match.challenger.task and one.metric.startswith(prefix)]
    pairs = [(one, rival.figure(one.metric, match.rival.task, match.rival.model)) for one in ours]
    return [(one, other) for one, other in pairs if other is not None]

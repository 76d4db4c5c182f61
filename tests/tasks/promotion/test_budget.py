"""The error budget of a name: what each decision may err, and what a year of equal challengers makes of it."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from tasks.bootstrap import resampled_sums
from tasks.items import Floats, Item, ItemFigures
from tasks.paired import Tails
from tasks.promotion.budget import error_budget
from tasks.promotion.comparing import Match, compared
from tasks.promotion.gate import judge_rows
from tasks.promotion.gate_config import GateConfig
from tasks.promotion.history import Entry, EntryKind

RATE = 0.05
NIGHTS, ITEMS = 365, 48


def entry(number: int, kind: EntryKind, level: float = 0.001, rate: float = RATE) -> Entry:
    return Entry(number, kind, "2026-01-01T00:00:00+00:00", "mill@host", "1", "1", "1", "", level=level, rate=rate)


def year(kinds: Sequence[EntryKind], rate: float = RATE) -> list[Entry]:
    """Decisions one after the other, each at the level that it was allowed."""
    entries: list[Entry] = []
    for number, kind in enumerate(kinds, 1):
        entries.append(entry(number, kind, error_budget(entries, rate).level, rate))
    return entries


def test_nights_without_a_promotion_spend_less_than_half_of_the_rate() -> None:
    nights = year(["refused", "cannot tell"] * 1_000)
    levels = [one.level for one in nights]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] > 0
    assert 0.4 * RATE < sum(levels) < 0.5 * RATE


def test_what_all_decisions_may_err_stays_below_the_rate_times_the_promotions() -> None:
    generator = np.random.default_rng(0)
    kinds: list[EntryKind] = ["promoted" if promoted else "refused" for promoted in generator.random(200) < 0.1]
    nights = year(kinds)
    for number in range(1, len(nights) + 1):
        promotions = kinds[:number].count("promoted")
        budget = error_budget(nights[: number - 1], RATE)
        assert budget.spent == pytest.approx(sum(one.level for one in nights[:number]))
        assert budget.spent <= RATE * max(1, promotions)
        assert (budget.number, budget.promotions) == (number, kinds[: number - 1].count("promoted"))


def test_promotion_earns_the_nights_after_it_more() -> None:
    with_one, without = year(["refused"] * 20 + ["promoted"]), year(["refused"] * 21)
    assert error_budget(with_one, RATE).level > 5 * error_budget(without, RATE).level


def test_moves_by_hand_and_ordered_promotions_are_no_decisions() -> None:
    nights = year(["refused", "promoted", "cannot tell"])
    moves = [entry(9, kind, 0.0) for kind in ("set", "rolled back", "found")]
    ordered = [entry(10, "promoted", 0.0), entry(11, "refused", 0.0)]  # promote: always, and one that could not be compared
    assert error_budget([*moves, *nights, *ordered, *moves], RATE) == error_budget(nights, RATE)


def test_another_confidence_begins_nothing_anew_and_leaves_no_dead_end() -> None:
    loose = year(["refused"] * 30, rate=0.2)
    strict = error_budget(loose, RATE)
    assert strict.number == 31
    assert strict.level == pytest.approx(error_budget(year(["refused"] * 30), RATE).level)
    assert 0 < strict.level < error_budget(loose, 0.2).level
    assert strict.spent > sum(one.level for one in loose)


def test_first_night_under_a_name_has_a_level() -> None:
    budget = error_budget([], RATE)
    assert (budget.number, budget.promotions) == (1, 0)
    assert budget.spent == budget.level == pytest.approx(0.5 * RATE / 3.932, rel=1e-3)


def test_of_many_years_of_equal_challengers_few_have_a_promotion_where_the_old_rule_promoted_every_other_night() -> None:
    """A year has a false promotion where any of its nights has, by the real levels and the real p."""
    years = 1_000
    levels = np.array([one.level for one in year(["cannot tell"] * NIGHTS)])
    weights = np.concatenate(list(resampled_sums(np.eye(ITEMS), 2_000, seed=1))) / ITEMS
    limits = 0.93 * stats.t.isf(levels, ITEMS - 1)  # p is never below that of t
    generator = np.random.default_rng(1)
    promoted_years, promoted_nights_before = 0, 0
    for _ in range(years):
        gains: Floats = generator.normal(size=(NIGHTS, ITEMS))
        means = gains.mean(axis=1)
        near = np.flatnonzero(means / gains.std(axis=1, ddof=1) * np.sqrt(ITEMS) > limits)
        promoted_years += any(Tails(float(means[n]), weights @ gains[n], ITEMS, ITEMS).p(0.0) <= levels[n] for n in near)
        promoted_nights_before += int((means > 0).sum())
    assert 0 < promoted_years / years <= RATE
    assert promoted_nights_before / (years * NIGHTS) == pytest.approx(0.5, abs=0.01)


def test_year_of_equal_challengers_by_the_gates_own_rows() -> None:
    generator = np.random.default_rng(2)
    gate = GateConfig(resamples=1_000)
    ids = tuple(f"{number:02}" for number in range(ITEMS))
    items = tuple(Item("text", one, one, "", "en", 1_000, "", "") for one in ids)
    sizes = generator.integers(200, 2_000, ITEMS).astype(np.float64)
    rates = generator.normal(2.0, 0.4, ITEMS)

    def figures(rates: Floats) -> ItemFigures:
        return ItemFigures("model", "text", "bits_per_byte", "ratio", ids, np.stack([rates * sizes, sizes], axis=1), ("",) * ITEMS)

    entries: list[Entry] = []
    champion, better = figures(rates), 0
    for number in range(1, NIGHTS + 1):
        challenger = figures(rates + generator.normal(0.0, 0.05, ITEMS))
        budget = error_budget(entries, 1 - gate.confidence)
        row = compared(Match("text", items, challenger, champion), "deciding", gate, budget.level, gate.margin)
        entries.append(entry(number, judge_rows(row, [], "champion")[0], budget.level))
        better += row.gain > 0
    assert [one.kind for one in entries].count("promoted") == 0
    assert 0.4 < better / NIGHTS < 0.6

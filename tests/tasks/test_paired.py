"""Two models on the same items: how surely one is better."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from tasks.bootstrap import resampled_sums
from tasks.items import Floats, ItemFigures, Statistic
from tasks.paired import Difference, Tails, compare, value_of

R = 4_000


def figures(columns: Floats, statistic: Statistic = "ratio") -> ItemFigures:
    n = len(columns)
    return ItemFigures("model", "task", "figure", statistic, tuple(f"{row:05}" for row in range(n)), columns, ("",) * n)


def means(values: Floats) -> ItemFigures:
    return figures(np.stack([values, np.ones(len(values))], axis=1))


def difference(
    one: ItemFigures,
    other: ItemFigures,
    *,
    clusters: Sequence[str] | None = None,
    level: float = 0.05,
    margin: float = 0.0,
    lower_is_better: bool = False,
    resamples: int = R,
) -> Difference:
    groups = one.items if clusters is None else clusters
    return compare(one, other, groups, lower_is_better=lower_is_better, margin=margin, level=level, resamples=resamples, seed=1)


def bits(n: int, better_by: float = 0.0, seed: int = 0) -> tuple[ItemFigures, ItemFigures]:
    """Bits of n texts of unlike lengths, by two models."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(200, 2_000, n).astype(np.float64)
    rates = generator.normal(2.0, 0.4, n)
    noise = generator.normal(0.0, 0.05, n)
    return figures(np.stack([(rates + noise - better_by) * sizes, sizes], axis=1)), figures(np.stack([rates * sizes, sizes], axis=1))


def test_interval_of_a_ratio_is_the_reference_implementations() -> None:
    one, other = bits(200, 0.01)
    found = difference(one, other, lower_is_better=True)

    def gain(a: Floats, b: Floats, c: Floats, axis: int = -1) -> Floats:
        return b.sum(axis) / c.sum(axis) - a.sum(axis) / c.sum(axis)

    share = float(stats.norm.sf(np.sqrt(200 / 199) * stats.t.isf(0.05, 199)))  # Hesterberg's expanded percentile
    data = (one.columns[:, 0], other.columns[:, 0], one.columns[:, 1])
    reference = stats.bootstrap(
        data,
        gain,
        paired=True,
        n_resamples=20_000,
        confidence_level=1 - 2 * share,
        method="percentile",
        random_state=np.random.default_rng(3),
    )
    assert found.gain == pytest.approx(gain(*data))
    width = reference.confidence_interval.high - reference.confidence_interval.low
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=0.06 * width)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=0.06 * width)


def test_paired_interval_is_far_narrower_than_the_models_own() -> None:
    one, other = bits(200, 0.02)
    found = difference(one, other, lower_is_better=True)
    assert found.high - found.low < 0.2 * (2 * 1.64 * 0.4 / np.sqrt(200))
    assert found.p < 1e-4


@pytest.mark.parametrize(("won", "lost", "same"), [(9, 2, 30), (3, 3, 30), (1, 6, 20), (0, 0, 12), (12, 0, 5)])
def test_right_and_wrong_answers_are_compared_by_an_exact_mcnemar(won: int, lost: int, same: int) -> None:
    one = np.array([1.0] * won + [0.0] * lost + [1.0] * same)
    other = np.array([0.0] * won + [1.0] * lost + [1.0] * same)
    found, turned = difference(means(one), means(other)), difference(means(other), means(one))
    two_sided = mcnemar([[same, won], [lost, 0]], exact=True).pvalue
    assert min(1.0, 2 * min(found.p, turned.p)) == pytest.approx(two_sided)
    assert found.gain == pytest.approx((won - lost) / len(one))
    assert found.method == f"exact McNemar, {won + lost} of {len(one)} items differ"
    assert (found.p <= 0.05) == (found.low > 0)


def test_items_of_one_document_are_drawn_together() -> None:
    generator = np.random.default_rng(0)
    gains = np.repeat(generator.normal(0.1, 0.5, 40), 10)  # ten items of each of forty documents, all alike
    one, other = means(gains), means(np.zeros(400))
    alone, grouped = difference(one, other), difference(one, other, clusters=[f"{row // 10}" for row in range(400)])
    assert (alone.clusters, grouped.clusters, grouped.items) == (400, 40, 400)
    assert alone.p < 0.01 < grouped.p
    assert grouped.high - grouped.low == pytest.approx((alone.high - alone.low) * np.sqrt(10), rel=0.15)


def test_right_answers_of_shared_documents_are_not_counted_as_so_many_items() -> None:
    one, other = means(np.repeat([1.0, 1.0, 1.0, 0.0], 10)), means(np.repeat([0.0, 0.0, 0.0, 1.0], 10))
    assert difference(one, other).p < 0.01
    assert difference(one, other, clusters=[f"{row // 10}" for row in range(40)]).p > 0.05


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_gain_is_positive_where_the_challenger_is_better(lower_is_better: bool) -> None:
    generator = np.random.default_rng(0)
    low, high = means(generator.normal(1.0, 0.1, 50)), means(generator.normal(2.0, 0.1, 50))
    found = difference(low, high, lower_is_better=lower_is_better)
    assert (found.gain > 0) == lower_is_better
    assert (found.p < 0.001) == lower_is_better
    assert found.low <= found.gain <= found.high


def test_gain_below_the_margin_is_none() -> None:
    one, other = bits(300, 0.05)
    assert difference(one, other, lower_is_better=True).p < 1e-6
    assert difference(one, other, lower_is_better=True, margin=0.05).p > 0.2
    assert difference(one, other, lower_is_better=True, margin=0.1).p > 0.99


@pytest.mark.parametrize("level", [0.2, 0.05, 0.01, 1e-3, 1e-5])
@pytest.mark.parametrize("seed", range(6))
def test_interval_excludes_the_margin_exactly_where_p_is_at_the_level(level: float, seed: int) -> None:
    one, other = bits(40, 0.0, seed)
    found = difference(one, other, lower_is_better=True, level=level)
    margin = found.low
    above = difference(one, other, lower_is_better=True, level=level, margin=margin + 1e-4)
    below = difference(one, other, lower_is_better=True, level=level, margin=margin - 1e-4)
    assert below.p <= level * 1.1
    assert above.p >= level * 0.9


def test_p_is_never_zero_and_equal_models_are_not_better() -> None:
    same = means(np.arange(60.0))
    assert difference(same, same).p == 1.0
    better = difference(means(np.arange(60.0) + 1), same)  # each item better by the same: no spread to go by
    assert better.p == pytest.approx(0.5**60)
    three = np.zeros(60)
    three[:3] = 1.0, 1.01, 0.99
    assert difference(means(three), means(np.zeros(60))).p >= 0.5**3


def test_macro_f1_and_correlation_are_compared_as_such() -> None:
    generator = np.random.default_rng(0)
    actual = generator.integers(0, 3, 300)

    def f1(wrong: float) -> ItemFigures:
        predicted = np.where(generator.random(300) < wrong, generator.integers(0, 3, 300), actual)
        one_hot = np.eye(3)
        columns = [one_hot[actual] * (actual == predicted)[:, None], one_hot[predicted], one_hot[actual]]
        return figures(np.concatenate(columns, axis=1), "macro_f1")

    good, bad = f1(0.1), f1(0.6)
    found = difference(good, bad)
    assert found.gain == pytest.approx(value_of(good) - value_of(bad))
    assert found.p < 1e-6
    assert difference(bad, good).p > 0.99
    wanted = generator.normal(size=200)
    near, far = (figures(np.stack([wanted + generator.normal(size=200) * noise, wanted], axis=1), "pearson") for noise in (0.2, 2.0))
    assert value_of(near) == pytest.approx(np.corrcoef(near.columns.T)[0, 1])
    assert difference(near, far).p < 1e-4 < difference(far, near).p


def test_models_with_other_classes_are_compared_by_the_figure_of_each() -> None:
    two, three = np.tile(np.eye(2), (20, 3)), np.tile(np.eye(3)[:2], (20, 3))
    found = difference(figures(two, "macro_f1"), figures(three, "macro_f1"))
    assert (found.challenger, found.rival, found.p) == (1.0, 1.0, 1.0)


def test_other_items_are_not_compared() -> None:
    one, other = bits(30)
    turned = ItemFigures("model", "task", "figure", "ratio", other.items[::-1], other.columns, other.answers)
    with pytest.raises(AssertionError, match="the same items"):
        difference(one, turned)


@cache
def shares_drawn(n: int) -> Floats:
    """What each of n items weighs in each of 2,000 draws, by the same draws as `compare` makes."""
    return np.concatenate(list(resampled_sums(np.eye(n), 2_000, seed=1))) / n


def errors(draw: str, n: int, level: float, runs: int) -> float:
    """Share of `runs` in which an equal challenger is found better at the level.

    Only where the plain t statistic comes near: p is never below that of t.
    """
    generator = np.random.default_rng([n, runs])
    found, limit = 0, 0.93 * stats.t.isf(level, n - 1)
    for _ in range(runs // 1_000):
        gains = getattr(generator, draw)(size=(1_000, n)) if draw != "lopsided" else 1 - generator.exponential(size=(1_000, n))
        t = gains.mean(axis=1) / gains.std(axis=1, ddof=1) * np.sqrt(n)
        near = gains[t > limit]
        for row, draws in zip(near, near @ shares_drawn(n).T, strict=True):
            found += Tails(float(row.mean()), draws, n, n).p(0.0) <= level
    return found / runs


def test_draws_of_the_simulation_are_those_of_a_comparison() -> None:
    row = np.random.default_rng(0).normal(0.2, 1.0, 50)
    simulated = Tails(float(row.mean()), shares_drawn(50) @ row, 50, 50).p(0.0)
    assert simulated == pytest.approx(difference(means(row), means(np.zeros(50)), resamples=2_000).p)


@pytest.mark.parametrize("draw", ["normal", "laplace"])
@pytest.mark.parametrize("n", [30, 50, 500])
@pytest.mark.parametrize(("level", "runs"), [(0.05, 4_000), (0.001, 60_000)])
def test_equal_challenger_is_found_better_no_more_often_than_the_level(draw: str, n: int, level: float, runs: int) -> None:
    runs = min(runs, 20_000) if n == 500 else runs
    sampling = 2.6 * np.sqrt(level / runs)  # a chance of half a percent
    assert errors(draw, n, level, runs) <= level + sampling


def test_rare_great_losses_do_not_make_an_equal_challenger_better() -> None:
    """With losses as lopsided as an exponential's, t alone errs twice as often as it says at 0.05, and 13 times at 0.001."""
    assert errors("lopsided", 30, 0.05, 4_000) < 1.6 * 0.05
    assert errors("lopsided", 30, 0.001, 40_000) < 5 * 0.001

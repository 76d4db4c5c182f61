"""Drift of new examples from those that were learned: told when it is there, and seldom when it is not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from tasks.promotion.drift import Drift, DriftConfig, Sample, measure_drift, noise_bound, read_drift, write_drift

ENGLISH = "the river runs past old houses and people walk along it in summer to see boats birds and trees under open sky".split()
RARE = [f"zq{n}x" for n in range(400)]
GERMAN = "der Fluss läuft an alten Häusern vorbei und die Leute gehen im Sommer an ihm entlang um Boote und Vögel zu sehen".split()
SHARES = {"a": 0.5, "b": 0.3, "c": 0.15, "d": 0.05}


def sample(seed: int, rows: int, words: Sequence[str] = ENGLISH, length: float = 12, shares: dict[str, float] = SHARES) -> Sample:
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(words) + 1)
    texts = [" ".join(random.choice(words, 1 + random.poisson(length), p=weights / weights.sum())) for _ in range(rows)]
    labels = [(str(label),) for label in random.choice(list(shares), rows, p=list(shares.values()))]
    return Sample(texts, labels, random.normal(size=rows).tolist())


OLD = sample(0, 400)


def levels(new: Sample, config: DriftConfig | None = None) -> dict[str, str]:
    return {one.of: one.level for one in measure_drift(config or DriftConfig(), new, OLD).figures}


@pytest.mark.parametrize("rows", [50, 200])
def test_rows_of_the_same_kind_are_no_drift_in_nineteen_of_twenty_nights(rows: int) -> None:
    drifted = [seed for seed in range(1, 61) if set(levels(sample(seed, rows)).values()) != {"none"}]
    assert len(drifted) <= 3, drifted


@pytest.mark.parametrize(
    ("of", "new"),
    [
        ("labels", sample(5, 200, shares={"a": 0.15, "b": 0.3, "c": 0.5, "d": 0.05})),
        ("labels", sample(5, 200, shares={"a": 0.4, "b": 0.2, "c": 0.15, "d": 0.05, "new": 0.2})),
        ("lengths", sample(5, 200, length=30)),
        ("words", sample(5, 200, words=[*ENGLISH[:10], *RARE])),
        ("languages", sample(5, 200, words=GERMAN)),
    ],
)
def test_a_shift_is_strong_where_it_is(of: str, new: Sample) -> None:
    found = levels(new)
    assert found[of] == "strong"
    assert (of == "labels") or found["labels"] == "none"


def test_figures_that_answer_are_compared_too() -> None:
    new = sample(5, 200)
    assert new.values is not None
    assert levels(Sample(new.texts, None, [2 * value for value in new.values]))["values"] == "strong"


def test_what_moved_most_is_told_in_words() -> None:
    drift = measure_drift(DriftConfig(), sample(5, 200, shares={"a": 0.2, "new": 0.8}), OLD)
    assert drift.why.startswith("strong drift of labels (index ")
    assert ": never learned 0% of what was learned, 76%" in drift.why


def test_words_that_nobody_learned_are_counted() -> None:
    drift = measure_drift(DriftConfig(), sample(5, 200, words=RARE), OLD)
    assert drift.unseen_words == 1.0
    assert measure_drift(DriftConfig(), sample(5, 200), OLD).unseen_words == 0.0


@pytest.mark.parametrize(("stop", "length", "stops"), [(True, 40, True), (True, 12, False), (False, 40, False)])
def test_a_night_is_stopped_by_a_strong_drift_alone_and_only_if_the_recipe_says_so(stop: bool, length: float, stops: bool) -> None:
    assert measure_drift(DriftConfig(stop=stop), sample(5, 200, length=length), OLD).stops is stops


def test_few_rows_are_not_compared_and_that_is_told() -> None:
    drift = measure_drift(DriftConfig(stop=True), sample(5, 20, words=RARE), OLD)
    assert drift.figures == ()
    assert not drift.stops
    assert drift.why == "not compared: 20 new rows and 400 that were learned from, expected 50 of each at the least"


@pytest.mark.parametrize("text", ["", " ", "…"])
def test_rows_without_words_and_all_alike_are_compared(text: str) -> None:
    alike = Sample([text] * 100, [()] * 100, [0.0] * 100)
    assert {one.level for one in measure_drift(DriftConfig(), alike, alike).figures} == {"none"}
    assert measure_drift(DriftConfig(), alike, OLD).figures
    assert measure_drift(DriftConfig(), OLD, alike).figures


def test_the_bound_of_luck_is_that_of_chi_squared() -> None:
    for bins in (2, 3, 10, 30):
        assert noise_bound(bins, 200, 1_500) == pytest.approx(chi2.ppf(0.99, bins - 1) * (1 / 200 + 1 / 1_500), rel=0.02)


def test_a_drift_is_read_as_it_was_written(tmp_path: Path) -> None:
    drift: Drift = measure_drift(DriftConfig(), sample(5, 200), OLD)
    write_drift(drift, tmp_path)
    assert read_drift(tmp_path) == drift


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"strong_from 0\.1 is below told_from 0\.2"):
        DriftConfig(told_from=0.2, strong_from=0.1)

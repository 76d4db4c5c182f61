import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.bootstrap import Estimate, estimate
from tasks.evaluate.metrics import rouge_l
from tasks.items import Floats


def ratio(above: Floats, below: Floats, resamples: int, seed: int) -> Estimate:
    return estimate("ratio", np.stack([above, below], axis=1), resamples, seed)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=40), st.integers(0, 3))
def test_interval_contains_the_mean_and_names_the_count(values: list[float], seed: int) -> None:
    found = ratio(np.array(values), np.ones(len(values)), 100, seed)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(np.mean(values))
    assert found.n == len(values)


def test_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).normal(10, 2, size=400)
    found = ratio(values, np.ones(400), 4_000, 1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_ratio_weighs_items_by_their_size() -> None:
    found = ratio(np.array([8.0, 2.0]), np.array([1.0, 9.0]), 100, 1)
    assert found.value == 1.0  # not (8 + 2/9) / 2


def test_same_seed_gives_the_same_interval() -> None:
    values = np.arange(50.0)
    assert ratio(values, np.ones(50), 300, 1) == ratio(values, np.ones(50), 300, 1)
    assert ratio(values, np.ones(50), 300, 1) != ratio(values, np.ones(50), 300, 2)


def test_macro_f1_by_hand() -> None:
    actual, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    one_hot = np.eye(3)
    hits = one_hot[actual] * (actual == predicted)[:, None]
    found = estimate("macro_f1", np.concatenate([hits, one_hot[predicted], one_hot[actual]], axis=1), 100, 1)
    assert found.value == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2)  # the third class does not occur
    assert found.low <= found.value <= found.high <= 1


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_rouge_l_matches_its_plain_definition(found: list[int], wanted: list[int]) -> None:
    def longest(a: list[int], b: list[int]) -> int:
        if not a or not b:
            return 0
        return longest(a[1:], b[1:]) + 1 if a[0] == b[0] else max(longest(a[1:], b), longest(a, b[1:]))

    plain = 2 * longest(found, wanted) / (len(found) + len(wanted)) if found and wanted else float(found == wanted)
    assert rouge_l(found, wanted) == pytest.approx(plain)


def test_nothing_that_was_to_be_found_and_was_not_is_a_full_share() -> None:
    assert ratio(np.zeros(5), np.zeros(5), 100, 1) == Estimate(1.0, 1.0, 1.0, 5)

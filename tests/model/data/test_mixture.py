from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config.training_config import MixturePhase
from model.data.mixture import Mixture, take_turns, whole_weights

GROUPS = ("books", "code", "news", "wiki")
weights = st.dictionaries(st.sampled_from(GROUPS), st.integers(0, 30), min_size=1).filter(lambda w: any(w.values()))


@st.composite
def phases(draw: st.DrawFn) -> list[MixturePhase]:
    later = sorted(draw(st.sets(st.integers(1, 40), max_size=3)))
    return [MixturePhase(step, {k: float(v) for k, v in draw(weights).items()}) for step in (0, *later)]


@given(shares=st.lists(st.integers(0, 60), min_size=1, max_size=9).filter(any))
def test_no_prefix_of_a_cycle_is_a_whole_sample_off(shares: list[int]):
    turns, cycle = take_turns(shares), sum(shares)
    taken = np.zeros(len(shares), int)
    for sample, group in enumerate(turns, 1):
        taken[group] += 1
        assert all(abs(Fraction(share * sample, cycle) - int(n)) < 1 for share, n in zip(shares, taken, strict=True))
    assert taken.tolist() == shares


@given(phases=phases(), batch_rows=st.integers(1, 17))
def test_counts_are_within_one_of_the_ideal_at_every_step(phases: list[MixturePhase], batch_rows: int):
    mixture = Mixture(GROUPS, phases, batch_rows)
    for step in range(60):
        counts, ideal = mixture.counts(step * batch_rows), mixture.ideal(step * batch_rows)
        assert sum(counts) == sum(ideal) == step * batch_rows
        assert all(abs(int(count) - asked) < 1 for count, asked in zip(counts, ideal, strict=True))


@given(phases=phases(), batch_rows=st.integers(1, 17))
def test_drawing_agrees_with_counting_and_leads_back(phases: list[MixturePhase], batch_rows: int):
    mixture = Mixture(GROUPS, phases, batch_rows)
    samples = np.arange(300)
    groups, ordinals = mixture.draw(samples)
    for sample in samples.tolist():
        assert ordinals[sample] == np.count_nonzero(groups[:sample] == groups[sample])
        assert mixture.sample_of(int(groups[sample]), int(ordinals[sample])) == sample
    assert mixture.counts(300).tolist() == [np.count_nonzero(groups == number) for number in range(len(GROUPS))]


@settings(max_examples=20)
@given(sample=st.integers(0, 10**15))
def test_a_sample_far_into_the_run_costs_no_more(sample: int):
    mixture = Mixture(GROUPS, [MixturePhase(0, {"books": 7.0, "wiki": 3.0})], 8)
    groups, _ = mixture.draw(np.array([sample]))
    assert mixture.counts(sample + 1)[groups[0]] - mixture.counts(sample)[groups[0]] == 1


def test_phase_begins_with_the_first_whole_cycle_at_or_after_its_step():
    one, other = MixturePhase(0, {"books": 2.0, "code": 1.0}), MixturePhase(2, {"news": 1.0})
    groups, _ = Mixture(GROUPS, [one, other], 4).draw(np.arange(12))
    assert np.flatnonzero(groups == 2).tolist() == [9, 10, 11]  # step 2 is sample 8, the third cycle of 3 ends with it


def test_group_without_a_weight_never_comes():
    mixture = Mixture(GROUPS, [MixturePhase(0, {"books": 1.0, "code": 0.0})], 4)
    assert mixture.counts(1000).tolist() == [1000, 0, 0, 0]
    assert mixture.sample_of(1, 0) is None


@pytest.mark.parametrize(("given", "whole"), [({"books": 0.7, "code": 0.3}, [7, 3, 0, 0]), ({"wiki": 12.5, "code": 50.0}, [0, 4, 0, 1])])
def test_weights_are_exact_decimals(given: dict[str, float], whole: list[int]):
    assert whole_weights(GROUPS, MixturePhase(0, given)) == whole


def test_unknown_group_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no group 'book'; their groups: books, code, news, wiki"):
        Mixture(GROUPS, [MixturePhase(0, {"book": 1.0})], 4)


def test_weights_that_never_repeat_are_refused():
    with pytest.raises(ValueError, match=r"repeat only after 1,000,000 samples, at most 10,000 fit; round"):
        Mixture(GROUPS, [MixturePhase(0, {"books": 0.123457, "code": 0.876543})], 4)


def test_negative_and_missing_weights_are_refused():
    with pytest.raises(ValueError, match=r"weights\.code -1"):
        MixturePhase(0, {"code": -1.0})
    with pytest.raises(ValueError, match="no group has a weight above 0"):
        MixturePhase(0, {"code": 0.0})

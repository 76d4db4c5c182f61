"""Search spaces: how they are written, what they refuse, and what is drawn from them."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.tune.spaces import Choices, Kind, Range, Takes, draws, how_many, parse_space

NUMBER = Takes("float")
WHOLE = Takes("int")
PLACES = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("text", "takes", "space"),
    [
        ("1e-4..1e-2:log", NUMBER, Range(1e-4, 1e-2, is_log=True, is_whole=False)),
        ("0.0..0.3", NUMBER, Range(0.0, 0.3, is_log=False, is_whole=False)),
        ("-1..1", NUMBER, Range(-1.0, 1.0, is_log=False, is_whole=False)),
        ("2..6", WHOLE, Range(2.0, 6.0, is_log=False, is_whole=True)),
        ("2,4,6", WHOLE, Choices((2, 4, 6))),
        ("1e-3, 0.01", NUMBER, Choices((0.001, 0.01))),
        ("true,false", Takes("bool"), Choices((True, False))),
        ("cosine,wsd", Takes("text", words=("cosine", "wsd")), Choices(("cosine", "wsd"))),
        ("null,2", Takes("int", null=True), Choices((None, 2))),
    ],
)
def test_space_is_read_as_it_is_written(text: str, takes: Takes, space: Choices | Range) -> None:
    assert parse_space(text, takes) == space


@pytest.mark.parametrize(
    ("text", "takes", "message"),
    [
        ("1e-2..1e-4", NUMBER, "the lower bound first"),
        ("3..3", WHOLE, "another one above it"),
        ("0..1:log", NUMBER, "a lower bound above 0"),
        ("1..2:linear", NUMBER, "expected :log"),
        ("2.5..6", WHOLE, "found '2.5', expected a whole number"),
        ("1..", NUMBER, "found '', expected a number"),
        ("1..inf", NUMBER, "found 'inf', expected a number"),
        ("a..b", Takes("text"), "give values, such as A,B"),
        ("4", WHOLE, "found one value"),
        ("2,4,2", WHOLE, "2 stands twice"),
        ("2,,4", WHOLE, "found '', expected a whole number"),
        ("cosine,linea", Takes("text", words=("cosine", "linear")), "expected cosine, linear"),
        ("yes,no", Takes("bool"), "expected true or false"),
    ],
)
def test_what_is_no_space_is_refused(text: str, takes: Takes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_space(text, takes)


@given(st.text(), st.sampled_from(["int", "float", "bool", "text"]), st.booleans())
def test_any_text_is_a_space_or_refused_by_a_value_error(text: str, kind: Kind, null: bool) -> None:
    try:
        space = parse_space(text, Takes(kind, null))
    except ValueError:
        return
    assert len(space.ends) >= 2


@given(st.floats(1e-9, 1e6), st.floats(1.0001, 1e6), st.booleans(), PLACES)
def test_drawn_number_lies_between_the_bounds_and_is_short(low: float, factor: float, is_log: bool, place: float) -> None:
    space = Range(low, low * factor, is_log, is_whole=False)
    found = space.at(place)
    assert isinstance(found, float)
    assert low <= found <= low * factor
    assert found in (low, low * factor) or found == float(f"{found:.3g}") or found == round(found)


@given(st.integers(1, 50), st.integers(1, 50), st.booleans())
def test_every_whole_number_of_a_range_is_drawn_and_no_other(low: int, more: int, is_log: bool) -> None:
    space = Range(low, low + more, is_log, is_whole=True)
    found = {space.at(place / 5000) for place in range(5000)}
    assert found == set(range(low, low + more + 1))


def test_powers_of_ten_are_equally_likely_on_a_logarithm() -> None:
    space = {"rate": Range(1e-4, 1e-2, is_log=True, is_whole=False)}
    found = [float(str(one["rate"])) for one in itertools.islice(draws(space, seed=1), 256)]
    assert abs(sum(rate < 1e-3 for rate in found) - 128) <= 3
    assert math.isclose(math.exp(sum(map(math.log, found)) / 256), 1e-3, rel_tol=0.02)


def test_longer_search_begins_with_the_same_values() -> None:
    spaces = {"rate": Range(1e-4, 1e-2, is_log=True, is_whole=False), "layers": Choices((2, 4, 6))}
    few, many = (list(itertools.islice(draws(spaces, seed=3), count)) for count in (5, 200))
    assert many[:5] == few
    assert many[:5] != list(itertools.islice(draws(spaces, seed=4), 5))


def test_values_together_are_counted_where_they_have_an_end() -> None:
    choices = {"a": Choices((1, 2, 3)), "b": Range(2, 5, is_log=False, is_whole=True)}
    assert how_many(choices) == 12
    assert how_many({**choices, "c": Range(0.0, 1.0, is_log=False, is_whole=False)}) is None

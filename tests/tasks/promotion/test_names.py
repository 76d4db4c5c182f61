"""Names under which the models of a recipe compete."""

import pytest

from tasks.promotion.names import BASE, registry_names


def test_pretrained_base_has_the_name_and_its_fine_tunes_names_of_their_own() -> None:
    found = registry_names("mill", {}, {"chat": True, "areas": False}, has_base=True)
    assert found == {BASE: "mill", "chat": "mill-chat", "areas": "mill-areas"}


def test_fine_tune_of_a_champion_that_writes_goes_on_under_its_name_and_a_labeller_does_not() -> None:
    assert registry_names("mill", {}, {"chat": True, "areas": False}, has_base=False) == {"chat": "mill", "areas": "mill-areas"}


def test_labeller_goes_on_under_the_name_that_was_made_for_it() -> None:
    assert registry_names("mill-areas", {}, {"areas": False}, has_base=False) == {"areas": "mill-areas"}
    assert registry_names("mill", {}, {"mill": False}, has_base=False) == {"mill": "mill-mill"}


def test_two_writers_of_one_champion_are_refused_until_one_has_a_name_of_its_own() -> None:
    writers = {"chat": True, "code": True}
    with pytest.raises(ValueError, match=r"chat and code would both be registered as 'mill'.*register.names: \{code: mill-code\}"):
        registry_names("mill", {}, writers, has_base=False)
    assert registry_names("mill", {"code": "mill-code"}, writers, has_base=False) == {"chat": "mill", "code": "mill-code"}


def test_name_that_meets_the_base_is_refused() -> None:
    with pytest.raises(ValueError, match="the base and chat would both be registered as 'mill'"):
        registry_names("mill", {"chat": "mill"}, {"chat": True}, has_base=True)


def test_name_for_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no model is called 'chatt'; fine-tuned here: chat"):
        registry_names("mill", {"chatt": "other"}, {"chat": True}, has_base=True)

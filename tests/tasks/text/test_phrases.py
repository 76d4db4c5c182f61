"""Counting phrases: whole words of any case, and Chinese ones anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.phrases import PhraseCounter


@pytest.mark.parametrize(
    ("entries", "text", "count"),
    [
        (["ass"], "Ass, assess, class and ASS.", 2),
        (["all rights reserved"], "All rights\n  Reserved; all rights are reserved", 1),
        (["坏词"], "这是坏词坏词。", 2),
        (["c++", "a.b"], "C++ and a.b but axb", 2),
        (["new york", "york"], "New York, York", 2),  # the longer one first, and nothing twice
        (["x"], "", 0),
        ([], "anything", 0),
    ],
)
def test_occurrences(entries: list[str], text: str, count: int):
    assert PhraseCounter(entries).count([text]) == [count]


@given(st.lists(st.sampled_from(["bad", "Bad", "badly", "好坏", " ", ". ", "\n"]), max_size=30).map("".join))
def test_words_equal_a_plain_count(text: str):
    words = "".join(c if c.isascii() and c.isalpha() else " " for c in text).lower().split()
    assert PhraseCounter(["bad"]).count([text]) == [words.count("bad")]

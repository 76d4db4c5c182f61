"""Words of a text are encoded as they stand in it, whatever the tokenizer puts before a text; beside transformers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from tasks.tokenizer.encoding import encode_documents
from tasks.tokenizer.word_encoding import WordEncoder
from tests.tasks.tokenizer.tokenizer_forms import FOREIGN, FORMS, form, spelled

LETTERS = "John readsbook12.,():'’“éÉ½\u0301\u200b\u200d\ufe0f\u00ad\x07\x00😀👍🏽山水北京แม่한글ﬁ<|bos|>[MASK]"
words = st.text(st.sampled_from([letter for letter in LETTERS if not letter.isspace()]), min_size=1, max_size=6)


@pytest.mark.parametrize("name", FOREIGN)
@settings(max_examples=30)
@given(
    given_words=st.lists(words.filter(lambda word: not {"<", "["} & set(word)), min_size=1, max_size=6)
)  # they take <s> or [MASK] for a token
def test_words_set_apart_by_spaces_have_the_ids_of_transformers(name: str, given_words: list[str]) -> None:
    tokenizer = form(name)
    spaced = [given_words[0], *(f" {word}" for word in given_words[1:])]
    found = WordEncoder(tokenizer).encode(spaced)
    tokenizer.encode_special_tokens = True
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    alone = spaced if name in ("gpt2", "neox") else given_words  # these know words by the space before them
    expected = theirs(alone, is_split_into_words=True, add_special_tokens=False)
    aligned: list[list[int]] = [[] for _ in given_words]
    for number, word in zip(expected["input_ids"], expected.word_ids(), strict=True):
        aligned[word].append(number)
    assert found == aligned


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=30)
@given(parts=st.lists(st.one_of(words, words.map(" ".__add__), st.sampled_from([" ", "\n  ", "    "])), max_size=6))
def test_text_that_nothing_cuts_has_the_ids_of_the_text(name: str, parts: list[str]) -> None:
    tokenizer, text = form(name), "".join(parts)
    (whole,) = WordEncoder(tokenizer).encode([text]) if text else ([],)
    assert whole == encode_documents(tokenizer, [text])[0]
    found = WordEncoder(tokenizer).encode(parts)
    assert len(found) == len(parts)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama", [["▁John"], ["▁read", "s"], ["山"], ["水"], ["▁f"], ["("], ["x"]]),
        ("mistral", [["▁John"], ["▁read", "s"], ["山"], ["水"], ["▁f"], ["("], ["x"]]),
        ("llama, old", [["▁John"], ["▁read", "s"], ["山"], ["水"], ["▁f"], ["("], ["x"]]),
        ("gpt2 with a space before", [["ĠJohn"], ["Ġread", "s"], ["å±±"], ["æ°´"], ["Ġf"], ["("], ["x"]]),
    ],
)
def test_word_without_a_space_before_it_gets_none(name: str, expected: list[list[str]]) -> None:
    tokenizer = form(name)
    found = WordEncoder(tokenizer).encode(["John", " reads", "山", "水", " f", "(", "x"])
    assert ["".join(spelled(tokenizer, ids)) for ids in found] == ["".join(word) for word in expected]


@pytest.mark.parametrize(("name", "lost"), [("bert", "\u200b"), ("bert", "\x07"), ("bert", "\ufe0f"), ("our word pieces", "\u200d")])
def test_word_of_which_nothing_is_left_has_no_token_and_moves_no_other(name: str, lost: str) -> None:
    tokenizer = form(name)
    first, second = encode_documents(tokenizer, ["john", "reads"])
    assert WordEncoder(tokenizer).encode(["John", f" {lost}", " reads"]) == [first, [], second]

"""How much of a text a tokenizer spells in bytes, by language."""

from pathlib import Path

import pytest
import tokenizers

from tasks.sampling import SampledDocument
from tasks.tokenizer.byte_spelling import Fit, measure_fit, read_fit, write_fit
from tasks.tokenizer.encoding import SPECIAL_TOKENS, Encoder, vocabulary_size
from tasks.tokenizer.vocabulary import complete, learn_merges_fast, new_tokenizer
from tests.tasks.foreign import bert_tokenizer

ENGLISH = ["the mill wheel turns the grain into flour "] * 20


@pytest.fixture(scope="module")
def english() -> tokenizers.Tokenizer:
    tokenizer = new_tokenizer("bpe")
    learn_merges_fast(tokenizer, "mixed", lambda: iter(ENGLISH), 300, SPECIAL_TOKENS)
    complete(tokenizer)
    return tokenizer


def measured(tokenizer: tokenizers.Tokenizer, unknown: int | None = None, **texts: str) -> dict[str, Fit]:
    documents = [SampledDocument(language, language, text, "made") for language, text in texts.items()]
    found = measure_fit(Encoder(tokenizer, None, vocabulary_size(tokenizer)), unknown, documents)
    return {one.language: one for one in found if not one.source}


def test_a_language_that_was_never_seen_is_in_bytes_and_one_that_was_is_not(english: tokenizers.Tokenizer) -> None:
    found = measured(english, en=ENGLISH[0], zh="磨坊旁边的小河")
    assert (found["zh"].share, found["zh"].bytes_per_token) == (1.0, 1.0)
    assert found["en"].share < 0.1
    assert found["en"].bytes_per_token > 3


def test_letters_one_by_one_are_bytes_too(english: tokenizers.Tokenizer) -> None:
    assert measured(english, en="zyx qvj")["en"].share > 0.7


def test_what_becomes_the_unknown_token_counts_by_its_bytes() -> None:
    tokenizer = bert_tokenizer().backend_tokenizer
    found = measured(tokenizer, tokenizer.token_to_id("[UNK]"), zh="群岛 apple")
    assert (found["zh"].unknown, found["zh"].bytes) == (6, 12)


def test_sources_stand_before_the_sum_of_their_language(english: tokenizers.Tokenizer, tmp_path: Path) -> None:
    documents = [SampledDocument("1", "en", "the mill", "a"), SampledDocument("2", "en", "the wheel", "b")]
    found = measure_fit(Encoder(english, None, vocabulary_size(english)), None, documents)
    assert sorted((one.source, one.bytes) for one in found) == [("", 17), ("a", 8), ("b", 9)]
    write_fit(found, tmp_path)
    assert read_fit(tmp_path) == found

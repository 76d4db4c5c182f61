"""New tokens behind a finished vocabulary: old ids keep their meaning, texts come back, and each new token knows what spelled it."""

import json
import random
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from tasks.errors import UserError
from tasks.tokenizer.encoder_check import check_encoder
from tasks.tokenizer.encoding import SPECIAL_TOKENS, encode_documents
from tasks.tokenizer.new_tokens import Grown, add_tokens, read_spelled, write_spelled
from tasks.tokenizer.vocabulary import complete, learn_merges_fast, new_tokenizer
from tests.tasks.foreign import TEXTS, bert_tokenizer, gpt2_tokenizer

OLD = ["the mill wheel turns grain into flour ", "the river runs under the stone bridge "] * 20
NEW = ["the cartographer charted an archipelago, 群岛在北方。 ", "cartographers chart archipelagos 群岛 "] * 20


def trained() -> tokenizers.Tokenizer:
    tokenizer = new_tokenizer("bpe")
    learn_merges_fast(tokenizer, "mixed", lambda: iter(OLD), 300, SPECIAL_TOKENS)
    complete(tokenizer)
    return tokenizer


@pytest.fixture(scope="module")
def grown() -> Grown:
    return add_tokens(trained(), iter(NEW), 40)


def test_old_tokens_keep_their_ids_and_new_ones_stand_behind_them(grown: Grown) -> None:
    old, size = trained(), trained().get_vocab_size()
    assert all(grown.tokenizer.token_to_id(token) == number for token, number in old.get_vocab().items())
    assert sorted(grown.spelled) == list(range(size, size + 40))
    assert grown.tokenizer.get_vocab_size() == size + 40


def test_new_tokens_shorten_the_text_they_were_learned_on_and_leave_old_text_as_it_was(grown: Grown) -> None:
    old = trained()
    before, after = (len(encode_documents(one, NEW)[0]) for one in (old, grown.tokenizer))
    assert after < before / 2
    assert encode_documents(grown.tokenizer, OLD) == encode_documents(old, OLD)


def test_a_new_token_stands_for_the_text_that_its_old_tokens_spelled(grown: Grown) -> None:
    old = trained()
    assert all(grown.tokenizer.decode([new]) == old.decode(list(ids)) for new, ids in grown.spelled.items())
    assert all(max(ids) < old.get_vocab_size() and len(ids) > 1 for ids in grown.spelled.values())


@given(st.text(max_size=60))
def test_any_text_comes_back(grown: Grown, text: str) -> None:
    (ids,) = encode_documents(grown.tokenizer, [text])
    assert grown.tokenizer.decode(ids, skip_special_tokens=False) == text


def test_grown_byte_pairs_still_encode_by_the_fast_path(grown: Grown) -> None:
    _, check = check_encoder(grown.tokenizer, NEW)
    assert check.path == "tiktoken", check.why


def test_equal_texts_give_equal_tokens(grown: Grown) -> None:
    shuffled = random.Random(1).sample(NEW, len(NEW))
    assert add_tokens(trained(), iter(shuffled), 40).tokenizer.to_str() == grown.tokenizer.to_str()


def test_special_tokens_beside_the_vocabulary_do_not_move() -> None:
    tokenizer = gpt2_tokenizer().backend_tokenizer
    tokenizer.add_special_tokens(["<|turn|>"])  # behind the model's own vocabulary, as Llama 3 has them
    number = tokenizer.token_to_id("<|turn|>")
    more = add_tokens(tokenizer, iter(NEW), 10)
    assert more.tokenizer.token_to_id("<|turn|>") == number
    assert min(more.spelled) == number + 1


def test_word_pieces_get_whole_words_and_signs_that_were_unknown() -> None:
    tokenizer = bert_tokenizer().backend_tokenizer
    more = add_tokens(tokenizer, iter(NEW), 12)
    assert "cartographers" in more.tokenizer.encode("Cartographers 群").tokens
    assert tokenizer.token_to_id("[UNK]") not in more.tokenizer.encode("群").ids
    sign = more.tokenizer.token_to_id("群")
    assert more.spelled[sign] == (), "nothing spelled what was not known"


def test_small_text_gives_fewer_tokens_than_asked_for() -> None:
    assert 0 < len(add_tokens(trained(), iter(["cartographer cartographer"]), 500).spelled) < 20


@pytest.mark.parametrize("model", [models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0), models.BPE({"a": 0}, [])])
def test_vocabulary_that_cannot_go_on_is_refused_with_the_fix(model: models.Model) -> None:
    with pytest.raises(UserError, match=r"adapt\.add_tokens: the base's tokenizer cannot learn tokens.*Fix: leave adapt\.add_tokens out"):
        add_tokens(tokenizers.Tokenizer(model), iter(TEXTS), 5)


def test_merges_without_spaces_between_words_are_learned_within_words_alone() -> None:
    tokenizer = tokenizers.Tokenizer(models.BPE({letter: number for number, letter in enumerate("abc")}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    more = add_tokens(tokenizer, iter(["ab ca", "ab ca"]), 9)
    assert set(json.loads(more.tokenizer.to_str())["model"]["vocab"]) == {"a", "b", "c", "ab", "ca"}


def test_what_spelled_new_tokens_is_read_as_it_was_written(grown: Grown, tmp_path: Path) -> None:
    assert read_spelled(tmp_path) == {}
    write_spelled(grown.spelled, tmp_path)
    assert read_spelled(tmp_path) == grown.spelled

"""What of a text's nats falls on which kind of byte."""

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from tasks.evaluate.byte_kinds import BYTE_KINDS, byte_kind, encode_with_spans, nats_by_kind
from tasks.tokenizer.encoding import encode_documents
from tasks.tokenizer.tokenizer import complete, learn_merges, new_tokenizer
from tests.tasks.foreign import bert_tokenizer, gpt2_tokenizer

TEXTS = ["rain falls on 石头, 12 times!", "Ünïcode\u0301 石 \U0001f600\u200d\n\n  <|bos|> ▁x", "  \t", "石"]


def pieces_with_bytes() -> Tokenizer:
    """As SentencePiece has it: ▁ before a text and for its spaces, bytes of what it does not know, and letters in their NFKC form."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁rain", "r", "a", "i", "n", "f", "l", "s"]
    made = Tokenizer(models.Unigram([(token, -float(number)) for number, token in enumerate(tokens)], 0, byte_fallback=True))
    steps = [normalizers.NFKC(), normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    made.normalizer = normalizers.Sequence(steps)  # type: ignore[attr-defined]
    return made


def our_own() -> Tokenizer:
    made = new_tokenizer()
    learn_merges(made, iter(TEXTS * 3), 300)
    complete(made)
    return made


def by_whole_words() -> Tokenizer:
    made = Tokenizer(models.WordLevel({"<unk>": 0, "rain": 1}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[attr-defined]
    return made


MADE = {
    "ours": our_own(),
    "gpt2": Tokenizer.from_str(gpt2_tokenizer().backend_tokenizer.to_str()),
    "bert": Tokenizer.from_str(bert_tokenizer().backend_tokenizer.to_str()),
    "pieces": pieces_with_bytes(),
    "words": by_whole_words(),
}


def shared_out(tokenizer: tokenizers.Tokenizer, text: str) -> tuple[dict[str, float], dict[str, int], np.ndarray]:
    (ids,), (spans,) = encode_with_spans(tokenizer, [text])
    nats = np.random.default_rng(len(ids)).uniform(0.1, 9, len(ids))
    found, sizes = nats_by_kind(text, spans, nats)
    return dict(zip(BYTE_KINDS, found.tolist(), strict=True)), dict(zip(BYTE_KINDS, sizes.tolist(), strict=True)), nats


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=40, deadline=None)
@given(text=st.text(st.sampled_from("ra in\n\t石头,1²é\u0301\U0001f600\u200d▁Ａﬁ"), min_size=1, max_size=30))
def test_parts_add_up_to_the_whole_text_under_any_tokenizer(name: str, text: str) -> None:
    (ids,), _ = encode_with_spans(MADE[name], [text])
    assert ids == encode_documents(MADE[name], [text])[0]
    found, sizes, nats = shared_out(MADE[name], text)
    assert sum(found.values()) == pytest.approx(nats.sum())
    assert sum(sizes.values()) == len(text.encode())
    assert all(nats == 0 for kind, nats in found.items() if sizes[kind] == 0)


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_of_a_text_are_of_one_kind_each_whoever_reads_it(text: str) -> None:
    plain = {kind: sum(len(letter.encode()) for letter in text if byte_kind(letter) == kind) for kind in BYTE_KINDS}
    assert all(shared_out(tokenizer, text)[1] == plain for tokenizer in MADE.values())


def test_token_of_a_space_and_letters_shares_its_nats_with_the_space() -> None:
    spans = np.array([0, 3]), np.array([3, 7])
    found, sizes = nats_by_kind("the mill"[:7], spans, np.array([3.0, 8.0]))
    assert dict(zip(BYTE_KINDS, found, strict=True))["space"] == 2.0
    assert dict(zip(BYTE_KINDS, found, strict=True))["letters"] == 3.0 + 6.0
    assert sizes.sum() == 7


def test_pieces_of_a_character_all_fall_on_it() -> None:
    spans = np.array([0, 1, 1, 1]), np.array([1, 2, 2, 2])  # a, then a Han character in three bytes
    found, sizes = nats_by_kind("a石", spans, np.array([1.0, 2.0, 3.0, 4.0]))
    assert dict(zip(BYTE_KINDS, found, strict=True))["han"] == 9.0
    assert dict(zip(BYTE_KINDS, sizes, strict=True)) == {kind: {"letters": 1, "han": 3}.get(kind, 0) for kind in BYTE_KINDS}


def test_space_that_a_tokenizer_drops_belongs_to_the_word_behind_it() -> None:
    found, _, nats = shared_out(MADE["words"], "rain  rain")
    assert found["space"] == pytest.approx(nats[1] * 2 / 6)


@pytest.mark.parametrize(
    ("kind", "characters"),
    [
        ("letters", "aéЖあ한ا\u0301々"),
        ("han", "石头㐀𠀀豈"),
        ("digits", "1²٣Ⅷ"),
        ("space", " \n\t\u3000\u00a0"),
        ("punctuation", ",，。-$+\U0001f600"),
        ("other", "\x00\u200d\ue000"),
    ],
)
def test_kind_of_a_character(kind: str, characters: str) -> None:
    assert {byte_kind(character) for character in characters} == {kind}

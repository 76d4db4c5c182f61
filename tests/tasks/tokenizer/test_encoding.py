import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rustbpe import Tokenizer as Rust
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from tasks.errors import UserError
from tasks.tokenizer.byte_pairs import byte_letters, merges_of, spell
from tasks.tokenizer.encoder_check import check_encoder, hostile_texts
from tasks.tokenizer.encoding import SPECIAL_TOKENS, Encoder, encode_documents, encode_slowly, load_tokenizer, open_encoder, text_ids
from tasks.tokenizer.pretokenizers import ALLOWED, PATTERNS, splitter
from tasks.tokenizer.tiktoken_form import ByteForm, byte_form, doubts
from tasks.tokenizer.vocabulary import complete, learn_merges, learn_merges_fast, new_tokenizer

LEARNED = [
    "The quick brown fox jumps over the lazy dog, and it doesn't look back at number 12345.\n" * 3,
    "敏捷的棕色狐狸跳过了懒狗，第77次也没有回头。\n" * 3,
    "def jump(fox, dog):\n    for step in range(10):\n        fox.over(dog)  # 狐狸\n    return fox\n" * 3,
]
PARTS = [
    *SPECIAL_TOKENS, "狐狸", " fox", "fox", "'s", "'ll", "'", "\n", "\r\n", " ", "  ", "\t", "\x00", "12", "٣", "²", "e\u0301",
    "\u0301", "👩‍👩‍👧", "\ue000", "\u2028", "\u3000", "\u00a0", "。", "...", "_", "ſ", "K", "ß", "ǅ", "ไทย", "\U00020000",
]  # fmt: skip


def byte_level(pretokens: str = "mixed") -> RustTokenizer:
    tokenizer = new_tokenizer("bpe", pretokens)
    learn_merges_fast(tokenizer, pretokens, lambda: iter(LEARNED), 500, SPECIAL_TOKENS)
    complete(tokenizer)
    return tokenizer


@pytest.fixture(scope="module", params=ALLOWED["bpe"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    tokenizer = byte_level(request.param)
    encoder, check = check_encoder(tokenizer, LEARNED)
    assert (check.path, check.why) == ("tiktoken", "identical ids")
    assert check.checked_documents > 50
    assert encoder.fast is not None
    return encoder


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.sampled_from(PARTS)).map("".join)))
def test_both_paths_give_the_same_ids(encoder: Encoder, text: str) -> None:
    (ids,) = encoder.encode([text])
    assert ids.dtype == np.uint32
    assert ids.tolist() == encode_slowly(encoder.tokenizer, text).tolist()
    assert encoder.tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text
    assert not {encoder.tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}.intersection(ids.tolist())


def test_many_texts_are_encoded_each_alone(encoder: Encoder) -> None:
    texts = ["", *LEARNED, "<|eos|>"]
    assert [ids.tolist() for ids in encoder.encode(texts)] == encode_documents(encoder.tokenizer, texts)


def test_no_pretoken_outgrows_its_bound() -> None:
    for pretokens in ("mixed", "gpt2", "words", "whitespace", "single_han"):
        cut = splitter(pretokens)
        for text in (
            "a" * 500,
            " " * 500,
            "\n" * 500,
            "山" * 500,
            "1" * 500,
            "." * 500,
            "\u0301" * 500,
            "\n" + " " * 500,
        ):
            assert max((len(pretoken) for pretoken, _ in cut.pre_tokenize_str(text)), default=0) <= 100


def test_white_space_for_megabytes_is_encoded_exactly() -> None:
    tokenizer = byte_level()
    encoder, _ = check_encoder(tokenizer, [])
    text = " " * 1_000_000 + "\n" * 500_000 + "x"
    (ids,) = encoder.encode([text])
    assert tokenizer.decode(ids.tolist()) == text


def unbounded(pattern: str) -> RustTokenizer:
    tokenizer = new_tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learn_merges(tokenizer, iter(LEARNED), 300)
    complete(tokenizer)
    return tokenizer


GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def test_text_that_overflows_the_fast_path_goes_the_slow_way() -> None:
    tokenizer = unbounded(GPT4)
    encoder, check = check_encoder(tokenizer, LEARNED)
    assert check.path == "tiktoken"
    text = "x" + " " * 1_000_000
    assert encoder.fast is not None
    with pytest.raises(ValueError, match="Regex error"):
        encoder.fast.encode_to_numpy(text, disallowed_special=())
    (ids,) = encoder.encode([text])
    assert ids.tolist() == encode_slowly(tokenizer, text).tolist()


def test_text_that_neither_path_can_take_is_named() -> None:
    tokenizer = unbounded(r"\p{L}+|\s+(?=\p{L})|[\s\S]")
    with pytest.raises(UserError, match=r"a text of 12,000,005 characters that begins 'start'.* white space"):
        Encoder(tokenizer, None, 300).encode(["start" + " " * 12_000_000])


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"\w+|[^\w]", "may read differently"),
        (r"\p{L}+|[^\p{L}]$|[\s\S]", "may read differently"),
        (r"[[:alpha:]]+|[\s\S]", "may read differently"),
        (r"\p{L}{1,3}+|[\s\S]", "may read differently"),
        (r"\p{L}+|\s", "leaves out some characters"),
    ],
)
def test_patterns_that_two_engines_may_read_differently_are_not_trusted(pattern: str, why: str) -> None:
    encoder, check = check_encoder(unbounded(pattern), [])
    assert check.path == "tokenizers"
    assert why in check.why
    assert encoder.fast is None


def other(kind: str) -> RustTokenizer:
    tokenizer = byte_level()
    if kind == "normalises":
        tokenizer.normalizer = normalizers.NFC()
    elif kind == "added tokens":
        tokenizer.add_tokens([AddedToken("  ", normalized=False)])
    elif kind == "cut by":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif kind == "algorithm":
        tokenizer.model = models.WordLevel({"a": 0}, unk_token="a")
    return tokenizer


@pytest.mark.parametrize("kind", ["normalises", "added tokens", "cut by", "algorithm"])
def test_what_tiktoken_cannot_express_takes_the_slow_path(kind: str) -> None:
    form = byte_form(other(kind))
    assert isinstance(form, str)
    assert kind in form


def test_merges_that_do_not_make_their_tokens_are_found_out() -> None:
    letters = byte_letters()
    tokens = [*letters, "ab", "bc", "abc"]
    vocab = {token: number for number, token in enumerate(tokens)}
    for merges, doubt in (
        ([("a", "b"), ("b", "c"), ("ab", "c")], None),
        ([("a", "b"), ("b", "c"), ("a", "bc")], "are not merged from the bytes"),  # "abc" alone would be ab|c
        ([("b", "c"), ("a", "b"), ("ab", "c")], "order of their tokens' ids"),
        ([("a", "b"), ("b", "c")], "are not merged from the bytes"),
    ):
        tokenizer = RustTokenizer(models.BPE(vocab, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        form = byte_form(tokenizer)
        assert isinstance(form, ByteForm)
        assert doubts(tokenizer, form) == doubt or (doubt is not None and doubt in str(doubts(tokenizer, form)))


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.sampled_from(PARTS)).map("".join)))
def test_rustbpe_itself_cuts_text_into_the_same_tokens(by_rustbpe: tuple[Rust, Encoder], text: str) -> None:
    compare_with_rustbpe(by_rustbpe, text)


def test_rustbpe_itself_agrees_on_hostile_texts(by_rustbpe: tuple[Rust, Encoder]) -> None:
    for text in (*LEARNED, *(hostile for hostile in hostile_texts() if len(hostile) < 100_000)):
        compare_with_rustbpe(by_rustbpe, text)


@pytest.fixture(scope="module")
def by_rustbpe() -> tuple[Rust, Encoder]:
    trained = Rust()
    trained.train_from_iterator(iter(LEARNED * 2), 480, pattern=PATTERNS["mixed"])
    tokenizer = new_tokenizer()
    learn_merges_fast(tokenizer, "mixed", lambda: iter(LEARNED * 2), 480 + len(SPECIAL_TOKENS), SPECIAL_TOKENS)
    complete(tokenizer)
    return trained, Encoder(tokenizer, None, 486)


def compare_with_rustbpe(both: tuple[Rust, Encoder], text: str) -> None:
    trained, encoder = both
    letters = byte_letters()
    spelled = {rank: spell(bytes(token), letters) for token, rank in trained.get_mergeable_ranks()}
    (ids,) = encoder.encode([text])
    assert [spelled[rank] for rank in trained.encode(text)] == [encoder.tokenizer.id_to_token(number) for number in ids]


@given(st.lists(st.text("abc ", max_size=20), max_size=20))
def test_merges_are_recovered_from_ranks_alone(texts: list[str]) -> None:
    tokenizer = new_tokenizer()
    learn_merges(tokenizer, iter(texts), 300)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [(left.replace("Ġ", " ").encode(), right.replace("Ġ", " ").encode()) for left, right in model["merges"]]
    assert merges_of([left + right for left, right in merges]) == merges


def test_ranking_that_no_training_made_is_not_explained() -> None:
    assert merges_of([b"ab", b"abcd"]) == [(b"a", b"b"), None]


def test_byte_letters_are_those_of_tokenizers() -> None:
    assert sorted(byte_letters()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    decoder = decoders.ByteLevel()
    assert [decoder.decode([letter]) for letter in byte_letters()[:128]] == [chr(byte) for byte in range(128)]


def test_special_token_of_any_form_stays_text_on_both_paths() -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", normalized=True, lstrip=True), AddedToken("\n\n")])
    encoder, check = check_encoder(tokenizer, ["fox  <|endoftext|>\n\n fox"])
    assert (check.path, encoder.vocab_size) == ("tiktoken", tokenizer.get_vocab_size())


def test_encoder_survives_a_trip_to_another_process() -> None:
    encoder, _ = check_encoder(byte_level(), [])
    returned = pickle.loads(pickle.dumps(encoder))
    assert returned.encode(LEARNED)[1].tolist() == encoder.encode(LEARNED)[1].tolist()


def test_folder_without_encoding_json_takes_the_slow_path(tmp_path: Path) -> None:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    assert open_encoder(tmp_path).fast is None
    (tmp_path / "encoding.json").write_text('{"path": "tiktoken", "why": "", "checked_documents": 1, "checked_bytes": 1}')
    assert open_encoder(tmp_path).fast is not None


def test_hostile_texts_hold_what_they_should() -> None:
    texts = list(hostile_texts())
    every = "".join(texts)
    assert all(token in every for token in SPECIAL_TOKENS)
    assert all(chr(code) in every for code in (0, 0xFF, 0x200D, 0x2028, 0x20000, 0xE000))
    assert max(len(text) for text in texts) == 1_000_000


@pytest.mark.parametrize(
    ("tokens", "start", "end"),
    [
        (["<|endoftext|>"], 0, 0),  # GPT-2, Qwen, SmolLM2
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], 2, 3),  # BERT
        (["<|endoftext|>", "<|padding|>", "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"], 3, 4),  # ModernBERT
        (["<unk>", "<s>", "</s>"], 1, 2),  # Llama 2, TinyLlama, Mistral
        (["<|begin_of_text|>", "<|end_of_text|>"], 0, 1),  # Llama 3
        (["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"], 0, 1),  # DeepSeek
        (["<unk>", "<|startoftext|>", "<|endoftext|>"], 1, 2),  # Yi
    ],
)
def test_texts_of_popular_tokenizers_begin_and_end_as_they_spell_it(tokens: list[str], start: int, end: int) -> None:
    tokenizer = RustTokenizer(models.BPE())
    tokenizer.add_special_tokens(tokens)
    found = text_ids(tokenizer, "here")
    assert (found.bos, found.eos) == (start, end)


def test_file_saved_while_it_cut_and_padded_is_read_without_both(tmp_path: Path) -> None:
    tokenizer, text = byte_level(), LEARNED[0]
    whole = encode_documents(tokenizer, [text, "a"])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert encode_documents(load_tokenizer(tmp_path), [text, "a"]) == whole

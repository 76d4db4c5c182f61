"""Objectives and tokenizers: special tokens, where words begin, and what is refused before a worker starts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig
from tasks.errors import UserError
from tasks.settings import identity
from tasks.tokenizer.encoding import SPECIAL_TOKENS, encode_documents
from tasks.tokenizer.objective_symbols import check_reserved, forms_of, objective_symbols
from tasks.tokenizer.vocabulary import complete, learn_merges, learn_vocabulary, new_tokenizer, special_names
from tasks.tokenizer.word_table import JIEBA, segmenter, token_bytes, word_table, words_digests

TEXT = "The miller's wheel_turns 42 times (slowly). Wheels! 南京市长江大桥，很长。好。对。 éclair naïve"
DECODER, ENCODER, SEQ2SEQ = ModelConfig(), ModelConfig("bert"), ModelConfig("seq2seq")


def trained(algorithm: str, size: int, reserve: Sequence[str] = ()) -> tokenizers.Tokenizer:
    tokenizer = new_tokenizer(algorithm)  # type: ignore[arg-type]
    specials = special_names(algorithm, reserve)  # type: ignore[arg-type]
    if algorithm == "bpe":
        learn_merges(tokenizer, iter([TEXT]), size, specials)
    else:
        learn_vocabulary(tokenizer, algorithm, lambda: iter([TEXT, TEXT]), size, specials)  # type: ignore[arg-type]
    complete(tokenizer, specials)
    return tokenizer


def units(tokenizer: tokenizers.Tokenizer, text: str, unit: str = "word", words: str | None = None) -> list[str]:
    """The text of each unit, cut where the table says so."""
    (ids,) = encode_documents(tokenizer, [text])
    starts = word_table(tokenizer, words).starts(np.array([ids]), unit)[0]  # type: ignore[arg-type]
    spellings = token_bytes(tokenizer)
    found: list[bytes] = []
    for number, is_start in zip(ids, starts, strict=True):
        if is_start:
            found.append(b"")
        found[-1] += spellings[number]
    return [part.decode() for part in found]


@pytest.mark.parametrize("algorithm", ["bpe", "unigram", "character"])
def test_words_are_runs_of_letters_and_digits_whatever_the_tokens(algorithm: str):
    found = units(trained(algorithm, 300), "The miller's wheel_turns 42 times (slowly).")
    joined = [part.strip() for part in found if part.strip()]
    assert joined in (
        ["The", "miller", "'s", "wheel_turns", "42", "times", "(", "slowly", ")", "."],
        ["The", "miller", "'", "s", "wheel_turns", "42", "times", "(", "slowly", ")", "."],
        ["The", "miller", "'s", "wheel", "_turns", "42", "times", "(", "slowly", ")."],
        ["The", "miller", "'s", "wheel_turns", "42", "times", "(", "slowly", ")."],
    )


def test_later_tokens_of_a_word_belong_to_the_word_before():
    names = ["<|unk|>", "the", "wheel", "##turn", "##s", "_", "桥"]
    tokenizer = tokenizers.Tokenizer(models.WordPiece({name: n for n, name in enumerate(names)}, unk_token="<|unk|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    complete(tokenizer)
    assert units(tokenizer, "the wheelturns wheel_wheels 桥") == ["the", "wheelturns", "wheel", "_", "wheels", "桥"]


def test_tokenizer_of_words_has_nothing_to_join():
    assert units(trained("word", 60), "The wheel turns")[:1] == ["The"]
    table = word_table(trained("word", 60))
    assert not table.continues.any()


def test_characters_of_many_tokens_are_whole():
    assert units(trained("bpe", 262), "éclair naïve 桥") == ["éclair", " ", "naïve", " ", "桥"]


def test_sentences_end_behind_their_signs_and_lines():
    text = "Go (now). Stop?! 很长。好\nyes"
    assert [part.strip() for part in units(trained("bpe", 300), text, "sentence")] == [
        "Go (now).",
        "Stop?!",
        "很长。",
        "好",
        "yes",
    ]


def dictionary(folder: Path, text: str, encoding: str = "utf-8") -> str:
    path = folder / "words.txt"
    path.write_bytes(text.encode(encoding))
    return str(path)


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "character"])
def test_dictionary_tells_chinese_words(tmp_path: Path, algorithm: str):
    words = dictionary(tmp_path, "南京市 ns 100\n长江\n大桥\nabc\n")  # jieba's own format has columns behind the word
    found = units(trained(algorithm, 290), "南京市长江大桥，很长", words=words)
    assert found == ["南京市", "长江", "大桥", "，", "很", "长"]


def test_without_a_dictionary_han_tokens_are_words_by_themselves():
    tokenizer = trained("character", 60)
    assert units(tokenizer, "南京市长江") == ["南", "京", "市", "长", "江"]


def test_jieba_that_is_not_installed_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(UserError, match="jieba needs the package rjieba, which is not installed. Fix: pip install rjieba"):
        words_digests(ObjectiveConfig("masked", unit="word", words=JIEBA))


def missing(name: str) -> str:
    import importlib.metadata

    raise importlib.metadata.PackageNotFoundError(name)


def test_jieba_tells_where_chinese_words_end():
    found = units(trained("character", 60), "南京市长，江大桥", words=JIEBA)
    assert found == ["南京市", "长", "，", "江", "大桥"]


@pytest.mark.parametrize(
    ("text", "said"), [("river\n", "no word of two or more Han characters"), ("", "no word of two or more Han characters")]
)
def test_dictionary_without_chinese_words_is_refused(tmp_path: Path, text: str, said: str):
    with pytest.raises(UserError, match=said):
        segmenter(dictionary(tmp_path, text))


def test_dictionary_in_another_charset_or_folder_is_refused_by_its_path(tmp_path: Path):
    with pytest.raises(UserError, match=r"words\.txt is not UTF-8"):
        segmenter(dictionary(tmp_path, "南京市\n", "gb18030"))
    with pytest.raises(UserError, match=r"pretrain\.objective\.words: .*none\.txt is no file"):
        words_digests(ObjectiveConfig("masked", unit="word", words=str(tmp_path / "none.txt")))


def test_dictionary_counts_by_content_not_by_path(tmp_path: Path):
    (tmp_path / "other").mkdir()
    here, there = (
        ObjectiveConfig("masked", unit="word", words=dictionary(folder, "南京市\n")) for folder in (tmp_path, tmp_path / "other")
    )
    assert identity(here) == identity(there)
    digests = words_digests(here)
    assert digests == words_digests(there)
    dictionary(tmp_path, "长江\n")
    assert digests != words_digests(here)


def test_special_tokens_that_lack_are_named_as_the_line_to_add():
    tokenizer = trained("bpe", 270)
    with pytest.raises(UserError, match=r'lacks 1 special token.*tokenizer\.reserve: \["<\|mask\|>"\]'):
        objective_symbols(tokenizer, ObjectiveConfig("masked"), ENCODER, 64, tokenizer.get_vocab_size())
    listed = r'tokenizer\.reserve: \["<\|sep\|>", "<\|span_0\|>", "<\|span_1\|>", "<\|span_2\|>"\]'
    with pytest.raises(UserError, match=listed):
        objective_symbols(tokenizer, ObjectiveConfig("spans"), DECODER, 40, tokenizer.get_vocab_size())


def test_reserved_tokens_are_found_and_never_noise():
    reserve = ["<|mask|>", "<|sep|>", *(f"<|span_{n}|>" for n in range(4))]
    tokenizer = trained("bpe", 280, reserve)
    size = tokenizer.get_vocab_size()
    for objective, model in ((ObjectiveConfig("masked"), ENCODER), (ObjectiveConfig("spans"), DECODER)):
        symbols = objective_symbols(tokenizer, objective, model, 40, size + 3)
        assert symbols.is_special[: size + 3].nonzero()[0].tolist() == [
            *range(len(SPECIAL_TOKENS) + 6),
            size,
            size + 1,
            size + 2,
        ]
    assert symbols.separator == tokenizer.token_to_id("<|sep|>")
    assert symbols.sentinels == tuple(tokenizer.token_to_id(f"<|span_{n}|>") for n in range(3))
    check_reserved(forms_of(ObjectiveConfig("spans"), DECODER, 40), reserve)


def test_bert_and_t5_tokens_are_used_in_place():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<extra_id_0>", "<extra_id_1>", "river", "##s"]
    tokenizer = tokenizers.Tokenizer(models.WordPiece({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    tokenizer.decoder = decoders.WordPiece()  # type: ignore[assignment]
    tokenizer.add_special_tokens(names[:7])
    complete(tokenizer)
    masked = objective_symbols(tokenizer, ObjectiveConfig("masked"), ENCODER, 64, tokenizer.get_vocab_size())
    assert masked.mask == 4
    assert np.flatnonzero(~masked.is_special).tolist() == [7, 8]
    spans = objective_symbols(tokenizer, ObjectiveConfig("spans"), DECODER, 10, tokenizer.get_vocab_size())
    assert (spans.separator, spans.sentinels) == (3, (5, 6))

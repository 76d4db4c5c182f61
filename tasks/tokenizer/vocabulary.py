"""Vocabulary learning: an untrained tokenizer for each algorithm, and the trainers that fill it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from tasks.settings import Json
from tasks.tokenizer.byte_pairs import byte_letters, learn_products, spell
from tasks.tokenizer.encoding import ASSISTANT, BOS, END, EOS, PAD, SPECIAL_TOKENS, UNKNOWN, USER
from tasks.tokenizer.pretokenizers import ALLOWED, PATTERNS, Algorithm, Normalization, Pretokens, normalizer, splitter

if TYPE_CHECKING:
    import tokenizers

BYTE_ALPHABET = 256
MIN_COUNT = 2  # a pair or word seen once is not worth a token
LONGEST_UNIGRAM = 16  # characters
NO_BYTE = -1e4  # score of a byte's token: never chosen by spelling, only for what has no other token
PENALTY = 1e-4  # by which the trainer sets apart the scores of characters it must keep, in no fixed order
CUT_CHARS = 65_536  # longer texts are cut, for training only

Trainer = Literal["tokenizers", "rustbpe"]

# One turn as the fine-tuning stage writes it: <|bos|><|user|>prompt<|assistant|>response<|end|>
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '" + USER + "' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '" + ASSISTANT + "' + message['content'] + '" + END + "' }}"
    "{% else %}{{ raise_exception('roles are user and assistant, found ' + message['role']) }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + ASSISTANT + "' }}{% endif %}"
)


def special_names(algorithm: Algorithm, reserve: Sequence[str] = ()) -> list[str]:
    """Special tokens in the order of their ids; `<|unk|>` where a text can hold what the vocabulary does not."""
    return [*SPECIAL_TOKENS, *([] if algorithm == "bpe" else [UNKNOWN]), *reserve]


def smallest_vocabulary(algorithm: Algorithm, reserve: Sequence[str] = ()) -> int:
    """Tokens that must be there before anything is learned; one more where bytes alone would say nothing."""
    alphabet = BYTE_ALPHABET if algorithm in ("bpe", "unigram") else 1
    return alphabet + len(special_names(algorithm, reserve))


def new_tokenizer(
    algorithm: Algorithm = "bpe", pretokens: Pretokens | None = None, normalization: Normalization = "none"
) -> "tokenizers.Tokenizer":
    """An untrained tokenizer. `bpe` over bytes and `unigram` give any text back, if nothing is normalised."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    model, decoder = {
        "bpe": lambda: (models.BPE(), decoders.ByteLevel()),
        "wordpiece": lambda: (models.WordPiece(unk_token=UNKNOWN), decoders.WordPiece(prefix="##", cleanup=False)),
        "unigram": lambda: (models.Unigram(), decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])),
        "word": lambda: (models.WordLevel(unk_token=UNKNOWN), None),
        "character": lambda: (models.WordLevel(unk_token=UNKNOWN), decoders.Fuse()),
    }[algorithm]()
    tokenizer = tokenizers.Tokenizer(model)
    if decoder is not None:
        tokenizer.decoder = decoder
    if (normal := normalizer(normalization)) is not None:
        tokenizer.normalizer = normal
    cut = splitter(pretokens or ALLOWED[algorithm][0])
    if algorithm == "bpe":
        cut = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.pre_tokenizer = cut
    return tokenizer


def cut_texts(texts: Iterator[str]) -> Iterator[str]:
    """The same texts in portions that a trainer can hold. A cut may fall within a word: once in 65,536 characters."""
    for text in texts:
        for start in range(0, len(text), CUT_CHARS):
            yield text[start : start + CUT_CHARS]


def learn_merges(
    tokenizer: "tokenizers.Tokenizer", texts: Iterator[str], vocab_size: int, specials: Sequence[str] = SPECIAL_TOKENS
) -> None:
    """Byte-level BPE by `tokenizers`: the special tokens get the first ids, then the bytes. Equal texts, equal merges."""
    from tokenizers import pre_tokenizers, trainers

    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_COUNT,
        special_tokens=list(specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(cut_texts(texts), trainer)


def learn_merges_fast(
    tokenizer: "tokenizers.Tokenizer", pretokens: Pretokens, texts: Callable[[], Iterator[str]], vocab_size: int, specials: Sequence[str]
) -> None:
    """What `learn_merges` does, by `rustbpe`; pairs that occur equally often may come in another order."""
    from tokenizers import models

    normal = tokenizer.normalizer

    def portions() -> Iterator[str]:
        return cut_texts(texts() if normal is None else (normal.normalize_str(text) for text in texts()))

    letters = byte_letters()
    merges = learn_products(PATTERNS[pretokens], portions, vocab_size - len(specials) - BYTE_ALPHABET, MIN_COUNT)
    spelled = [(spell(left, letters), spell(right, letters)) for left, right in merges]
    tokens = [*specials, *sorted(letters), *(left + right for left, right in spelled)]
    tokenizer.model = models.BPE({token: number for number, token in enumerate(tokens)}, spelled)


def learn_vocabulary(
    tokenizer: "tokenizers.Tokenizer", algorithm: Algorithm, texts: Callable[[], Iterator[str]], vocab_size: int, specials: Sequence[str]
) -> None:
    """WordPiece, Unigram, words or characters, by `tokenizers`; what is rare falls to the size, and becomes `<|unk|>`."""
    from tokenizers import trainers

    names, room = list(specials), vocab_size - len(specials)
    if algorithm == "unigram":
        _learn_unigram(tokenizer, texts, room - BYTE_ALPHABET, names)
    elif algorithm == "wordpiece":
        _learn_word_pieces(tokenizer, texts, vocab_size, names)
    else:
        least = MIN_COUNT if algorithm == "word" else 1
        trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, min_frequency=least, special_tokens=names, show_progress=False)
        tokenizer.train_from_iterator(cut_texts(texts()), trainer)


def _learn_word_pieces(tokenizer: "tokenizers.Tokenizer", texts: Callable[[], Iterator[str]], vocab_size: int, specials: list[str]) -> None:
    """Merges of letters at the start of a word and behind it, which are spelled ##.

    The trainer numbers the latter as it meets them in a hash map, and settles ties between merges by number; and of letters that
    occur equally often it drops any. So it is given both alphabets in a fixed order, as if they were special tokens.
    """
    from tokenizers import models, trainers

    words, counts, normal = _all_words(tokenizer, texts), Counter[str](), tokenizer.normalizer
    for text in texts():
        counts.update(text if normal is None else normal.normalize_str(text))
    letters = sorted({letter for word in words for letter in word}, key=lambda letter: (-counts[letter], letter))
    kept = sorted(letters[: (vocab_size - len(specials) + 1) // 2])  # each may be needed twice
    behind = {letter for word in words for letter in word[1:]}
    alphabet = [*kept, *(f"##{letter}" for letter in kept if letter in behind)]
    scratch = new_tokenizer("wordpiece")  # training leaves special tokens behind, and these are none
    if normal is not None:
        scratch.normalizer = normal
    scratch.pre_tokenizer = tokenizer.pre_tokenizer
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_COUNT,
        special_tokens=[*specials, *alphabet],
        initial_alphabet=kept,
        limit_alphabet=len(kept),
        show_progress=False,
    )
    scratch.train_from_iterator(cut_texts(texts()), trainer)
    vocabulary = sorted(scratch.get_vocab().items(), key=lambda item: item[1])[:vocab_size]
    tokenizer.model = models.WordPiece(dict(vocabulary), unk_token=UNKNOWN)


def _all_words(tokenizer: "tokenizers.Tokenizer", texts: Callable[[], Iterator[str]]) -> set[str]:
    """Every pretoken of the texts."""
    from tokenizers import Tokenizer, models, trainers

    counting = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    if tokenizer.normalizer is not None:
        counting.normalizer = tokenizer.normalizer
    counting.pre_tokenizer = tokenizer.pre_tokenizer
    trainer = trainers.WordLevelTrainer(vocab_size=2**31, min_frequency=0, special_tokens=[], show_progress=False)
    counting.train_from_iterator(cut_texts(texts()), trainer)
    return set(counting.get_vocab())


def _learn_unigram(tokenizer: "tokenizers.Tokenizer", texts: Callable[[], Iterator[str]], count: int, specials: list[str]) -> None:
    """Tokens by likelihood; the rarest fall to the size, and what has none is spelled in bytes.

    The trainer keeps every character, as if nothing could be spelled: it is given room for them beside the rest, and
    what is least likely is left out afterwards.
    """
    from tokenizers import models, trainers

    normal, characters = tokenizer.normalizer, set[str]()
    for text in texts():
        characters.update(text if normal is None else normal.normalize_str(text))
    trainer = trainers.UnigramTrainer(
        vocab_size=count + len(characters) + 1,
        special_tokens=[UNKNOWN],
        unk_token=UNKNOWN,
        max_piece_length=LONGEST_UNIGRAM,
        show_progress=False,
    )
    scratch = new_tokenizer("unigram")  # training leaves special tokens behind, under ids that are not theirs
    if normal is not None:
        scratch.normalizer = normal
    scratch.pre_tokenizer = tokenizer.pre_tokenizer
    scratch.train_from_iterator(cut_texts(texts()), trainer)
    learned = settled_scores(_scored(scratch))[:count]
    known = [(name, NO_BYTE) for name in specials] + [(f"<0x{byte:02X}>", NO_BYTE) for byte in range(BYTE_ALPHABET)]
    tokenizer.model = models.Unigram([*known, *learned], specials.index(UNKNOWN), byte_fallback=True)


def _scored(tokenizer: "tokenizers.Tokenizer") -> list[tuple[str, float]]:
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    return [(token, score) for token, score in vocabulary if token != UNKNOWN]


def settled_scores(scored: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """The same tokens, likeliest first, with scores that do not depend on the order in which threads added them up.

    The trainer keeps every character; the scores of those it would have dropped are the lowest, set apart by chance.
    """
    if not scored:
        return []
    lowest = round(min(score for _, score in scored), 6)
    reach = lowest + PENALTY * (1 + sum(len(token) == 1 for token, _ in scored))
    settled = [(token, lowest if len(token) == 1 and score <= reach else round(score, 6)) for token, score in scored]
    return sorted(settled, key=lambda item: (-item[1], item[0]))


def complete(tokenizer: "tokenizers.Tokenizer", specials: Sequence[str] = SPECIAL_TOKENS) -> list[str]:
    """Adds the special tokens that are missing, and <|bos|> in front of what other tools encode; returns those added."""
    from tokenizers import AddedToken, processors

    missing = [token for token in specials if tokenizer.token_to_id(token) is None]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    bos = tokenizer.token_to_id(BOS)
    assert bos is not None
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bos)])
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return missing


def tokenizer_settings(unknown: str | None = None, reserve: Sequence[str] = ()) -> dict[str, Json]:
    """Content of tokenizer_config.json, by which transformers opens the folder.

    It has no chat template, which brings a start along where the tokenizer puts one too: it comes with a model that learned conversations.
    """
    settings: dict[str, Json] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "additional_special_tokens": [USER, ASSISTANT, END, *reserve],
        "clean_up_tokenization_spaces": False,
        "padding_side": "right",
    }
    return settings if unknown is None else settings | {"unk_token": unknown}

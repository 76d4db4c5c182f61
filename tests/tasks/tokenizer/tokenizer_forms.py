"""Small tokenizers of every form that people bring, and of ours: each begins, ends and pads a text with tokens of its own."""

import json
from collections.abc import Callable, Sequence
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tasks.tokenizer.encoding import CHAT_TOKENS
from tasks.tokenizer.pretokenizers import Algorithm
from tasks.tokenizer.vocabulary import complete, learn_merges, learn_vocabulary, new_tokenizer, special_names

TEXTS = [
    "John reads a book by the river, and it's “good”: f(x) = 12.",
    "山水之间有一本书。我们在北京读书",
    "Émile n'a pas lu the café menu 😀",
] * 4
SENTENCEPIECE = ("<unk>", "<s>", "</s>")


def ours(algorithm: Algorithm, normalization: str = "none") -> Tokenizer:
    tokenizer, names = new_tokenizer(algorithm, None, normalization), special_names(algorithm, ["<|mask|>"])  # type: ignore[arg-type]
    if algorithm == "bpe":
        learn_merges(tokenizer, iter(TEXTS), 400, names)
    else:
        learn_vocabulary(tokenizer, algorithm, lambda: iter(TEXTS), 400, names)
    complete(tokenizer, names)
    return tokenizer


def bert() -> Tokenizer:
    """Lower case, without accents, control characters and those that have no width; its decoder takes spaces away."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return tokenizer


def gpt2(add_prefix_space: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def llama(prepend: str, *, splits: bool = False) -> Tokenizer:
    """Byte pairs of letters over the whole text; `prepend`: always, first, or by a normalizer, as older files have it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    strip = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    if prepend == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(strip)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=splits)
        tokenizer.decoder = decoders.Sequence([*strip[:-1], decoders.Strip(" ", 1, 0)])
    scratch = Tokenizer(models.BPE(unk_token="<unk>"))
    scratch.pre_tokenizer = pre_tokenizers.Metaspace()  # words: else it would learn whole texts
    special = [*SENTENCEPIECE, *(f"<0x{byte:02X}>" for byte in range(256))]
    scratch.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False))
    learned = json.loads(scratch.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    tokenizer.model = models.BPE(learned["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    return beginning(tokenizer)


def unigram() -> Tokenizer:
    """As XLM-RoBERTa's and T5's: white space parts words before each gets its ▁."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=list(SENTENCEPIECE), unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return beginning(tokenizer)


def beginning(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SENTENCEPIECE])
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", start)])
    return tokenizer


def neox() -> Tokenizer:
    """Bytes, with runs of spaces as added tokens that are found in a text, as GPT-NeoX's and ModernBERT's."""
    tokenizer = gpt2(add_prefix_space=False)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in (4, 3, 2)])
    return tokenizer


OURS: dict[str, Callable[[], Tokenizer]] = {
    "our bytes": lambda: ours("bpe"),
    "our word pieces": lambda: ours("wordpiece", "bert"),
    "our words": lambda: ours("word"),
    "our unigram": lambda: ours("unigram"),
    "our characters": lambda: ours("character"),
}
FOREIGN: dict[str, Callable[[], Tokenizer]] = {
    "bert": bert,
    "gpt2": lambda: gpt2(add_prefix_space=False),
    "gpt2 with a space before": lambda: gpt2(add_prefix_space=True),
    "neox": neox,
    "llama": lambda: llama("always"),
    "llama, words": lambda: llama("always", splits=True),
    "mistral": lambda: llama("first"),
    "llama, old": lambda: llama("normalizer"),
    "sentencepiece unigram": unigram,
}
FORMS = {**OURS, **FOREIGN}


@cache
def _definition(name: str) -> str:
    tokenizer = FORMS[name]()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CHAT_TOKENS])
    return tokenizer.to_str()


def form(name: str) -> Tokenizer:
    """A fresh one, with the tokens of a conversation."""
    return Tokenizer.from_str(_definition(name))


def spelled(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    return [str(tokenizer.id_to_token(number)) for number in ids]

"""New tokens for a finished vocabulary: learned on other text, behind all that is there, so that old ids keep their meaning.

Byte pairs go on merging where their training ended: new merges of old tokens, each rarer than all before it, so that what the old
merges do stays. Word pieces get whole words. Each new token is known by the old ones that spelled it, of which its embedding is made.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError
from tasks.settings import Json
from tasks.tokenizer.byte_spelling import definition_vocabulary
from tasks.tokenizer.encoding import vocabulary_size
from tasks.tokenizer.told_tokens import KEPT_AS, told_tokens
from tasks.tokenizer.vocabulary import MIN_COUNT, cut_texts

if TYPE_CHECKING:
    import tokenizers

FILE = "new_tokens.json"
FIRST_LETTER = 0x10000  # id n is learned from as the letter FIRST_LETTER + n, of which there are 1,048,576
MOST_IDS = 0x110000 - FIRST_LETTER
LONGEST_WORD = 64  # old tokens of a word that is learned from; longer runs are no words
PAIR = 2

Spelled = dict[int, tuple[int, ...]]  # id of a new token -> the old ids that spelled it


@dataclass(frozen=True)
class Grown:
    """A tokenizer with more tokens, and what they were spelled with before."""

    tokenizer: "tokenizers.Tokenizer"
    spelled: Spelled


def write_spelled(spelled: Spelled, folder: Path) -> None:
    """new_tokens.json."""
    (folder / FILE).write_text(json.dumps({str(new): list(old) for new, old in spelled.items()}) + "\n", encoding="utf-8")


def read_spelled(folder: Path) -> Spelled:
    """What `write_spelled` wrote; nothing for a tokenizer without new tokens."""
    path = folder / FILE
    if not path.is_file():
        return {}
    return {int(new): tuple(old) for new, old in json.loads(path.read_text(encoding="utf-8")).items()}


def add_tokens(tokenizer: "tokenizers.Tokenizer", texts: Iterable[str], count: int) -> Grown:
    """At most `count` tokens more, learned from the texts; fewer where nothing else occurs twice.

    UserError for a vocabulary that cannot go on: only byte pairs and word pieces that cut a text into words can.
    """
    kind = json.loads(tokenizer.to_str())["model"]["type"]
    if kind not in ("BPE", "WordPiece") or tokenizer.pre_tokenizer is None:
        what = f"its algorithm is {kind}" if kind not in ("BPE", "WordPiece") else "it does not cut a text into words"
        raise UserError(
            f"adapt.add_tokens: the base's tokenizer cannot learn tokens: {what}, expected BPE or WordPiece with a pre-tokenizer. "
            "Fix: leave adapt.add_tokens out."
        )
    if vocabulary_size(tokenizer) + count > MOST_IDS:
        raise UserError(f"adapt.add_tokens: {count:,} are too many, at most {MOST_IDS - vocabulary_size(tokenizer):,} fit. Fix: lower it.")
    words = count_words(tokenizer, texts)
    found = _more_merges(tokenizer, words, count) if kind == "BPE" else _more_words(tokenizer, words, count)
    changed = [token for token, number in tokenizer.get_vocab().items() if found.tokenizer.token_to_id(token) != number]
    assert not changed, f"the id of {changed[0]!r} moved"
    vars(found.tokenizer)[KEPT_AS] = told_tokens(tokenizer)
    return found


def count_words(tokenizer: "tokenizers.Tokenizer", texts: Iterable[str]) -> Counter[str]:
    """How often each word of the texts occurs, as the tokenizer cuts and writes it."""
    words = Counter[str]()
    normal, cut = tokenizer.normalizer, tokenizer.pre_tokenizer
    assert cut is not None
    for text in cut_texts(iter(texts)):
        plain = text if normal is None else normal.normalize_str(text)
        words.update(word for word, _ in cut.pre_tokenize_str(plain))
    return words


def _spellings(tokenizer: "tokenizers.Tokenizer", words: Sequence[str]) -> list[list[int]]:
    """Ids of each word by the model alone: it is cut and written already."""
    vocabulary = definition_vocabulary(json.loads(tokenizer.to_str()))
    return [[vocabulary[token.value] for token in tokenizer.model.tokenize(word)] for word in words]


def _more_merges(tokenizer: "tokenizers.Tokenizer", words: Counter[str], count: int) -> Grown:
    """Merges of old tokens, the commonest pair first: byte-pair training from where the tokenizer's own ended."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    spelled = zip(words, _spellings(tokenizer, list(words)), strict=True)
    lines = {"".join(chr(FIRST_LETTER + n) for n in ids): words[word] for word, ids in spelled if PAIR <= len(ids) <= LONGEST_WORD}
    alphabet = sorted({letter for line in lines for letter in line})
    scratch = Tokenizer(models.BPE())
    scratch.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + count,
        min_frequency=MIN_COUNT,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    ordered = sorted(lines)
    scratch.train_from_iterator((" ".join([line] * lines[line]) for line in ordered), trainer)
    pairs = json.loads(scratch.to_str())["model"]["merges"]
    return _with_merges(tokenizer, [(_ids(left), _ids(right)) for left, right in pairs])


def _ids(letters: str) -> tuple[int, ...]:
    return tuple(ord(letter) - FIRST_LETTER for letter in letters)


def _with_merges(tokenizer: "tokenizers.Tokenizer", pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Grown:
    """The tokenizer with these merges behind its own; a pair that spells a token which is there gets its merge, and no new id."""
    definition = json.loads(tokenizer.to_str())
    model = definition["model"]
    vocabulary, names = model["vocab"], {number: token for token, number in model["vocab"].items()}
    next_id, spelled = vocabulary_size(tokenizer), Spelled()
    for left, right in pairs:
        parts = ["".join(names[number] for number in ids) for ids in (left, right)]
        token = "".join(parts)
        if token not in vocabulary:
            vocabulary[token], spelled[next_id] = next_id, (*left, *right)
            next_id += 1
        model["merges"].append(parts)
    return Grown(_rebuilt(definition), spelled)


def _more_words(tokenizer: "tokenizers.Tokenizer", words: Counter[str], count: int) -> Grown:
    """Whole words that were cut into pieces or not known, those first that save most tokens."""
    definition = json.loads(tokenizer.to_str())
    model = definition["model"]
    vocabulary: dict[str, int] = model["vocab"]
    unknown = vocabulary.get(model["unk_token"])
    repeated = [word for word, times in words.items() if times >= MIN_COUNT and word not in vocabulary]
    found = [(words[word] * max(1, len(ids) - 1), word, ids) for word, ids in zip(repeated, _spellings(tokenizer, repeated), strict=True)]
    next_id, spelled = vocabulary_size(tokenizer), Spelled()
    for _, word, ids in sorted(found, key=lambda one: (-one[0], one[1]))[:count]:
        vocabulary[word] = next_id
        spelled[next_id] = tuple(number for number in ids if number != unknown)
        next_id += 1
    return Grown(_rebuilt(definition), spelled)


def _rebuilt(definition: dict[str, Json]) -> "tokenizers.Tokenizer":
    """From its file. Special tokens beside the model are written into it: else they would move behind the new ones."""
    import tokenizers

    model, added = definition["model"], definition["added_tokens"]
    assert isinstance(model, dict)
    assert isinstance(added, list)
    vocabulary = model["vocab"]
    assert isinstance(vocabulary, dict)
    for one in added:
        assert isinstance(one, dict)
        vocabulary.setdefault(str(one["content"]), one["id"])
    return tokenizers.Tokenizer.from_str(json.dumps(definition, ensure_ascii=False))

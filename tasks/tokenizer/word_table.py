"""Word table: where words and sentences begin, by the spelling of a tokenizer's tokens; Chinese words by what the user names."""

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.config.objective_config import ObjectiveConfig
from model.objectives.whole_words import Segmenter, WordTable, longest_match
from tasks.artifacts import file_digest
from tasks.errors import UserError
from tasks.kernels.character_classes import ARABIC, CYRILLIC, DIGIT, HAN, HANGUL, LATIN, LETTER, class_table, sentence_ends
from tasks.kernels.characters import LAST_KNOWN, code_points
from tasks.settings import given_path
from tasks.tokenizer.byte_pairs import byte_letters

if TYPE_CHECKING:
    import tokenizers

KEY = "pretrain.objective.words"
JIEBA = "jieba"
PACKAGE = "rjieba"  # jieba's dictionary and rules, in Rust: kept up, and by its README ten times as fast
IN_WORDS = (LATIN, HANGUL, CYRILLIC, ARABIC, LETTER, DIGIT)


class JiebaSegmenter:
    """Chinese words by jieba. As a class, so that it reaches worker processes."""

    def __call__(self, text: str) -> Sequence[str]:
        """The words of `text`, in order."""
        import rjieba  # an extra that the user chooses

        return rjieba.cut(text)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


def words_digests(objective: ObjectiveConfig) -> dict[str, str]:
    """What Chinese words are told by, to enter the fingerprint: a version or a file's content. UserError for neither."""
    if objective.words is None:
        return {}
    if objective.words == JIEBA:
        try:
            return {"words": f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"}
        except importlib.metadata.PackageNotFoundError as error:
            raise UserError(
                f"{KEY}: jieba needs the package {PACKAGE}, which is not installed. Fix: pip install {PACKAGE}, or name a "
                "dictionary file with a word a line."
            ) from error
    return {"words": file_digest(_dictionary(objective.words))}


def segmenter(words: str | None) -> Segmenter | None:
    """The user's choice. UserError for a dictionary that cannot be read, or has no Chinese words."""
    if words is None:
        return None
    if words == JIEBA:
        return JiebaSegmenter()
    path = _dictionary(words)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{KEY}: {path} is not UTF-8 ({error}). Fix: save it as UTF-8, a word a line.") from error
    found = frozenset(word for line in lines for word in line.split()[:1] if len(word) > 1)
    if not any(_is_han(word) for word in found):
        raise UserError(f"{KEY}: {path} has no word of two or more Han characters. Fix: name a file with a word a line.")
    return longest_match(found)


def word_table(tokenizer: "tokenizers.Tokenizer", words: str | None = None) -> WordTable:
    """Of a tokenizer's whole vocabulary. A sign that is spelled in several tokens ends no sentence."""
    spellings = token_bytes(tokenizer)
    texts = [spelling.decode(errors="replace") for spelling in spellings]
    joined = _joined(tokenizer)
    is_part = [_starts_within(spelling) for spelling in spellings]
    continues = [
        part or _is_cut_letter(spelling) or (bool(text) and _is_word(text[0]))
        for part, spelling, text in zip(is_part, spellings, texts, strict=True)
    ]
    continued = [bool(text) and (text[-1] == "\ufffd" or _is_word(text[-1])) for text in texts]
    if joined is not None:
        continues, continued = joined, [True] * len(texts)
    ends = [_ends_sentence(text) for text in texts]
    segment = segmenter(words)
    is_han = [part or _is_han(text) or _is_cut_han(s) for part, text, s in zip(is_part, texts, spellings, strict=True)]
    han = tuple(s if known else b"" for s, known in zip(spellings, is_han, strict=True)) if segment else ()
    return WordTable(np.array(continues), np.array(continued), np.array(ends), han, segment)


def token_bytes(tokenizer: "tokenizers.Tokenizer") -> list[bytes]:
    """UTF-8 of what each token stands for, special ones aside: some are parts of a character."""
    definition = json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    special = {token["content"] for token in definition["added_tokens"]}
    is_bytes = definition["model"]["type"] == "BPE" and "ByteLevel" in json.dumps(definition["decoder"])
    values = {letter: byte for byte, letter in enumerate(byte_letters())}
    found = [b""] * (max(tokenizer.get_vocab().values(), default=-1) + 1)
    for token, number in vocabulary.items():
        if token in special:
            continue
        if is_bytes and all(letter in values for letter in token):
            found[number] = bytes(values[letter] for letter in token)
        elif token.startswith("<0x") and token.endswith(">") and len(token) == 6:
            found[number] = bytes([int(token[3:5], 16)])
        else:
            found[number] = token.removeprefix("##").replace("▁", " ").encode()
    return found


def _joined(tokenizer: "tokenizers.Tokenizer") -> list[bool] | None:
    """Which tokens go on with a word, where the tokenizer itself says so: WordPiece's ##, and whole words, which never do."""
    definition = json.loads(tokenizer.to_str())
    kind, decoder = definition["model"]["type"], definition["decoder"]
    found = [False] * (max(tokenizer.get_vocab().values(), default=-1) + 1)
    if kind == "WordPiece":
        for token, number in tokenizer.get_vocab().items():
            found[number] = token.startswith(definition["model"]["continuing_subword_prefix"])
        return found
    return found if kind == "WordLevel" and decoder is None else None


def _dictionary(words: str) -> Path:
    path = given_path(words)
    if not path.is_file():
        raise UserError(f"{KEY}: {words} is no file. Fix: correct the path of the dictionary, or write jieba.")
    return path


def _class(character: str) -> int:
    return int(class_table()[min(ord(character), LAST_KNOWN)])


def _is_word(character: str) -> bool:
    return character == "_" or _class(character) in IN_WORDS


def _is_han(text: str) -> bool:
    return bool(text) and all(_class(character) == HAN for character in text)


def _starts_within(spelling: bytes) -> bool:
    """Whether it begins inside a character."""
    return bool(spelling) and spelling[0] & 0xC0 == 0x80


def _is_cut_letter(spelling: bytes) -> bool:
    """The beginning of a character of two bytes, most of which are letters."""
    return len(spelling) == 1 and 0xC2 <= spelling[0] < 0xE0


def _is_cut_han(spelling: bytes) -> bool:
    """Han characters, and the beginning of another character of three bytes or more."""
    whole = spelling.decode(errors="ignore")
    rest = spelling[len(whole.encode()) :]
    return bool(rest) and rest[0] >= 0xE0 and (not whole or _is_han(whole))


def _ends_sentence(text: str) -> bool:
    ends = sentence_ends()
    last = text.rstrip(" \"')]}»”’」』）")[-1:]
    return "\n" in text or (bool(last) and bool(ends[min(int(code_points(last)[0]), len(ends) - 1)]))

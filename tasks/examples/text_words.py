"""Words of a text: how a text as people write it falls into the words that are labelled, as the rows that were learned from had them."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Literal

from tasks.examples.stdlib_examples import token_kinds

Manner = Literal["spaces", "characters", "python"]
LOOKED_AT = 500  # rows that tell how a set's words lie
SIGNS = re.compile(r"\s*(?:\w+|[^\w\s])")
WITHOUT_SPACES = ((0x0E00, 0x1000), (0x1000, 0x10A0), (0x1780, 0x1800))  # Thai, Lao, Tibetan; Myanmar; Khmer
HANGUL = ((0x1100, 0x1200), (0xA960, 0xA980), (0xAC00, 0xD800))  # wide, and written with spaces
CJK_SIGNS = (0x3000, 0x3400)


@dataclass(frozen=True)
class WordRule:
    """How a text falls into words.

    spaces: white space parts them, and a character of a script without spaces (Han, kana, Thai) is one by itself; characters:
    each is one; python: as Python's own tokenizer has it, and what is no Python by letters and digits together, each sign alone.
    """

    manner: Manner = "spaces"
    longest: int = 1  # word of a script without spaces: what white space sets apart stays one up to this length

    def words(self, text: str) -> list[str]:
        """The words, with the space before them that a model has learned to see: their concatenation is the text for it."""
        return MANNERS[self.manner](text, self.longest)


def word_rule(rows: Iterable[Sequence[str]]) -> WordRule:
    """The rule that gives back the most of these rows' words, from their concatenation; of equals the first."""
    looked_at = [tokens for tokens, _ in zip(rows, range(LOOKED_AT), strict=False)]
    unspaced = [len(token) for tokens in looked_at for token in map(str.strip, tokens) if token and all(map(is_unspaced, token))]
    found = {manner: sum(_agreement(WordRule(manner), tokens) for tokens in looked_at) for manner in MANNERS}
    best = max(MANNERS, key=lambda manner: found[manner])
    return WordRule(best, max(unspaced, default=1) if best == "spaces" else 1)


def _agreement(rule: WordRule, tokens: Sequence[str]) -> float:
    """F1 of the words, wherever the space between them is."""
    wanted, got = _spans(tokens), _spans(rule.words("".join(tokens)))
    return 2 * len(wanted & got) / (len(wanted) + len(got)) if got else 0.0


def _spans(words: Sequence[str]) -> set[tuple[int, int]]:
    return set(pairwise([0, *accumulate(len("".join(word.split())) for word in words)]))


def spaced(tokens: Sequence[str]) -> list[str]:
    """Tokens with a space before each but the first, save beside characters of scripts without spaces, and between single ones.

    So all token tables read alike: the text is the concatenation of the tokens. Space around a token is none of it.
    """
    words = [token.strip() or token for token in tokens]
    if all(len(word) == 1 for word in words):  # tagged by character: the digits of a year are no words
        return words
    return [word if at == 0 or is_unspaced(word[0]) or is_unspaced(words[at - 1][-1]) else " " + word for at, word in enumerate(words)]


def is_unspaced(character: str) -> bool:
    """Whether it is of a script whose words no spaces part; signs as wide as its letters are, emoji are not."""
    if any(start <= ord(character) < end for start, end in WITHOUT_SPACES):
        return True
    if unicodedata.east_asian_width(character) not in "WF" or any(start <= ord(character) < end for start, end in HANGUL):
        return False
    return unicodedata.category(character) not in ("So", "Sk") or CJK_SIGNS[0] <= ord(character) < CJK_SIGNS[1]


def _by_spaces(text: str, longest: int) -> list[str]:
    parts = text.split()
    whole = longest if len(parts) > 1 else 1
    return spaced([word for part in parts for word in _without_spaces(part, whole)])


def _without_spaces(part: str, whole: int) -> list[str]:
    """Runs of other characters, and of those without spaces each, with the marks behind it."""
    clusters: list[str] = []
    for character in part:
        if clusters and unicodedata.category(character).startswith("M"):
            clusters[-1] += character
        else:
            clusters.append(character)
    if len(part) <= whole and all(is_unspaced(cluster[0]) for cluster in clusters):
        return [part]
    runs = [(alone, list(run)) for alone, run in groupby(clusters, key=lambda cluster: is_unspaced(cluster[0]))]
    return [word for alone, run in runs for word in (run if alone else ["".join(run)])]


def _by_characters(text: str, longest: int) -> list[str]:
    return spaced([character for part in text.split() for character in part])


def _by_python(text: str, longest: int) -> list[str]:
    found = token_kinds(text)
    return SIGNS.findall(text) if found is None else found[0]


MANNERS: dict[Manner, Callable[[str, int], list[str]]] = {
    "spaces": _by_spaces,
    "characters": _by_characters,
    "python": _by_python,
}

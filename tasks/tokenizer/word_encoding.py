"""Word encoding: the ids of a text whose words are given, as the text alone would have them, but that no token crosses a word's end."""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers


class WordEncoder:
    """A tokenizer that is told where words end.

    A word encoded alone would begin a text of its own, and get what its tokenizer puts there: SentencePiece's ▁, GPT-2's space.
    So the text is normalised and cut as a whole, and then cut again between words. For words set apart by spaces that is what
    transformers makes of `is_split_into_words=True`.
    """

    def __init__(self, tokenizer: "tokenizers.Tokenizer") -> None:
        from tokenizers import Tokenizer, pre_tokenizers

        self.tokenizer = tokenizer
        definition = json.loads(tokenizer.to_str())
        own = tokenizer.pre_tokenizer
        definition |= {"post_processor": None, "truncation": None, "padding": None}  # the first may move offsets behind a space
        self._cutting = Tokenizer.from_str(json.dumps(definition))
        self._cutting.encode_special_tokens = True
        self._cut, self._one_at_a_time = _CutAtWords(), Lock()
        cut = pre_tokenizers.PreTokenizer.custom(self._cut)
        self._cutting.pre_tokenizer = cut if own is None else pre_tokenizers.Sequence([own, cut])

    def encode(self, words: Sequence[str]) -> list[list[int]]:
        """Ids of each word; `words` hold the space before them, so that their concatenation is the text.

        A word of which the tokenizer leaves nothing, as BERT's of characters without width, has none.
        """
        ends = list(accumulate(map(len, words)))
        with self._one_at_a_time:
            self._cut.ends = ends
            encoding = self._cutting.encode("".join(words), add_special_tokens=False)
        found: list[list[int]] = [[] for _ in words]
        for number, (start, _) in zip(encoding.ids, encoding.offsets, strict=True):
            found[min(bisect_right(ends, start), len(words) - 1)].append(number)
        return found


class _CutAtWords:
    """A pre-tokenizer, as the last of several."""

    def __init__(self) -> None:
        self.ends: list[int] = []

    def pre_tokenize(self, text: "tokenizers.PreTokenizedString") -> None:
        parts = [span for _, span, _ in text.get_splits("original", "char")]

        def cut(number: int, part: "tokenizers.NormalizedString") -> "list[tokenizers.NormalizedString]":
            start, end = parts[number]
            inner = self.ends[bisect_right(self.ends, start) : bisect_left(self.ends, end)]
            return _cut_at(part, [border - start for border in inner])

        text.split(cut)


def _cut_at(part: "tokenizers.NormalizedString", borders: Sequence[int], passed: int = 0) -> "list[tokenizers.NormalizedString]":
    """The part, which begins at `passed`, cut at borders of the original, the middle one first: each slice copies."""
    if not borders:
        return [part]
    middle, size = len(borders) // 2, len(part.normalized)
    place = _place(part, borders[middle] - passed)
    left = part.slice((0, place)) if place else None
    right = part.slice((place, size)) if place < size else None
    found = [] if left is None else _cut_at(left, borders[:middle], passed)
    if right is not None:
        found += _cut_at(right, borders[middle + 1 :], passed + len(part.original) - len(right.original))
    return found


def _place(part: "tokenizers.NormalizedString", border: int) -> int:
    """The first character of the normalised part that begins at `border` of the original, or behind it."""
    size, original = len(part.normalized), len(part.original)

    def begins(at: int) -> int:
        rest = part.slice((at, size))
        return original - (0 if rest is None else len(rest.original))

    guess = border + size - original  # right where normalisation only put something before the text, or letter for letter
    if 0 < guess < size and begins(guess - 1) < border <= begins(guess):
        return guess
    return bisect_left(range(size), border, key=begins)

"""Whole-word masking: where words and sentences begin among the tokens of rows. B rows, T tokens, V vocabulary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.config.objective_config import Unit

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
Segmenter = Callable[[str], Sequence[str]]  # a run of Han characters as its words, in order


@dataclass(frozen=True)
class WordTable:
    """What each token of a vocabulary says of where words and sentences begin."""

    continues: Flags  # [V]: goes on with the word of the token before it, if that one is `continued`
    continued: Flags  # [V]
    ends_sentence: Flags  # [V]
    han: tuple[bytes, ...] = ()  # [V]: UTF-8 of tokens of Han characters, or of parts of one; empty for others
    segment: Segmenter | None = None  # tells the words of Han text; without, each token is by itself

    @cached_property
    def is_han(self) -> Flags:
        """[V]: which tokens the segmenter is asked about."""
        return np.array([bool(spelling) for spelling in self.han])

    def starts(self, ids: Ids, unit: Unit) -> Flags:
        """Which tokens of `ids` [B, T] begin a unit: [B, T]."""
        starts = np.ones(ids.shape, np.bool_)
        if unit == "word":
            starts[:, 1:] = ~(self.continues[ids[:, 1:]] & self.continued[ids[:, :-1]])
            if self.segment is not None:
                self._join_han_words(ids, starts)
        elif unit == "sentence":
            ends = self.ends_sentence[ids]
            starts[:, 1:] = ends[:, :-1] & ~ends[:, 1:]  # of several signs, such as ?!, the last one ends it
        return starts

    def _join_han_words(self, ids: Ids, starts: Flags) -> None:
        """Clears `starts` where a token lies within a word of its run of Han tokens."""
        assert self.segment is not None
        edges = np.flatnonzero(np.diff(self.is_han[ids], axis=1, prepend=False, append=False).ravel())
        width = ids.shape[1] + 1  # of a row of edges
        for first, last in edges.reshape(-1, 2):
            row, begin = divmod(int(first), width)
            tokens = slice(begin, begin + int(last - first))
            starts[row, tokens] = self._word_starts(ids[row, tokens].tolist())

    def _word_starts(self, run: Sequence[int]) -> list[bool]:
        """For tokens of Han text; all of them where the row cuts a character."""
        assert self.segment is not None
        spellings = [self.han[token] for token in run]
        try:
            text = b"".join(spellings).decode()
        except UnicodeDecodeError:
            return [True] * len(run)
        borders, at = set[int](), 0
        for word in self.segment(text):
            borders.add(at)
            at += len(word.encode())
        offset, starts = 0, list[bool]()
        for spelling in spellings:
            starts.append(offset in borders)
            offset += len(spelling)
        return starts


def longest_match(words: frozenset[str]) -> Segmenter:
    """Cuts text from its start into the longest words of a dictionary; a character that begins none stands alone."""
    return _LongestMatch(words, max(map(len, words), default=1))


@dataclass(frozen=True)
class _LongestMatch:
    """As a class, so that it reaches worker processes."""

    words: frozenset[str]
    longest: int

    def __call__(self, text: str) -> list[str]:
        found, at = list[str](), 0
        while at < len(text):
            size = min(self.longest, len(text) - at)
            while size > 1 and text[at : at + size] not in self.words:
                size -= 1
            found.append(text[at : at + size])
            at += size
        return found

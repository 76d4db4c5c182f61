"""Word filters: removal of stop words and special characters, as classical pipelines ask for it. Both are off by default.

What is removed leaves one space behind, so that its neighbours do not grow together into a new word.
"""

import functools
import re
import sys
import unicodedata
from typing import Literal

from pydantic import Field, field_validator

from tasks.settings import Section

LETTERS = "(?:[^\\W\\d_]|[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0970-\u0dff\u200c\u200d])+"
WORD = re.compile(f"{LETTERS}(?:['’]{LETTERS})*")  # with its marks, which Python counts as no letters
SPACES = re.compile(r"(?<=[^ \n]) {2,}|^ +(?=\S)", re.MULTILINE)  # after a removal; a text's own double spaces go too
WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]"
)  # Thai, Lao, Burmese, Khmer, kana, Han

ENGLISH = """a about above after again against all am an and any are aren't as at be because been before being below
between both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each few for from
further had hadn't has hasn't have haven't having he he'd he'll he's her here here's hers herself him himself his how
how's i i'd i'll i'm i've if in into is isn't it it's its itself just let's me more most mustn't my myself no nor not now
of off on once only or other our ours ourselves out over own same shan't she she'd she'll she's should shouldn't so some
such than that that's the their theirs them themselves then there there's these they they'd they'll they're they've this
those through to too under until up very was wasn't we we'd we'll we're we've were weren't what what's when when's where
where's which while who who's whom why why's will with won't would wouldn't you you'd you'll you're you've your yours
yourself yourselves"""


class WordConfig(Section):
    """What is removed within lines."""

    stop_words: list[str] | Literal["en"] | None = Field(
        default=None, description="the English list, or words of your own, in any case; of languages that part words by spaces"
    )
    special_characters: Literal["keep", "symbols", "symbols_and_punctuation"] = Field(
        default="keep", description="which of Unicode's symbols (S) and punctuation (P) are removed; line ends stay"
    )

    @field_validator("stop_words")
    @classmethod
    def _are_parted_by_spaces(cls, stop_words: list[str] | str | None) -> list[str] | str | None:
        """Cut out of 目的地, 的 leaves another text; which characters are a word, no rule on characters can tell."""
        if isinstance(stop_words, list):
            for word in stop_words:
                if WITHOUT_SPACES.search(word):
                    raise ValueError(
                        f"{word!r} is of a language that writes no spaces, and would be cut out of longer words (的 out of 目的地). "
                        "Fix: leave it out; models need these words, and rules on Chinese read the column stop_words_zh"
                    )
        return stop_words


class WordRemover:
    """Removes what the config names, and then runs of spaces."""

    def __init__(self, config: WordConfig) -> None:
        self._words = _stop_words(config)
        self._special = None if config.special_characters == "keep" else _special(config.special_characters)

    def remove(self, text: str) -> str:
        """The text without them. Words are looked for before the characters that may stand inside them go."""
        kept = text
        if self._words:
            kept = WORD.sub(self._word_or_space, kept)
        if self._special:
            kept = self._special.sub(" ", kept)
        return text if kept == text else SPACES.sub(_one_space_unless_first, kept)

    def _word_or_space(self, match: re.Match[str]) -> str:
        word = match[0]
        return " " if word.lower().replace("’", "'") in self._words else word


def _stop_words(config: WordConfig) -> frozenset[str]:
    if config.stop_words is None:
        return frozenset()
    words = ENGLISH.split() if config.stop_words == "en" else config.stop_words
    return frozenset(word.strip().lower().replace("’", "'") for word in words if word.strip())


@functools.cache
def _special(which: str) -> re.Pattern[str]:
    first = "S" if which == "symbols" else "SP"
    codes = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] in first)
    return re.compile("[" + "".join(f"\\U{code:08x}" for code in codes) + "]+")


def _one_space_unless_first(match: re.Match[str]) -> str:
    return " " if match.start() and match.string[match.start() - 1] != "\n" else ""

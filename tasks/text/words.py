"""Word filters: removal of stop words and special characters, as classical pipelines ask for it. Both are off by default.

What is removed leaves one space behind, so that its neighbours do not grow together into a new word.
"""

import functools
import re
import sys
import unicodedata
from typing import Literal

from pydantic import Field

from tasks.settings import Section

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
SPACES = re.compile(r"(?<=[^ \n]) {2,}|^ +(?=\S)", re.MULTILINE)  # after a removal; a text's own double spaces go too
HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]")

ENGLISH = """a about above after again against all am an and any are aren't as at be because been before being below
between both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each few for from
further had hadn't has hasn't have haven't having he he'd he'll he's her here here's hers herself him himself his how
how's i i'd i'll i'm i've if in into is isn't it it's its itself just let's me more most mustn't my myself no nor not now
of off on once only or other our ours ourselves out over own same shan't she she'd she'll she's should shouldn't so some
such than that that's the their theirs them themselves then there there's these they they'd they'll they're they've this
those through to too under until up very was wasn't we we'd we'll we're we've were weren't what what's when when's where
where's which while who who's whom why why's will with won't would wouldn't you you'd you'll you're you've your yours
yourself yourselves"""
CHINESE = """的 了 着 和 与 及 或 在 是 也 都 就 而 又 但 但是 而且 并 并且 或者 因为 所以 因此 于是 如果 虽然 然而 不过 以及 对于 关于
由于 为了 从 向 把 被 让 给 对 于 以 之 其 这 那 这个 那个 这些 那些 这样 那样 此 该 各 每 某 我 你 您 他 她 它 我们 你们 他们 她们
它们 自己 什么 怎么 怎样 哪 哪里 哪个 谁 吗 呢 吧 啊 呀 嘛 哦 嗯 很 更 最 太 还 再 才 只 仅 便 则 却 若 即 等 等等 一个 一些 一种"""


class WordConfig(Section):
    """What is removed within lines."""

    stop_words: list[str] | Literal["en", "zh", "en+zh"] | None = Field(
        default=None, description="a built-in list, or words of your own, in any case; Chinese words need no spaces around"
    )
    special_characters: Literal["keep", "symbols", "symbols_and_punctuation"] = Field(
        default="keep", description="which of Unicode's symbols (S) and punctuation (P) are removed; line ends stay"
    )


class WordRemover:
    """Removes what the config names, and then runs of spaces."""

    def __init__(self, config: WordConfig) -> None:
        words = _stop_words(config)
        self._spaced = frozenset(word for word in words if not HAN.search(word))
        han = sorted((word for word in words if HAN.search(word)), key=lambda word: (-len(word), word))
        self._han = re.compile("|".join(map(re.escape, han))) if han else None
        self._special = None if config.special_characters == "keep" else _special(config.special_characters)

    def remove(self, text: str) -> str:
        """The text without them. Words are looked for before the characters that may stand inside them go."""
        kept = text
        if self._spaced:
            kept = WORD.sub(self._word_or_space, kept)
        if self._han:
            kept = self._han.sub(" ", kept)
        if self._special:
            kept = self._special.sub(" ", kept)
        return text if kept == text else SPACES.sub(_one_space_unless_first, kept)

    def _word_or_space(self, match: re.Match[str]) -> str:
        word = match[0]
        return " " if word.lower().replace("’", "'") in self._spaced else word


def _stop_words(config: WordConfig) -> set[str]:
    if config.stop_words is None:
        return set()
    if isinstance(config.stop_words, list):
        return {word.strip().lower().replace("’", "'") for word in config.stop_words if word.strip()}
    lists = {"en": ENGLISH, "zh": CHINESE, "en+zh": f"{ENGLISH} {CHINESE}"}
    return set(lists[config.stop_words].split())


@functools.cache
def _special(which: str) -> re.Pattern[str]:
    first = "S" if which == "symbols" else "SP"
    codes = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] in first)
    return re.compile("[" + "".join(f"\\U{code:08x}" for code in codes) + "]+")


def _one_space_unless_first(match: re.Match[str]) -> str:
    return " " if match.start() and match.string[match.start() - 1] != "\n" else ""

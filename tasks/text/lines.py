"""Line filters: checks that drop single lines. All are off by default; blank lines pass them all.

Sources: C4 (arXiv 1910.10683, section 2.2) for terminal punctuation, short lines and the boilerplate phrases.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import Field, field_validator

from tasks.settings import Section

TERMINAL_PUNCTUATION = frozenset('.!?"”…。！？；」』')  # what C4 takes, and what ends a Chinese sentence
AFTER_TERMINAL = " \t)）]】'’*_"  # may stand behind it
UNIT = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]|[^\\s\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]+")
BOILERPLATE: Mapping[str, tuple[str, ...]] = {
    "javascript": ("javascript",),
    "lorem_ipsum": ("lorem ipsum",),
    "policy": (
        *("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"),
        *("accept cookies", "all rights reserved", "terms of service"),
        *("隐私政策", "隐私权政策", "服务条款", "使用条款", "用户协议", "版权所有", "免责声明", "使用cookie", "未经授权", "icp备"),
    ),
}


class LineConfig(Section):
    """Which lines are dropped; the name of a field is the reason counted."""

    terminal_punctuation: bool = Field(default=False, description="drop lines that end in no sentence punctuation (en or zh)")
    min_words: int | None = Field(default=None, ge=1, description="words, each Han character one; shorter lines go")
    max_chars: int | None = Field(default=None, ge=1, description="code points; longer lines go")
    javascript: bool = Field(default=False, description="drop lines that speak of JavaScript")
    policy: bool = Field(default=False, description="drop lines on cookies, privacy, terms of use, copyright (en, zh)")
    lorem_ipsum: bool = Field(default=False, description="drop lines of filler text")
    patterns: list[str] = Field(default=[], description="RE2 expressions; a line that contains a match goes")
    duplicates: bool = Field(default=False, description="drop a line equal to the one above, blank lines between or not")

    @field_validator("patterns")
    @classmethod
    def _patterns_compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            _compiled(pattern)
        return patterns


@dataclass(frozen=True)
class Filtered:
    """The lines left, and reason -> lines dropped for it."""

    text: str
    dropped: Mapping[str, int]


class LineFilter:
    """Drops lines; the first check that a line fails is its reason."""

    def __init__(self, config: LineConfig) -> None:
        self._skip_repeats = config.duplicates
        self._checks = [(name, check) for name, check in _checks(config) if check]

    def filter(self, text: str) -> Filtered:
        """The text without the lines that are dropped."""
        kept: list[str] = []
        dropped: dict[str, int] = {}
        previous = None
        for line in text.split("\n"):
            stripped = line.strip()
            reason = self._reason(stripped, previous) if stripped else None
            if reason is None:
                kept.append(line)
                previous = stripped or previous
            else:
                dropped[reason] = dropped.get(reason, 0) + 1
        return Filtered("\n".join(kept), dropped) if dropped else Filtered(text, dropped)

    def _reason(self, line: str, previous: str | None) -> str | None:
        reason = next((name for name, fails in self._checks if fails(line)), None)
        if reason is None and self._skip_repeats and line == previous:
            return "duplicates"
        return reason


def ends_a_sentence(line: str) -> bool:
    """Whether the line, without white space around it, ends in sentence punctuation; brackets behind it may close."""
    return line.rstrip(AFTER_TERMINAL)[-1:] in TERMINAL_PUNCTUATION


def _checks(config: LineConfig) -> list[tuple[str, Callable[[str], bool] | None]]:
    low, high = config.min_words, config.max_chars
    return [
        ("max_chars", (lambda line: len(line) > high) if high is not None else None),
        ("min_words", (lambda line: _has_fewer_words(line, low)) if low is not None else None),
        ("javascript", _says(BOILERPLATE["javascript"]) if config.javascript else None),
        ("policy", _says(BOILERPLATE["policy"]) if config.policy else None),
        ("lorem_ipsum", _says(BOILERPLATE["lorem_ipsum"]) if config.lorem_ipsum else None),
        ("patterns", _matches(config.patterns) if config.patterns else None),
        ("terminal_punctuation", (lambda line: not ends_a_sentence(line)) if config.terminal_punctuation else None),
    ]


def _has_fewer_words(line: str, least: int) -> bool:
    if line.isascii():
        return len(line.split(None, least)) < least
    found = 0
    for _ in UNIT.finditer(line):
        found += 1
        if found == least:
            return False
    return True


def _says(phrases: tuple[str, ...]) -> Callable[[str], bool]:
    def breaks(line: str) -> bool:
        lowered = line.lower()
        return any(phrase in lowered for phrase in phrases)

    return breaks


def _matches(patterns: list[str]) -> Callable[[str], bool]:
    compiled = [_compiled(pattern) for pattern in patterns]
    return lambda line: any(pattern.search(line) for pattern in compiled)


def _compiled(pattern: str):  # google-re2 names no public type
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"{pattern!r} is no RE2 expression: {reason}") from error

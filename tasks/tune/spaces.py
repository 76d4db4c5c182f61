"""Search spaces: what a field of a recipe may be in a trial, as people write it, and the values that trials draw from it.

`1e-4..1e-2:log` (each power of ten as likely), `0.0..0.3`, `2..6` (whole numbers where the field takes these), `2,4,6`.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Scalar: TypeAlias = "int | float | bool | str | None"
Kind = Literal["int", "float", "bool", "text"]

DIGITS = 3  # significant, of a drawn number: more decide nothing, and a recipe is read by people
BLOCK = 64  # points that are drawn at a time


@dataclass(frozen=True)
class Takes:
    """What a field takes: its kind of value, null or not, and of words which."""

    kind: Kind
    null: bool = False
    words: tuple[str, ...] = ()  # empty: any


@dataclass(frozen=True)
class Choices:
    """One of some values, each as likely."""

    values: tuple[Scalar, ...]

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """What must be valid by itself."""
        return self.values

    @property
    def count(self) -> int:
        """How many values there are."""
        return len(self.values)

    def at(self, place: float) -> Scalar:
        """The value at a place from 0 to below 1."""
        return self.values[int(place * len(self.values))]


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included."""

    low: float
    high: float
    is_log: bool
    is_whole: bool

    @property
    def ends(self) -> tuple[Scalar, ...]:
        """What must be valid by itself."""
        return (self._spelled(self.low), self._spelled(self.high))

    @property
    def count(self) -> int | None:
        """How many values there are; None: more than trials can try."""
        return round(self.high - self.low) + 1 if self.is_whole else None

    def at(self, place: float) -> Scalar:
        """The value at a place from 0 to below 1; numbers that are not whole have three significant digits."""
        half = 0.5 if self.is_whole else 0.0  # so that the ends are as likely as what lies between
        low, high = self.low - half, self.high + half
        found = low * (high / low) ** place if self.is_log else low + (high - low) * place
        return self._spelled(min(max(rounded(found), self.low), self.high))

    def _spelled(self, number: float) -> int | float:
        return round(number) if self.is_whole else number


Space = Choices | Range


def rounded(number: float) -> float:
    """To three significant digits."""
    return float(f"{number:.{DIGITS}g}") if abs(number) < 10**DIGITS else float(round(number))


def parse_space(text: str, takes: Takes) -> Space:
    """A space as people write it, for such a field. ValueError with what was found and what is expected."""
    if ".." in text:
        return _range(text, takes)
    given = [part.strip() for part in text.split(",")]
    values = tuple(_scalar(part, takes) for part in given)
    twice = [part for part, value in zip(given, values, strict=True) if values.count(value) > 1]
    if twice:
        raise ValueError(f"{twice[0]} stands twice; give each value once")
    if len(values) < 2:
        raise ValueError(f"found one value, {text!r}; expected several, such as 2,4,6, or a range, such as 1e-4..1e-2:log")
    return Choices(values)


def _range(text: str, takes: Takes) -> Range:
    bounds, _, scale = text.partition(":")
    if takes.kind not in ("int", "float"):
        raise ValueError(f"found the range {text}, but the field takes {_told(takes)}; give values, such as A,B")
    if scale not in ("", "log"):
        raise ValueError(f"found :{scale}, expected :log or nothing behind the range")
    first, _, second = bounds.partition("..")
    low, high = (_scalar(part.strip(), Takes(takes.kind)) for part in (first, second))
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if not low < high:
        raise ValueError(f"found {first}..{second}; expected the lower bound first, and another one above it")
    if scale == "log" and low <= 0:
        raise ValueError(f"found {first}..{second}:log; a logarithm needs a lower bound above 0")
    return Range(float(low), float(high), scale == "log", takes.kind == "int")


def _scalar(text: str, takes: Takes) -> Scalar:
    if takes.null and text == "null":
        return None
    if takes.kind == "bool":
        if text in ("true", "false"):
            return text == "true"
    elif takes.kind == "text":
        if text and (not takes.words or text in takes.words):
            return text
    else:
        try:
            number = int(text) if takes.kind == "int" else float(text)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError(f"found {text!r}, expected {_told(takes)}")


def _told(takes: Takes) -> str:
    plain = {"int": "a whole number", "float": "a number", "bool": "true or false", "text": ", ".join(takes.words) or "a word"}
    return plain[takes.kind] + (" or null" if takes.null else "")


def how_many(spaces: Mapping[str, Space]) -> int | None:
    """Of values together; None: without end."""
    counts = [space.count for space in spaces.values()]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def draws(spaces: Mapping[str, Space], seed: int) -> Iterator[dict[str, Scalar]]:
    """Values by field, without end: scrambled Halton points, which fill the space evenly from the first on (Owen, arXiv 1706.02808).

    The first of more draws are the draws that there were before, so that a search can be lengthened.
    """
    for places in _points(len(spaces), seed):
        yield {name: space.at(place) for (name, space), place in zip(spaces.items(), places, strict=True)}


def _points(dimensions: int, seed: int) -> Iterator[Sequence[float]]:
    from scipy.stats.qmc import Halton

    points = Halton(dimensions, rng=seed)
    for _ in itertools.count():
        yield from points.random(BLOCK).tolist()

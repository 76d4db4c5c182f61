"""Near copies whose origin is known: exact ones and ones with a share of their words, or Han characters, changed."""

import random
import re
from dataclasses import dataclass

from benchmarks.corpus_texts import Language

RATES = (0.0, 0.005, 0.01, 0.02, 0.04)
MIN_UNITS = 100  # of a document that is copied: an edit in a shorter one is more than the rate says
WORD = re.compile(r"\S+")
HAN = re.compile(r"[㐀-鿿]")


@dataclass(frozen=True)
class Copy:
    """A planted copy, by the numbers of the two documents."""

    base: int
    copy: int
    rate: float


@dataclass(frozen=True)
class Planted:
    """Documents with the copies among them, in an order that says nothing."""

    documents: list[str]
    copies: list[Copy]


def plant(documents: list[str], language: Language, each: int) -> Planted:
    """`each` copies at each rate, every one of another base; and as many documents of two halves, which are no copies."""
    draw = random.Random(3)
    units = WORD if language == "en" else HAN
    able = [number for number, text in enumerate(documents) if sum(1 for _ in units.finditer(text)) >= MIN_UNITS]
    bases = draw.sample(able, min(len(able), each * len(RATES)))
    vocabulary = _vocabulary(documents, language)
    rates = [RATES[number % len(RATES)] for number in range(len(bases))]
    texts = list(documents) + [edited(documents[base], rate, language, vocabulary, draw) for base, rate in zip(bases, rates, strict=True)]
    texts += [joined(documents[one], documents[other]) for one, other in (draw.sample(able, 2) for _ in range(each))]
    order = list(range(len(texts)))
    draw.shuffle(order)
    positions = {number: at for at, number in enumerate(order)}
    copies = [
        Copy(positions[base], positions[len(documents) + number], rate)
        for number, (base, rate) in enumerate(zip(bases, rates, strict=True))
    ]
    return Planted([texts[number] for number in order], copies)


def edited(text: str, rate: float, language: Language, vocabulary: list[str], draw: random.Random) -> str:
    """The text with `rate` of its units, rounded at random, each replaced, dropped or doubled by another."""
    units = list((WORD if language == "en" else HAN).finditer(text))
    wanted = rate * len(units)
    count = int(wanted) + (draw.random() < wanted - int(wanted))
    joint = " " if language == "en" else ""
    parts: list[str] = []
    done = 0
    for unit in sorted(draw.sample(units, count), key=re.Match.start):
        new = draw.choice(vocabulary)
        change = draw.choice(("replace", "replace", "drop", "insert"))
        kept = unit.group() if change == "insert" else ""
        added = "" if change == "drop" else new
        parts += [text[done : unit.start()], joint.join(part for part in (kept, added) if part)]
        done = unit.end()
    return "".join([*parts, text[done:]])


def joined(one: str, other: str) -> str:
    """The first half of one text and the last half of another: about a third of its shingles in common with each."""
    return one[: len(one) // 2] + "\n" + other[len(other) // 2 :]


def _vocabulary(documents: list[str], language: Language) -> list[str]:
    units = WORD if language == "en" else HAN
    return sorted({unit.group() for text in documents[:200] for unit in units.finditer(text)})

"""Drift: how far labels, lengths, words and languages of new examples are from those that a model learned from.

Each is a population stability index: the sum over bins of (new - old) * ln(new / old), of the shares of new and old rows in a bin.
Below 0.1 nothing moved, from 0.25 on much did: Siddiqi, "Credit Risk Scorecards" (2006), chapter 6. Without any drift the index of
n new and m old rows in B bins is about chi-squared with B - 1 degrees of freedom, times 1/n + 1/m: Yurdakul and Naranjo,
"Statistical properties of the population stability index" (Journal of Risk Model Validation 14(4), 2020). So small samples reach
0.1 by luck, and a drift is told only where the index is also above what 99 of 100 such samples stay below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, model_validator

from tasks.sampling import hash_keys
from tasks.settings import Section
from tasks.text.language import detect_languages

FILE = "drift.json"
BINS = 10  # of lengths and familiarity: deciles of the old rows
RARE = 5  # rows that are expected in a bin; labels and languages with fewer share one, as chi-squared needs it
QUANTILE = 2.326  # of the normal distribution at 0.99
MOST_ROWS = 2_000  # of each side whose language is detected
OTHERS, UNKNOWN = "all others", "never learned"

Level = Literal["none", "told", "strong"]
Floats = NDArray[np.float64]


class DriftConfig(Section):
    """When a drift is told, and whether it stops the night."""

    told_from: float = Field(default=0.1, gt=0, description="population stability index from which a drift is told")
    strong_from: float = Field(default=0.25, gt=0, description="from which it is strong")
    min_rows: int = Field(default=50, ge=10, description="new rows, and old ones; with fewer nothing is compared")
    stop: bool = Field(default=False, description="a strong drift ends the night before anything is learned")

    @model_validator(mode="after")
    def _in_order(self) -> "DriftConfig":
        if self.strong_from < self.told_from:
            raise ValueError(f"strong_from {self.strong_from:g} is below told_from {self.told_from:g}; a strong drift is told too")
        return self


@dataclass(frozen=True)
class Bin:
    """A part of the rows: its shares of old and of new ones."""

    name: str
    old: float
    new: float


@dataclass(frozen=True)
class DriftFigure:
    """One thing in which rows are compared."""

    of: str  # labels, lengths, words, languages, values
    index: float  # population stability index
    noise: float  # that 99 of 100 samples of this size stay below where nothing drifted
    level: Level
    bins: tuple[Bin, ...]

    @property
    def told(self) -> str:
        """In words: what moved most."""
        most = max(self.bins, key=lambda one: abs(one.new - one.old))
        return f"{self.of} (index {self.index:.2f}): {most.name} {most.old:.0%} of what was learned, {most.new:.0%} of the new rows"


@dataclass(frozen=True)
class Drift:
    """All figures of one night's set of examples."""

    rows: int  # new
    learned: int  # old
    unseen_words: float | None  # share of the new rows' words that are in none of the old rows
    figures: tuple[DriftFigure, ...]  # empty where there are too few rows
    stops: bool  # a strong drift, and the recipe says that it ends the night
    why: str  # one sentence


@dataclass(frozen=True)
class Sample:
    """Rows as they are compared: [n] texts, and by kind the labels or the figures that answer them."""

    texts: Sequence[str]
    labels: Sequence[Sequence[str]] | None = None  # of each row
    values: Sequence[float] | None = None


def measure_drift(config: DriftConfig, new: Sample, old: Sample) -> Drift:
    """The figures of all that both samples have."""
    rows, learned = len(new.texts), len(old.texts)
    if min(rows, learned) < config.min_rows:
        why = f"not compared: {rows:,} new rows and {learned:,} that were learned from, expected {config.min_rows} of each at the least"
        return Drift(rows, learned, None, (), False, why)
    words = _Words.of(new.texts, old.texts)
    figures = [
        _figure(config, "lengths", *_decile_bins(_lengths(new.texts), _lengths(old.texts), " characters")),
        _figure(config, "words", *_decile_bins(words.new, words.old, " bits a word")),
        _figure(config, "languages", *_name_bins(_languages(new.texts), _languages(old.texts))),
    ]
    if new.labels is not None and old.labels is not None:
        figures.insert(0, _figure(config, "labels", *_name_bins(new.labels, old.labels)))
    if new.values is not None and old.values is not None:
        figures.insert(0, _figure(config, "values", *_decile_bins(np.array(new.values), np.array(old.values), "")))
    found = [one for one in figures if one.level != "none"]
    strong = [one for one in found if one.level == "strong"]
    why = "; ".join(f"{'strong ' if one in strong else ''}drift of {one.told}" for one in found) or "no drift"
    return Drift(rows, learned, words.unseen, tuple(figures), config.stop and bool(strong), why)


def stability_index(new: Floats, old: Floats) -> float:
    """Of counts by bin [B]; half a row is added to each bin, so that an empty one has a share too."""
    shares = [(counts + 0.5) / (counts + 0.5).sum() for counts in (new, old)]
    return float(((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum())


def noise_bound(bins: int, new: float, old: float) -> float:
    """What the index of `new` and `old` rows of one distribution stays below in 99 of 100 samples.

    The quantile of chi-squared is by Wilson and Hilferty (PNAS 17, 1931): within 1 % of it for one degree of freedom and more.
    """
    degrees = bins - 1
    if not degrees:
        return 0.0
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + QUANTILE * sqrt(spread)) ** 3 * (1 / new + 1 / old)


def _figure(config: DriftConfig, of: str, names: Sequence[str], new: Floats, old: Floats) -> DriftFigure:
    """`new` and `old` are counts by bin."""
    index, noise = stability_index(new, old), noise_bound(len(names), new.sum(), old.sum())
    level: Level = "none"
    if index > noise and index >= config.told_from:
        level = "strong" if index >= config.strong_from else "told"
    bins = zip(names, (old / old.sum()).tolist(), (new / new.sum()).tolist(), strict=True)
    return DriftFigure(of, index, noise, level, tuple(Bin(*one) for one in bins))


def _decile_bins(new: Floats, old: Floats, unit: str) -> tuple[list[str], Floats, Floats]:
    """Counts by deciles of the old rows; fewer bins where many rows are alike."""
    edges = np.unique(np.quantile(old, np.arange(1, BINS) / BINS))
    counts = [
        np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(np.float64) for values in (new, old)
    ]
    names = [f"up to {edge:.4g}{unit}" for edge in edges] + [f"above {edges[-1]:.4g}{unit}"]
    used = (counts[0] + counts[1]) > 0
    return [name for name, is_used in zip(names, used, strict=True) if is_used], counts[0][used], counts[1][used]


def _name_bins(new: Sequence[Sequence[str]], old: Sequence[Sequence[str]]) -> tuple[list[str], Floats, Floats]:
    """Counts by name. A row with several names counts as a part of each, so that rows stay what is counted.

    Names that no old row has are one bin, and so are those so rare that luck decides how many new rows have them.
    """
    tallies = [_tally(rows) for rows in (new, old)]
    expected = {name: count * min(1.0, len(new) / len(old)) for name, count in tallies[1].items()}
    own = sorted((name for name, count in expected.items() if count >= RARE), key=lambda name: (-expected[name], name))
    names = [*own, OTHERS, UNKNOWN]
    counts = [np.zeros(len(names)), np.zeros(len(names))]
    for side, tally in zip(counts, tallies, strict=True):
        for name, count in tally.items():
            side[names.index(name) if name in own else -2 if name in expected else -1] += count
    used = (counts[0] + counts[1]) > 0
    return [name for name, is_used in zip(names, used, strict=True) if is_used], counts[0][used], counts[1][used]


def _tally(rows: Sequence[Sequence[str]]) -> dict[str, float]:
    parts = dict[str, float]()
    for row in rows:
        for name in row or ("none",):
            parts[name] = parts.get(name, 0.0) + 1 / max(1, len(row))
    return parts


def _lengths(texts: Sequence[str]) -> Floats:
    return np.array([len(text) for text in texts], np.float64)


def _languages(texts: Sequence[str]) -> list[tuple[str]]:
    """Of the rows with the lowest hashes: reading all of many would take minutes."""
    chosen: list[int] = np.argsort(hash_keys(texts, 0), kind="stable")[:MOST_ROWS].tolist()
    return [(found.language,) for found in detect_languages([texts[row] for row in chosen])]


@dataclass(frozen=True)
class _Words:
    """How unusual the words of each row are: bits a word, by how often one half of the old rows has them."""

    new: Floats
    old: Floats  # of the other half, which was not counted
    unseen: float  # of the new rows' words, those in no old row

    @classmethod
    def of(cls, new: Sequence[str], old: Sequence[str]) -> "_Words":
        """Old rows are halved in the order of their texts' hashes."""
        order: list[int] = np.argsort(hash_keys(old, 0), kind="stable").tolist()
        old_words, new_words = [_hashes(old[row]) for row in order], [_hashes(text) for text in new]
        counted, judged = old_words[: len(old) // 2], old_words[len(old) // 2 :]
        known, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *counted]), return_counts=True)
        words = np.concatenate([np.zeros(0, np.uint64), *new_words])
        unseen = float(1 - np.isin(words, np.concatenate(old_words)).mean()) if len(words) else 0.0
        return cls(_bits(new_words, known, counts), _bits(judged, known, counts), unseen)


def _hashes(text: str) -> NDArray[np.uint64]:
    from tasks.kernels.shingles import split_units

    return split_units(text.encode()).hashes


def _bits(rows: Sequence[NDArray[np.uint64]], known: NDArray[np.uint64], counts: NDArray[np.int64]) -> Floats:
    """Mean over the words of each row, one more of each counted, so that an unknown one has bits too; 0 for a row without words."""
    total = counts.sum() + len(known) + 1
    everything = np.concatenate([np.zeros(0, np.uint64), *rows])
    places = np.minimum(np.searchsorted(known, everything), max(0, len(known) - 1))
    seen = np.where(known[places] == everything, counts[places], 0) if len(known) else np.zeros(len(everything))
    bits = np.log2(total / (seen + 1))
    owners = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    sums = np.bincount(owners, bits, len(rows))
    return sums / np.maximum(1, np.bincount(owners, minlength=len(rows)))


def write_drift(drift: Drift, folder: Path) -> None:
    """drift.json."""
    (folder / FILE).write_bytes(TypeAdapter(Drift).dump_json(drift, indent=1) + b"\n")


def read_drift(folder: Path) -> Drift:
    """What `write_drift` wrote."""
    return TypeAdapter(Drift).validate_json((folder / FILE).read_bytes())

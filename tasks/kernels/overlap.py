"""N-gram overlap: what a document shares with the texts that models are judged on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.kernels.character_classes import HAN, KANA, SPACELESS, unit_table
from tasks.kernels.characters import LAST_KNOWN, code_points
from tasks.kernels.shingles import GramSet, Units, gram_hashes, split_units
from tasks.kernels.utf8 import Hashes

Numbers = npt.NDArray[np.int64]
Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class Evaluation:
    """N-grams of all that is judged on. Entry i of `grams`, which ascends, belongs to item `owners[i]`."""

    names: list[str]
    sizes: Numbers  # distinct n-grams of each item
    grams: Hashes
    owners: Numbers
    unchecked: int  # items shorter than an n-gram

    def save(self, folder: Path) -> None:
        """Plain arrays, for workers to map."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "sizes.npy", self.sizes)
        np.save(folder / "grams.npy", self.grams)
        np.save(folder / "owners.npy", self.owners)
        (folder / "names.json").write_text(json.dumps(self.names), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "Evaluation":
        """What `save` wrote."""
        sizes, grams, owners = (np.load(folder / f"{name}.npy") for name in ("sizes", "grams", "owners"))
        names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        return Evaluation(names, sizes, grams, owners, 0)


class EvaluationBuilder:
    """Collects items one by one."""

    def __init__(self, words: int, characters: int) -> None:
        """The n of texts in words, and of those in characters: see `in_characters`."""
        self.words, self.characters = words, characters
        self._names: list[str] = []
        self._sets: list[Hashes] = []
        self.unchecked = 0

    def add(self, name: str, text: str) -> None:
        """An item's text; one too short for an n-gram is only counted."""
        units = split_units(text.encode())
        grams = np.unique(gram_hashes(units, self.characters if in_characters(text, units) else self.words))
        if len(grams):
            self._names.append(name)
            self._sets.append(grams)
        else:
            self.unchecked += 1

    def build(self, allowed: Sequence[str]) -> Evaluation:
        """All items; n-grams of `allowed` texts are left out of each."""
        free = [gram_hashes(split_units(text.encode()), n) for text in allowed for n in (self.words, self.characters)]
        known = np.unique(np.concatenate([np.zeros(0, np.uint64), *free]))
        sets = [grams[~np.isin(grams, known)] for grams in self._sets] if len(known) else self._sets
        sizes = np.array([len(grams) for grams in sets], np.int64)
        grams = np.concatenate([np.zeros(0, np.uint64), *sets])
        order = np.argsort(grams, kind="stable")
        owners = np.repeat(np.arange(len(sizes)), sizes)
        return Evaluation(self._names, sizes, grams[order], owners[order], self.unchecked)


@dataclass(frozen=True)
class Overlap:
    """How much of what is judged on a document holds."""

    item: str  # that it holds most of
    item_share: float  # of the item's n-grams, those in the document
    document_share: float  # of the document's n-grams, those in any item
    longest: str  # shared run, as the document has it
    longest_units: int
    spans: Spans  # byte ranges of all shared runs, in order and apart

    @property
    def share(self) -> float:
        """The larger of the two: the whole of a short item in a long document counts, and so does a part of a long item."""
        return max(self.item_share, self.document_share)


class OverlapFinder:
    """Asks documents for shared runs: a fast pass over all, a close look at those with a hit."""

    def __init__(self, evaluation: Evaluation, words: int, characters: int) -> None:
        self._evaluation = evaluation
        self._words, self._characters = words, characters
        self._set = GramSet(evaluation.grams, (words, characters))

    def hits(self, data: npt.NDArray[np.uint8], offsets: Numbers) -> Numbers:
        """Shared n-grams of each document; see `text_buffers`."""
        return self._set.hits(data, offsets)

    def look(self, text: str) -> Overlap | None:
        """The item that a document overlaps most; None when they share no n-gram."""
        data = text.encode()
        units = split_units(data)
        best: Overlap | None = None
        everything: Spans = []
        own_n = self._characters if in_characters(text, units) else self._words
        for n in sorted({self._words, self._characters}):
            grams = gram_hashes(units, n)
            shared = _is_in(grams, self._evaluation.grams)
            if not shared.any():
                continue
            common = np.unique(grams[shared])
            counts = np.bincount(self._owners(common), minlength=len(self._evaluation.sizes))
            item = int(np.argmax(counts / np.maximum(self._evaluation.sizes, 1)))
            own = len(common) / len(np.unique(grams)) if n == own_n else 0.0
            spans, longest = _runs(units, shared, n)
            found = Overlap(
                self._evaluation.names[item],
                float(counts[item] / self._evaluation.sizes[item]),
                own,
                data[spans[longest][0] : spans[longest][1]].decode(),
                _units_in(units, spans[longest]),
                spans,
            )
            everything += spans
            if best is None or found.share > best.share:
                best = found
        return None if best is None else replace(best, spans=_merged(everything))

    def _owners(self, common: Hashes) -> Numbers:
        """Items that hold the n-grams, one entry for each pair of n-gram and item."""
        grams = self._evaluation.grams
        low = np.searchsorted(grams, common, side="left")
        counts = np.searchsorted(grams, common, side="right") - low
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self._evaluation.owners[np.repeat(low, counts) + within]


def in_characters(text: str, units: Units) -> bool:
    """Whether half of a text's units or more are single characters: Han, kana, or letters of a script without spaces."""
    kinds = unit_table()[np.minimum(code_points(text), LAST_KNOWN)]
    return 2 * int(np.isin(kinds, (HAN, KANA, SPACELESS)).sum()) >= len(units.hashes)


def _is_in(values: Hashes, ascending: Hashes) -> npt.NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(len(values), dtype=np.bool_)
    found = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[found] == values


def _runs(units: Units, shared: npt.NDArray[np.bool_], n: int) -> tuple[Spans, int]:
    """Byte ranges of the stretches whose n-grams are all shared, and which is the longest in units."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], shared.view(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    spans = [(int(units.starts[start]), int(units.ends[end + n - 2])) for start, end in zip(starts, ends, strict=True)]
    return spans, int(np.argmax(ends - starts))


def _merged(spans: Spans) -> Spans:
    """The ranges in order; those that touch or lie over one another made one."""
    merged: Spans = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _units_in(units: Units, span: tuple[int, int]) -> int:
    return int(((units.starts >= span[0]) & (units.ends <= span[1])).sum())


def without_spans(text: str, spans: Spans) -> str:
    """The text without byte ranges, which are in order and apart.

    What was around each is parted by a line end, or by a blank line where one was.
    """
    data = text.encode()
    whole = gap = ""
    last_end = 0
    for start, end in [*spans, (len(data), len(data))]:
        part = data[last_end:start].decode()
        last_end = end
        stripped = part.strip()
        lead, _, trail = part.partition(stripped) if stripped else (part, "", "")
        gap += lead
        if stripped:
            parting = "\n\n" if "\n\n" in gap else "\n"
            whole += (parting if whole else "") + stripped
            gap = trail
    return whole

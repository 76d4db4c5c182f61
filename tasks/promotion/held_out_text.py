"""Held-out text in new rows: exact copies, long shared runs, and near copies of short texts of what models are judged on.

Exact: equal in letters and digits, whatever their case and width. Runs: n-grams of 13 words or 24 Chinese characters, as in decontamination
(tasks/kernels/overlap.py). Near: Jaccard similarity of the sets of four characters in a row, of Chinese and the like two (Broder, "On the
resemblance and containment of documents", 1997), for a text may be too short for a run, or differ in the middle of each.
What stands in many of the judged texts, such as the fixed words of a prompt, is no evidence, and left out of both.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.documents import text_buffers
from tasks.kernels.characters import code_points

if TYPE_CHECKING:
    from tasks.kernels.overlap import Evaluation

NGRAM_WORDS, NGRAM_CHARACTERS = 13, 24
MOST_SHARED = 0.3  # of the n-grams of a row, or of a judged text
MOST_SIMILAR = 0.75  # a word in twelve, or a character in fifteen, is another
SHINGLE, SHINGLE_HAN = 4, 2  # characters
LEAST_SHINGLES, LEAST_HAN = 16, 10  # of a text, for similarity to mean something
COMMON, COMMON_SHARE = 5, 0.05  # judged texts, and share of them, from which on what they have in common is no evidence
SHOWN_CHARACTERS = 1_000

Reason = Literal["held_out_text", "near_held_out"]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Match:
    """What a row shares with a judged text."""

    item: str  # name of the judged text
    reason: Reason
    text: str  # the shared run, or the judged text that is like it
    units: int  # words or characters of it
    item_share: float
    row_share: float  # similarity where the two are alike as a whole

    @property
    def share(self) -> float:
        """The larger of the two."""
        return max(self.item_share, self.row_share)


def find_held_out(rows: Sequence[str], judged: Mapping[str, str]) -> dict[int, Match]:
    """Number of a row -> what it shares with the judged text, by name, that it is most like; rows that are clean have no entry."""
    if not rows or not judged:
        return {}
    found = _shared_runs(rows, judged)
    for number, match in _alike(rows, judged).items():
        if number not in found or found[number].share < match.share:
            found[number] = match
    return found | _copies(rows, judged)


def _copies(rows: Sequence[str], judged: Mapping[str, str]) -> dict[int, Match]:
    names = {_plain(text): name for name, text in judged.items()}
    found = {number: names[plain] for number, row in enumerate(rows) if (plain := _plain(row)) in names}
    return {
        number: Match(name, "held_out_text", judged[name][:SHOWN_CHARACTERS], _words(judged[name]), 1.0, 1.0)
        for number, name in found.items()
    }


def _plain(text: str) -> str:
    """Its letters and digits, in one case and width, words apart; of a text without any the text."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip() or text.strip()


def _words(text: str) -> int:
    """Words, or characters of Chinese and the like."""
    from tasks.kernels.shingles import split_units

    return max(1, len(split_units(text.encode()).hashes))


def _shared_runs(rows: Sequence[str], judged: Mapping[str, str]) -> dict[int, Match]:
    from tasks.kernels.overlap import EvaluationBuilder, OverlapFinder

    builder = EvaluationBuilder(NGRAM_WORDS, NGRAM_CHARACTERS)
    for name, text in judged.items():
        builder.add(name, text)
    finder = OverlapFinder(_without_common(builder.build([]), len(judged)), NGRAM_WORDS, NGRAM_CHARACTERS)
    found = dict[int, Match]()
    for number in np.flatnonzero(finder.hits(*text_buffers(pa.array(rows, pa.large_string())))).tolist():
        overlap = finder.look(rows[number])
        if overlap is not None and overlap.share >= MOST_SHARED:
            shown = overlap.longest[:SHOWN_CHARACTERS]
            found[number] = Match(overlap.item, "near_held_out", shown, overlap.longest_units, overlap.item_share, overlap.document_share)
    return found


def _without_common(evaluation: "Evaluation", items: int) -> "Evaluation":
    """The n-grams that tell one judged text from others."""
    is_own = _tells(evaluation.grams, items)
    owners = evaluation.owners[is_own]
    sizes = np.maximum(1, np.bincount(owners, minlength=len(evaluation.names)))
    return replace(evaluation, sizes=sizes, grams=evaluation.grams[is_own], owners=owners)


def _tells(grams: Hashes, items: int) -> NDArray[np.bool_]:
    """Of grams that each text has once: those that are not in many of the texts."""
    _, places, counts = np.unique(grams, return_inverse=True, return_counts=True)
    return counts[places] < max(COMMON, COMMON_SHARE * items)


def _alike(rows: Sequence[str], judged: Mapping[str, str]) -> dict[int, Match]:
    """Judged texts as alike as MOST_SIMILAR, by the grams that are not common."""
    names, sets = list(judged), [_shingles(text) for text in judged.values()]
    grams = np.concatenate(sets)
    owners = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
    is_own = _tells(grams, len(judged))
    common = np.unique(grams[~is_own])
    order = np.argsort(grams[is_own], kind="stable")
    grams, owners = grams[is_own][order], owners[is_own][order]
    sizes = np.bincount(owners, minlength=len(names))
    found = dict[int, Match]()
    for number, row in enumerate(rows):
        own = _shingles(row)
        own = own[~np.isin(own, common, assume_unique=True)]
        if len(own) < (LEAST_HAN if _is_han(row) else LEAST_SHINGLES) or not len(grams):
            continue
        low, high = np.searchsorted(grams, own, side="left"), np.searchsorted(grams, own, side="right")
        within = np.arange((high - low).sum()) - np.repeat(np.cumsum(high - low) - (high - low), high - low)
        shared = np.bincount(owners[np.repeat(low, high - low) + within], minlength=len(names))
        similarity = shared / (len(own) + sizes - shared)
        best = int(np.argmax(similarity))
        if similarity[best] >= MOST_SIMILAR:
            shown, share = judged[names[best]], float(similarity[best])
            found[number] = Match(names[best], "near_held_out", shown[:SHOWN_CHARACTERS], _words(shown), share, share)
    return found


def _shingles(text: str) -> Hashes:
    """The distinct runs of characters, ascending."""
    codes = code_points(_plain(text)).astype(np.uint64)
    size = SHINGLE_HAN if _is_han(text) else SHINGLE
    count = max(0, len(codes) - size + 1)
    packed = np.zeros(count, np.uint64)
    for place in range(size):  # 16 bits each: what differs in a rare character's upper bits alone is taken for the same
        packed = (packed << np.uint64(16)) | (codes[place : place + count] & np.uint64(0xFFFF))
    return np.unique(packed)


def _is_han(text: str) -> bool:
    """Whether its words are single characters."""
    from tasks.kernels.overlap import in_characters
    from tasks.kernels.shingles import split_units

    return in_characters(text, split_units(text.encode()))

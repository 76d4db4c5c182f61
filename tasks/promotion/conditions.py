"""Conditions of a promotion beside figures: the artifact is whole, its round trip holds, what it is judged on was not learned."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.artifacts import Artifact, Scores, fault, read_manifest
from tasks.documents import example_text
from tasks.errors import UserError
from tasks.examples.rows import read_examples
from tasks.kernels.overlap import in_characters
from tasks.kernels.shingles import gram_hashes, split_units
from tasks.kernels.utf8 import Hashes
from tasks.memory import Memory
from tasks.promotion.decision import Condition

Certify = Callable[[Path], tuple[bool, str]]  # a model's folder -> whether its round trip holds, and what was seen

GRAM_WORDS, GRAM_CHARACTERS = 13, 24  # as `decontaminate` has them
NEAR = 0.8  # of a text's n-grams, in what was learned: a near copy


@dataclass(frozen=True)
class Leaks:
    """Held-out examples, by id, whose text was learned."""

    exact: frozenset[str]  # but for case and white space
    near: frozenset[str]
    judged: int
    learned: int

    @property
    def all(self) -> frozenset[str]:
        """Both."""
        return self.exact | self.near


def is_whole(artifact: Artifact) -> Condition:
    """Every file of it hashed."""
    name = "artifact is whole"
    try:
        manifest = read_manifest(artifact.path)
    except UserError as error:
        return Condition(name, False, str(error))
    if manifest is None:
        return Condition(name, False, f"{artifact.folder} has no manifest.json")
    wrong = fault(artifact.path, manifest, thorough=True)
    return Condition(name, wrong is None, wrong or f"all files are as they were written: {len(manifest.files):,}")


def round_trip(certify: Certify, folder: Path) -> Condition:
    """The certificate of export."""
    holds, found = certify(folder)
    return Condition("round trip holds", holds, found)


def is_separate(scores: Scores, leaks: Leaks | None) -> Condition:
    """The contamination check ran. Of examples it is made here; a corpus comes from `decontaminate` alone, so it is enough to find it."""
    name = "held-out text was not learned"
    if leaks is not None:
        told = f"{leaks.judged:,} held-out texts against {leaks.learned:,} learned ones"
        left = f"; left out of the comparison: {len(leaks.exact):,} that were learned, {len(leaks.near):,} near copies" if leaks.all else ""
        return Condition(name, len(leaks.all) < leaks.judged, told + (left or ": none is among them"))
    manifest = read_manifest(scores.path)
    corpus = None if manifest is None else manifest.inputs.get("corpus")
    if corpus is None:
        return Condition(name, False, "not checked: the scores name no corpus, so no decontamination stands behind them")
    return Condition(name, True, f"corpus {corpus} is what decontamination left")


def find_leaks(examples: Path, memory: Memory | None) -> Leaks:
    """Held-out texts of an Examples artifact among what it teaches, and what travels with the model as learned."""
    held = read_examples(examples, "heldout")
    texts = dict(zip(held.table["id"].to_pylist(), map(example_text, held.table.to_pylist()), strict=True))
    folders = [examples, *(memory.examples.values() if memory is not None else ())]
    learned = list(dict.fromkeys(text for folder in folders for text in _learned(folder)))
    keys = {_plain(text) for text in learned}
    exact = frozenset(one for one, text in texts.items() if _plain(text) in keys)
    known = np.unique(np.concatenate([np.zeros(0, np.uint64), *_all_grams(learned)]))
    near = frozenset(one for one, text in texts.items() if one not in exact and _share_known(text, known) >= NEAR)
    return Leaks(exact, near, len(texts), len(learned))


def _learned(folder: Path) -> list[str]:
    return [example_text(row) for row in read_examples(folder, "train").table.to_pylist()]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _all_grams(texts: Iterable[str]) -> Iterator[Hashes]:
    for text in texts:
        units = split_units(text.encode())
        yield from (gram_hashes(units, n) for n in (GRAM_WORDS, GRAM_CHARACTERS))


def _share_known(text: str, known: Hashes) -> float:
    """Of a text's n-grams, those among `known`, which ascend; 0 for a text that has none."""
    units = split_units(text.encode())
    grams = np.unique(gram_hashes(units, GRAM_CHARACTERS if in_characters(text, units) else GRAM_WORDS))
    if not len(grams) or not len(known):
        return 0.0
    places = np.minimum(np.searchsorted(known, grams), len(known) - 1)
    return float((known[places] == grams).mean())

"""Deterministic sampling: which documents are held out, an order of rows, and samples in that order, by ids and a seed alone."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from tasks.documents import read_batches
from tasks.settings import Section

HELDOUT_SHARE = 0.12
HELDOUT_SEED = 575  # with it every area of tasks/examples/stdlib_examples.py has two held-out modules or more, from Python 3.11 to 3.13


class HeldOut(Section):
    """Which groups are judged on and never learned from: in the corpus, in labelled examples and in suites alike."""

    share: float = Field(default=HELDOUT_SHARE, gt=0, lt=1, description="of the groups, or of what has no group")
    seed: int = Field(default=HELDOUT_SEED, ge=0, description="of the choice")


def unit_hash(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def is_heldout(group: str, share: float, seed: int) -> bool:
    """True for about `share` of all groups, the same ones in every run and on every machine."""
    return unit_hash(group, seed) < share


def hash_keys(ids: Iterable[str], seed: int) -> NDArray[np.uint64]:
    """A number in [0, 2^64) for each id, evenly spread and the same on every machine; another seed, another spread."""
    key = seed.to_bytes(8, "little")
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest() for text in ids)
    return np.frombuffer(digests, dtype="<u8")


@dataclass(frozen=True)
class SampledDocument:
    """A document of a sample; the last one of its language may be cut to the budget."""

    id: str
    language: str
    text: str
    source: str = ""  # its name in the recipe


def sample_documents(
    folder: Path, pattern: str, budget_bytes: int, seed: int, by_language: bool = True, document_bytes: int | None = None
) -> Iterator[SampledDocument]:
    """Documents of the files that match `pattern`, at most `budget_bytes` of text, lowest keys first taken.

    `by_language` gives each language an equal share, as far as it has text. Of a document longer than `document_bytes`
    the beginning is taken, unless its language has too little text otherwise. They come in the order of the files.
    """
    keys, languages, sizes = _read_index(folder, pattern, seed)
    if not by_language:
        languages = np.full(len(keys), "any")
    if document_bytes is not None:
        sizes = level_sizes(languages, sizes, budget_bytes, document_bytes)
    takes = sample_sizes(keys, languages, sizes, budget_bytes)
    row = 0
    for batch in read_batches(folder, pattern, rows=500):
        here = np.flatnonzero(takes[row : row + batch.num_rows])
        for position in here:
            values = {name: batch.column(name)[int(position)].as_py() for name in ("id", "language", "source", "text")}
            if takes[row + position] < batch.column("bytes")[int(position)].as_py():
                values["text"] = values["text"].encode()[: int(takes[row + position])].decode(errors="ignore")
            yield SampledDocument(values["id"], values["language"], values["text"], values["source"])
        row += batch.num_rows


def sample_sizes(keys: NDArray[np.uint64], languages: NDArray[np.str_], sizes: NDArray[np.int64], budget_bytes: int) -> NDArray[np.int64]:
    """Bytes to take of each document: 0, all of it, or, for the last one of a language, what the budget leaves."""
    takes = np.zeros(len(keys), dtype=np.int64)
    for language, share in language_shares(languages, sizes, budget_bytes).items():
        members = np.flatnonzero(languages == language)
        members = members[np.argsort(keys[members], kind="stable")]
        before = np.cumsum(sizes[members]) - sizes[members]
        takes[members] = np.clip(share - before, 0, sizes[members])
    return takes


def language_shares(languages: NDArray[np.str_], sizes: NDArray[np.int64], budget_bytes: int) -> dict[str, int]:
    """Bytes of the budget for each language: equal, and what one has too little text for goes to the others."""
    totals = {str(language): int(sizes[languages == language].sum()) for language in np.unique(languages)}
    shares, left = dict[str, int](), budget_bytes
    for done, language in enumerate(sorted(totals, key=lambda name: (totals[name], name))):
        shares[language] = min(totals[language], left // (len(totals) - done))
        left -= shares[language]
    return shares


def level_sizes(languages: NDArray[np.str_], sizes: NDArray[np.int64], budget_bytes: int, document_bytes: int) -> NDArray[np.int64]:
    """Bytes that may be taken of each document: `document_bytes`, or in a language with less text the level that fills it.

    So one book does not crowd out a thousand letters, and a language of one book still gives its share.
    """
    levelled = sizes.copy()
    for language, share in language_shares(languages, sizes, budget_bytes).items():
        members = np.sort(sizes[languages == language])
        behind = np.arange(len(members) - 1, -1, -1)  # how many are longer
        total = np.cumsum(members) + members * behind  # were each cut to members[i]
        at = int(np.searchsorted(total, share))
        level = members[at] - (total[at] - share) // (behind[at] + 1)
        levelled[languages == language] = np.minimum(sizes[languages == language], max(document_bytes, int(level)))
    return levelled


def _read_index(folder: Path, pattern: str, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.str_], NDArray[np.int64]]:
    """Key, language and bytes of every row, in file order; no text is read."""
    keys, languages, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.str_)], [np.empty(0, np.int64)]
    for path in sorted(folder.glob(pattern)):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=65_536, columns=["id", "language", "bytes"]):
                keys.append(hash_keys(batch.column("id").to_pylist(), seed))
                languages.append(np.asarray(batch.column("language").to_pylist(), dtype=np.str_))
                sizes.append(batch.column("bytes").to_numpy())
    return np.concatenate(keys), np.concatenate(languages), np.concatenate(sizes)

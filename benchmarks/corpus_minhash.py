"""Near copies: speed, and what is found of planted ones. Rows `minhash-en` and `minhash-zh`.

Ours signs a document table and clusters the signatures, from file to verdicts; the peer runs its four MinHash stages with
its defaults (word 5-grams, 14 bands of 8) under its local executor.

    python -m benchmarks.corpus_minhash DOCUMENTS.parquet FOLDER [CLUSTERS.json [SETTINGS]]        # our side
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.corpus_filters import PEER_LANGUAGES
from benchmarks.corpus_texts import Language, Source, first, write_tables
from benchmarks.planted import RATES, Copy, plant
from benchmarks.sides import Row, compared, ours, peer, run, tell

PEER = "datatrove 0.10.1: MinHash signatures, buckets, clusters, filter (14x8, word 5-grams)"
OTHER_SETTINGS = {
    "16x8_0.7": {"bands": 16, "rows": 8, "threshold": 0.7},
    "16x8_0.5": {"bands": 16, "rows": 8, "threshold": 0.5},
    "20x6_0.6": {"bands": 20, "rows": 6, "threshold": 0.6},
}
PLANTED_MEGABYTES = 6.0  # of text that copies are planted in
MANY = 200  # planted copies at each rate from which other settings are worth a look
SHINGLE_UNITS = 5
NEAR = 0.5  # Jaccard similarity of shingles from which two documents are near copies of one another


@dataclass(frozen=True)
class Found:
    """How well a clustering found the planted copies."""

    recall: dict[str, float]  # edit rate -> share of planted copies in one cluster with their base
    precision: float  # share of removed documents that are as similar as NEAR to another document of their cluster
    pair_precision: float  # share of pairs within a cluster that are as similar as NEAR
    removed: int


def row(
    source: Source, language: Language, megabytes: float, peer_megabytes: float, python: Path, folder: Path, pairs: int, each: int
) -> Row:
    """Speed on repeated text; recall and precision on text that is not repeated, with `each` planted copies a rate."""
    documents, origin = source.at_least(language, megabytes)
    (large,) = write_tables(documents, language, folder / "ours")
    (small,) = write_tables(first(documents, peer_megabytes), language, folder / "peer")
    timed, *_ = compared(
        f"minhash-{language}",
        ours("corpus_minhash", str(large), str(folder / "work")),
        peer(python, "datatrove_minhash.py", str(small.with_suffix(".jsonl")), PEER_LANGUAGES[language], str(folder / "work")),
        PEER,
        pairs,
    )
    return (
        timed
        | {"text": origin}
        | quality(source, language, PLANTED_MEGABYTES if each >= MANY else peer_megabytes, python, folder / "planted", each)
    )


def quality(source: Source, language: Language, megabytes: float, python: Path, folder: Path, each: int) -> Row:
    """Recall by edit rate and precision of both sides on the same documents, and of ours with other settings."""
    planted = plant(first(source.distinct(language), megabytes), language, each)
    (path,) = write_tables(planted.documents, language, folder)
    answer = folder / "clusters.json"

    def found(command: Sequence[str]) -> Found:
        run(command)
        return found_by(json.loads(answer.read_text()), planted.documents, planted.copies)

    lines = str(path.with_suffix(".jsonl"))
    peer_found = found(peer(python, "datatrove_minhash.py", lines, PEER_LANGUAGES[language], str(folder), str(answer)))
    row: Row = {"planted_each": len(planted.copies) // len(RATES), "planted_documents": len(planted.documents)}
    row |= _figures("peer", peer_found)
    for name, settings in {"ours": {}, **(OTHER_SETTINGS if each >= MANY else {})}.items():
        command = ours("corpus_minhash", str(path), str(folder), str(answer), json.dumps(settings))
        row |= _figures(name, found(command))
    return row


def _figures(name: str, found: Found) -> Row:
    return {
        f"{name}_recall": found.recall,
        f"{name}_precision": found.precision,
        f"{name}_pair_precision": found.pair_precision,
        f"{name}_removed": found.removed,
    }


def found_by(roots: Sequence[int], documents: Sequence[str], copies: Sequence[Copy]) -> Found:
    """Judges a clustering that gives each document a number of its cluster."""
    hits: defaultdict[float, list[bool]] = defaultdict(list)
    for copy in copies:
        hits[copy.rate].append(roots[copy.base] == roots[copy.copy])
    clusters: defaultdict[int, list[int]] = defaultdict(list)
    for number, root in enumerate(roots):
        clusters[root].append(number)
    groups = [members for members in clusters.values() if len(members) > 1]
    shingles = {number: shingles_of(documents[number]) for members in groups for number in members}
    near_pairs = all_pairs = right = removed = 0
    for members in groups:
        best = dict.fromkeys(members, 0.0)
        for one, other in combinations(members[:200], 2):
            similarity = jaccard(shingles[one], shingles[other])
            best[one], best[other] = max(best[one], similarity), max(best[other], similarity)
            near_pairs += similarity >= NEAR
            all_pairs += 1
        removed += len(members) - 1
        right += sum(similarity >= NEAR for similarity in sorted(best.values())[: len(members) - 1])
    return Found(
        {f"{100 * rate:g} %": sum(hits[rate]) / max(1, len(hits[rate])) for rate in RATES},
        right / max(1, removed),
        near_pairs / max(1, all_pairs),
        removed,
    )


def shingles_of(text: str) -> np.ndarray:
    """Distinct hashes of its runs of five words or Han characters, in order; of a shorter text its own hash."""
    from tasks.kernels.shingles import gram_hashes, split_units

    units = split_units(text.encode())
    found = np.unique(gram_hashes(units, SHINGLE_UNITS))
    return found if len(found) else np.array([hash(units.hashes.tobytes()) & (2**64 - 1)], np.uint64)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Shared shingles of all shingles."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


def main() -> None:
    """Our side: signatures, clusters and verdicts of one table with the stage's defaults."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.corpus.deduplicate import DeduplicateConfig, Signatures, SignWork, cluster, open_table, sign_table
    from tasks.executor.tables import TableFile

    path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    config = DeduplicateConfig.model_validate(json.loads(sys.argv[4]) if len(sys.argv) > 4 else {})

    def clustered(table: Path, out: Path) -> np.ndarray:
        out.mkdir(parents=True, exist_ok=True)
        work = TableFile(str(table), "", table.stat().st_size, 0)
        sign_table(SignWork(work, config.shingle_units, config.bands, config.rows, config.seed), out)
        signed = open_table(out / "signatures-000.arrow")
        found, _ = cluster(config, Signatures([signed], [np.ones(signed.num_rows, np.bool_)]))
        kept = pa.array(found.roots == np.arange(signed.num_rows))
        pq.write_table(pa.table({"id": signed["id"], "kept": kept}), out / "verdicts-000.parquet", compression="zstd")
        return found.roots

    few = folder / "few.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pq.read_table(path).slice(0, 50), few)
    clustered(few, folder / "warm")
    startup = time.process_time()
    roots = clustered(path, folder / "ours")
    seconds = time.process_time() - startup
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(json.dumps(roots.tolist()))
    size = int(np.sum(pq.read_table(path, columns=["bytes"])["bytes"].to_numpy()))
    tell(size, seconds, startup, {"removed": int(np.sum(roots != np.arange(len(roots))))})


if __name__ == "__main__":
    main()

"""The whole clean chain without HTML: row `clean-chain`. Ours from raw document table to verdicts, by the stages' own functions.

Ours: repairs, personal data, language, statistics, rules, signatures, clusters. The peer: ftfy, Gopher repetition, Gopher
quality, FineWeb, personal data, and its four MinHash stages over what is left. The peer's language filter is not run: its model
must be downloaded. Ours tells the language of every document, and signs dropped ones too.

    python -m benchmarks.corpus_chain DOCUMENTS.parquet PRESET,... FOLDER        # our side
"""

import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.corpus_filters import PEER_LANGUAGES
from benchmarks.corpus_texts import Language, Source, first, write_tables
from benchmarks.sides import Row, compared, ours, peer, tell

PEER = "datatrove 0.10.1: ftfy, Gopher repetition, Gopher quality, FineWeb, PII, MinHash (no language filter)"
PRESETS = {"en": "gopher,fineweb", "zh": "fineweb2-zh"}


def rows(source: Source, megabytes: float, peer_megabytes: Mapping[str, float], python: Path, folder: Path, pairs: int) -> list[Row]:
    """One row a language."""
    return [
        _language_row(source, language, megabytes, peer_megabytes[language], python, folder / language, pairs) for language in ("en", "zh")
    ]


def _language_row(
    source: Source, language: Language, megabytes: float, peer_megabytes: float, python: Path, folder: Path, pairs: int
) -> Row:
    documents, origin = source.at_least(language, megabytes)
    (large,) = write_tables(documents, "und", folder / "ours")
    (small,) = write_tables(first(documents, peer_megabytes), "und", folder / "peer")
    lines = str(small.with_suffix(".jsonl"))
    timed, our_run, peer_run = compared(
        "clean-chain" if language == "en" else "clean-chain-zh",
        ours("corpus_chain", str(large), PRESETS[language], str(folder / "work")),
        peer(python, "datatrove_chain.py", lines, PEER_LANGUAGES[language], str(folder / "work")),
        PEER,
        pairs,
    )
    return timed | {
        "text": origin,
        "ours_seconds_by_step": our_run.facts["steps"],
        "ours_kept": our_run.facts["kept"],
        "peer_kept": peer_run.facts["kept"],
    }


def clean(table: Path, presets: list[str], out: Path) -> dict[str, float]:
    """From raw documents to verdicts, serially, in files; processor seconds of each step and the share kept."""
    import numpy as np
    import pyarrow.parquet as pq

    from tasks.corpus.annotate import AnnotateConfig, AnnotateWork, annotate_table
    from tasks.corpus.deduplicate import DeduplicateConfig, Signatures, SignWork, cluster, open_table, sign_table
    from tasks.corpus.select import SelectConfig, SelectWork, preset_digests, select_table
    from tasks.executor.tables import TableFile

    def file(path: Path) -> TableFile:
        return TableFile(str(path), "", path.stat().st_size, pq.read_metadata(path).num_rows)

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    select, deduplicate = SelectConfig.model_validate({"presets": presets}), DeduplicateConfig()
    times = [time.process_time()]
    annotate_table(AnnotateWork(file(table), AnnotateConfig(), {}, None, None), out)
    times.append(time.process_time())
    select_table(SelectWork(file(out / "statistics-000.parquet"), select, preset_digests(select)), out)
    times.append(time.process_time())
    sign_table(SignWork(file(out / "documents-000.parquet"), deduplicate.shingle_units, deduplicate.bands, deduplicate.rows, 1), out)
    times.append(time.process_time())
    kept = pq.read_table(out / "verdicts-000.parquet", columns=["kept"])["kept"].to_numpy()
    found, _ = cluster(deduplicate, Signatures([open_table(out / "signatures-000.arrow")], [kept]))
    staying = kept & (found.roots == np.arange(len(kept)))
    times.append(time.process_time())
    names = ("annotate", "select", "sign", "cluster")
    return {name: end - start for name, start, end in zip(names, times, times[1:], strict=False)} | {"kept": float(staying.mean())}


def main() -> None:
    """Our side, after a small table that warms up."""
    import pyarrow.parquet as pq

    path, presets, folder = Path(sys.argv[1]), sys.argv[2].split(","), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    few = folder / "few.parquet"
    pq.write_table(pq.read_table(path).slice(0, 50), few)
    clean(few, presets, folder / "warm")
    startup = time.process_time()
    told = clean(path, presets, folder / "ours")
    seconds = time.process_time() - startup
    kept = told.pop("kept")
    size = sum(pq.read_table(path, columns=["bytes"])["bytes"].to_pylist())
    tell(size, seconds, startup, {"kept": kept, "steps": told})


if __name__ == "__main__":
    main()

"""All quality and repetition figures and the decisions on them: rows `filters-en`, `filters-zh` and `filters-whitespace`.

Ours measures batches of an Arrow table and judges the statistics; the peer runs its Gopher repetition, Gopher quality, C4
and FineWeb filters over the same documents in memory. Each filter sees every document as it was.

    python -m benchmarks.corpus_filters DOCUMENTS.parquet PRESET,...  [DECISIONS.json]        # our side
"""

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.corpus_texts import HAN, Language, Source, first, write_tables
from benchmarks.sides import Row, compared, ours, peer, run, tell

if TYPE_CHECKING:
    import pyarrow as pa

    from tasks.corpus.select import SelectConfig

PEER = "datatrove 0.10.1: Gopher repetition, Gopher quality, C4, FineWeb"
PRESETS = {"en": "gopher,c4,fineweb", "zh": "fineweb2-zh"}
PEER_LANGUAGES = {"en": "eng_Latn", "zh": "cmn_Hani"}  # "zho" would be split at white space in 0.10.1
BATCH_ROWS = 1_000
LINE_END_SPACE = re.compile(r"[^\S\n]+(?=\n|$)")
DECIDED = 2_500  # documents on which decisions are compared


def row(source: Source, language: Language, megabytes: float, peer_megabytes: float, python: Path, folder: Path, pairs: int) -> Row:
    """`filters-en` or `filters-zh`."""
    return _timed(f"filters-{language}", source, language, megabytes, peer_megabytes, python, folder, pairs, "own")


def whitespace_row(
    source: Source, megabytes: float, peer_megabytes: float, python: Path, folder: Path, pairs: int, decided: int = DECIDED
) -> Row:
    """`filters-whitespace`: the peer splits words at white space and sentences by an expression; decisions compared."""
    timed = _timed("filters-whitespace", source, "en", megabytes, peer_megabytes, python, folder, pairs, "whitespace")
    timed["peer_name"] = f"{PEER}; words from str.split, sentences from one expression"
    return timed | decisions(source, python, folder / "decisions", decided)


def _timed(
    name: str,
    source: Source,
    language: Language,
    megabytes: float,
    peer_megabytes: float,
    python: Path,
    folder: Path,
    pairs: int,
    words: str,
) -> Row:
    documents, origin = source.at_least(language, megabytes)
    (large,) = write_tables(documents, language, folder / "ours")
    (small,) = write_tables(first(documents, peer_megabytes), language, folder / "peer")
    timed, our_run, peer_run = compared(
        name,
        ours("corpus_filters", str(large), PRESETS[language]),
        peer(python, "datatrove_filters.py", str(small.with_suffix(".jsonl")), PEER_LANGUAGES[language], words),
        PEER,
        pairs,
    )
    return timed | {"text": origin, "ours_kept": our_run.facts["kept"], "peer_kept": peer_run.facts["kept"]}


def decisions(source: Source, python: Path, folder: Path, decided: int) -> Row:
    """Keep or drop, filter by filter, on documents without Han: shares that agree, and causes where they do not.

    Once on the text as it is, and once without white space at line ends, as our repairs leave it.
    """
    documents = [text for text in source.distinct("en") if not HAN.search(text)][:decided]
    as_read = _decided(documents, python, folder)
    mended = _decided([LINE_END_SPACE.sub("", text) for text in documents], python, folder)
    return as_read | {f"mended_{name}": value for name, value in mended.items()}


def _decided(documents: list[str], python: Path, folder: Path) -> Row:
    (path,) = write_tables(documents, "en", folder)
    our_file, peer_file = folder / "ours.json", folder / "peer.json"
    lines = str(path.with_suffix(".jsonl"))
    run(ours("corpus_filters", str(path), PRESETS["en"], str(our_file)))
    run(peer(python, "datatrove_filters.py", lines, "eng_Latn", "split", str(our_file), str(peer_file)))
    return compare_decisions(json.loads(our_file.read_text()), json.loads(peer_file.read_text()))


def compare_decisions(our_decisions: Sequence[dict[str, list[str]]], peer_decisions: Sequence[dict[str, dict[str, str | None]]]) -> Row:
    """`peer_decisions` gives for each filter the peer's reason as it is, and under each bridge (a change of one rule).

    A disagreement is put down to the first bridge under which the peer decides as we do.
    """
    agreeing: Counter[str] = Counter()
    causes: Counter[str] = Counter()
    for mine, theirs in zip(our_decisions, peer_decisions, strict=True):
        same = True
        for name, bridges in theirs.items():
            if bool(mine[name]) == bool(bridges["as it is"]):
                agreeing[name] += 1
                continue
            same = False
            cause = next((bridge for bridge, reason in bridges.items() if bool(reason) == bool(mine[name])), "not explained")
            causes[f"{name}: {cause} [ours {','.join(mine[name]) or 'keep'}; peer {bridges['as it is'] or 'keep'}]"] += 1
        agreeing["overall"] += same or _kept(mine, theirs)
    total = len(our_decisions)
    return {
        "decided": total,
        "agreement": {name: count / total for name, count in sorted(agreeing.items())},
        "disagreements": dict(causes.most_common()),
    }


def _kept(mine: dict[str, list[str]], theirs: dict[str, dict[str, str | None]]) -> bool:
    """Whether both keep the document, or both drop it, over all filters."""
    return any(mine.values()) == any(bridges["as it is"] for bridges in theirs.values())


def main() -> None:
    """Our side: figures and decisions of one table."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tasks.corpus.select import SelectConfig, judge
    from tasks.documents import text_buffers
    from tasks.kernels.statistics import measure
    from tasks.kernels.statistics_columns import COUNTS, SHARES

    path, presets = Path(sys.argv[1]), sys.argv[2].split(",")
    config = SelectConfig.model_validate({"presets": presets})
    batches = pq.read_table(path, columns=["id", "source", "language", "text"]).to_batches(max_chunksize=BATCH_ROWS)

    def statistics(batch: pa.RecordBatch) -> pa.Table:
        counts, shares = measure(*text_buffers(batch.column("text")))
        columns = {name: batch.column(name) for name in ("id", "source", "language")}
        columns |= {name: counts[:, at] for at, name in enumerate(COUNTS)}
        columns |= {name: shares[:, at].astype(np.float32) for at, name in enumerate(SHARES)}
        return pa.table({**columns, "language_score": pa.array(np.ones(batch.num_rows, np.float32))})

    judge(config, statistics(batches[0].slice(0, 5)))
    startup = time.process_time()
    judged = [judge(config, statistics(batch)) for batch in batches]
    seconds = time.process_time() - startup
    size = sum(int(np.diff(text_buffers(batch.column("text"))[1]).sum()) for batch in batches)
    reasons = Counter(reason or "kept" for part in judged for reason in part.reasons)
    if len(sys.argv) > 3:
        broken = [row for batch in batches for row in _broken(config, statistics(batch))]
        Path(sys.argv[3]).write_text(json.dumps(broken))
    tell(size, seconds, startup, {"kept": reasons["kept"] / reasons.total(), "reasons": dict(reasons)})


def _broken(config: "SelectConfig", statistics: "pa.Table") -> list[dict[str, list[str]]]:
    """Every rule that each document breaks, by the peer's filter that has the rule."""
    from tasks.corpus.select import bounds_of

    found: list[dict[str, list[str]]] = [
        {"gopher repetition": [], "gopher quality": [], "c4": [], "fineweb": []} for _ in range(statistics.num_rows)
    ]
    for bound in bounds_of(config.presets, config.rules):
        values = statistics[bound.rule.column].to_numpy()
        broken = values < bound.threshold if bound.is_minimum else values > bound.threshold
        for row in broken.nonzero()[0]:
            found[row][_filter_of(bound.reason)].append(bound.reason)
    return found


def _filter_of(reason: str) -> str:
    family, rule = reason.split("_", 1)
    if family == "gopher":
        return "gopher repetition" if rule.startswith(("duplicate", "top")) else "gopher quality"
    return family


if __name__ == "__main__":
    main()

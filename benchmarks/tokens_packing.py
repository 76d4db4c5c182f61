"""Documents into rows of 2,049 tokens, on their lengths alone: row `packing`, against the targets.

python -m benchmarks.tokens_packing DOCUMENTS        # one run
"""

import statistics
import sys
import time

import numpy as np
from numpy.typing import NDArray

from benchmarks.sides import Row, ours, run, tell
from benchmarks.tokens_sides import against_target
from benchmarks.tokens_texts import WIDTH

MEDIAN, SPREAD = 676, 1.105  # of the log-normal lengths, in tokens: those of real documents, whose mean is 1,245
TARGET_PIECES = 5e6  # a CPU second
SEED = 1


def row(documents: int, runs: int) -> Row:
    """Pieces a CPU second, cutting and shuffling included; how full the rows are, and cuts of documents that fit."""
    done = [run(ours("tokens_packing", str(documents))) for _ in range(runs)]
    rate = statistics.median(1e6 * one.rate for one in done)
    found = against_target("packing", rate, TARGET_PIECES, "pieces per CPU second", runs)
    targets = {"fill": "at least 0.995", "needless_cuts": 0, "tokens_dropped": 0}
    return found | dict(done[-1].facts) | {"ours_each": [1e6 * one.rate for one in done], "targets": targets}


def main() -> None:
    """One run over lengths in memory, window by window as the shards stage packs them."""
    lengths = np.random.default_rng(SEED).lognormal(np.log(MEDIAN), SPREAD, int(sys.argv[1])).astype(np.int64) + 2
    packed(lengths[:2_000])
    startup = time.process_time()
    windows = packed(lengths)
    seconds = time.process_time() - startup
    rows = sum(count for _, count, _ in windows)
    pieces = [pieces for pieces, _, _ in windows]
    tokens = np.concatenate(pieces)
    counts = np.concatenate([counts for _, _, counts in windows])
    needless = int(np.count_nonzero((counts > 1) & (lengths <= WIDTH)))
    dropped = int(lengths.sum() + (counts - 1).sum() - tokens.sum())  # each further piece repeats a token
    tell(
        len(tokens),
        seconds,
        startup,
        {
            "fill": float(tokens.sum() / (rows * WIDTH)),
            "needless_cuts": needless,
            "tokens_dropped": dropped,
            "documents": len(lengths),
            "tokens": int(lengths.sum()),
            "rows": rows,
            "windows": len(windows),
        },
    )


def packed(lengths: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], int, NDArray[np.int64]]]:
    """Of every window: lengths of its pieces, how many rows, and the pieces of each document."""
    from tasks.shards.packing import WINDOW_PIECES, pack_best_fit, window_documents

    windows: list[tuple[NDArray[np.int64], int, NDArray[np.int64]]] = []
    start = 0
    while start < len(lengths):
        ahead = lengths[start : start + WINDOW_PIECES + 1]
        taken = ahead[: window_documents(ahead, WIDTH) or len(ahead)]
        found = pack_best_fit(taken, WIDTH, SEED, len(windows))
        windows.append((found.lengths, found.count, np.bincount(found.documents, minlength=len(taken))))
        start += len(taken)
    return windows


if __name__ == "__main__":
    main()

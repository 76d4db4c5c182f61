"""Finding personal data: RE2 as a gate before the exact expressions, against Python's `re` with the same expressions."""

import time
from collections.abc import Callable

from tasks.text.pii import Match, find_pii, find_pii_plainly

QUICK_BYTES = 3_000_000
PAIRS = 3


def row(texts: list[str], quick: bool) -> dict[str, object]:
    """MB of UTF-8 a CPU-second, best of interleaved pairs. AssertionError unless both find the same in every text."""
    taken = _first(texts, QUICK_BYTES) if quick else texts
    megabytes = sum(len(text.encode()) for text in taken) / 1e6
    find_pii(taken[0])
    ours, peer = [], []
    for _ in range(1 if quick else PAIRS):
        seconds, found = _timed(find_pii, taken)
        ours.append(seconds)
        seconds, expected = _timed(find_pii_plainly, taken)
        peer.append(seconds)
        assert found == expected
    rate, peer_rate = megabytes / min(ours), megabytes / min(peer)
    return {
        "name": "pii",
        "ours": rate,
        "peer": peer_rate,
        "peer_name": "Python re, same expressions and checks",
        "ratio": rate / peer_rate,
        "unit": f"MB/cpu-s over {megabytes:.1f} MB",
        "runs": len(ours),
    }


def _first(texts: list[str], limit: int) -> list[str]:
    """Texts from all over the list, of about `limit` bytes together."""
    total = sum(len(text.encode()) for text in texts)
    return texts[:: max(1, total // limit)]


def _timed(find: Callable[[str], list[Match]], texts: list[str]) -> tuple[float, list[list[Match]]]:
    start = time.process_time()
    found = [find(text) for text in texts]
    return time.process_time() - start, found

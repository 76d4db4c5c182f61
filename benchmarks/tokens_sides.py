"""What the rows of tokens add to `benchmarks.sides`: rows counted in tokens, rows against a target, and memory."""

import threading
from pathlib import Path
from types import TracebackType

from benchmarks.sides import Row

SAMPLE_SECONDS = 0.01


def in_tokens(row: Row) -> Row:
    """A row whose sides told tokens where others tell bytes."""
    renamed = {name.replace("_megabytes", "_million_tokens"): value for name, value in row.items()}
    return renamed | {"unit": "million tokens per CPU second"}


def against_target(name: str, ours: float, target: float, unit: str, runs: int, less_is_better: bool = False) -> Row:
    """A row that no peer stands against."""
    ratio = target / ours if less_is_better else ours / target
    return {
        "name": name,
        "ours": ours,
        "peer": target,
        "peer_name": "target",
        "ratio": ratio,
        "unit": unit,
        "runs": runs,
    }


class PeakMemory:
    """The most memory that this process held while the block ran, in bytes; Linux alone tells it.

    `private` is what it allocated. `resident` also counts the pages of mapped files, which the system takes back at need.
    """

    private = 0
    resident = 0

    def __enter__(self) -> "PeakMemory":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        lines = Path("/proc/self/status").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
        self.private = max(self.private, sizes["RssAnon"] + sizes["RssShmem"])
        self.resident = max(self.resident, sizes["VmRSS"])

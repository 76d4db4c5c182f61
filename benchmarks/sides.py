"""Two sides of a comparison, each run in a fresh process, taking turns.

A side is a command that prints one JSON object: what it worked on, the processor seconds of the work, and the processor
seconds before it (imports, models, compiled code from the cache), which count for neither side.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "ARROW_NUM_THREADS"), "1")

Value = str | int | float | Mapping[str, "Value"] | Sequence["Value"]
Row = dict[str, Value]


@dataclass(frozen=True)
class Run:
    """One process's work."""

    megabytes: float  # 10^6 bytes of UTF-8 text
    cpu_seconds: float
    startup_seconds: float  # processor seconds before the work
    facts: Mapping[str, Value]

    @property
    def rate(self) -> float:
        """MB a CPU second."""
        return self.megabytes / self.cpu_seconds


def ours(module: str, *arguments: str) -> list[str]:
    """Command of our side of a family of rows."""
    return [sys.executable, "-m", f"benchmarks.{module}", *arguments]


def peer(python: Path, script: str, *arguments: str) -> list[str]:
    """Command of the peer's side, in the peer's environment."""
    return [str(python), str(ROOT / "benchmarks" / "peers" / script), *arguments]


def run(command: Sequence[str]) -> Run:
    """One run. RuntimeError with what the side wrote when it fails."""
    environment = {**os.environ, **ONE_THREAD}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Run(told.pop("bytes") / 1e6, told.pop("cpu_seconds"), told.pop("startup_seconds"), told)


def compared(name: str, ours: Sequence[str], peer: Sequence[str], peer_name: str, pairs: int) -> tuple[Row, Run, Run]:
    """A row of `pairs` interleaved pairs, medians compared, and the last run of each side."""
    our_runs: list[Run] = []
    peer_runs: list[Run] = []
    for _ in range(pairs):
        our_runs.append(run(ours))
        peer_runs.append(run(peer))
    our_rate, peer_rate = (statistics.median(one.rate for one in runs) for runs in (our_runs, peer_runs))
    row: Row = {
        "name": name,
        "ours": our_rate,
        "peer": peer_rate,
        "peer_name": peer_name,
        "ratio": our_rate / peer_rate,
        "unit": "MB of text per CPU second",
        "runs": pairs,
        "ours_each": [round(one.rate, 2) for one in our_runs],
        "peer_each": [round(one.rate, 4) for one in peer_runs],
        "ours_megabytes": our_runs[0].megabytes,
        "peer_megabytes": peer_runs[0].megabytes,
        "ours_startup_seconds": our_runs[0].startup_seconds,
        "peer_startup_seconds": peer_runs[0].startup_seconds,
        "load": os.getloadavg()[0],
    }
    return row, our_runs[-1], peer_runs[-1]


def tell(size: int, cpu_seconds: float, startup_seconds: float, facts: Mapping[str, Value] | None = None) -> None:
    """What a side prints."""
    print(json.dumps({"bytes": size, "cpu_seconds": cpu_seconds, "startup_seconds": startup_seconds, **(facts or {})}))

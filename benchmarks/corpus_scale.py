"""What the placement costs, and how time and memory grow with the corpus: rows `placement` and `growth`.

The job is the corpus stages' own (annotate, select, sign, cluster) over many document tables, by FileTasks as they use it.

    python -m benchmarks.corpus_scale FOLDER PARTS serial|processes|ray WORKERS        # the job, in a fresh process
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.corpus_texts import Source, write_tables
from benchmarks.sides import ONE_THREAD, ROOT, Row

if TYPE_CHECKING:
    from tasks.executor.filetasks import FileTasks
    from tasks.executor.tables import TableFile

TABLES = 16
PRESETS = ["gopher", "fineweb", "fineweb2-zh"]
GROWTH = 10
BACKENDS = ("serial", "processes", "ray")
SAMPLE_SECONDS = 0.2


def placement_row(source: Source, megabytes: float, folder: Path, pairs: int) -> Row:
    """Processor seconds of all processes over those of a serial run; starting the workers is measured apart."""
    tables = _tables(source, megabytes, folder / "tables", TABLES)
    runs: dict[str, list[dict[str, float]]] = {backend: [] for backend in BACKENDS}
    for _ in range(pairs):
        for backend in BACKENDS:
            runs[backend].append(_job(tables, folder / "parts", backend, 2))
    work = {backend: statistics.median(run["work"] for run in found) for backend, found in runs.items()}
    worst = max(work["processes"], work["ray"])
    return {
        "name": "placement",
        "ours": worst,
        "peer": work["serial"],
        "peer_name": "our own serial run",
        "ratio": work["serial"] / worst,
        "unit": "CPU seconds of all processes, start-up apart",
        "runs": pairs,
        "over_serial": {backend: work[backend] / work["serial"] for backend in BACKENDS},
        "cpu_seconds": work,
        "startup_cpu_seconds": {backend: statistics.median(run["startup"] for run in found) for backend, found in runs.items()},
        "wall_seconds": {backend: statistics.median(run["wall"] for run in found) for backend, found in runs.items()},
        "megabytes": megabytes,
        "load": os.getloadavg()[0],
    }


def growth_row(source: Source, megabytes: float, folder: Path, pairs: int) -> Row:
    """A corpus of `megabytes` against a tenth of it, in tables of one size: time and peak memory, one worker."""
    small = _tables(source, megabytes / GROWTH, folder / "small", 2)
    large = _tables(source, megabytes, folder / "large", 2 * GROWTH)
    runs = [[_job(tables, folder / "parts", "serial", 1) for tables in (small, large)] for _ in range(pairs)]
    times = [statistics.median(pair[side]["work"] for pair in runs) for side in (0, 1)]
    peaks = [statistics.median(pair[side]["peak"] for pair in runs) for side in (0, 1)]
    return {
        "name": "growth",
        "ours": times[1],
        "peer": times[0],
        "peer_name": f"our own run over a {GROWTH}th of the corpus",
        "ratio": GROWTH * times[0] / times[1],
        "unit": "CPU seconds",
        "runs": pairs,
        "times_longer": times[1] / times[0],
        "times_the_memory": peaks[1] / peaks[0],
        "peak_megabytes": [peak / 1e6 for peak in peaks],
        "megabytes": megabytes,
        "load": os.getloadavg()[0],
    }


def _tables(source: Source, megabytes: float, folder: Path, tables: int) -> Path:
    """Half English, half Chinese, in one folder of tables."""
    documents = [text for pair in zip(*(source.at_least(one, megabytes / 2)[0] for one in ("en", "zh")), strict=False) for text in pair]
    shutil.rmtree(folder, ignore_errors=True)
    write_tables(documents, "und", folder, tables)
    return folder


def _job(tables: Path, parts: Path, backend: str, workers: int) -> dict[str, float]:
    """One run of the job in a fresh process with empty parts, and the most memory that its processes took together."""
    shutil.rmtree(parts, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.corpus_scale", str(tables), str(parts), backend, str(workers)]
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = Peak(child.pid)
    out, err = child.communicate()
    most = peak.stop()
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{err[-4000:]}")
    return {**json.loads(out.splitlines()[-1]), "peak": most}


class Peak:
    """Watches the memory of a process and its children: proportional shares, so that shared pages count once."""

    def __init__(self, pid: int) -> None:
        self._process, self._most, self._over = psutil.Process(pid), 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            total = 0.0
            for process in _tree(self._process):
                try:
                    taken = process.memory_full_info()
                    total += getattr(taken, "pss", taken.uss)  # pss: Linux alone
                except psutil.Error:
                    continue
            self._most = max(self._most, total)

    def stop(self) -> float:
        """The highest sum seen, in bytes."""
        self._over.set()
        self._thread.join()
        return self._most


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def clean(tables: list[Path], files: "FileTasks") -> None:
    """Annotate, select, sign and cluster, as the stages do it with the workers they are given."""
    import numpy as np
    import pyarrow.parquet as pq

    from tasks.corpus.annotate import AnnotateConfig, AnnotateWork, annotate_table
    from tasks.corpus.deduplicate import DeduplicateConfig, Signatures, SignWork, cluster, open_table, sign_table
    from tasks.corpus.select import SelectConfig, SelectWork, preset_digests, select_table

    select, deduplicate = SelectConfig.model_validate({"presets": PRESETS}), DeduplicateConfig()
    works = [AnnotateWork(_table_file(path), AnnotateConfig(), {}, None, None) for path in tables]
    annotated = [part.folder for part in files.run("annotate", 1, annotate_table, works)]
    digests = preset_digests(select)
    choices = [SelectWork(_table_file(folder / "statistics-000.parquet"), select, digests) for folder in annotated]
    chosen = [part.folder / "verdicts-000.parquet" for part in files.run("select", 1, select_table, choices)]
    signings = [
        SignWork(
            _table_file(folder / "documents-000.parquet"), deduplicate.shingle_units, deduplicate.bands, deduplicate.rows, deduplicate.seed
        )
        for folder in annotated
    ]
    signed = files.run("signatures", 1, sign_table, signings)
    signatures = [open_table(part.folder / "signatures-000.arrow") for part in signed]
    masks = [np.asarray(pq.read_table(path, columns=["kept"])["kept"]) for path in chosen]
    cluster(deduplicate, Signatures(signatures, masks))


def _table_file(path: Path) -> "TableFile":
    import pyarrow.parquet as pq

    from tasks.artifacts import file_digest
    from tasks.executor.tables import TableFile

    return TableFile(str(path), file_digest(path), path.stat().st_size, pq.read_metadata(path).num_rows)


def main() -> None:
    """The job, after two small ones that start the workers and load what they need; processor seconds of both."""
    from tasks.executor.filetasks import FilesConfig, FileTasks

    tables, parts, backend, workers = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    config = FilesConfig(place="ray" if backend == "ray" else "processes", workers=0 if backend == "serial" else workers)
    files = FileTasks(parts, config)
    try:
        for number in range(2):
            few = [f"A few words {number}/{copy}. 还有几个汉字。" * 20 for copy in range(4 * workers)]
            clean(write_tables(few, "und", parts / f"few{number}", 2 * workers), files)
        startup, start = _cpu_seconds(), time.perf_counter()
        clean(sorted(tables.glob("documents-*.parquet")), files)
        seconds, wall = _cpu_seconds() - startup, time.perf_counter() - start
    finally:
        files.close()
    print(json.dumps({"work": seconds, "startup": startup, "wall": wall}))


def _cpu_seconds() -> float:
    """Of this process, its living children (Ray's processes are among them), and those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    for process in _tree(psutil.Process()):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + (times.children_user + times.children_system if process.pid != os.getpid() else 0)
    return total


if __name__ == "__main__":
    main()

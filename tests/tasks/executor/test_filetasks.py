"""File tasks: the same bytes from any backend, nothing done twice, and no corpus without a file whose worker died."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.artifacts import RawCorpus
from tasks.errors import UserError
from tasks.executor.filetasks import FilesConfig, FileTasks
from tasks.executor.parts import Part
from tasks.ledger import Ledger, StageOutcome
from tasks.settings import Json
from tests.tasks.corpus_run import Bench, all_bytes, ids

PROSE = "The mill by the river turns grain into flour while old stones wait under water and children carry bread. "


@dataclass(frozen=True)
class Count:
    """Writes a number into a file; `fate` says how its worker ends."""

    number: int
    fate: str = "lives"
    log: str = ""

    @property
    def label(self) -> str:
        return f"number {self.number}"

    @property
    def size(self) -> int:
        return 1

    def identity(self) -> dict[str, Json]:
        return {"number": self.number}


def write_number(work: Count, out: Path) -> StageOutcome:
    with Path(work.log).open("a") as log:
        log.write(f"{work.number}\n")
    if work.fate == "dies" or (work.fate == "dies once" and tried(Path(work.log)).count(work.number) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    while work.fate == "waits" and not Path(work.log).with_name("go").exists():
        time.sleep(0.05)
    if work.fate == "fails":
        raise UserError("number 3: is odd. Fix: choose another.")
    (out / "number-000.txt").write_text(str(work.number))
    return StageOutcome(Ledger(rows_in=1, rows_out=1))


def tried(log: Path) -> list[int]:
    return sorted(map(int, log.read_text().split())) if log.exists() else []


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[FileTasks]:
    files = FileTasks(tmp_path / "parts", FilesConfig(workers=2))
    yield files
    files.close()


def run(files: FileTasks, works: list[Count], revision: int = 1) -> list[Part]:
    return files.run("count", revision, write_number, works)


def test_finished_parts_are_taken_and_only_new_files_are_done(tmp_path: Path):
    files, log = FileTasks(tmp_path / "parts", FilesConfig(workers=0)), tmp_path / "log"
    run(files, [Count(n, log=str(log)) for n in (1, 2)])
    parts = run(files, [Count(n, log=str(log)) for n in (0, 1, 2)])
    assert tried(log) == [0, 1, 2]
    assert [part.files("*.txt")[0].read_text() for part in parts] == ["0", "1", "2"]


def test_an_altered_part_and_a_new_revision_are_done_again(tmp_path: Path):
    files, log = FileTasks(tmp_path / "parts", FilesConfig(workers=0)), tmp_path / "log"
    (part,) = run(files, [Count(1, log=str(log))])
    part.files("*.txt")[0].write_text("2")
    assert run(files, [Count(1, log=str(log))])[0].files("*.txt")[0].read_text() == "1"
    run(files, [Count(1, log=str(log))], revision=2)
    assert tried(log) == [1, 1, 1]


def test_what_a_killed_run_left_is_removed_after_a_day(tmp_path: Path):
    files = FileTasks(tmp_path / "parts", FilesConfig(workers=0))
    old, new = (tmp_path / "parts" / "count" / f"{name}.1.2.tmp" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "number-000.txt").write_text("1")
    for path in (old / "number-000.txt", old):
        os.utime(path, (time.time() - 90_000,) * 2)
    run(files, [Count(1, log=str(tmp_path / "log"))])
    assert (old.exists(), new.exists()) == (False, True)


def test_a_file_whose_worker_dies_twice_fails_the_stage_by_name_once_the_others_are_done(tmp_path: Path, pool: FileTasks):
    log = tmp_path / "log"
    works = [Count(n, "dies" if n == 2 else "lives", str(log)) for n in range(5)]
    with pytest.raises(UserError, match=r"count: 1 of 5 files lost .*twice.*\n  number 2: .*exit code -9\n.*Fix: "):
        run(pool, works)
    assert tried(log) == [0, 1, 2, 2, 3, 4]
    parts = run(pool, [Count(n, log=str(log)) for n in range(5)])
    assert [part.files("*.txt")[0].read_text() for part in parts] == ["0", "1", "2", "3", "4"]
    assert tried(log) == [0, 1, 2, 2, 2, 3, 4]  # the others were kept, and what was lost is never taken for done


def test_a_file_whose_worker_dies_once_is_done_by_itself_after_the_others(tmp_path: Path, pool: FileTasks):
    log = tmp_path / "log"
    parts = run(pool, [Count(n, "dies once" if n == 0 else "lives", str(log)) for n in range(4)])
    assert [part.files("*.txt")[0].read_text() for part in parts] == ["0", "1", "2", "3"]
    assert log.read_text().split()[-1] == "0"


@pytest.mark.timeout(180)
def test_a_node_that_dies_does_not_count_against_its_file(tmp_path: Path):
    from ray.cluster_utils import Cluster

    log = tmp_path / "log"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    files = FileTasks(tmp_path / "parts", FilesConfig(place="ray"), cluster.address)
    try:
        with ThreadPoolExecutor(1) as thread:  # nodes are started in the main thread alone
            done = thread.submit(run, files, [Count(7, "waits", str(log))])
            for deaths in (1, 2):
                while len(tried(log)) < deaths:
                    assert not done.done(), done.result()
                    time.sleep(0.1)
                cluster.remove_node(node, allow_graceful=False)
                node = cluster.add_node(num_cpus=1)
            log.with_name("go").touch()
            (part,) = done.result(timeout=60)
    finally:
        files.close()
        cluster.shutdown()
    assert part.files("*.txt")[0].read_text() == "7"
    assert tried(log) == [7, 7, 7]


def test_a_fault_of_the_input_stops_the_stage_with_its_own_message(tmp_path: Path, pool: FileTasks):
    with pytest.raises(UserError, match="number 3: is odd"):
        run(pool, [Count(n, "fails" if n == 3 else "lives", str(tmp_path / "log")) for n in range(6)])


def write_sources(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        text = "".join(json.dumps({"text": f"{PROSE * 3} {number} {row}"}) + "\n" for row in range(20))
        (folder / f"{number}.jsonl").write_text(text)
    return folder


def corpus_bytes(folder: Path, sources: Path, workers: int, backend: str = "processes") -> dict[str, bytes]:
    """Every byte that the corpus stages write."""
    bench = Bench.open(folder, workers, backend)
    try:
        raw = bench.ingest({"name": "s", "kind": "jsonl", "paths": [str(sources)]})
        clean = bench.annotate(raw)
        selection = bench.select(clean)
        unique = bench.deduplicate(clean, selection, threshold=0.99)
        corpus = bench.decontaminate(clean, unique, max_overlap=None)
        made = (raw, clean, selection, unique, corpus)
        return {f"{n} {name}": data for n, artifact in enumerate(made) for name, data in all_bytes(artifact).items()}
    finally:
        bench.files.close()


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Sources, and what this process alone makes of them, file by file."""
    folder = tmp_path_factory.mktemp("serial")
    sources = write_sources(folder / "sources")
    return sources, corpus_bytes(folder / "w", sources, 0)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path, serial: tuple[Path, dict[str, bytes]], workers: int):
    sources, expected = serial
    assert len(expected) > 12
    assert corpus_bytes(tmp_path, sources, workers) == expected


@pytest.mark.timeout(180)
def test_ray_writes_the_same_bytes(tmp_path: Path, serial: tuple[Path, dict[str, bytes]]):
    sources, expected = serial
    assert corpus_bytes(tmp_path, sources, 2, "ray") == expected


def test_a_file_that_is_new_to_a_source_is_read_alone_and_the_rest_stays(tmp_path: Path):
    sources = write_sources(tmp_path / "sources")
    bench = Bench.open(tmp_path / "w")

    def built() -> RawCorpus:
        return bench.ingest({"name": "s", "kind": "jsonl", "paths": [str(sources)]})

    def parts() -> set[str]:
        return {path.name for path in (bench.workspace.root / "parts" / "ingest").iterdir()}

    built()
    before = parts()
    (sources / "25.jsonl").write_text(json.dumps({"text": "new"}) + "\n")
    raw = built()
    assert len(parts() - before) == 1
    fresh = Bench.open(tmp_path / "fresh").ingest({"name": "s", "kind": "jsonl", "paths": [str(sources)]})
    assert all_bytes(raw) == all_bytes(fresh)


def test_many_small_files_are_read_in_groups_that_a_new_file_hardly_moves(tmp_path: Path):
    sources = tmp_path / "sources"
    sources.mkdir()
    for number in range(600):
        (sources / f"{number}.txt").write_text(f"text {number}")
    bench = Bench.open(tmp_path / "w")
    source = {"name": "s", "kind": "text", "paths": [str(sources)]}
    assert len(ids(bench.ingest(source), "documents-*.parquet")) == 600
    folder = bench.workspace.root / "parts" / "ingest"
    before = {path.name for path in folder.iterdir()}
    assert len(before) < 60
    (sources / "300a.txt").write_text("new")
    assert len(ids(bench.ingest(source), "documents-*.parquet")) == 601
    assert len({path.name for path in folder.iterdir()} - before) <= 2


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.tasks.corpus_run import Bench
if __name__ == "__main__":
    bench = Bench.open(Path(sys.argv[1]), 2)
    clean = bench.annotate(bench.ingest({"name": "s", "kind": "jsonl", "paths": [sys.argv[2]]}))
    bench.files.close()
"""


def test_a_run_that_is_killed_goes_on_with_what_is_left(tmp_path: Path):
    sources = tmp_path / "sources"
    sources.mkdir()
    for number in range(16):
        text = "".join(json.dumps({"text": f"{PROSE * 9} {number} {row}"}) + "\n" for row in range(60))
        (sources / f"{number:02d}.jsonl").write_text(text)
    (tmp_path / "run.py").write_text(SCRIPT)
    parts = tmp_path / "w" / "parts" / "annotate"
    root = str(Path(__file__).parents[3])
    process = subprocess.Popen([sys.executable, str(tmp_path / "run.py"), str(tmp_path / "w"), str(sources), root], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(parts.glob("*/part.json"))) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(3)  # its workers notice and end
    done = {path.parent.name: path.stat().st_mtime_ns for path in parts.glob("*/part.json")}
    assert 3 <= len(done) < 16
    bench = Bench.open(tmp_path / "w")
    clean = bench.annotate(bench.ingest({"name": "s", "kind": "jsonl", "paths": [str(sources)]}))
    assert {name: (parts / name / "part.json").stat().st_mtime_ns for name in done} == done
    other = Bench.open(tmp_path / "fresh")
    fresh = other.annotate(other.ingest({"name": "s", "kind": "jsonl", "paths": [str(sources)]}))
    assert all_bytes(clean) == all_bytes(fresh)

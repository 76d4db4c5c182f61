"""Kill of one of two Ray workers to the next step, on this machine, and what the time goes into.

    python benchmarks/worker_killed.py --json rows.json

The parts: `detection`, until the worker that is left ends too; `restart`, until new worker processes are there; `imports`, until they
have opened the data and built the model; `load`, until the checkpoint is loaded; `first step`, until its figures are written. The
training is the small one of benchmarks/small_training.py: of a larger one the load and the step take longer.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks beside it, not where `model` and `benchmarks` are

from benchmarks.sides import Row  # noqa: E402
from benchmarks.small_training import CHECKPOINT_EVERY, Data, SmallTraining, training_of, write_data  # noqa: E402
from benchmarks.tokens_sides import against_target  # noqa: E402
from model.training.curve import CurvePoint, CurveReader  # noqa: E402
from model.training.events import read_events  # noqa: E402
from tasks.cluster import Launcher  # noqa: E402

TARGET_SECONDS = 25.0
LOOK_SECONDS = 0.02
PARTS = ("detection", "restart", "imports", "load", "first step")


RAY_WORKER, TRAINING_PROCESS = "RayTrainWorker", "tasks.training_process"  # what stands on their command lines


def descendants(mark: str) -> list[psutil.Process]:
    """This process's, with `mark` on their command lines, oldest first."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children(recursive=True):
        try:
            if mark in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return sorted(found, key=lambda child: child.pid)


class Strike:
    """Kills the worker of the higher process number, and notes when what follows comes to pass."""

    def __init__(self, training: SmallTraining) -> None:
        self.training = training
        self.parts: dict[str, float] = {}
        self._watch: threading.Thread | None = None

    def follow(self, point: CurvePoint, launcher: Launcher) -> None:
        """Once, a step after a checkpoint."""
        if point.step > CHECKPOINT_EVERY and self._watch is None:
            self._watch = threading.Thread(target=self._strike)
            self._watch.start()

    def end(self) -> None:
        """Returns when all is noted. RuntimeError when nothing was struck."""
        if self._watch is None:
            raise RuntimeError("the training was over before it could be struck")
        self._watch.join()

    def _strike(self) -> None:
        *left, victim = descendants(RAY_WORKER)
        curve = CurveReader(self.training.out, skips_old=True)
        killed = time.time()
        victim.send_signal(signal.SIGKILL)
        psutil.wait_procs(left, timeout=120)
        noticed = time.time()
        curve.new_points()  # of steps that were on their way
        while not curve.new_points():
            time.sleep(LOOK_SECONDS)
        stepped = time.time()
        began = next((self.training.logs / "ray").glob("*.began")).stat().st_mtime
        there = max(worker.create_time() for worker in descendants(RAY_WORKER))
        loaded = max(event.time for event in read_events(self.training.out) if event.kind == "started")
        moments = (killed, noticed, there, began, loaded, stepped)
        self.parts = {name: after - before for name, before, after in zip(PARTS, moments, moments[1:], strict=False)}


def strike_once(data: Data, folder: Path, steps: int) -> dict[str, float]:
    """Seconds of each part."""
    training = SmallTraining(training_of(steps, 2, "float32"), data, folder, restarts=1)
    strike = Strike(training)
    training.run(strike.follow)
    strike.end()
    return strike.parts


def row(runs: int, steps: int, folder: Path) -> Row:
    """The median of the whole, and the parts of that run."""
    data = write_data(folder / "data")
    found = sorted((strike_once(data, folder / f"{run}", steps) for run in range(runs)), key=lambda parts: sum(parts.values()))
    middle = found[len(found) // 2]
    seconds = statistics.median(sum(parts.values()) for parts in found)
    shared = against_target("worker-killed", seconds, TARGET_SECONDS, "seconds from the kill to the next step", runs, less_is_better=True)
    return shared | {name: round(value, 2) for name, value in middle.items()} | {"machine_load": os.getloadavg()[0]}


def main() -> None:
    """The row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run")
    parser.add_argument("--json", type=Path, help="file for the row")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = row(1 if asked.quick else asked.runs, 60 if asked.quick else 120, Path(folder))
    print(f"{found['name']}: {found['ours']:.4g} against {found['peer']:.4g} ({found['peer_name']}), {found['unit']}")
    print("    " + ", ".join(f"{name} {found[name]} s" for name in PARTS) + f"; load of the machine {found['machine_load']:.1f}")
    if asked.json is not None:
        asked.json.write_text(json.dumps([found], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

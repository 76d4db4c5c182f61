"""What a checkpoint every 100 steps costs a training of the demo's shape, on this machine: the same steps with and without.

    python benchmarks/save_cost.py --json rows.json

Two processes of one thread each, as the demo trains, in turns with and without saves; seconds from step 100 to step 400, in which
fall the saves of steps 100 to 300. `stood` is what the steps waited for the copy, the rest what the writing beside them took.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks beside it, not where `model` and `benchmarks` are

from benchmarks.sides import Row  # noqa: E402
from benchmarks.tokens_sides import against_target  # noqa: E402
from model.config.model_config import ModelConfig  # noqa: E402
from model.config.training_config import OptimizerConfig, TrainingConfig  # noqa: E402
from model.data.batches import Batch  # noqa: E402
from model.nn.models import LanguageModel  # noqa: E402
from model.training.allocation import allocation_environment  # noqa: E402
from model.training.curve import CurvePoint  # noqa: E402
from model.training.events import Event  # noqa: E402
from model.training.record import Watch  # noqa: E402
from model.training.training import train  # noqa: E402

TARGET_SHARE = 0.02
FROM, TO, EVERY = 100, 400, 100  # steps
VOCABULARY, CONTEXT, ROWS = 2048, 128, 16
SHAPE = ModelConfig(family="llama", layers=4, width=128, heads=4, context=256)  # configs/demo.yaml


class Noise:
    """Batches of random tokens."""

    batch_rows = ROWS

    def rows_at(self, step: int) -> NDArray[np.int64]:
        """Numbers of no meaning."""
        return np.arange(step * ROWS, (step + 1) * ROWS, dtype=np.int64)

    def batch(self, step: int, start: int, stop: int) -> Batch:
        """Rows [start, stop)."""
        ids = torch.from_numpy(np.random.default_rng(step).integers(0, VOCABULARY, (ROWS, CONTEXT + 1))[start:stop])
        return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.full((len(ids),), CONTEXT))

    def evaluation(self, batches: int) -> Iterator[Batch]:
        """The first ones."""
        return (self.batch(step, 0, ROWS) for step in range(batches))


def seconds_of(folder: Path, every: int) -> tuple[float, float, int]:
    """Seconds from FROM to TO, those that saves stood in the way, and how many saves there were."""
    points: list[CurvePoint] = []
    events: list[Event] = []
    torch.manual_seed(1)
    training = TrainingConfig(steps=TO + 50, batch_rows=ROWS, micro_rows=8, checkpoint_every=every, log_every=50)
    watch = Watch(points.append, events.append)
    train(LanguageModel(SHAPE, VOCABULARY), Noise(), None, training, OptimizerConfig(), folder, "noise", watch)
    if not points:
        return 0.0, 0.0, 0  # of another process than the first
    at = {point.step: point.seconds for point in points}
    saves = [event for event in events if event.kind == "saved" and FROM <= event.step < TO]
    return at[TO] - at[FROM], sum(event.seconds for event in saves), len(saves)


def work(rank: int, folder: Path, pairs: int) -> None:
    """One of the two processes; the first prints."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found = [
        [seconds_of(folder / f"{pair}-{every}", every) for every in (EVERY, 10**6)[:: 1 if pair % 2 else -1]][:: 1 if pair % 2 else -1]
        for pair in range(pairs)
    ]
    if rank == 0:
        print(json.dumps(found))
    dist.destroy_process_group()


def row(pairs: int) -> Row:
    """The share of the time of the steps without saves; median over pairs."""
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, **allocation_environment(), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, __file__, "--pairs", str(pairs), "--folder", place, "--rank"]
        second = subprocess.Popen([*command, "1"], env=environment, stdout=subprocess.DEVNULL)
        first = subprocess.run([*command, "0"], env=environment, capture_output=True, text=True, check=True)
        second.wait()
    found = json.loads(first.stdout.splitlines()[-1])
    shares = [with_saves[0] / without[0] - 1 for with_saves, without in found]
    told = against_target(
        "saves-every-100", statistics.median(shares), TARGET_SHARE, "share of the training's time", pairs, less_is_better=True
    )
    parts = {"saves": found[0][0][2], "seconds": round(statistics.median(one[0][0] for one in found), 2)}
    return told | parts | {"stood": round(statistics.median(one[0][1] for one in found), 3), "shares": [round(one, 4) for one in shares]}


def main() -> None:
    """The row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one pair")
    parser.add_argument("--json", type=Path, help="file for the row")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.rank is not None:
        work(asked.rank, asked.folder, asked.pairs)
        return
    found = row(1 if asked.quick else asked.pairs)
    print(f"{found['name']}: {found['ours']:.4f} against {found['peer']:.4g} ({found['peer_name']}), {found['unit']}")
    print(f"    {found['saves']} saves in {found['seconds']} s stood in the way for {found['stood']} s; by pair: {found['shares']}")
    if asked.json is not None:
        asked.json.write_text(json.dumps([found], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

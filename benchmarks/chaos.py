"""Trainings that are struck at random steps, against the same training left alone: each loss, to the last bit, and the weights.

    python benchmarks/chaos.py
    python benchmarks/chaos.py --seeds 1,2,3 --quick

A strike is SIGKILL to the training process, or to one of two Ray workers or the process that drives them; or SIGTERM to the process,
which saves and stops, and is begun again: of it no step is taken twice. Dropout, masked documents, accumulated gradients and steps
that the guard skips throughout; float32 and bfloat16. A step that was taken again after a strike must come to the same loss as before
it, too. Its last line counts the losses that differ, which must be 0.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks beside it, not where `model` and `benchmarks` are

from benchmarks.sides import Row  # noqa: E402
from benchmarks.small_training import Data, SmallTraining, exactly, training_of, write_data  # noqa: E402
from benchmarks.tokens_sides import against_target  # noqa: E402
from benchmarks.worker_killed import RAY_WORKER, TRAINING_PROCESS, descendants  # noqa: E402
from model.training.curve import CurvePoint, CurveReader  # noqa: E402
from tasks.cluster import Launcher, LostWorkers  # noqa: E402

Precision = Literal["float32", "bfloat16"]
STEPS, KILLS = 120, 5
QUICK_STEPS, QUICK_KILLS = 60, 2


@dataclass(frozen=True)
class Variant:
    """One training, and with what it is struck."""

    workers: int
    precision: Precision
    signal: signal.Signals

    @property
    def name(self) -> str:
        """As it is printed."""
        place = f"{self.workers} Ray workers" if self.workers else "one process"
        return f"{place}, {self.precision}, {self.signal.name}"


VARIANTS = (
    Variant(0, "float32", signal.SIGKILL),
    Variant(0, "bfloat16", signal.SIGKILL),
    Variant(0, "float32", signal.SIGTERM),
    Variant(2, "float32", signal.SIGKILL),
    Variant(2, "bfloat16", signal.SIGKILL),
    Variant(2, "float32", signal.SIGTERM),
)
QUICK_VARIANTS = (VARIANTS[0], VARIANTS[2])


class Strikes:
    """Strikes at each of some steps, a random part of a step later."""

    def __init__(self, variant: Variant, steps: list[int], source: random.Random) -> None:
        self.variant, self.left, self.source = variant, steps, source
        self.struck: list[int] = []

    def follow(self, point: CurvePoint, launcher: Launcher) -> None:
        """Called with each report of the training."""
        if not self.left or point.step < self.left[0]:
            return
        time.sleep(self.source.uniform(0, 0.1))
        workers = descendants(RAY_WORKER) if self.variant.signal == signal.SIGKILL else []
        victims = [*descendants(TRAINING_PROCESS), *workers]
        if not victims:
            return  # a report of one that was struck already
        self.left = [step for step in self.left if step > point.step]
        self.struck.append(point.step)
        victim = self.source.choice(victims)
        print(f"    step {point.step}: {self.variant.signal.name} to {' '.join(victim.cmdline())[:60]}", flush=True)
        victim.send_signal(self.variant.signal)


def outcome(variant: Variant, data: Data, folder: Path, steps: int, struck: list[int], source: random.Random) -> SmallTraining:
    """The training at its end, begun again as often as it ended before."""
    training = SmallTraining(training_of(steps, variant.workers, variant.precision), data, folder, restarts=len(struck))
    strikes = Strikes(variant, struck, source)
    for _ in range(len(struck) + 1):
        try:
            training.run(strikes.follow)
            break
        except (LostWorkers, InterruptedError) as error:
            print(f"    ended: {str(error).splitlines()[0][:100]}", flush=True)
    else:
        raise RuntimeError(f"{variant.name}: ended {len(struck) + 1} times before its end")
    print(f"    reached its end; struck after steps {', '.join(map(str, strikes.struck))}", flush=True)
    return training


def differing(whole: SmallTraining, struck: SmallTraining) -> int:
    """Prints both of each step, and counts the steps that are not the same bit for bit."""
    expected, found = whole.losses(), struck.losses()
    points = CurveReader(struck.out).new_points()  # a step that was taken twice stands here twice
    differ = {step for step in {*expected, *found} if expected.get(step) != found.get(step)}
    differ |= {point.step for point in points if exactly(point) != expected.get(point.step)}
    for step in sorted({*expected, *found}):
        left, right = (one.get(step, "no such step") for one in (expected, found))
        print(f"    step {step}: {left} | {right}{'   DIFFERS' if step in differ else ''}")
    print(f"    steps taken again: {len(points) - len(found)}; skipped by the guard: {points[-1].skipped}")
    same = whole.weights() == struck.weights()
    print(f"    weights: {whole.weights()} | {struck.weights()}{'' if same else '   DIFFERS'}", flush=True)
    return len(differ) + (not same)


def main() -> None:
    """All variants."""
    asked = _parsed()
    steps, kills = (QUICK_STEPS, QUICK_KILLS) if asked.quick else (STEPS, KILLS)
    variants = QUICK_VARIANTS if asked.quick else VARIANTS
    rows: list[Row] = []
    count = 0
    with tempfile.TemporaryDirectory() as place:
        data = write_data(Path(place) / "data")
        whole: dict[tuple[int, Precision], SmallTraining] = {}
        for number, variant in enumerate(variants):
            key = (variant.workers, variant.precision)
            if key not in whole:
                print(f"{variant.name.rsplit(',', 1)[0]}, left alone", flush=True)
                whole[key] = outcome(variant, data, Path(place) / f"whole-{number}", steps, [], random.Random(0))
            seed = asked.seeds[number % len(asked.seeds)]
            source = random.Random(seed)
            chosen = sorted(source.sample(range(2, steps - 5), kills))
            print(f"{variant.name}, seed {seed}: to be struck after steps {', '.join(map(str, chosen))}", flush=True)
            struck = outcome(variant, data, Path(place) / f"struck-{number}", steps, chosen, source)
            found = differing(whole[key], struck)
            count += found
            shared = against_target(variant.name, float(steps - found), float(steps), "losses equal to the last bit", 1)
            rows.append(shared | {"seed": seed, "struck": chosen})
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"differing losses: {count}")
    sys.exit(1 if count else 0)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 3, 4, 5], help="1,2,3,4,5")
    parser.add_argument("--quick", action="store_true", help="one process, float32, two strikes")
    parser.add_argument("--json", type=Path, help="file for the rows")
    return parser.parse_args()


if __name__ == "__main__":
    main()

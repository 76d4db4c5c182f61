"""A full training step (forward, backward, AdamW, zeroed gradients; no clipping) against nanoGPT's and transformers' models.

    python benchmarks/model_step.py --nanogpt NANOGPT --json rows.json
    python benchmarks/model_step.py --device cuda --nanogpt NANOGPT --json rows.json    # needs torch, numpy, pyarrow, safetensors

On a CPU: one thread, both sides in one process taking turns; processor seconds, the median of the pairs' ratios; above 1 is in
our favour. The allocator's settings of `model/training/allocation.py` hold for all sides. Peak memory is that of a fresh process for each
side, its libraries included. Peers compute in float32; ours as `precision: auto` would, or in float32 where the row says so.
On a GPU all sides are compiled and compute in bfloat16, each with the largest power of two of rows that fits it; what is measured is
written row by row, and after --minutes the command ends with what it has.
Rows against nanoGPT are left out without a checkout of karpathy/nanoGPT, those against transformers without that library.
"""

import argparse
import importlib.util
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks beside it, not where `model` and `benchmarks` are

from benchmarks.sides import ONE_THREAD, Row  # noqa: E402
from model.training.allocation import allocation_environment  # noqa: E402

WARM_UP = 3
MEMORY_STEPS = 5
MEMORY_RUNS = 5


def cpu_rows(quick: bool, nanogpt: Path | None, pairs: int, wanted: list[str]) -> Iterator[Row]:
    """Every row that was asked for and whose peer is there."""
    size = "tiny" if quick else "small"
    if "step-vs-nanogpt-best" in wanted and _has("nanogpt", nanogpt):
        yield best_row("step-vs-nanogpt-best", f"gpt2-{size}", pairs, nanogpt)
    for name, side, peer, shape in (
        ("vs-nanogpt", "ours", "nanogpt", f"gpt2-{size}"),
        ("vs-transformers", "ours", "transformers", f"gpt2-{size}"),
        ("float32-vs-nanogpt", "ours-float32", "nanogpt", f"gpt2-{size}"),
        ("llama-vs-transformers", "ours", "transformers", f"llama-{size}"),
    ):
        if _has(peer, nanogpt):
            if f"step-{name}" in wanted:
                yield step_row(f"step-{name}", side, peer, shape, pairs, nanogpt)
            if f"memory-{name}" in wanted:
                yield memory_row(f"memory-{name}", side, peer, shape, nanogpt)


ROWS = ["step-vs-nanogpt-best"] + [
    f"{what}-{name}"
    for name in ("vs-nanogpt", "vs-transformers", "float32-vs-nanogpt", "llama-vs-transformers")
    for what in ("step", "memory")
]


def _has(peer: str, nanogpt: Path | None) -> bool:
    is_there = nanogpt is not None if peer == "nanogpt" else importlib.util.find_spec(peer) is not None
    if not is_there:
        need = "--nanogpt, a checkout of karpathy/nanoGPT" if peer == "nanogpt" else f"pip install {peer}"
        print(f"rows against {peer}: left out; they need {need}", file=sys.stderr)
    return is_there


def step_row(name: str, side: str, peer: str, shape_name: str, pairs: int, nanogpt: Path | None) -> Row:
    """Tokens a processor second; the sides take turns at being first."""
    seconds = turns([side, peer], shape_name, pairs, nanogpt)
    return _row(name, side, peer, shape_name, seconds)


def best_row(name: str, shape_name: str, pairs: int, nanogpt: Path | None) -> Row:
    """Against the mode of nanoGPT that is fastest here: as it is, autocast to bfloat16, compiled, or both."""
    from benchmarks.model_sides import NANOGPT_MODES, SHAPES

    seconds = turns(["ours", *NANOGPT_MODES], shape_name, pairs, nanogpt)
    best = min(NANOGPT_MODES, key=lambda mode: statistics.median(seconds[mode]))
    rates: dict[str, float] = {mode: SHAPES[shape_name].tokens / statistics.median(seconds[mode]) for mode in NANOGPT_MODES}
    return _row(name, "ours", best, shape_name, seconds) | {"modes": rates}


def turns(sides: list[str], shape_name: str, pairs: int, nanogpt: Path | None) -> dict[str, list[float]]:
    """Processor seconds of each side's steps, one of each in turn, in the one order and then in the other."""
    import torch

    from benchmarks.model_sides import SHAPES, Machine, build

    torch.set_num_threads(1)
    machine = Machine(torch.device("cpu"), False, nanogpt)
    steps = {one: build(one, SHAPES[shape_name], machine) for one in sides}
    seconds: dict[str, list[float]] = {one: [] for one in sides}
    for pair in range(-WARM_UP, pairs):
        for one in sides if pair % 2 else reversed(sides):
            start = time.process_time()
            steps[one]()
            if pair >= 0:
                seconds[one].append(time.process_time() - start)
    return seconds


def _row(name: str, side: str, peer: str, shape_name: str, seconds: dict[str, list[float]]) -> Row:
    import torch

    from benchmarks.model_sides import SHAPES
    from model.distributed.device import choose_precision

    shape = SHAPES[shape_name]
    precision = "float32" if side == "ours-float32" else str(choose_precision("auto", torch.device("cpu"))).split(".")[1]
    rates = {one: shape.tokens / statistics.median(seconds[one]) for one in (side, peer)}
    ratios = [theirs / ours for ours, theirs in zip(seconds[side], seconds[peer], strict=True)]
    return {
        "name": name,
        "ours": rates[side],
        "peer": rates[peer],
        "peer_name": peer,
        "ratio": statistics.median(ratios),
        "unit": "tokens per CPU second",
        "runs": len(ratios),
        "shape": shape.name,
        "tokens": shape.tokens,
        "precision": precision,
        "ratio_best_of": min(seconds[peer]) / min(seconds[side]),
        "ratio_quartiles": [round(one, 3) for one in statistics.quantiles(ratios, n=4)],
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }


def memory_row(name: str, side: str, peer: str, shape_name: str, nanogpt: Path | None) -> Row:
    """Peak resident memory of fresh processes that take a few steps, medians; the ratio is the peer's over ours.

    What libraries take of it differs from day to day, by how much of their files the system has at hand.
    """
    from benchmarks.sides import ours, run

    peaks: dict[str, list[float]] = {side: [], peer: []}
    imports: dict[str, list[float]] = {side: [], peer: []}
    for _ in range(MEMORY_RUNS):
        for one in (side, peer):
            arguments = [one, shape_name, "8", str(MEMORY_STEPS), *([str(nanogpt)] if nanogpt else [])]
            told = run(ours("model_sides", *arguments)).facts
            peaks[one].append(float(str(told["peak"])))
            imports[one].append(float(str(told["imports"])))
    peak, libraries = ({one: statistics.median(found) for one, found in figures.items()} for figures in (peaks, imports))
    return {
        "name": name,
        "ours": peak[side],
        "peer": peak[peer],
        "peer_name": peer,
        "ratio": peak[peer] / peak[side],
        "unit": "MB at the peak, the process whole",
        "runs": MEMORY_RUNS,
        "shape": shape_name,
        "share": peak[side] / peak[peer],
        "share_without_libraries": (peak[side] - libraries[side]) / (peak[peer] - libraries[peer]),
        "libraries": libraries,
        "each": peaks,
    }


def main() -> None:
    asked = _parsed()
    environment = {**allocation_environment(), **ONE_THREAD} if asked.device == "cpu" else {}
    if any(os.environ.get(name) != value for name, value in environment.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **environment})  # read at the start alone
    if asked.device == "cpu":
        pairs = asked.pairs or (2 if asked.quick else 30)
        found = cpu_rows(asked.quick, asked.nanogpt, pairs, asked.rows.split(",") if asked.rows else ROWS)
    else:
        from benchmarks.model_gpu import gpu_rows

        found = gpu_rows(asked.quick, asked.nanogpt, asked.rows.split(",") if asked.rows else None)
        signal.signal(signal.SIGALRM, _out_of_time)
        signal.alarm(round(60 * asked.minutes))
    rows: list[Row] = []
    try:
        for row in found:
            rows.append(row)
            show(row)
            if asked.json is not None:
                asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    except TimeoutError as error:
        print(f"{error}: {len(rows)} rows were measured; the others: --rows SHAPE", file=sys.stderr)


def _out_of_time(number: int, frame: object) -> None:
    del number, frame
    raise TimeoutError("the time is over")


def show(row: Row) -> None:
    """One line of the figures, then what else there is to say."""
    print(f"{row['name']}: {row['ours']:.5g} against {row['peer']:.5g} ({row['peer_name']}), {row['unit']}: {row['ratio']:.4g}x")
    for name, value in row.items():
        if name not in ("name", "ours", "peer", "peer_name", "unit", "ratio"):
            print(f"    {name}: {value:.4g}" if isinstance(value, float) else f"    {name}: {value}", flush=True)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help=f"comma-separated; all on a CPU: {','.join(ROWS)}; on a GPU: shapes")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--pairs", type=int, help="of steps, on a CPU; 30")
    parser.add_argument("--minutes", type=float, default=9.0, help="on a GPU: the command ends by itself after so many")
    parser.add_argument("--quick", action="store_true", help="tiny models, two pairs: no figure to quote")
    parser.add_argument("--json", type=Path, help="file for the rows")
    asked = parser.parse_args()
    if asked.nanogpt is not None and not (asked.nanogpt / "model.py").is_file():
        parser.error(f"--nanogpt: {asked.nanogpt} has no model.py; name a checkout of karpathy/nanoGPT")
    if asked.pairs is not None and asked.pairs < 2:
        parser.error(f"--pairs {asked.pairs}: quartiles need at least 2")
    return asked


if __name__ == "__main__":
    main()

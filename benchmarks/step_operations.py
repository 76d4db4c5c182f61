"""Where the processor's time of a training step goes, by kind of operation, for ours and for a peer's model.

    python benchmarks/step_operations.py --nanogpt NANOGPT --json rows.json

The shape and the sides are those of `model_step.py`; one thread, torch's profiler, medians of some steps. Beside it stands what matrix
products would take at the rate of a large one in the same dtype, which is the least that a step can take.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks beside it, not where `model` and `benchmarks` are

from benchmarks.sides import ONE_THREAD, Row  # noqa: E402
from model.training.allocation import allocation_environment  # noqa: E402

PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "baddbmm")
INSIDE = {  # of what an operation is a part, by the name of one that it runs in
    "attention": ("_BlockedAttention", "scaled_dot_product"),
    "activation": ("_GeluTanh", "gelu", "silu"),
    "loss": ("_LinearCrossEntropy", "cross_entropy", "log_softmax", "NllLoss", "nll_loss"),
    "norms": ("layer_norm", "rms_norm", "NativeLayerNorm"),
    "optimizer": ("adamw", "Optimizer"),
}
COPIES = ("copy_", "cat", "fill_", "zero_", "clone", "_to_copy")


def kind_of(names: Sequence[str]) -> str:
    """Of an operation: its own name first, then those that it ran in, from the inside out."""
    own = names[0].removeprefix("aten::")
    inside = next((kind for name in names for kind, parts in INSIDE.items() if any(part in name for part in parts)), None)
    if own in PRODUCTS and inside != "attention":
        return "products"
    if inside is not None:
        return inside
    return "copies and casts" if own in COPIES else "sums and the rest"


def milliseconds(side: str, shape_name: str, nanogpt: Path | None, steps: int) -> dict[str, float]:
    """Of one step, by kind."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.model_sides import SHAPES, Machine, build

    step = build(side, SHAPES[shape_name], Machine(torch.device("cpu"), False, nanogpt))
    for _ in range(3):
        step()
    found: dict[str, list[float]] = {}
    for number in range(steps):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            step()
        for event in profiler.events():
            names, above = [event.name], event.cpu_parent
            while above is not None:
                names.append(above.name)
                above = above.cpu_parent
            per_step = found.setdefault(kind_of(names), [0.0] * steps)
            per_step[number] += event.self_cpu_time_total / 1000
    return {kind: statistics.median(times) for kind, times in found.items()}


def products_at_peak(shape_name: str, side: str) -> float:
    """Milliseconds of a step's arithmetic at the rate of a large product."""
    import torch

    from benchmarks.model_sides import SHAPES
    from model.distributed.device import choose_precision
    from model.training.budget import flops_per_token
    from model.training.peak import measured_peak

    device = torch.device("cpu")
    dtype = choose_precision("auto" if side == "ours" else "float32", device)
    shape = SHAPES[shape_name]
    return 1000 * flops_per_token(shape.model, shape.vocab_size) * shape.tokens / measured_peak(device, dtype).flops


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, help="a checkout of karpathy/nanoGPT: its model's table too")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="tiny models, two steps: no figure to quote")
    parser.add_argument("--json", type=Path, help="file for the rows")
    asked = parser.parse_args()
    environment = {**allocation_environment(), **ONE_THREAD}
    if any(os.environ.get(name) != value for name, value in environment.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **environment})  # read at the start alone
    import torch

    torch.set_num_threads(1)
    shape, steps = ("gpt2-tiny", 2) if asked.quick else ("gpt2-small", asked.steps)
    sides = ["ours", "ours-float32", *(["nanogpt"] if asked.nanogpt else [])]
    times = {side: milliseconds(side, shape, asked.nanogpt, steps) for side in sides}
    least = {side: products_at_peak(shape, side) for side in sides}
    rows: list[Row] = []
    for side in sides:
        whole = sum(times[side].values())
        print(f"{side}: {whole:.0f} ms a step; its arithmetic at the rate of a large product: {least[side]:.0f} ms")
        for kind, spent in sorted(times[side].items(), key=lambda item: -item[1]):
            print(f"    {kind:<20}{spent:8.1f} ms {spent / whole:7.1%}")
            rows.append(
                {
                    "name": f"{side}-{kind}",
                    "ours": spent,
                    "peer": whole,
                    "peer_name": "the whole step",
                    "ratio": whole / spent,
                    "unit": "ms",
                    "runs": steps,
                }
            )
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

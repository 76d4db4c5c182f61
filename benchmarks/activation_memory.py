"""What activation checkpointing saves and costs: peak memory and processor time of a training step, none, selective and full.

    python benchmarks/activation_memory.py --json rows.json

Each in a process of its own with one thread, two steps of AdamW; the memory is what the second step took at its most beyond what the
process held before the model was made, without copies for checkpoints. Beside it stands what the budget (model/training/budget.py) says.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, Python looks beside it, not where `model` and `benchmarks` are

from model.config.layout_config import RECOMPUTED, LayoutConfig, Recomputed  # noqa: E402
from model.config.model_config import ModelConfig  # noqa: E402
from model.config.training_config import OptimizerConfig  # noqa: E402
from model.data.batches import Batch  # noqa: E402
from model.distributed.device import choose_precision  # noqa: E402
from model.nn.models import LanguageModel, set_compute_dtype, set_recomputed  # noqa: E402
from model.optim.optimizer import build_optimizer  # noqa: E402
from model.training.budget import training_memory  # noqa: E402

VOCABULARY = 8192
WHOLE = (ModelConfig("llama", layers=8, width=256, heads=4, kv_heads=2, context=512), 8)  # and rows
QUICK = (ModelConfig("llama", layers=4, width=128, heads=4, context=256), 8)
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}  # what is freed is given back at once


def resident(kind: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) * 1024


def steps(config: ModelConfig, rows: int, kind: Recomputed, count: int) -> float:
    """Takes so many; processor seconds of the last."""
    torch.manual_seed(1)
    model = LanguageModel(config, VOCABULARY)
    set_compute_dtype(model, choose_precision("auto", torch.device("cpu")))
    set_recomputed(model, kind)
    optimizer = build_optimizer(model, OptimizerConfig())
    ids = torch.randint(VOCABULARY, (rows, config.context + 1))
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), torch.full((rows,), config.context))
    began = time.process_time()
    for _ in range(count):
        began = time.process_time()
        loss = model.loss(batch)
        (loss.nats / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.process_time() - began


def measure(kind: Recomputed, is_quick: bool) -> None:
    """Prints bytes and seconds."""
    torch.set_num_threads(1)
    config, rows = QUICK if is_quick else WHOLE
    steps(ModelConfig("llama", layers=1, width=64, heads=2, context=64), 2, kind, 1)  # libraries load what they need
    before = resident("VmRSS")
    seconds = steps(config, rows, kind, 2)
    print(json.dumps({"bytes": resident("VmHWM") - before, "seconds": seconds}))


def row(kind: Recomputed, is_quick: bool) -> dict[str, float | str]:
    """One kind, in a process of its own."""
    config, rows = QUICK if is_quick else WHOLE
    command = [sys.executable, __file__, "--kind", kind, *(["--quick"] if is_quick else [])]
    done = subprocess.run(command, env={**os.environ, **AT_ONCE, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    precision = str(choose_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    memory = training_memory(config, VOCABULARY, rows, precision, layout=LayoutConfig(activation_checkpointing=kind))
    return {
        "name": f"activation-memory-{kind}",
        "precision": precision,
        "mib": round(found["bytes"] / 2**20, 1),
        "budget_mib": round((memory.peak - memory.copy) / 2**20, 1),
        "cpu_seconds": round(found["seconds"], 2),
    }


def main() -> None:
    """Three rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--kind", choices=RECOMPUTED, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.kind is not None:
        measure(asked.kind, asked.quick)
        return
    found = [row(kind, asked.quick) for kind in RECOMPUTED]
    for one in found:
        print(f"{one['name']}: {one['mib']} MiB (budget {one['budget_mib']}), {one['cpu_seconds']} CPU s a step, {one['precision']}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Steps to a loss: in how many steps each optimizer reaches the loss of a tuned AdamW, on one small net and text that every machine has.

    python -m benchmarks.steps_to_loss --runs runs.jsonl --json rows.json

Net and data are fixed: a llama of 4 layers, 96 wide, on the bytes of this Python's language reference and standard library (or of
`--text FILE`), 1,024 a step. Every run has a whole schedule of its own length: warm-up, then a line to 0. AdamW is tuned at its full
length, the others at 0.65 of it, each over as many settings: rates times one beta, a further rate while the best lies at an edge, then
decay and warm-up one at a time. Settings are chosen by seed 0; what is reported are the mean and the standard deviation of the
validation losses of seeds 1 to 5, and Welch's one-sided p that an optimizer's mean loss is not below AdamW's.

Each run is a line of `--runs` as soon as it ends; a second call does what is missing. One thread, float32.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from model.config.model_config import ModelConfig
from model.config.training_config import OptimizerConfig, OptimizerKind
from model.data.batches import Batch
from model.nn.models import LanguageModel
from model.optim.optimizer import build_optimizer, set_learning_rate
from model.optim.schedule import learning_rate
from tasks.reading.stdlib import python_texts

BYTES, CONTEXT, BATCH_ROWS = 256, 64, 16
SHAPE = ModelConfig(family="llama", layers=4, width=96, heads=2, context=CONTEXT)
STEPS = 300  # of AdamW
VALIDATION_ROWS = 512
HELD_OUT = 20  # one document of so many is held out
SHARE = 0.65  # of AdamW's steps
TUNING_SEED = 0
SEEDS = (1, 2, 3, 4, 5)
WARM_UPS = (0.05, 0.2)  # shares of the steps, beside 0.1
DECAYS = (0.0, 0.3)  # beside 0.1


@dataclass(frozen=True)
class Setting:
    """What is tuned."""

    kind: OptimizerKind
    rate: float
    beta: float  # beta2 of adamw and lion; the momentum of muon and sgd
    decay: float = 0.1
    warm_up: float = 0.1  # share of the steps

    def config(self, steps: int) -> OptimizerConfig:
        """For a run of so many steps."""
        averages = {"beta2": self.beta} if self.kind in ("adamw", "lion") else {"momentum": self.beta}
        return OptimizerConfig(
            learning_rate=self.rate,
            final_learning_rate=0.0,
            warmup_steps=round(steps * self.warm_up),
            decay="linear",
            weight_decay=self.decay,
            kind=self.kind,
            **averages,
        )


GRIDS: dict[OptimizerKind, tuple[Sequence[float], Sequence[float]]] = {  # rates, betas
    "adamw": ((4e-3, 8e-3, 1.6e-2), (0.95, 0.99)),
    "muon": ((4e-3, 8e-3, 1.6e-2), (0.9, 0.95)),
    "lion": ((3e-4, 6e-4, 1.2e-3), (0.95, 0.99)),
    "sgd": ((0.1, 0.3, 1.0), (0.9, 0.95)),
}


@dataclass(frozen=True)
class Rows:
    """Bytes in rows of CONTEXT + 1: [n, CONTEXT + 1] uint8."""

    train: NDArray[np.uint8]
    validation: NDArray[np.uint8]


def rows_of(texts: Sequence[str]) -> Rows:
    """Every HELD_OUT-th text is held out; each side is one stream of bytes, a zero byte behind each text."""
    sides: list[NDArray[np.uint8]] = []
    for is_held_out in (False, True):
        chosen = (text for number, text in enumerate(texts) if (number % HELD_OUT == 0) == is_held_out)
        stream = np.frombuffer(b"".join(text.encode() + b"\0" for text in chosen), np.uint8)
        rows = len(stream) // (CONTEXT + 1)
        sides.append(stream[: rows * (CONTEXT + 1)].reshape(rows, CONTEXT + 1))
    order = np.random.default_rng(0).permutation(len(sides[1]))[:VALIDATION_ROWS]
    return Rows(sides[0], sides[1][order])


def batch_of(rows: NDArray[np.uint8]) -> Batch:
    """Each byte predicted from those before it."""
    tokens = torch.from_numpy(rows.astype(np.int64))
    return Batch(tokens[:, :-1], tokens[:, 1:].contiguous(), torch.full((len(rows),), CONTEXT))


def final_loss(setting: Setting, steps: int, seed: int, rows: Rows) -> float:
    """Validation loss, nats a byte, after a run of `steps` steps; not finite where it diverged."""
    torch.manual_seed(seed)
    model = LanguageModel(SHAPE, BYTES)
    config = setting.config(steps)
    optimizer = build_optimizer(model, config)
    order = np.random.default_rng(seed).permutation(len(rows.train))
    for step in range(steps):
        taken = np.take(order, range(step * BATCH_ROWS, (step + 1) * BATCH_ROWS), mode="wrap")
        loss = model.loss(batch_of(rows.train[taken]))
        (loss.nats / loss.count).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        set_learning_rate(optimizer, learning_rate(step, steps, config))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        parts = [model.loss(batch_of(part)) for part in np.array_split(rows.validation, len(rows.validation) // BATCH_ROWS)]
    return float(sum(part.nats for part in parts) / sum(part.count for part in parts))


class Runs:
    """Runs that are done, by what they were; each is done once."""

    def __init__(self, path: Path, rows: Rows) -> None:
        self.path, self.rows = path, rows
        lines = path.read_text().splitlines() if path.exists() else []
        self.losses: dict[str, float] = {entry["run"]: entry["loss"] for entry in map(json.loads, lines)}

    def loss(self, setting: Setting, steps: int, seed: int) -> float:
        """Of the validation rows."""
        run = json.dumps([*dataclasses.astuple(setting), steps, seed])
        if run not in self.losses:
            began = time.process_time()
            self.losses[run] = final_loss(setting, steps, seed, self.rows)
            entry = {"run": run, "loss": self.losses[run], "cpu_seconds": round(time.process_time() - began, 1)}
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(f"{setting.kind} {run}: {self.losses[run]:.4f}, {entry['cpu_seconds']} CPU s", flush=True)
        return self.losses[run]

    def losses_of(self, setting: Setting, steps: int, seeds: Sequence[int]) -> list[float]:
        """One a seed."""
        return [self.loss(setting, steps, seed) for seed in seeds]


def tuned(kind: OptimizerKind, steps: int, measured: Callable[[Setting], float]) -> Setting:
    """The best setting of the kind at this length."""
    rates, betas = GRIDS[kind]
    best = min((Setting(kind, rate, beta) for rate in rates for beta in betas), key=measured)
    best = min([best, *further(best, rates)], key=measured)
    best = min([best, *(dataclasses.replace(best, decay=decay) for decay in DECAYS)], key=measured)
    return min([best, *(dataclasses.replace(best, warm_up=share) for share in WARM_UPS)], key=measured)


def further(best: Setting, rates: Sequence[float]) -> Iterator[Setting]:
    """One rate beyond the edge at which the best lies."""
    if best.rate == rates[0]:
        yield dataclasses.replace(best, rate=best.rate / 2)
    if best.rate == rates[-1]:
        yield dataclasses.replace(best, rate=best.rate * 2)


def row_of(
    kind: OptimizerKind, steps: int, losses: Sequence[float], peer_steps: int, peer: Sequence[float], setting: Setting
) -> dict[str, object]:
    """A row of results; `ratio` above 1: fewer steps than AdamW's."""
    p = float(stats.ttest_ind(losses, peer, equal_var=False, alternative="less").pvalue)
    return {
        "name": f"steps-to-loss-{kind}-{steps / peer_steps:.2f}",
        "ours": steps,
        "peer": peer_steps,
        "peer_name": "AdamW, tuned",
        "ratio": peer_steps / steps,
        "unit": "steps",
        "runs": len(losses),
        "loss": statistics.mean(losses),
        "loss_sd": statistics.stdev(losses),
        "peer_loss": statistics.mean(peer),
        "peer_loss_sd": statistics.stdev(peer),
        "p": p,
        "setting": dataclasses.asdict(setting),
    }


def table(
    runs: Runs, steps: int, kinds: Sequence[OptimizerKind], shares: Sequence[float], seeds: Sequence[int]
) -> Iterator[dict[str, object]]:
    """A row for each kind and share of AdamW's steps, as it is measured."""
    adamw = tuned("adamw", steps, lambda setting: runs.loss(setting, steps, TUNING_SEED))
    peer = runs.losses_of(adamw, steps, seeds)
    print(f"AdamW: {adamw}: {statistics.mean(peer):.4f}, sd {statistics.stdev(peer):.4f}", flush=True)
    for kind in kinds:
        fewer = round(steps * SHARE)
        setting = tuned(kind, fewer, lambda setting: runs.loss(setting, fewer, TUNING_SEED))  # noqa: B023 - called at once
        for share in shares:
            length = round(steps * share)
            yield row_of(kind, length, runs.losses_of(setting, length, seeds), steps, peer, setting)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="a file of UTF-8 text in place of the standard library's")
    parser.add_argument("--runs", type=Path, default=Path("steps_to_loss.jsonl"), help="where runs are noted, and taken from if done")
    parser.add_argument("--kinds", nargs="+", default=["muon", "lion", "sgd"], choices=[kind for kind in GRIDS if kind != "adamw"])
    parser.add_argument("--shares", nargs="+", type=float, default=[SHARE, 0.5], help="of AdamW's steps")
    parser.add_argument("--quick", action="store_true", help="ten steps, Muon alone, two seeds: that it runs, not what comes of it")
    parser.add_argument("--json", type=Path, help="where the rows go")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    texts = [part.text for part in python_texts(8_000)] if asked.text is None else asked.text.read_text().split("\n\n")
    runs = Runs(asked.runs, rows_of(texts))
    found: list[dict[str, object]] = []
    if asked.quick:
        rows = table(runs, 10, ["muon"], [SHARE], (1, 2))
    else:
        rows = table(runs, STEPS, asked.kinds, asked.shares, SEEDS)
    for row in rows:
        print(json.dumps(row), flush=True)
        found.append(row)
        if asked.json is not None:
            asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

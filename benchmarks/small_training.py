"""Small training of synthetic tokens: what is struck by benchmarks/chaos.py and benchmarks/worker_killed.py.

Two layers, dropout, several documents a row that are masked from one another, gradients accumulated over micro-batches, rows now
and then whose steps the guard skips, validations and checkpoints; through the real launcher, in one process or on Ray workers.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers
from tokenizers.models import BPE

from model.config.model_config import ModelConfig
from model.config.training_config import FaultConfig, OptimizerConfig
from model.data.shard_format import SEGMENT_FIELDS
from model.data.shard_writer import write_token_shard
from model.training.curve import CurvePoint, read_curve
from tasks.artifacts import Tokenizer, TokenShards
from tasks.cluster import ClusterConfig, Launcher, WorkerCount
from tasks.pretrain.config import PretrainConfig, Pretraining
from tasks.pretrain.pretrain import pretrain_model
from tasks.tokenizer.encoding import SPECIAL_TOKENS

VOCABULARY, CONTEXT, DOCUMENT = 512, 128, 43  # DOCUMENT tokens, <|eos|> included: three a row
TRAIN_ROWS, VALIDATION_ROWS, BATCH_ROWS = 4_000, 32, 16
CHECKPOINT_EVERY, EVALUATE_EVERY = 10, 15  # steps
ODD_EVERY = 10  # rows: one of tokens that follow no rule, for the guard to skip its step


@dataclass(frozen=True)
class Data:
    """What is trained on."""

    shards: TokenShards
    tokenizer: Tokenizer


def write_data(folder: Path) -> Data:
    """Rows of three documents each, of tokens that mostly follow by a rule, so that there is something to learn."""
    entries: list[dict[str, str | int]] = []
    for name, rows in (("train", TRAIN_ROWS), ("validation", VALIDATION_ROWS)):
        source = np.random.default_rng(rows)
        steps = source.choice([1, 2, 7], (rows, CONTEXT + 1), p=[0.7, 0.2, 0.1])
        tokens = (3 + (source.integers(0, 400, (rows, 1)) + np.cumsum(steps, axis=1)) % (VOCABULARY - 3)).astype(np.uint16)
        tokens[::ODD_EVERY] = source.integers(3, VOCABULARY, tokens[::ODD_EVERY].shape)
        tokens[:, DOCUMENT - 1 :: DOCUMENT] = 1
        spans = (CONTEXT + 1) // DOCUMENT
        columns = [[[DOCUMENT] * spans] * rows, [[row] * spans for row in range(rows)], [[0] * spans] * rows]
        path = folder / "shards" / name / "all" / "shard-00000.parquet"
        path.parent.mkdir(parents=True)
        header: dict[str, int | str | None] = {
            "vocab_size": VOCABULARY,
            "tokenizer": "b" * 16,
            "packing": "best_fit",
            "bos": 0,
            "eos": 1,
            "pad": 2,
        }
        write_token_shard(path, tokens, pa.table(columns, schema=pa.schema(SEGMENT_FIELDS)), header)
        entries.append({"path": path.relative_to(folder / "shards").as_posix(), "bytes": path.stat().st_size})
    numbers = list(range(TRAIN_ROWS))
    documents = {"id": [f"{number:020x}" for number in numbers], "source": ["s"] * TRAIN_ROWS, "language": ["en"] * TRAIN_ROWS}
    sizes = {"bytes": [CONTEXT] * TRAIN_ROWS, "tokens": [CONTEXT + 1] * TRAIN_ROWS}
    pq.write_table(pa.table({**documents, **sizes}), folder / "shards" / "documents-train.parquet")
    (folder / "shards" / "manifest.json").write_text(json.dumps({"files": entries}))
    (folder / "tokenizer").mkdir()
    spelled = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *"abcdefgh"])}
    tokenizers.Tokenizer(BPE(spelled, [])).save(str(folder / "tokenizer" / "tokenizer.json"))
    (folder / "tokenizer" / "tokenizer_config.json").write_text("{}")
    shards = TokenShards(str(folder / "shards"), "a" * 16, figures={"context": float(CONTEXT)})
    return Data(shards, Tokenizer(str(folder / "tokenizer"), "b" * 16))


def training_of(steps: int, workers: WorkerCount, precision: Literal["float32", "bfloat16"]) -> Pretraining:
    """The recipe's two sections."""
    model = ModelConfig(family="llama", layers=2, width=64, heads=4, context=CONTEXT, dropout=0.1)
    pretrain = PretrainConfig(
        steps=steps,
        batch_tokens=BATCH_ROWS * CONTEXT,
        micro_rows=2,
        log_every=1,
        evaluate_every=EVALUATE_EVERY,
        evaluate_batches=1,
        checkpoint_every=CHECKPOINT_EVERY,
        optimizer=OptimizerConfig(warmup_steps=5),
        faults=FaultConfig(deviations=1.0, window=8),
        precision=precision,
        workers=workers,
        threads=1,
    )
    return Pretraining(model, pretrain)


def exactly(point: CurvePoint) -> str:
    """Two reports of a step are the same bit for bit if these are."""
    held = "" if point.validation_loss is None else f" {point.validation_loss.hex()}"
    return f"{point.loss.hex()} {point.gradient_norm.hex()}{held} {point.skipped} {' '.join(point.batch_digests)}"


class SmallTraining:
    """One training in a folder of its own, begun and gone on with as often as is wanted."""

    def __init__(self, config: Pretraining, data: Data, folder: Path, restarts: int) -> None:
        self.config, self.data = config, data
        self.out, self.logs = folder / "pretrain" / "0123.partial", folder / "logs"
        self.cluster = ClusterConfig(restarts=restarts)
        self.out.mkdir(parents=True)

    def run(self, follow: Callable[[CurvePoint, Launcher], None]) -> None:
        """To its end, or until it is stopped. `follow` gets each report. Raises what a launcher raises."""
        launcher = Launcher(self.cluster, self.logs)
        try:
            pretrain_model(
                self.config,
                self.data.shards,
                self.data.tokenizer,
                self.out,
                lambda training: launcher.launch(training, lambda point: follow(point, launcher)),
            )
        finally:
            launcher.stop()

    def losses(self) -> Mapping[int, str]:
        """Step -> loss, gradient norm, validation loss where it was measured, steps skipped so far and the batch's digest, exactly."""
        return {point.step: exactly(point) for point in read_curve(self.out)}

    def weights(self) -> str:
        """SHA-256 of the model that came out."""
        return hashlib.sha256((self.out / "model" / "model.safetensors").read_bytes()).hexdigest()

"""Pretrain a language model on token shards: the loop of model/training.py, on Ray Train workers or in one process."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from model.config import ModelConfig, OptimizerConfig, Precision, TrainingConfig
from tasks.artifacts import Tokenizer, TokenShards
from tasks.cluster import read_curve
from tasks.encoding import load_tokenizer, special_ids
from tasks.ledger import Ledger, StageOutcome
from tasks.settings import Json, Placement, Section

Launch = Callable[[Callable[[dict[str, Json]], None], dict[str, Json]], None]


class PretrainConfig(Section):
    """How long and how fast to learn. The global batch is fixed in tokens, whatever the number of workers."""

    revision: Literal[1] = 1
    steps: int = Field(default=1000, ge=1, description="optimizer steps")
    batch_tokens: int = Field(default=16_384, ge=1, description="tokens of one optimizer step over all workers")
    micro_rows: int = Field(default=8, ge=1, description="rows of one forward pass on one worker, at most")
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluate_every: int = Field(default=100, ge=1, description="steps between validation losses")
    evaluate_batches: int = Field(default=4, ge=1, description="global batches of the validation rows, from the first")
    checkpoint_every: int = Field(default=200, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints kept")
    log_every: int = Field(default=10, ge=1, description="steps between figures")
    precision: Precision = Field(
        default="auto", description="of matrix products; auto probes the processor; weights: float32"
    )
    seed: int = Field(default=1, ge=0, description="of weights, row order and dropout")
    workers: Annotated[int, Placement()] = Field(
        default=0, ge=0, description="Ray Train workers; 0: this machine, without Ray"
    )
    gpus_per_worker: Annotated[float, Placement()] = Field(default=0, ge=0, description="1 on GPU machines")
    threads: Annotated[int, Placement()] = Field(
        default=0, ge=0, description="CPU threads per worker; 0: torch's choice"
    )


@dataclass(frozen=True)
class Pretraining:
    """The two recipe sections that this stage follows."""

    model: ModelConfig
    pretrain: PretrainConfig


def training_config(config: PretrainConfig, context: int) -> TrainingConfig:
    """The loop's settings: the batch in rows of `context` tokens."""
    return TrainingConfig(
        steps=config.steps, batch_rows=max(1, config.batch_tokens // context), micro_rows=config.micro_rows,
        evaluate_every=config.evaluate_every, evaluate_batches=config.evaluate_batches,
        checkpoint_every=config.checkpoint_every, keep_checkpoints=config.keep_checkpoints,
        log_every=config.log_every, seed=config.seed, precision=config.precision,
    )  # fmt: skip


def pretrain_model(
    config: Pretraining, shards: TokenShards, tokenizer: Tokenizer, out: Path, launch: Launch
) -> StageOutcome:
    """Train on the shards; a build that was killed goes on from its last whole checkpoint in `out`."""
    payload: dict[str, Json] = {
        "shards": shards.folder, "tokenizer": tokenizer.folder, "identity": shards.fingerprint, "out": str(out),
        "model": asdict(config.model), "optimizer": asdict(config.pretrain.optimizer),
        "training": asdict(training_config(config.pretrain, int(shards.figures["context"]))),
    }  # fmt: skip
    launch(train_pretrain, payload)
    result = json.loads((out / "result.json").read_text())
    points = read_curve(out / "curve.jsonl")
    return StageOutcome(
        ledger=Ledger(rows_out=1, tokens_out=int(result["tokens"])),
        figures={
            "loss": float(result["loss"]), "validation_loss": float(result["validation_loss"]),
            "parameters": float(result["parameters"]), "tokens": float(result["tokens"]), "steps": float(result["step"]),
            "tokens_per_second": max(float(point["tokens_per_second"] or 0.0) for point in points),
        },
        notes={"precision": result["precision"], "device": result["device"]},
    )  # fmt: skip


def train_pretrain(payload: dict[str, Json]) -> None:
    """Runs in each worker: reads paths and settings from `payload`, leaves model, curve and result in its `out`."""
    import torch

    from model.batches import PretrainBatches, TokenRows
    from model.device import process_rank
    from model.heads import LanguageModel
    from model.huggingface import save_folder
    from model.objectives import causal_language_model
    from model.training import TrainingFigures, train

    out, shards = Path(str(payload["out"])), Path(str(payload["shards"]))
    training, optimizer = TrainingConfig(**payload["training"]), OptimizerConfig(**payload["optimizer"])  # type: ignore[arg-type]
    rows = TokenRows.open(sorted((shards / "train").glob("*.parquet")))
    held = TokenRows.open(sorted((shards / "validation").glob("*.parquet")))
    torch.manual_seed(training.seed)
    model = LanguageModel(ModelConfig(**payload["model"]), rows.vocab_size)  # type: ignore[arg-type]

    def report(figures: TrainingFigures) -> None:
        with (out / "curve.jsonl").open("a") as file:
            file.write(json.dumps(asdict(figures)) + "\n")

    result = train(
        model, causal_language_model,
        PretrainBatches(rows, training.batch_rows, training.seed), PretrainBatches(held, training.batch_rows, training.seed),
        training, optimizer, out / "checkpoints", str(payload["identity"]), report,
    )  # fmt: skip
    if process_rank()[0] == 0:
        special = special_ids(load_tokenizer(Path(str(payload["tokenizer"]))), "pretrain")
        ids = {"bos_token_id": special.bos, "eos_token_id": special.eos, "pad_token_id": special.pad}
        save_folder(out / "model", model, ids)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(Path(str(payload["tokenizer"])) / name, out / "model" / name)
        figures = {
            "step": result.step, "loss": result.loss, "validation_loss": result.validation_loss, "tokens": result.tokens,
            "parameters": sum(p.numel() for p in model.parameters()),
            "precision": training.precision, "device": str(next(model.parameters()).device),
        }  # fmt: skip
        (out / "result.json").write_text(json.dumps(figures) + "\n")

"""Fine-tuning: a trained model learns one task from labelled examples, by the same loop as pretraining."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from model.config import OptimizerConfig, Precision, TrainingConfig
from model.lora_config import LoraConfig
from tasks.artifacts import Examples, FinetunedModel, PretrainedModel, Tokenizer, canonical
from tasks.cluster import read_curve
from tasks.encoding import add_chat_tokens, load_tokenizer, text_ids, vocabulary_size
from tasks.errors import UserError
from tasks.example_rows import Kind, encode_examples, read_examples
from tasks.ledger import Ledger, StageOutcome
from tasks.sampling import hash_keys
from tasks.settings import Json, Placement, Section, identity
from tasks.translation_rows import told_start
from tasks.tuning import Freeze, choose_what_learns, open_base, save_adapters, save_tuned, with_head

if TYPE_CHECKING:
    from model.batches import ExampleBatches
    from model.models import Model
    from model.training import TrainingFigures, TrainingResult

Launch = Callable[[Callable[[dict[str, Json]], None], dict[str, Json]], None]

VALIDATION_SHARE = 0.1  # of the groups of the training examples: for the curve, never for a score
MAX_VALIDATION_BATCHES = 32
LEARNS = "learns.txt"  # the table of what learns and what is frozen

logger = logging.getLogger("wordmill")


class FinetuneConfig(Section):
    """One task: which examples, and how long and how fast to learn from them."""

    revision: Literal[2] = 2
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="Of the task and its model, in reports and scores")
    examples: str = Field(min_length=1, description="Name of an entry of the recipe's examples")
    epochs: float | None = Field(
        default=None, gt=0, description="Passes over the training examples; give this or steps; 3 when neither"
    )
    steps: int | None = Field(default=None, ge=1, description="Optimizer steps")
    learning_rate: float = Field(default=3e-4, gt=0, description="Peak")
    final_ratio: float = Field(default=0.1, ge=0, le=1, description="Rate after the last step, as a share of the peak")
    warmup_steps: int = Field(default=10, ge=0, description="Steps up to the peak")
    weight_decay: float = Field(default=0.01, ge=0, description="On matrices")
    batch_rows: int = Field(default=16, ge=1, description="Examples of one optimizer step over all workers")
    micro_rows: int = Field(default=8, ge=1, description="Examples of one forward pass on one worker, at most")
    freeze: Freeze = Field(
        default=(),
        description="What does not learn: none; trunk (all but the head); all but embeddings; all but top N (layers); or a list "
        "of patterns over parameter names, of which the last that matches decides; with ! in front: these learn. A preset leaves "
        "the head to learn",
    )
    lora: LoraConfig | None = Field(
        default=None,
        description="Low-rank adapters learn in place of the base's weights: rank, alpha, dropout, targets (patterns over layer "
        "names; with ! in front: not these)",
    )
    evaluate_every: int = Field(default=50, ge=1, description="Steps between validation losses")
    checkpoint_every: int = Field(default=200, ge=1, description="Steps between checkpoints")
    log_every: int = Field(default=10, ge=1, description="Steps between figures")
    precision: Precision = Field(default="auto", description="Of matrix products; auto probes the processor")
    seed: int = Field(
        default=1, ge=0, lt=2**63, description="Of the head, the order of the examples and the validation split"
    )
    workers: Annotated[int, Placement()] = Field(
        default=0, ge=0, description="Ray Train workers; 0: this machine, without Ray"
    )
    gpus_per_worker: Annotated[float, Placement()] = Field(default=0, ge=0, description="1 on GPU machines")
    threads: Annotated[int, Placement()] = Field(
        default=0, ge=0, description="CPU threads per worker; 0: torch's choice"
    )

    @model_validator(mode="after")
    def _check_length(self) -> "FinetuneConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError(f"epochs {self.epochs:g} and steps {self.steps} both set the length; keep one")
        if self.lora is not None and self.freeze:
            raise ValueError(
                "lora freezes all but its adapters and a new head, so freeze would change nothing; leave it out"
            )
        return self


def training_steps(config: FinetuneConfig, examples: int) -> int:
    """Optimizer steps; an epoch's last batch is filled up from the next one."""
    if config.steps is not None:
        return config.steps
    epochs = 3.0 if config.epochs is None else config.epochs
    return max(1, int(np.ceil(epochs * examples / config.batch_rows)))


def training_config(config: FinetuneConfig, learned: int, validation: int) -> TrainingConfig:
    """The loop's settings for `learned` and `validation` examples."""
    return TrainingConfig(
        steps=training_steps(config, learned), batch_rows=config.batch_rows, micro_rows=config.micro_rows,
        evaluate_every=config.evaluate_every,
        evaluate_batches=min(MAX_VALIDATION_BATCHES, max(1, -(-validation // config.batch_rows))),
        checkpoint_every=config.checkpoint_every, keep_checkpoints=1, log_every=config.log_every, seed=config.seed,
        precision=config.precision,
    )  # fmt: skip


def optimizer_config(config: FinetuneConfig) -> OptimizerConfig:
    """AdamW with a cosine down to the final rate."""
    return OptimizerConfig(
        learning_rate=config.learning_rate, final_learning_rate=config.learning_rate * config.final_ratio,
        warmup_steps=config.warmup_steps, weight_decay=config.weight_decay,
    )  # fmt: skip


def validation_mask(groups: list[str], seed: int) -> NDArray[np.bool_]:
    """True for the examples whose group is kept for the curve: about a tenth, at least one group where there are two."""
    if not groups:
        return np.zeros(0, dtype=np.bool_)
    keys = hash_keys(groups, seed)
    distinct = np.unique(keys)
    border = min(max(distinct[0], np.uint64(VALIDATION_SHARE * 2**64)), distinct[-1] - np.uint64(1))
    return keys <= border


def finetune(
    config: FinetuneConfig, base: PretrainedModel | FinetunedModel, tokenizer: Tokenizer, examples: Examples, out: Path,
    launch: Launch,
) -> StageOutcome:  # fmt: skip
    """Write model/ (a Hugging Face folder with task.json), learns.txt, curve.jsonl and checkpoints/; goes on from the latter.

    With `lora`, adapter/ (in PEFT's form) as well; the model holds the adapters merged into its matrices.
    """
    learns: Json = [identity(config.freeze), identity(config.lora)]
    payload: dict[str, Json] = {
        "config": identity(config), "base": str(base.path / "model"), "tokenizer": tokenizer.folder,
        "examples": examples.folder, "out": str(out), "fingerprint": examples.fingerprint,
        "identity": canonical([base.fingerprint, tokenizer.fingerprint, examples.fingerprint, learns]),
    }  # fmt: skip
    launch(train_finetune, payload)
    logger.info("finetune %s: what learned\n%s", config.name, (out / LEARNS).read_text(encoding="utf-8").rstrip())
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    figures = {name: float(value) for name, value in result["figures"].items() if value is not None}
    points = read_curve(out / "curve.jsonl")
    figures["tokens_per_second"] = float(np.median([point["tokens_per_second"] or 0.0 for point in points]))
    figures["training_seconds"] = float(points[-1]["seconds"] or 0.0)
    return StageOutcome(Ledger(rows_out=1, tokens_out=int(figures["tokens"])), (), figures, result["notes"])


def train_finetune(payload: dict[str, Json]) -> None:
    """Runs in each worker: reads paths and settings from `payload`, leaves model, curve and result in its `out`."""
    from model.device import process_rank

    out, config = Path(str(payload["out"])), FinetuneConfig.model_validate(payload["config"])
    base, tokenizer_folder = Path(str(payload["base"])), Path(str(payload["tokenizer"]))
    place, tokenizer = f"finetune {config.name}", load_tokenizer(tokenizer_folder)
    examples = read_examples(Path(str(payload["examples"])), "train")
    source = open_base(base, tokenizer, place)
    is_pair = source.trunk.config.family == "seq2seq"
    added = add_chat_tokens(tokenizer) if examples.kind == "instruction" and not is_pair else []
    model = with_head(source, examples, vocabulary_size(tokenizer), config.seed, place)
    learns = choose_what_learns(model, config.freeze, config.lora, bool(added), place)
    if process_rank()[0] == 0:
        (out / LEARNS).write_text(f"{learns}\n", encoding="utf-8")
    start = told_start(base) if is_pair else None
    encoded = encode_examples(examples, tokenizer, model.trunk.config, start)
    held = validation_mask(examples.table["group"].to_pylist(), config.seed)
    learned, validation = encoded.table.filter(pa.array(~held)), encoded.table.filter(pa.array(held))
    if learned.num_rows == 0:
        raise UserError(f"{place}: examples {config.examples!r} has no training rows. Fix: add examples.")
    special = text_ids(tokenizer, place, start)
    result = _train(
        model, config, _batches(learned, config, examples.kind, model, special.pad),
        _batches(validation, config, examples.kind, model, special.pad) if validation.num_rows else None,
        training_config(config, learned.num_rows, validation.num_rows), out, str(payload["identity"]),
    )  # fmt: skip
    if process_rank()[0] == 0:
        counts = _Counts(learned.num_rows, validation.num_rows, encoded.cut, added)
        _write_result(result, counts, model, examples.kind, out)
        task: dict[str, Json] = {
            "name": config.name, "kind": examples.kind, "labels": ["value"] if examples.kind == "regression" else list(examples.labels),
            "examples": payload["fingerprint"],
        }  # fmt: skip
        if config.lora is not None:
            save_adapters(model, config.lora, tokenizer, special, base, tokenizer_folder, out / "adapter")
        save_tuned(model, tokenizer, special, task, tokenizer_folder, out / "model")


def _batches(table: pa.Table, config: FinetuneConfig, kind: Kind, model: "Model", pad: int) -> "ExampleBatches":
    from model.batches import ExampleBatches

    return ExampleBatches(table, kind, config.batch_rows, config.seed, model.trunk.config.context, pad)


def _train(
    model: "Model", config: FinetuneConfig, batches: "ExampleBatches", validation: "ExampleBatches | None",
    training: TrainingConfig, out: Path, mark: str,
) -> "TrainingResult":  # fmt: skip
    """The loop with the loss of the model's head; a line of curve.jsonl for each report."""
    from model.training import train

    def report(figures: "TrainingFigures") -> None:
        with (out / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(figures)) + "\n")

    return train(model, batches, validation, training, optimizer_config(config), out / "checkpoints", mark, report)


@dataclass(frozen=True)
class _Counts:
    """Of the examples, and of the tokens that they brought."""

    learned: int
    validation: int
    cut: int
    added: list[str]  # tokens of a conversation that the tokenizer did not have


def _write_result(result: "TrainingResult", counts: _Counts, model: "Model", kind: Kind, out: Path) -> None:
    """What the stage tells: final losses and counts, read back by the process that launched this one."""
    parameters = list(model.parameters())
    figures = {
        "loss": result.loss, "validation_loss": result.validation_loss, "steps": result.step, "tokens": result.tokens,
        "examples": counts.learned, "validation_examples": counts.validation, "examples_cut": counts.cut,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "parameters_trained": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    }  # fmt: skip
    notes = {"kind": kind, "device": str(parameters[0].device)}
    if counts.added:
        notes["tokens_added"] = ", ".join(counts.added)
    (out / "result.json").write_text(json.dumps({"figures": figures, "notes": notes}) + "\n", encoding="utf-8")

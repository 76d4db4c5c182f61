"""Fine-tuning: a trained model learns one task from labelled examples, by the same loop as pretraining."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from model.config import OptimizerConfig, Precision, TrainingConfig
from tasks.artifacts import Examples, FinetunedModel, PretrainedModel, Tokenizer, canonical
from tasks.cluster import read_curve
from tasks.encoding import BOS, EOS, SpecialIds, load_tokenizer, special_ids
from tasks.errors import UserError
from tasks.example_rows import Kind, LabelledExamples, encode_examples, read_examples
from tasks.ledger import Ledger, StageOutcome
from tasks.sampling import hash_keys
from tasks.settings import Json, Placement, Section, identity

if TYPE_CHECKING:
    import tokenizers

    from model.batches import ExampleBatches
    from model.heads import Model
    from model.training import TrainingFigures, TrainingResult

Launch = Callable[[Callable[[dict[str, Json]], None], dict[str, Json]], None]

VALIDATION_SHARE = 0.1  # of the groups of the training examples: for the curve, never for a score
MAX_VALIDATION_BATCHES = 32


class FinetuneConfig(Section):
    """One task: which examples, and how long and how fast to learn from them."""

    revision: Literal[1] = 1
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
    freeze: Literal["none", "trunk"] = Field(default="none", description="trunk: only the new head learns")
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
    """Write model/ (a Hugging Face folder with task.json), curve.jsonl and checkpoints/; goes on from the latter."""
    payload: dict[str, Json] = {
        "config": identity(config), "base": str(base.path / "model"), "tokenizer": tokenizer.folder,
        "examples": examples.folder, "out": str(out), "fingerprint": examples.fingerprint,
        "identity": canonical([base.fingerprint, tokenizer.fingerprint, examples.fingerprint, config.freeze]),
    }  # fmt: skip
    launch(train_finetune, payload)
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
    tokenizer = load_tokenizer(Path(str(payload["tokenizer"])))
    examples = read_examples(Path(str(payload["examples"])), "train")
    model = start_model(config, examples, Path(str(payload["base"])), tokenizer)
    encoded = encode_examples(examples, tokenizer, model.trunk.config.context)
    held = validation_mask(examples.table["group"].to_pylist(), config.seed)
    learned, validation = encoded.table.filter(pa.array(~held)), encoded.table.filter(pa.array(held))
    if learned.num_rows == 0:
        raise UserError(
            f"finetune {config.name}: examples {config.examples!r} has no training rows. Fix: add examples."
        )
    special = special_ids(tokenizer, f"finetune {config.name}")
    result = _train(
        model, config, _batches(learned, config, examples.kind, model, special),
        _batches(validation, config, examples.kind, model, special) if validation.num_rows else None,
        training_config(config, learned.num_rows, validation.num_rows), out, str(payload["identity"]),
    )  # fmt: skip
    if process_rank()[0] == 0:
        task: dict[str, Json] = {
            "name": config.name, "kind": examples.kind, "labels": list(examples.labels), "examples": payload["fingerprint"],
        }  # fmt: skip
        _save(model, tokenizer, special, task, Path(str(payload["tokenizer"])), out / "model")
        _write_result(result, learned.num_rows, validation.num_rows, encoded.cut, model, examples.kind, out)


def start_model(
    config: FinetuneConfig, examples: LabelledExamples, base: Path, tokenizer: "tokenizers.Tokenizer"
) -> "Model":
    """The base model itself for instructions, its trunk under a new head for classes; frozen where asked."""
    import torch

    from model.heads import LanguageModel, SequenceClassifier, TokenClassifier
    from model.huggingface import load_folder

    source = load_folder(base)
    shape, vocab_size = source.trunk.config, source.trunk.vocab_size
    if tokenizer.get_vocab_size() > vocab_size:
        raise UserError(
            f"finetune {config.name}: the tokenizer has {tokenizer.get_vocab_size()} tokens, the base model {vocab_size}. "
            "Fix: give the tokenizer that the model was trained with."
        )
    torch.manual_seed(config.seed)
    if examples.kind == "instruction":
        if not isinstance(source, LanguageModel):
            raise UserError(
                f"finetune {config.name}: instructions need a language model, but the base is a {type(source).__name__}. "
                "Fix: start from the pretrained model."
            )
        model: Model = source
    else:
        head = SequenceClassifier if examples.kind == "classification" else TokenClassifier
        model = head(shape, vocab_size, len(examples.labels))
        model.trunk.load_state_dict(source.trunk.state_dict())  # same shape by construction; the head is new
    if config.freeze == "trunk":
        model.trunk.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(
            f"finetune {config.name}: freeze is trunk, but this model's head is its embedding, so nothing could learn. "
            "Fix: set freeze to none."
        )
    return model


def _batches(
    table: pa.Table, config: FinetuneConfig, kind: Kind, model: "Model", special: SpecialIds
) -> "ExampleBatches":
    from model.batches import ExampleBatches

    return ExampleBatches(table, kind, config.batch_rows, config.seed, model.trunk.config.context, special.pad)


def _train(
    model: "Model", config: FinetuneConfig, batches: "ExampleBatches", validation: "ExampleBatches | None",
    training: TrainingConfig, out: Path, mark: str,
) -> "TrainingResult":  # fmt: skip
    """The loop with the objective of the model's head; a line of curve.jsonl for each report."""
    from model.heads import LanguageModel, SequenceClassifier
    from model.objectives import causal_language_model, sequence_classification, token_classification
    from model.training import train

    def report(figures: "TrainingFigures") -> None:
        with (out / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(figures)) + "\n")

    rest = (batches, validation, training, optimizer_config(config), out / "checkpoints", mark, report)
    if isinstance(model, LanguageModel):
        return train(model, causal_language_model, *rest)
    if isinstance(model, SequenceClassifier):
        return train(model, sequence_classification, *rest)
    return train(model, token_classification, *rest)


def _save(
    model: "Model",
    tokenizer: "tokenizers.Tokenizer",
    special: SpecialIds,
    task: dict[str, Json],
    source: Path,
    folder: Path,
) -> None:
    """The Hugging Face folder. Its tokenizer adds to a text what the model has learned to see around it."""
    from tokenizers import processors

    from model.huggingface import save_folder

    extra: dict[str, object] = {"bos_token_id": special.bos, "eos_token_id": special.eos, "pad_token_id": special.pad}
    labels = task["labels"]
    assert isinstance(labels, list)
    if labels:
        extra["id2label"] = dict(enumerate(labels))
    save_folder(folder, model, extra)
    if task["kind"] == "classification":
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A {EOS}", pair=f"{BOS} $A $B {EOS}", special_tokens=[(BOS, special.bos), (EOS, special.eos)]
        )
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    shutil.copyfile(source / "tokenizer_config.json", folder / "tokenizer_config.json")
    (folder / "task.json").write_text(json.dumps(task, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _write_result(
    result: "TrainingResult", learned: int, validation: int, cut: int, model: "Model", kind: Kind, out: Path
) -> None:
    """What the stage tells: final losses and counts, read back by the process that launched this one."""
    figures = {
        "loss": result.loss, "validation_loss": result.validation_loss, "steps": result.step, "tokens": result.tokens,
        "examples": learned, "validation_examples": validation, "examples_cut": cut,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }  # fmt: skip
    notes = {"kind": kind, "device": str(next(model.parameters()).device)}
    (out / "result.json").write_text(json.dumps({"figures": figures, "notes": notes}) + "\n", encoding="utf-8")

"""Fine-tuning: a trained model learns from labelled examples, of one set or of several, by the same loop as pretraining."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from model.config.heads import HeadSpec, Targets
from model.config.layout_config import check_recomputed, check_tensor
from model.config.training_config import TrainingConfig
from model.training.curve import read_curve
from model.training.figures import training_figures
from model.training.interruption import Signals
from model.training.record import recording
from tasks.artifacts import Examples, FinetunedModel, PretrainedModel, Tokenizer, canonical
from tasks.cluster import Launch, Training
from tasks.errors import UserError
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.pair_rows import told_start
from tasks.examples.rows import read_examples
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.example_sets import ExampleSet, count_turns, encode_set, take_turns, turn_weights
from tasks.finetune.job import FinetuneJob
from tasks.finetune.multi_task import save_heads, with_heads
from tasks.finetune.replay import EXAMPLES, NEW, TEXT, replay_turns, replayed_rows, with_replay
from tasks.finetune.tuned_model import (
    Base,
    Origin,
    choose_what_learns,
    keep_frozen_in_bfloat16,
    open_base,
    save_adapters,
    save_tuned,
    with_head,
)
from tasks.inference.task_file import ModelTask
from tasks.ledger import Ledger, StageOutcome
from tasks.memory import memory_of
from tasks.settings import Json, identity
from tasks.tokenizer.encoding import add_chat_tokens, load_tokenizer, text_ids, vocabulary_size
from tasks.training_entry import Asking

if TYPE_CHECKING:
    from model.data.batches import Batches, ExampleBatches
    from model.nn.models import Model
    from model.training.training import TrainingResult

MAX_VALIDATION_BATCHES = 32
LEARNS = "learns.txt"  # the table of what learns and what is frozen

logger = logging.getLogger("wordmill")


def training_steps(config: FinetuneConfig, examples: float) -> int:
    """Optimizer steps for so many rows; an epoch's last batch is filled up from the next one."""
    if config.steps is not None:
        return config.steps
    epochs = 3.0 if config.epochs is None else config.epochs
    return max(1, int(np.ceil(round(epochs * examples / config.batch_rows, 6))))


def training_config(config: FinetuneConfig, learned: float, validation: int) -> TrainingConfig:
    """The loop's settings for `learned` rows; `validation`: examples to be measured on, of several sets the most."""
    return TrainingConfig(
        steps=training_steps(config, learned),
        batch_rows=config.batch_rows,
        micro_rows=config.micro_rows,
        evaluate_every=config.evaluate_every,
        evaluate_batches=min(MAX_VALIDATION_BATCHES, max(1, -(-validation // config.batch_rows))),
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=1,
        log_every=config.log_every,
        seed=config.seed,
        precision=config.precision,
        faults=config.faults,
        best=config.best if validation else None,
        loss=config.loss,
        average=config.average,
        layout=config.layout,
    )


def check_terms(config: FinetuneConfig, heads: Mapping[str, HeadSpec], place: str) -> None:
    """UserError where the loss has terms that a set's head has no place for."""
    for name, head in heads.items():
        if not config.loss.is_plain and head.problem != "single":
            raise UserError(
                f"{place}: loss.z and loss.label_smoothing are for one class of several, but the head of examples {name!r} is "
                f"{head.problem}. Fix: leave loss out, or fine-tune {name!r} apart."
            )


def finetune(
    config: FinetuneConfig,
    base: PretrainedModel | FinetunedModel,
    tokenizer: Tokenizer | PretrainedModel,
    examples: tuple[Examples, ...],
    out: Path,
    launch: Launch,
) -> StageOutcome:
    """Write model/ (a Hugging Face folder with task.json), learns.txt, curve.jsonl and checkpoints/; goes on from the latter.

    With `lora`, adapter/ (in PEFT's form) as well; the model holds the adapters merged into its matrices. Of several sets of
    `examples`, in the order of the config: model/ has a head for each (tasks/finetune/multi_task.py), and adapter/ a folder for each.
    """
    _check_layout(config, base.path / "model")
    fingerprints = tuple(one.fingerprint for one in examples)
    settings: list[Json] = [identity(config.freeze), identity(config.lora), identity(config.weights), config.replay]
    job = FinetuneJob(
        config,
        base.path / "model",
        tokenizer.path,
        tuple(one.path for one in examples),
        fingerprints,
        canonical([base.fingerprint, tokenizer.fingerprint, list(fingerprints), settings]),
        out,
    )
    launch(Training(train_finetune, job.to_json(), out, config.placement))
    logger.info("finetune %s: what learned\n%s", config.name, (out / LEARNS).read_text(encoding="utf-8").rstrip())
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    figures = {name: float(value) for name, value in result["figures"].items() if value is not None}
    figures |= training_figures(out) | {"threads": float(config.threads)}
    points = read_curve(out)
    figures["tokens_per_second"] = float(np.median([point.tokens_per_second for point in points]))
    figures["training_seconds"] = points[-1].seconds
    return StageOutcome(Ledger(rows_out=1, tokens_out=int(figures["tokens"])), (), figures, result["notes"])


def _check_layout(config: FinetuneConfig, base: Path) -> None:
    """Before a worker is started: UserError for a base whose layers cannot be divided, or computed again, as asked."""
    if config.layout.tensor == 1 and config.layout.activation_checkpointing == "none":
        return
    from model.huggingface.huggingface import read_model_config

    shape = read_model_config(base)
    try:
        check_tensor(config.layout.tensor, shape)
        check_recomputed(shape, config.layout.activation_checkpointing)
    except ValueError as error:
        raise UserError(f"finetune {config.name}: {error}.") from error


def train_finetune(told: dict[str, Json], asking: Asking = Signals) -> None:
    """Runs in each worker: does the job that it is told, leaves model, curve and result in the job's `out`."""
    from model.distributed.device import process_rank
    from model.nn.freezing import restore_frozen
    from model.nn.models import MultiTask

    job = FinetuneJob.from_json(told)
    out, config = job.out, job.config
    place, tokenizer = f"finetune {config.name}", load_tokenizer(job.tokenizer)
    examples = {name: read_examples(folder, "train") for name, folder in zip(config.sets, job.examples, strict=True)}
    check_terms(config, {name: one.head for name, one in examples.items()}, place)
    source = open_base(job.base, tokenizer, place)
    is_pair = source.trunk.config.family == "seq2seq"
    is_chat = any(one.kind.writes for one in examples.values()) and not is_pair
    added = add_chat_tokens(tokenizer) if is_chat else []
    model = _with_heads(source, examples, vocabulary_size(tokenizer), config.seed, place)
    learns = choose_what_learns(model, config.freeze, config.lora, bool(added), place)
    if config.frozen_weights == "bfloat16":
        keep_frozen_in_bfloat16(model, config.precision, place)
    if process_rank()[0] == 0:
        (out / LEARNS).write_text(f"{learns}\n", encoding="utf-8")
    start = told_start(job.base) if is_pair else None
    special = text_ids(tokenizer, place, start)
    sets = {
        name: encode_set(one, tokenizer, model.trunk.config, start, config.seed, f"{place}: examples {name!r}")
        for name, one in examples.items()
    }
    if config.replay:
        memory, folders = memory_of(job.base.parent), dict(zip(config.sets, job.examples, strict=True))
        sets = {
            name: one.replaying(
                config.replay, replayed_rows(folders[name], examples[name], memory, tokenizer, model.trunk.config, special, start)
            )
            for name, one in sets.items()
        }
    try:
        trained = _train(model, config, sets, special.pad, out, job.identity, asking)
    except FloatingPointError as error:
        raise UserError(f"{place}: {error}") from error
    if process_rank()[0] == 0:
        if config.frozen_weights == "bfloat16":
            again = open_base(job.base, load_tokenizer(job.tokenizer), place)
            restore_frozen(model, _with_heads(again, examples, vocabulary_size(tokenizer), config.seed, place))
        _write_result(config, trained, sets, added, model, out)
        tasks = {
            name: ModelTask(config.models[name], one.kind.name, tuple(one.kind.names(one.labels)), fingerprint, one.words)
            for (name, one), fingerprint in zip(examples.items(), job.fingerprints, strict=True)
        }
        origin = Origin(job.base, job.tokenizer)
        if config.lora is not None:
            save_adapters(model, config.lora, tokenizer, special, tasks, origin, out / "adapter")
        if not isinstance(model, MultiTask):
            save_tuned(model, tokenizer, special, tasks[config.sets[0]], origin, out / "model")
        else:
            save_heads(model, tokenizer, special, tasks, origin, out / "model")


def _with_heads(base: Base, examples: Mapping[str, LabelledExamples], tokens: int, seed: int, place: str) -> "Model":
    """The base under the head that its one set of examples needs, or under one for each."""
    if len(examples) > 1:
        return with_heads(base, examples, tokens, seed, place)
    (only,) = examples.values()
    return with_head(base, only, tokens, seed, place)


@dataclass(frozen=True)
class _Trained:
    """How the loop ended."""

    result: "TrainingResult"
    turns: Mapping[str, int]  # steps of each set of examples
    losses: Mapping[str, float]  # of several sets: each one's own validation loss at the end


def _train(
    model: "Model", config: FinetuneConfig, sets: Mapping[str, ExampleSet], pad: int, out: Path, job_identity: str, asking: Asking
) -> _Trained:
    """The loop, with the loss of the model's head or heads; a line of curve.jsonl for each report."""
    from model.training.training import train

    learned = {name: one.pass_rows for name, one in sets.items()}
    held = {name: one.validation.num_rows for name, one in sets.items()}
    context, weights = model.trunk.config.context, turn_weights(config.weights, learned)
    training = training_config(config, sum(learned.values()), max(held.values()))
    batches = {name: _learned_batches(one, config, context, pad) for name, one in sets.items()}
    judged = {name: _batches(one.validation, config, one.targets, context, pad) for name, one in sets.items() if held[name]}
    turns = count_turns(weights, training.steps, f"finetune {config.name}")

    with asking() as asked:
        result = train(
            model,
            take_turns(batches, weights),
            take_turns(judged, weights) if judged else None,
            training,
            config.optimizer,
            out / "checkpoints",
            job_identity,
            recording(out),
            asked,
            more_validation={name: take_turns({name: one}, weights) for name, one in judged.items()} if len(sets) > 1 else None,
        )
    if not result.finished:
        raise InterruptedError(f"finetune {config.name}: stopped at step {result.step} of {training.steps}; it goes on from there")
    return _Trained(result, turns, result.more_losses)


def _learned_batches(one: ExampleSet, config: FinetuneConfig, context: int, pad: int) -> "Batches":
    replayed = {name: _batches(table, config, one.targets, context, pad) for name, table in one.replayed.items()}
    return with_replay(_batches(one.learned, config, one.targets, context, pad), replayed, one.ratios)


def _batches(table: pa.Table, config: FinetuneConfig, targets: Targets, context: int, pad: int) -> "ExampleBatches":
    from model.data.batches import ExampleBatches

    return ExampleBatches(table, targets, config.batch_rows, config.seed, context, pad)


def _write_result(
    config: FinetuneConfig, trained: _Trained, sets: Mapping[str, ExampleSet], added: list[str], model: "Model", out: Path
) -> None:
    """What the stage tells: final losses and counts, read back by the process that launched this one."""
    from model.distributed.device import choose_device

    parameters, result = list(model.parameters()), trained.result
    figures = {
        "loss": result.loss,
        "validation_loss": result.validation_loss,
        "steps": result.step,
        "best_step": result.best_step,
        "skipped": result.skipped,
        "returns": result.returns,
        "peak_flops": result.peak_flops,
        "tokens": result.tokens,
        "examples": sum(one.learned.num_rows for one in sets.values()),
        "validation_examples": sum(one.validation.num_rows for one in sets.values()),
        "examples_cut": sum(one.cut for one in sets.values()),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "parameters_trained": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        **{f"validation_loss.{name}": loss for name, loss in trained.losses.items()},
    }
    notes = {"kind": ", ".join(one.kind for one in sets.values()), "device": str(choose_device())}
    if len(sets) > 1:
        told = [f"{name} {one.learned.num_rows:,} in {trained.turns[name]:,} steps" for name, one in sets.items()]
        notes["examples"] = ", ".join(told)
    if config.replay and not any(one.replayed for one in sets.values()):
        notes["replay"] = "nothing: the examples bring no replayed rows, and the base has no text that this model could replay"
    elif config.replay:
        figures |= {
            f"replayed_{part}": sum(one.replayed[part].num_rows for one in sets.values() if part in one.replayed)
            for part in (EXAMPLES, TEXT)
        }
        notes["replay"] = "; ".join(_replay_told(name, one, trained.turns[name]) for name, one in sets.items() if one.replayed)
    if lost := sum(one.lost_labels for one in sets.values()):
        notes["labels_lost"] = f"{lost:,} labels are of words that the tokenizer leaves nothing of: nothing was learned from them"
    if result.ended_early:
        notes["ended_early"] = f"after step {result.step}: nothing got better"
    if config.best is not None and config.best.is_result and result.best_step not in (None, result.step):
        notes["result"] = f"the weights of step {result.best_step}, whose {config.best.figure} is the least: {result.best:.4f} nats"
    if added:
        notes["tokens_added"] = ", ".join(added)
    (out / "result.json").write_text(json.dumps({"figures": figures, "notes": notes}) + "\n", encoding="utf-8")


def _replay_told(name: str, one: ExampleSet, steps: int) -> str:
    """Of one set: how many of its steps were for which replayed rows."""
    turns = replay_turns(one.ratios, steps)
    parts = [f"{count:,} on {one.replayed[part].num_rows:,} replayed rows of {part}" for part, count in turns.items() if part != NEW]
    return f"{name}: {turns[NEW]:,} steps on new rows, {', '.join(parts)}"

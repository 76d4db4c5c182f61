"""Fine-tuning: a trained model learns from labelled examples, of one set or of several, by the same loop as pretraining."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field, model_validator

from model.config.heads import Targets
from model.config.lora_config import LoraConfig
from model.config.training_config import MixturePhase, OptimizerConfig, Precision, TrainingConfig
from model.data.mixture import whole_weights
from tasks.artifacts import Examples, FinetunedModel, PretrainedModel, Tokenizer, canonical
from tasks.cluster import read_curve
from tasks.examples.kinds.kind import LabelledExamples
from tasks.examples.pair_rows import told_start
from tasks.examples.rows import read_examples
from tasks.finetune.example_sets import ExampleSet, count_turns, encode_set, take_turns, turn_weights
from tasks.finetune.multi_task import save_heads, with_heads
from tasks.finetune.tuned_model import Base, Freeze, choose_what_learns, open_base, save_adapters, save_tuned, with_head
from tasks.ledger import Ledger, StageOutcome
from tasks.settings import Json, Placement, Section, identity
from tasks.tokenizer.encoding import add_chat_tokens, load_tokenizer, text_ids, vocabulary_size

if TYPE_CHECKING:
    from model.data.batches import ExampleBatches
    from model.nn.models import Model
    from model.training.training import TrainingFigures, TrainingResult

Launch = Callable[[Callable[[dict[str, Json]], None], dict[str, Json]], None]

MAX_VALIDATION_BATCHES = 32
LEARNS = "learns.txt"  # the table of what learns and what is frozen

logger = logging.getLogger("wordmill")


def _one_or_several(value: object) -> object:
    """A name, or a list of names; one name in a list is that name. ValueError for anything else."""
    names = list(value) if isinstance(value, list | tuple) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"examples is {value!r}, expected a name, or a list of names")
    return names[0] if len(names) == 1 else tuple(names)


class FinetuneConfig(Section):
    """One fine-tuning: which examples, and how long and how fast to learn from them."""

    revision: Literal[2] = 2
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="Of the task and its model, in reports and scores")
    examples: Annotated[str | tuple[str, ...], BeforeValidator(_one_or_several)] = Field(
        description="Name of an entry of the recipe's examples; or a list of names: one trunk learns all of them in turns, each "
        "through a head of its own"
    )
    weights: dict[str, Annotated[int, Field(ge=1)]] | None = Field(
        default=None,
        description="Of several: how many turns, each an optimizer step, for each name; none: in proportion to the training "
        "examples, so that all are passed over equally often",
    )
    epochs: float | None = Field(
        default=None,
        gt=0,
        description="Passes over the training examples, of several sets together; give this or steps; 3 when neither",
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

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets of examples."""
        return (self.examples,) if isinstance(self.examples, str) else self.examples

    @property
    def models(self) -> dict[str, str]:
        """Set of examples -> name of the model that has learned it: the task's, where it has several sets with the set's."""
        return {name: self.name if len(self.sets) == 1 else f"{self.name}-{name}" for name in self.sets}

    @model_validator(mode="after")
    def _check_sets(self) -> "FinetuneConfig":
        twice = next((name for name in self.sets if self.sets.count(name) > 1), None)
        if twice is not None:
            raise ValueError(
                f"examples: {twice!r} stands there twice; name each once, and give it more turns by weights"
            )
        if self.weights is None:
            return self
        if len(self.sets) == 1:
            raise ValueError(
                f"weights share turns out among several sets of examples, but examples is {self.sets[0]!r} alone; leave weights out"
            )
        unknown = sorted(set(self.weights) - set(self.sets))
        if unknown:
            raise ValueError(f"weights: {unknown[0]!r} is none of the examples: {', '.join(self.sets)}")
        missing = [name for name in self.sets if name not in self.weights]
        if missing:
            raise ValueError(f"weights: {missing[0]!r} has none; give each of the examples its turns, 1 or more")
        whole_weights(self.sets, MixturePhase(0, dict(self.weights)))
        return self

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
    """The loop's settings for `learned` examples; `validation`: examples to be measured on, of several sets the most."""
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


def finetune(
    config: FinetuneConfig, base: PretrainedModel | FinetunedModel, tokenizer: Tokenizer, examples: tuple[Examples, ...],
    out: Path, launch: Launch,
) -> StageOutcome:  # fmt: skip
    """Write model/ (a Hugging Face folder with task.json), learns.txt, curve.jsonl and checkpoints/; goes on from the latter.

    With `lora`, adapter/ (in PEFT's form) as well; the model holds the adapters merged into its matrices. Of several sets of
    `examples`, in the order of the config: model/ has a head for each (tasks/finetune/multi_task.py), and adapter/ a folder for each.
    """
    marks: list[Json] = [one.fingerprint for one in examples]
    settings: Json = [identity(config.freeze), identity(config.lora), identity(config.weights)]
    payload: dict[str, Json] = {
        "config": identity(config), "base": str(base.path / "model"), "tokenizer": tokenizer.folder,
        "examples": [one.folder for one in examples], "fingerprints": marks, "out": str(out),
        "identity": canonical([base.fingerprint, tokenizer.fingerprint, marks, settings]),
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
    from model.distributed.device import process_rank
    from model.nn.models import MultiTask

    out, config = Path(str(payload["out"])), FinetuneConfig.model_validate(payload["config"])
    base, tokenizer_folder = Path(str(payload["base"])), Path(str(payload["tokenizer"]))
    place, tokenizer = f"finetune {config.name}", load_tokenizer(tokenizer_folder)
    examples = {
        name: read_examples(Path(folder), "train")
        for name, folder in zip(config.sets, _texts(payload, "examples"), strict=True)
    }
    source = open_base(base, tokenizer, place)
    is_pair = source.trunk.config.family == "seq2seq"
    is_chat = any(one.kind.writes for one in examples.values()) and not is_pair
    added = add_chat_tokens(tokenizer) if is_chat else []
    model = _with_heads(source, examples, vocabulary_size(tokenizer), config.seed, place)
    learns = choose_what_learns(model, config.freeze, config.lora, bool(added), place)
    if process_rank()[0] == 0:
        (out / LEARNS).write_text(f"{learns}\n", encoding="utf-8")
    start = told_start(base) if is_pair else None
    special = text_ids(tokenizer, place, start)
    sets = {
        name: encode_set(one, tokenizer, model.trunk.config, start, config.seed, f"{place}: examples {name!r}")
        for name, one in examples.items()
    }
    trained = _train(model, config, sets, special.pad, out, str(payload["identity"]))
    if process_rank()[0] == 0:
        _write_result(trained, sets, added, model, out)
        tasks = {
            name: _task(config.models[name], examples[name], mark)
            for name, mark in zip(config.sets, _texts(payload, "fingerprints"), strict=True)
        }
        if config.lora is not None:
            save_adapters(model, config.lora, tokenizer, special, base, tokenizer_folder, out / "adapter")
        if not isinstance(model, MultiTask):
            save_tuned(model, tokenizer, special, tasks[config.sets[0]], tokenizer_folder, out / "model")
        else:
            save_heads(model, tokenizer, special, tasks, tokenizer_folder, out / "model")


def _texts(payload: Mapping[str, Json], name: str) -> list[str]:
    values = payload[name]
    assert isinstance(values, list)
    return [str(value) for value in values]


def _with_heads(base: Base, examples: Mapping[str, LabelledExamples], tokens: int, seed: int, place: str) -> "Model":
    """The base under the head that its one set of examples needs, or under one for each."""
    if len(examples) > 1:
        return with_heads(base, examples, tokens, seed, place)
    (only,) = examples.values()
    return with_head(base, only, tokens, seed, place)


def _task(name: str, examples: LabelledExamples, mark: str) -> dict[str, Json]:
    """What task.json says."""
    labels: list[Json] = [*examples.kind.names(examples.labels)]
    return {"name": name, "kind": examples.kind.name, "labels": labels, "examples": mark}


@dataclass(frozen=True)
class _Trained:
    """How the loop ended."""

    result: "TrainingResult"
    turns: Mapping[str, int]  # steps of each set of examples
    losses: Mapping[str, float]  # of several sets: each one's own validation loss at the end


def _train(
    model: "Model", config: FinetuneConfig, sets: Mapping[str, ExampleSet], pad: int, out: Path, mark: str
) -> _Trained:
    """The loop, with the loss of the model's head or heads; a line of curve.jsonl for each report."""
    from model.distributed.parallel import mean_loss
    from model.training.training import train

    learned = {name: one.learned.num_rows for name, one in sets.items()}
    held = {name: one.validation.num_rows for name, one in sets.items()}
    context, weights = model.trunk.config.context, turn_weights(config.weights, learned)
    training = training_config(config, sum(learned.values()), max(held.values()))
    batches = {name: _batches(one.learned, config, one.targets, context, pad) for name, one in sets.items()}
    judged = {
        name: _batches(one.validation, config, one.targets, context, pad) for name, one in sets.items() if held[name]
    }
    turns = count_turns(weights, training.steps, f"finetune {config.name}")

    def report(figures: "TrainingFigures") -> None:
        with (out / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(figures)) + "\n")

    result = train(
        model, take_turns(batches, weights), take_turns(judged, weights) if judged else None, training,
        optimizer_config(config), out / "checkpoints", mark, report,
    )  # fmt: skip
    losses = {
        name: mean_loss(model, take_turns({name: one}, weights), training.evaluate_batches, config.micro_rows)
        for name, one in judged.items()
        if len(sets) > 1
    }
    return _Trained(result, turns, losses)


def _batches(table: pa.Table, config: FinetuneConfig, targets: Targets, context: int, pad: int) -> "ExampleBatches":
    from model.data.batches import ExampleBatches

    return ExampleBatches(table, targets, config.batch_rows, config.seed, context, pad)


def _write_result(
    trained: _Trained, sets: Mapping[str, ExampleSet], added: list[str], model: "Model", out: Path
) -> None:
    """What the stage tells: final losses and counts, read back by the process that launched this one."""
    parameters, result = list(model.parameters()), trained.result
    figures = {
        "loss": result.loss, "validation_loss": result.validation_loss, "steps": result.step, "tokens": result.tokens,
        "examples": sum(one.learned.num_rows for one in sets.values()),
        "validation_examples": sum(one.validation.num_rows for one in sets.values()),
        "examples_cut": sum(one.cut for one in sets.values()),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "parameters_trained": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        **{f"validation_loss.{name}": loss for name, loss in trained.losses.items()},
    }  # fmt: skip
    notes = {"kind": ", ".join(one.kind for one in sets.values()), "device": str(parameters[0].device)}
    if len(sets) > 1:
        told = [f"{name} {one.learned.num_rows:,} in {trained.turns[name]:,} steps" for name, one in sets.items()]
        notes["examples"] = ", ".join(told)
    if added:
        notes["tokens_added"] = ", ".join(added)
    (out / "result.json").write_text(json.dumps({"figures": figures, "notes": notes}) + "\n", encoding="utf-8")

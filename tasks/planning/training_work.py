"""Training work: what each training of a recipe takes, in parameters, steps, tokens, arithmetic and memory, before anything is run.

C channels, R rank of adapters, V vocabulary.
"""

import math
import re
from dataclasses import dataclass, replace
from functools import cached_property

from model.config.heads import HeadSpec
from model.config.layout_config import LayoutConfig
from model.config.lora_config import LoraConfig
from model.config.model_config import GATED, ModelConfig
from model.config.objective_config import ObjectiveConfig
from model.config.training_config import OptimizerConfig, Precision
from model.training.batch_steps import ONE, BatchSteps
from model.training.budget import TrainingMemory, count_parameters, flops_per_token, training_memory, trunk_flops_per_token
from tasks.cluster import Workers
from tasks.finetune.config import FinetuneConfig
from tasks.finetune.finetune import training_steps
from tasks.machine import Machine
from tasks.pretrain.config import PretrainConfig, Pretraining
from tasks.settings import Json, identity

MEMORY_PARTS = ("weights", "gradients", "optimizer", "activations", "layer", "logits", "copy")  # each at its own largest
TOP = re.compile(r"all but top (\d+)")

LEAST_ROWS = 1  # that micro_rows auto may come to: with it a training fits, or not at all


@dataclass(frozen=True)
class TrainingWork:
    """A training, as far as its settings and the artifacts that are there tell."""

    label: str  # of its stage: "finetune: areas"
    stage: str
    subject: str
    key: str  # where its settings stand in the recipe: pretrain, finetune.0
    shape: ModelConfig
    vocabulary: int
    objective: ObjectiveConfig  # of a pretraining
    head: HeadSpec | None  # of a fine-tuning; of several the largest. None: the one that the objective needs
    steps: int | None  # at most; None: as many as the examples give, which were not read yet
    ends_early: bool  # where nothing gets better
    batch_rows: int
    row_tokens: int  # of a row, at most
    mean_tokens: float | None  # of a row, without padding; None: not known
    micro_rows: int
    precision: Precision
    compiles: bool
    masks_documents: bool  # attention stops at their ends
    workers: Workers
    layout: LayoutConfig
    optimizer: OptimizerConfig
    freeze: tuple[str, ...] = ()
    lora: LoraConfig | None = None
    batch_steps: BatchSteps = ONE  # batches of each step

    @property
    def processes(self) -> int:
        """That train, where they are fewest."""
        return max(1, self.workers.least or self.workers.count)

    @property
    def wants_gpus(self) -> bool:
        """Whether its workers ask for GPUs."""
        return self.workers.count > 0 and self.workers.gpus > 0

    @property
    def gpus(self) -> int:
        """That it holds."""
        return -(-round(1000 * self.workers.gpus * self.processes) // 1000) if self.wants_gpus else 0

    @property
    def tokens_per_step(self) -> float:
        """Of all processes, on average; at most, where the rows' mean length is not known."""
        each = 1.0 if self.steps is None else self.batch_steps.before(self.steps) / self.steps
        return each * self.batch_rows * (self.mean_tokens or self.row_tokens)

    @property
    def tokens(self) -> float | None:
        """Of all steps."""
        return None if self.steps is None else self.batch_steps.before(self.steps) * self.batch_rows * (self.mean_tokens or self.row_tokens)

    @property
    def writes(self) -> bool:
        """Whether its head is over the vocabulary."""
        return self.head is None or self.head.kind in ("language", "masked", "seq2seq")

    @cached_property
    def parameters(self) -> int:
        """Of the model; heads of a few classes and adapters are not counted."""
        return count_parameters(self.shape, self.vocabulary).total

    @cached_property
    def trained(self) -> int:
        """Parameters that learn; where patterns tell which, all are counted."""
        count = count_parameters(self.shape, self.vocabulary)
        if self.lora is not None:
            return adapter_parameters(self.shape, self.lora)
        if self.freeze == ("trunk",):
            return count.head if self.writes else self.shape.width**2
        if self.freeze == ("all but embeddings",):
            return count.embeddings
        return round(self._top_share * (count.attention + count.mlp)) if self._top_share < 1 else count.total

    @property
    def _top_share(self) -> float:
        """Of the layers, those that learn where only the last ones do."""
        top = TOP.fullmatch(self.freeze[0]) if len(self.freeze) == 1 else None
        return 1.0 if top is None else min(1.0, int(top[1]) / self.shape.layers)

    @cached_property
    def flops_per_token(self) -> float:
        """Forward and backward, as `model/training/peak.py` counts a model with frozen parts."""
        tokens = max(1, round(self.mean_tokens or self.row_tokens))
        counted = flops_per_token(self.shape, self.vocabulary, tokens) if self.writes else trunk_flops_per_token(self.shape, tokens)
        above = 0.0 if self.freeze == ("trunk",) else self._top_share
        return counted / 3 * (1 + min(1.0, self.trained / self.parameters) + above)

    @property
    def flops(self) -> float | None:
        """Of all steps."""
        return None if self.tokens is None else self.tokens * self.flops_per_token

    @property
    def state_bytes(self) -> int:
        """That the optimizer keeps of a parameter, as `model/optim/` does; of Muon on average, its matrices with one moment."""
        number = 2 if self.optimizer.state_dtype == "bfloat16" else 4
        count = count_parameters(self.shape, self.vocabulary)
        match self.optimizer.kind:
            case "adamw":
                return 2 * number
            case "muon":
                return math.ceil(number * (2 - (count.attention + count.mlp) / count.total))
            case "lion":
                return number
            case "sgd":
                return 4 if self.optimizer.momentum else 0
            case "adafactor":
                return 0  # a row and a column of each matrix

    def compute_precision(self, machine: Machine, on_gpu: bool) -> str:
        """`auto` resolved as a worker would: bfloat16 on GPUs, and on processors that have it."""
        if self.precision != "auto":
            return self.precision
        return "bfloat16" if on_gpu or machine.has_bfloat16 else "float32"

    def memory(self, precision: str, on_gpu: bool) -> TrainingMemory:
        """Of one process, without interpreter and libraries; of a GPU the copy for checkpoints lies in the machine's memory."""
        rows = -(-self.batch_rows // max(1, self.processes // self.layout.tensor))
        micro = min(rows, self.micro_rows)
        found = training_memory(
            self.shape,
            self.vocabulary,
            micro,
            precision,
            rows > micro or bool(self.batch_steps.phases),
            self.row_tokens,
            layout=self.layout,
            processes=self.processes,
            state_bytes=self.state_bytes,
        )
        share = min(1.0, self.trained / self.parameters)
        found = replace(
            found,
            gradients=round(found.gradients * share),
            optimizer=round(found.optimizer * share),
            copy=0 if on_gpu else round(found.copy * (4 + self.state_bytes * share) / (4 + self.state_bytes)),
        )
        return found if self.writes else replace(found, logits=0, head_gradient=0)


def adapter_parameters(shape: ModelConfig, lora: LoraConfig) -> int:
    """Of a rank of R: R * (in + out) for each matrix that the targets name; attention and MLP are taken whole."""
    C, inside = shape.width, shape.heads * shape.head_width
    keys = 2 * shape.key_value_heads * shape.head_width
    named = [target for target in lora.targets if not target.startswith("!")]
    attention = any("attention" in target or target.strip("*.") == "" for target in named)
    mlp = any("mlp" in target or target.strip("*.") == "" for target in named)
    wide = shape.hidden_width * (2 if shape.mlp_activation in GATED else 1)
    layer = (C + inside + keys + inside + C) * attention + (C + wide + shape.hidden_width + C) * mlp
    return shape.layers * lora.rank * layer


def pretraining_work(config: Pretraining, shape: ModelConfig, vocabulary: int, context: int) -> TrainingWork:
    """Of the recipe's sections `model` and `pretrain`, on rows of `context` tokens."""
    chosen: PretrainConfig = config.pretrain
    return TrainingWork(
        label="pretrain",
        stage="pretrain",
        subject="",
        key="pretrain",
        shape=shape,
        vocabulary=vocabulary,
        objective=chosen.objective,
        head=None,
        steps=chosen.steps,
        ends_early=chosen.best is not None and chosen.best.patience > 0,
        batch_rows=max(1, chosen.batch_tokens // context),
        row_tokens=context,
        mean_tokens=context,
        micro_rows=LEAST_ROWS if chosen.micro_rows == "auto" else chosen.micro_rows,
        precision=chosen.precision,
        compiles=chosen.compile,
        masks_documents=replace(config, model=shape).masks_documents,
        workers=chosen.placement,
        layout=chosen.layout,
        optimizer=chosen.optimizer,
        batch_steps=chosen.batch_steps,
    )


@dataclass(frozen=True)
class KnownExamples:
    """What is known of the sets of a fine-tuning before it runs."""

    head: HeadSpec
    rows: int | None  # to learn from, of all sets together
    mean_tokens: float | None  # of a row, as an earlier run of this fine-tuning had them


def finetuning_work(config: FinetuneConfig, number: int, shape: ModelConfig, vocabulary: int, known: KnownExamples) -> TrainingWork:
    """Of an entry of the recipe's section `finetune`."""
    counted = config.steps is not None or known.rows is not None
    return TrainingWork(
        label=f"finetune: {config.name}",
        stage="finetune",
        subject=config.name,
        key=f"finetune.{number}",
        shape=shape,
        vocabulary=vocabulary,
        objective=ObjectiveConfig(),
        head=known.head,
        steps=training_steps(config, known.rows or 1) if counted else None,
        ends_early=config.best is not None and config.best.patience > 0,
        batch_rows=config.batch_rows,
        row_tokens=shape.context,
        mean_tokens=known.mean_tokens,
        micro_rows=LEAST_ROWS if config.micro_rows == "auto" else config.micro_rows,
        precision=config.precision,
        compiles=False,
        masks_documents=False,
        workers=config.placement,
        layout=config.layout,
        optimizer=config.optimizer,
        freeze=tuple(config.freeze),
        lora=config.lora,
    )


def pace_key(work: TrainingWork, machine: Machine) -> dict[str, Json]:
    """What a probe's figures hold for: all that bears on how fast a step is, and how much memory it takes."""
    return {
        "shape": identity(work.shape),
        "vocabulary": work.vocabulary,
        "objective": work.objective.kind,
        "head": None if work.head is None else work.head.kind,
        "micro_rows": work.micro_rows,
        "row_tokens": work.row_tokens,
        "precision": work.precision,
        "compiles": work.compiles,
        "masks_documents": work.masks_documents,
        "workers": [work.workers.count, work.workers.gpus, work.workers.threads],
        "layout": identity(work.layout),
        "optimizer": [work.optimizer.kind, work.optimizer.state_dtype],
        "freeze": list(work.freeze),
        "lora": None if work.lora is None else identity(work.lora),
        "machine": dict(machine.kind),
    }

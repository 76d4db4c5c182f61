"""Fine-tuning settings: which examples, how long and how fast to learn from them, and what learns."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from model.config.layout_config import LayoutConfig, check_optimizer, check_processes
from model.config.lora_config import LoraConfig
from model.config.training_config import AverageConfig, BestConfig, FaultConfig, LossConfig, MixturePhase, OptimizerConfig, Precision
from model.data.mixture import whole_weights
from tasks.cluster import WorkerCount, Workers
from tasks.finetune.tuned_model import Freeze
from tasks.settings import Later, Placement, Section


def _one_or_several(value: object) -> object:
    """A name, or a list of names; one name in a list is that name. ValueError for anything else."""
    names = list(value) if isinstance(value, list | tuple) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"examples is {value!r}, expected a name, or a list of names")
    return names[0] if len(names) == 1 else tuple(names)


PEAK = 3e-4
MOVED = {  # key of before -> its name in optimizer
    "learning_rate": "learning_rate",
    "final_ratio": "final_learning_rate",
    "warmup_steps": "warmup_steps",
    "weight_decay": "weight_decay",
}


def finetuning_optimizer(peak: float = PEAK) -> OptimizerConfig:
    """AdamW as a fine-tuning takes it where a recipe says nothing else; `peak` is the largest learning rate."""
    return OptimizerConfig(peak, final_learning_rate=peak * 0.1, warmup_steps=10, weight_decay=0.01)


def fill_optimizer(section: object) -> object:
    """The section with what it does not say; a rate that is no number is told by its own check."""
    if not isinstance(section, dict):
        return section
    given: dict[object, object] = section
    try:
        default = finetuning_optimizer(float(str(given.get("learning_rate", PEAK))))
    except ValueError:
        default = finetuning_optimizer()
    return {**asdict(default), **given}


def moved_keys(values: Mapping[object, object]) -> str:
    """What to write in place of the keys of before, as YAML."""
    told = {new: values[old] for old, new in MOVED.items() if old in values}
    ratio, peak = values.get("final_ratio"), values.get("learning_rate", PEAK)
    if isinstance(ratio, int | float) and isinstance(peak, int | float):
        told["final_learning_rate"] = ratio * peak
    return f"optimizer: {{{', '.join(f'{key}: {value}' for key, value in told.items())}}}"


class FinetuneConfig(Section):
    """One fine-tuning: which examples, and how long and how fast to learn from them."""

    revision: Literal[6] = 6
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="Of the fine-tuning and its model, in reports and scores")
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
        description="Passes over the training examples, of several sets together, replayed ones not counted; give this or steps; 3 when "
        "neither",
    )
    steps: int | None = Field(default=None, ge=1, description="Optimizer steps")
    optimizer: Annotated[OptimizerConfig, BeforeValidator(fill_optimizer)] = Field(
        default=finetuning_optimizer(),
        description="As in pretrain. What is not given: a peak of 3e-4, a tenth of the peak at the end, 10 steps of warm-up, weight "
        "decay 0.01",
    )
    batch_rows: int = Field(default=16, ge=1, description="Examples of one optimizer step over all workers")
    micro_rows: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default=8, description="Examples of one forward pass on one worker, at most; auto: as many as fit in its memory"
    )
    replay: Annotated[float, Later()] = Field(
        default=0.0,
        ge=0,
        le=0.9,
        description="Share of the optimizer steps for what the base learned before: examples that a night replays, and for a model that "
        "writes the training text in the base's memory. Less where there is little to replay: no row of it is seen more often than a new "
        "one; none where the base has no memory",
    )
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
    frozen_weights: Annotated[Literal["float32", "bfloat16"], Later()] = Field(
        default="float32",
        description="How frozen matrices are kept while it trains; bfloat16: in half the memory, where products are bfloat16 anyway. The "
        "model that comes out has them as the base has",
    )
    evaluate_every: int = Field(default=50, ge=1, description="Steps between validation losses")
    checkpoint_every: int = Field(default=200, ge=1, description="Steps between checkpoints")
    best: BestConfig | None = Field(
        default=BestConfig(patience=5, is_result=True),
        description="The checkpoint with the least validation loss is the result, and 5 evaluations without a gain end the training; "
        "nothing of it without validation examples. null: the last weights are the result, after all steps",
    )
    loss: Annotated[LossConfig, Later()] = Field(
        default=LossConfig(),
        description="What is learned from beside the nats: z, label_smoothing; losses are told without. Not for several labels or figures",
    )
    average: Annotated[AverageConfig | None, Later()] = Field(
        default=None, description="Weights that are validated and come out: {ema: 0.99}, or {last: 5, every: 20}; none: the last ones"
    )
    faults: FaultConfig = Field(default=FaultConfig(), description="Which steps are skipped, and when a run goes back")
    log_every: int = Field(default=10, ge=1, description="Steps between figures")
    precision: Precision = Field(default="auto", description="Of matrix products; auto measures the processor")
    layout: Annotated[LayoutConfig, Placement()] = Field(
        default=LayoutConfig(), description="How the model lies on its workers: shards, tensor, activation_checkpointing"
    )
    seed: int = Field(default=1, ge=0, lt=2**63, description="Of the head, the order of the examples and the validation split")
    workers: Annotated[WorkerCount, Placement()] = Field(
        default=0,
        description="Ray Train workers: 0, this machine without Ray; a number; or [least, most], of which as many as there is room for, "
        "and after a loss those that are left",
    )
    gpus_per_worker: Annotated[float, Placement()] = Field(default=0, ge=0, description="1 on GPU machines")
    threads: Annotated[int, Placement()] = Field(default=0, ge=0, description="CPU threads per worker; 0: torch's choice")

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets of examples."""
        return (self.examples,) if isinstance(self.examples, str) else self.examples

    @property
    def models(self) -> dict[str, str]:
        """Set of examples -> name of the model that has learned it: the fine-tuning's, where it has several sets with the set's."""
        return {name: self.name if len(self.sets) == 1 else f"{self.name}-{name}" for name in self.sets}

    def replaying(self, share: float) -> "FinetuneConfig":
        """The same with this share of replay; with its own where that is 0."""
        return self.model_copy(update={"replay": share}) if share else self

    @model_validator(mode="after")
    def _check_workers(self) -> "FinetuneConfig":
        if self.placement.count // self.layout.tensor > self.batch_rows:
            raise ValueError(
                f"workers {self.placement.count} are more than the {self.batch_rows} examples of a batch, of which each takes its share: "
                f"lower it to at most {self.batch_rows}, or raise batch_rows"
            )
        check_optimizer(self.layout, self.optimizer.kind)
        least, most = self.placement.counts
        for count in range(least, most + 1):
            micro_rows = self.batch_rows if self.micro_rows == "auto" else self.micro_rows
            check_processes(self.layout, count, self.batch_rows, micro_rows, (least, most))
        if self.lora is not None and self.layout.tensor > 1:
            raise ValueError(
                f"layout.tensor {self.layout.tensor}: adapters (lora) are not divided; leave it out, and set layout.shards to true to save "
                "memory"
            )
        return self

    @model_validator(mode="after")
    def _check_sets(self) -> "FinetuneConfig":
        twice = next((name for name in self.sets if self.sets.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"examples: {twice!r} stands there twice; name each once, and give it more turns by weights")
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

    @property
    def placement(self) -> Workers:
        """Where it trains."""
        return Workers.of(self.workers, self.gpus_per_worker, self.threads)

    @model_validator(mode="before")
    @classmethod
    def _refuse_moved_keys(cls, values: object) -> object:
        """The keys that lay here before there was `optimizer` are refused with what to write instead."""
        if not isinstance(values, dict):
            return values
        given: dict[object, object] = values
        old = [key for key in MOVED if key in given]
        if old:
            raise ValueError(f"{', '.join(old)}: moved to optimizer, as in pretrain. Write {moved_keys(given)}")
        return values

    @model_validator(mode="after")
    def _check_length(self) -> "FinetuneConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError(f"epochs {self.epochs:g} and steps {self.steps} both set the length; keep one")
        if self.frozen_weights == "bfloat16" and self.lora is None and not self.freeze:
            raise ValueError("frozen_weights is bfloat16, but nothing is frozen; set freeze or lora, or leave it out")
        if self.frozen_weights == "bfloat16" and self.precision == "float32":
            raise ValueError("frozen_weights is bfloat16, but precision float32: set precision to bfloat16 or auto, or leave it out")
        if self.lora is not None and self.freeze:
            raise ValueError("lora freezes all but its adapters and a new head, so freeze would change nothing; leave it out")
        return self

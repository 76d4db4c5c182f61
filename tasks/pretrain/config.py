"""Pretraining settings: how long and how fast to learn, from what, what is kept, and where it runs."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from model.config.checks import LATER
from model.config.layout_config import LayoutConfig, check_layout, check_optimizer, check_recomputed
from model.config.model_config import ModelConfig
from model.config.objective_config import ObjectiveConfig, check_context, check_pair
from model.config.training_config import (
    AverageConfig,
    BatchPhase,
    BestConfig,
    ContextPhase,
    FaultConfig,
    LossConfig,
    MixturePhase,
    OptimizerConfig,
    Precision,
    ProfileConfig,
    TrainingConfig,
    step_batches,
)
from model.training.batch_steps import BatchSteps
from tasks.artifacts import PretrainedModel
from tasks.cluster import WorkerCount, Workers
from tasks.pretrain.start import FoundStart
from tasks.pretrain.start_config import StartConfig
from tasks.settings import PLACEMENT, Later, Placement, Section


class PretrainConfig(Section):
    """How long and how fast to learn. The global batch of a step is fixed in tokens, whatever the number of workers."""

    revision: Literal[4] = 4
    steps: int = Field(default=1000, ge=1, description="optimizer steps")
    batch_tokens: int = Field(default=16_384, ge=1, description="tokens of one optimizer step over all workers")
    batch_schedule: Annotated[tuple[BatchPhase, ...], Later()] = Field(
        default=(), description="other batches from some steps on: [{from_step, batch_tokens}], in multiples of batch_tokens"
    )
    micro_rows: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default=8, description="rows of one forward pass on one worker, at most; auto: as many as fit in its memory"
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    loss: Annotated[LossConfig, Later()] = Field(
        default=LossConfig(), description="what is learned from beside the nats: z, label_smoothing; losses are told without"
    )
    document_mask: bool | None = Field(
        default=None,
        description="attention and states stop at document ends, where positions restart; null: true, but for seq2seq, "
        "which reads a row as one text, and for recurrent families that are compiled",
    )
    mixture: tuple[MixturePhase, ...] = Field(
        default=(), description="weights of the groups that shards.group_by made, by step; none: every row once an epoch"
    )
    curriculum: tuple[ContextPhase, ...] = Field(
        default=(), description="shorter sequences in early steps: divisors of shards.context, by step"
    )
    window_groups: int | None = Field(
        default=None, ge=1, description="row groups that are shuffled together; null: all rows, for mapped files"
    )
    word_vectors: Annotated[str | None, Placement()] = Field(
        default=None, description="word2vec or GloVe file of initial embeddings; its content is the identity"
    )
    start: Annotated[StartConfig | None, Later()] = Field(
        default=None, description="the checkpoint of another pretraining to begin at; none: fresh weights"
    )
    evaluate_every: int = Field(default=100, ge=1, description="steps between validation losses")
    evaluate_batches: int = Field(default=4, ge=1, description="global batches of the validation rows, from the first")
    checkpoint_every: int = Field(default=200, ge=1, description="steps between checkpoints")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest of these kept")
    keep_every: int | None = Field(
        default=None, ge=1, description="steps between checkpoints kept for good; a multiple of checkpoint_every"
    )
    best: BestConfig | None = Field(default=None, description="the best checkpoint is kept too; patience ends a run that gets no better")
    average: Annotated[AverageConfig | None, Later()] = Field(
        default=None, description="weights that are validated and come out: {ema: 0.999}, or {last: 5, every: 100}; none: the last ones"
    )
    faults: FaultConfig = Field(default=FaultConfig(), description="which steps are skipped, and when a run goes back")
    norms_every: Annotated[int | None, Placement()] = Field(
        default=None, ge=1, description="steps between norms of gradients and activations by layer"
    )
    profile: Annotated[ProfileConfig | None, Placement()] = Field(
        default=None, description="steps that torch's profiler records: {steps: [from, to]}"
    )
    checkpoint_place: Annotated[str | None, Placement()] = Field(
        default=None,
        min_length=1,
        description="folder or address (s3://…) where whole checkpoints are copied too: a machine that lost its disk goes on from there",
    )
    log_every: int = Field(default=10, ge=1, description="steps between figures")
    precision: Precision = Field(default="auto", description="of matrix products; auto measures the processor; weights: float32")
    float8: Annotated[bool, Later()] = Field(
        default=False, description="products of the layers in 8 bits, scaled by tensor: for GPUs from Ada and Hopper on; weights: float32"
    )
    compile: bool = Field(default=False, description="torch.compile: takes a minute, faster on GPUs")
    layout: Annotated[LayoutConfig, Placement()] = Field(
        default=LayoutConfig(), description="how the model lies on its workers: shards, tensor, activation_checkpointing"
    )
    seed: int = Field(default=1, ge=0, description="of weights, row order and dropout")
    workers: Annotated[WorkerCount, Placement()] = Field(
        default=0,
        description="Ray Train workers: 0, this machine without Ray; a number; or [least, most], of which as many as there is room for, "
        "and after a loss those that are left",
    )
    gpus_per_worker: Annotated[float, Placement()] = Field(default=0, ge=0, description="1 on GPU machines")
    threads: Annotated[int, Placement()] = Field(default=0, ge=0, description="CPU threads per worker; 0: torch's choice")

    @property
    def placement(self) -> Workers:
        """Where it trains."""
        return Workers.of(self.workers, self.gpus_per_worker, self.threads)

    @property
    def batch_steps(self) -> BatchSteps:
        """How many times `batch_tokens` each step takes. Raises ValueError for phases that are no multiple of it."""
        return BatchSteps(step_batches(self.batch_schedule, self.batch_tokens))

    @property
    def tokens(self) -> int:
        """Of all steps."""
        return self.batch_steps.before(self.steps) * self.batch_tokens


@dataclass(frozen=True)
class Pretraining:
    """The two recipe sections that this stage follows, and the checkpoint that `pretrain.start` means."""

    model: ModelConfig | None  # None: that of the base, which it goes on from
    pretrain: PretrainConfig
    start: FoundStart | None = field(default=None, metadata={PLACEMENT: True})  # its content enters by `pretraining_digests`
    masks_compiled: bool = field(
        default=False, metadata=LATER, init=False
    )  # once `compile` went without masks unless told: those are others

    def __post_init__(self) -> None:
        """Notes what its default of `document_mask` came to mean."""
        object.__setattr__(self, "masks_compiled", self.pretrain.compile and self.pretrain.document_mask is None and self._can_mask)

    @property
    def begun_from(self) -> dict[str, str]:
        """The pretraining whose checkpoint it begins at, as an input; what that one learned lives on in this one."""
        return {} if self.start is None or self.start.fingerprint is None else {"start": self.start.fingerprint}

    @property
    def shape(self) -> ModelConfig:
        """The model's; of a base that of its folder (`with_base`)."""
        assert self.model is not None, "a continued pretraining has the shape of its base"
        return self.model

    def with_base(self, base: PretrainedModel | None) -> "Pretraining":
        """With the shape of the base, where there is one."""
        from model.huggingface.huggingface import read_model_config

        return self if base is None else replace(self, model=read_model_config(base.path / "model"))

    @property
    def masks_documents(self) -> bool:
        """`document_mask` with the default resolved."""
        chosen = self.pretrain.document_mask
        return self._can_mask if chosen is None else chosen

    @property
    def _can_mask(self) -> bool:
        """A base, whose shape may not be known yet, has a family that can."""
        if self.model is None:
            return True
        return self.model.family != "seq2seq" and not (self.model.is_recurrent and self.pretrain.compile)


def check_objective(config: Pretraining, context: int) -> None:
    """Raises ValueError, with the fix, for a model, an objective on rows of `context` tokens and a layout that do not go together."""
    check_pair(config.shape, config.pretrain.objective)
    check_context(config.shape, config.pretrain.objective, context)
    check_recomputed(config.shape, config.pretrain.layout.activation_checkpointing, "pretrain.")
    if config.pretrain.float8 and config.pretrain.layout.tensor > 1:
        raise ValueError(
            f"pretrain.float8: a matrix that is divided among {config.pretrain.layout.tensor} processes has no scale of its own; "
            "set layout.tensor to 1, or leave float8 out"
        )
    if config.shape.family == "seq2seq" and config.pretrain.document_mask:
        raise ValueError(
            "pretrain.document_mask: seq2seq reads a row as one text; leave it out, and set shards.packing to documents "
            "to have a document a row"
        )
    if config.shape.is_recurrent and config.pretrain.compile and config.pretrain.document_mask:
        raise ValueError(
            f"pretrain.compile: the documents of a packed row change the shapes of {config.shape.family} with every batch, and each would "
            "be compiled anew; set pretrain.document_mask to false, or compile to false"
        )
    pretrain = config.pretrain
    rows = max(1, pretrain.batch_tokens // context)
    check_optimizer(pretrain.layout, pretrain.optimizer.kind, place="pretrain.")
    micro_rows = rows if pretrain.micro_rows == "auto" else pretrain.micro_rows
    check_layout(pretrain.layout, config.shape, pretrain.placement.counts, rows, micro_rows, place="pretrain.")


def training_config(config: PretrainConfig, context: int) -> TrainingConfig:
    """The loop's settings: the batch in rows of `context` tokens."""
    changing = (*config.mixture, *config.curriculum, *config.batch_steps.phases)
    return TrainingConfig(
        steps=config.steps,
        batch_rows=max(1, config.batch_tokens // context),
        micro_rows=config.micro_rows,
        evaluate_every=config.evaluate_every,
        evaluate_batches=config.evaluate_batches,
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
        keep_every=config.keep_every,
        log_every=config.log_every,
        seed=config.seed,
        precision=config.precision,
        compile=config.compile,
        faults=config.faults,
        best=config.best,
        fresh_steps=tuple(sorted({phase.from_step for phase in changing if phase.from_step})),
        norms_every=config.norms_every,
        profile=config.profile,
        layout=config.layout,
        loss=config.loss,
        average=config.average,
        float8=config.float8,
        step_batches=config.batch_steps.phases,
    )

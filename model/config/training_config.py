"""Training settings: optimizer, mixture, curriculum, faults, loop. Imports no torch: the command line reads this on every start."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from model.config.checks import LATER, at_least, one_of, within, without_defaults_that_came_later
from model.config.layout_config import LayoutConfig
from model.config.model_config import FORBID_UNKNOWN_KEYS, ModelConfig

Precision = Literal["auto", "float32", "bfloat16"]
MicroRows = int | Literal["auto"]
Decay = Literal["cosine", "linear", "constant", "wsd", "power"]
DECAYS: tuple[Decay, ...] = ("cosine", "linear", "constant", "wsd", "power")
DecayShape = Literal["linear", "cosine", "sqrt"]
OptimizerKind = Literal["adamw", "muon", "lion", "sgd", "adafactor"]
OPTIMIZERS: tuple[OptimizerKind, ...] = ("adamw", "muon", "lion", "sgd", "adafactor")
StateDtype = Literal["float32", "bfloat16"]
MOST_BETA2 = 0.99  # of a second moment in bfloat16: what a step adds to it must be more than half of its last digit, 0.4 %
WSD_SHARE = 0.1  # of the steps, that wsd decays over where decay_steps is not given: arXiv 2405.18392, section 3


@dataclass(frozen=True)
class RateFactor:
    """Parameters that learn faster or slower than the rest."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    names: str = "*"  # pattern over parameter names, as in file names; of several that match the last decides
    factor: float = 1.0  # of the learning rate; 0 leaves them as they are but for decay

    def __post_init__(self) -> None:
        """Raises ValueError for a factor below 0."""
        within("factor", self.factor, 0.0, math.inf)


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer, and the schedule of its learning rate. What each kind is: model/optim/."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    learning_rate: float = 1e-3  # the peak
    final_learning_rate: float = 1e-4  # absolute, reached on the last step; unused by "constant", the least of "power"
    warmup_steps: int = 100
    decay: Decay = "cosine"  # wsd: warm-up, stable, decay over the last steps alone
    weight_decay: float = 0.1  # matrices only
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    clip_norm: float = 1.0  # largest norm of the whole gradient
    decay_steps: int | None = None  # of wsd: its last steps, over which the rate falls; None: a tenth of all
    decay_shape: DecayShape = "linear"  # of wsd
    power: float = 0.5  # of "power": the rate falls with (step / warmup_steps) to minus this, whatever the number of steps
    kind: OptimizerKind = field(default="adamw", metadata=LATER)
    momentum: float = field(default=0.95, metadata=LATER)  # of muon and sgd
    matrix_learning_rate: float | None = field(default=None, metadata=LATER)  # of muon's matrices, the peak; None: learning_rate
    state_dtype: StateDtype = field(default="float32", metadata=LATER)  # of adamw's moments, and of muon's and lion's
    no_decay: tuple[str, ...] = field(default=(), metadata=LATER)  # patterns over parameter names: not decayed, matrices or not
    rate_factors: tuple[RateFactor, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        within("learning_rate", self.learning_rate, 0.0, math.inf, includes_low=False)
        within("final_learning_rate", self.final_learning_rate, 0.0, math.inf)
        at_least(0, warmup_steps=self.warmup_steps)
        one_of("decay", self.decay, DECAYS)
        one_of("decay_shape", self.decay_shape, ("linear", "cosine", "sqrt"))
        within("power", self.power, 0.0, 2.0, includes_low=False)
        if self.decay_steps is not None:
            at_least(1, decay_steps=self.decay_steps)
            if self.decay != "wsd":
                raise ValueError(
                    f"decay_steps {self.decay_steps} is of decay wsd, but decay is {self.decay}; set decay to wsd, or leave it out"
                )
        within("weight_decay", self.weight_decay, 0.0, math.inf)
        within("beta1", self.beta1, 0.0, 1.0, includes_high=False)
        within("beta2", self.beta2, 0.0, 1.0, includes_high=False)
        within("epsilon", self.epsilon, 0.0, math.inf, includes_low=False)
        within("clip_norm", self.clip_norm, 0.0, math.inf, includes_low=False)
        if self.decay != "constant" and self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate} is above learning_rate {self.learning_rate}: "
                f"it is an absolute rate, not a fraction; set it to at most {self.learning_rate}"
            )
        self._check_kind()

    def _check_kind(self) -> None:
        """What only some kinds have is not accepted by the others."""
        one_of("kind", self.kind, OPTIMIZERS)
        one_of("state_dtype", self.state_dtype, ("float32", "bfloat16"))
        within("momentum", self.momentum, 0.0, 1.0, includes_high=False)
        if self.matrix_learning_rate is not None:
            within("matrix_learning_rate", self.matrix_learning_rate, 0.0, math.inf, includes_low=False)
            if self.kind != "muon":
                raise ValueError(f"matrix_learning_rate is of kind muon, but kind is {self.kind}; set kind to muon, or leave it out")
        if self.state_dtype == "bfloat16":
            if self.kind in ("sgd", "adafactor"):
                raise ValueError(f"state_dtype bfloat16 is of adamw, muon and lion, but kind is {self.kind}; leave it out")
            if self.kind != "lion" and self.beta2 > MOST_BETA2:
                raise ValueError(
                    f"beta2 {self.beta2} with state_dtype bfloat16: its 8 bits do not hold what a step adds to the second moment; "
                    f"set beta2 to {MOST_BETA2} at most (0.95 is usual), or state_dtype to float32"
                )


@dataclass(frozen=True)
class MixturePhase:
    """From an optimizer step on, how much of each group of rows is drawn: weights in any unit."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    from_step: int = 0  # counted from 0
    weights: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        """Raises ValueError for a weight below 0, or when no group has any."""
        at_least(0, from_step=self.from_step)
        for group, weight in self.weights.items():
            within(f"weights.{group}", weight, 0.0, math.inf)
        if not any(self.weights.values()):
            raise ValueError("weights: no group has a weight above 0; name at least one group of the shards")


@dataclass(frozen=True)
class ContextPhase:
    """From an optimizer step on, rows are cut into sequences of this many tokens; the tokens of a batch stay the same."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    from_step: int = 0  # counted from 0
    tokens: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        at_least(0, from_step=self.from_step)
        at_least(1, tokens=self.tokens)


@dataclass(frozen=True)
class BatchPhase:
    """From an optimizer step on, the tokens of a step: a whole number of times those of `batch_tokens` beside it."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    from_step: int = 0  # counted from 0
    batch_tokens: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        at_least(0, from_step=self.from_step)
        at_least(1, batch_tokens=self.batch_tokens)


@dataclass(frozen=True)
class StepBatches:
    """From an optimizer step on, the batches of batch_rows rows that a step takes: model/training/batch_steps.py."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    from_step: int = 0  # counted from 0
    batches: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        at_least(0, from_step=self.from_step)
        at_least(1, batches=self.batches)


@dataclass(frozen=True)
class FaultConfig:
    """When a step is left out, and when a run goes back: model/training/step_guard.py."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    deviations: float = (
        6.0  # standard deviations above the mean of the steps before: beyond them a step is skipped; 0: only what is not finite
    )
    window: int = 128  # steps before, of which half at least must have been taken
    in_a_row: int = 10  # skipped steps after which the run goes back to the last good checkpoint
    most_returns: int = 3  # of a run; then it ends

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        within("deviations", self.deviations, 0.0, math.inf)
        at_least(2, window=self.window)
        at_least(1, in_a_row=self.in_a_row)
        at_least(0, most_returns=self.most_returns)


@dataclass(frozen=True)
class LossConfig:
    """What training adds to the nats of the targets. Losses that are told, validated and judged stay the nats alone."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    z: float = 0.0  # times the square of log sum exp(logits), which keeps it near 0: 1e-4 in arXiv 2204.02311, section 5
    label_smoothing: float = 0.0  # share of each target that goes to all classes alike: arXiv 1512.00567, section 7

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        within("z", self.z, 0.0, math.inf)
        within("label_smoothing", self.label_smoothing, 0.0, 1.0, includes_high=False)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is added."""
        return self.z == 0 and self.label_smoothing == 0


PLAIN = LossConfig()


@dataclass(frozen=True)
class AverageConfig:
    """Which average of the weights is validated, and comes out: model/optim/average.py."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    ema: float | None = None  # share of the average that a step keeps: 0.999 reaches back some thousand steps
    last: int | None = None  # in place of ema: the mean of so many
    every: int = 100  # of last: steps between them

    def __post_init__(self) -> None:
        """Raises ValueError unless there is one of the two, within its bounds."""
        if (self.ema is None) == (self.last is None):
            raise ValueError("average: give ema, such as 0.999, or last, such as 5 (with every), and not both")
        if self.ema is not None:
            within("ema", self.ema, 0.0, 1.0, includes_high=False)
        if self.last is not None:
            at_least(1, last=self.last)
        at_least(1, every=self.every)


@dataclass(frozen=True)
class BestConfig:
    """Which checkpoint is kept as the best, and when a run ends because nothing gets better."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    figure: str = "validation_loss"  # less is better: validation_loss, validation_loss.NAME of several sets of examples
    patience: int = 0  # evaluations without a gain after which the run ends; 0: it never ends early
    least_gain: float = 0.0  # nats per target by which a figure must be less than the best so far
    is_result: bool = False  # the model that comes out is the best one, not the last

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        if self.figure != "validation_loss" and not self.figure.startswith("validation_loss."):
            raise ValueError(
                f"figure {self.figure!r}: expected validation_loss, or validation_loss.NAME of one of several sets of examples"
            )
        at_least(0, patience=self.patience)
        within("least_gain", self.least_gain, 0.0, math.inf)


@dataclass(frozen=True)
class ProfileConfig:
    """Which steps torch's profiler records, on rank 0."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    steps: tuple[int, int] = (10, 13)  # from, to (not recorded), counted from 0

    def __post_init__(self) -> None:
        """Raises ValueError for a range without a step."""
        at_least(0, steps=self.steps[0])
        if self.steps[1] <= self.steps[0]:
            raise ValueError(f"steps {list(self.steps)}: expected [from, to] with to above from")


@dataclass(frozen=True)
class TrainingConfig:
    """How long and in what portions to train. A row is one sequence of the batch."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    steps: int = 1000
    batch_rows: int = 32  # rows of one batch, over all processes; an optimizer step takes one, unless step_batches says more
    micro_rows: MicroRows = 8  # rows of one forward pass on one process, at most; auto: as many as fit
    evaluate_every: int = 100  # steps
    evaluate_batches: int = 8  # batches of batch_rows rows, from the start of the validation rows
    checkpoint_every: int = 500  # steps
    keep_checkpoints: int = 2  # the newest of those of every checkpoint_every steps
    keep_every: int | None = None  # steps: checkpoints at multiples of it, of checkpoint_every itself, are kept for good
    log_every: int = 10  # steps
    seed: int = 1
    precision: Precision = "auto"
    compile: bool = False  # the step's kernels, by torch.compile: worth its minute on a GPU
    faults: FaultConfig = FaultConfig()
    best: BestConfig | None = None
    fresh_steps: tuple[int, ...] = ()  # at which the data change, so that what is usual is learned anew: of mixtures, curricula, batches
    norms_every: int | None = None  # steps between norms of gradients and activations by layer
    profile: ProfileConfig | None = None
    layout: LayoutConfig = field(default=LayoutConfig(), metadata=LATER)
    loss: LossConfig = field(default=PLAIN, metadata=LATER)
    average: AverageConfig | None = field(default=None, metadata=LATER)
    float8: bool = field(default=False, metadata=LATER)  # linear layers of blocks: model/nn/float8.py
    step_batches: tuple[StepBatches, ...] = field(default=(), metadata=LATER)  # before the first of them a step takes one batch

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        at_least(1, steps=self.steps, batch_rows=self.batch_rows, log_every=self.log_every)
        if self.micro_rows != "auto":
            at_least(1, micro_rows=self.micro_rows)
        at_least(1, evaluate_every=self.evaluate_every, evaluate_batches=self.evaluate_batches)
        at_least(1, checkpoint_every=self.checkpoint_every, keep_checkpoints=self.keep_checkpoints)
        for name, every in (("keep_every", self.keep_every), ("norms_every", self.norms_every)):
            if every is not None:
                at_least(1, **{name: every})
        if self.keep_every is not None and self.keep_every % self.checkpoint_every:
            raise ValueError(
                f"keep_every {self.keep_every} is no multiple of checkpoint_every {self.checkpoint_every}; "
                f"the next: {-(-self.keep_every // self.checkpoint_every) * self.checkpoint_every}"
            )
        at_least(0, seed=self.seed)
        if self.seed >= 2**63:
            raise ValueError(f"seed {self.seed}: expected less than 2**63")
        one_of("precision", self.precision, ("auto", "float32", "bfloat16"))
        _check_order("step_batches", [phase.from_step for phase in self.step_batches])
        self._check_average()

    def _check_average(self) -> None:
        if self.average is None:
            return
        if self.layout.shards or self.layout.tensor > 1:
            raise ValueError("average holds whole weights, and layout divides them; leave average out, or shards and tensor")
        if self.average.last is not None and self.average.every > self.steps:
            raise ValueError(
                f"average: every {self.average.every} is more than the {self.steps} steps there are, so nothing would be averaged; "
                f"set it to {max(1, self.steps // self.average.last)} or less"
            )


def check_mixture(phases: Sequence[MixturePhase]) -> None:
    """Raises ValueError unless the first phase begins at step 0, and each after the one before."""
    _check_order("mixture", [phase.from_step for phase in phases])
    if phases and phases[0].from_step != 0:
        raise ValueError(f"mixture: the first phase begins at step {phases[0].from_step}; set its from_step to 0")


def check_curriculum(phases: Sequence[ContextPhase], context: int) -> None:
    """Raises ValueError for phases out of order, and for sequences that do not divide rows of `context` tokens."""
    _check_order("curriculum", [phase.from_step for phase in phases])
    divisors = [n for n in range(1, context + 1) if context % n == 0]
    for phase in phases:
        if phase.tokens not in divisors:
            near = [n for n in divisors if n < phase.tokens][-1:] + [n for n in divisors if n > phase.tokens][:1]
            raise ValueError(
                f"curriculum: {phase.tokens} tokens do not divide the rows' context of {context}; the nearest that do: "
                f"{', '.join(map(str, near))}"
            )


def step_batches(phases: Sequence[BatchPhase], batch_tokens: int) -> tuple[StepBatches, ...]:
    """Where the number of batches of `batch_tokens` tokens that a step takes changes.

    Raises ValueError for phases out of order, and for tokens that are no multiple of `batch_tokens`.
    """
    _check_order("batch_schedule", [phase.from_step for phase in phases])
    found: list[StepBatches] = []
    for phase in phases:
        batches, over = divmod(phase.batch_tokens, batch_tokens)
        if over:
            near = [count * batch_tokens for count in (batches, batches + 1) if count]
            raise ValueError(
                f"batch_schedule: {phase.batch_tokens} tokens from step {phase.from_step} on are no multiple of batch_tokens "
                f"{batch_tokens}, of which a step takes a whole number; the nearest: {', '.join(map(str, near))}"
            )
        if batches != (found[-1].batches if found else 1):
            found.append(StepBatches(phase.from_step, batches))
    return tuple(found)


def _check_order(section: str, steps: Sequence[int]) -> None:
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"{section}: from_step goes {', '.join(map(str, steps))}; each phase must begin after the one before")


Config = ModelConfig | OptimizerConfig | TrainingConfig | FaultConfig | BestConfig | LossConfig | AverageConfig


def config_to_json(config: Config) -> str:
    """Canonical JSON: sorted keys, no spaces; equal configs give equal text. Settings that came later are left out at their defaults."""
    kept = without_defaults_that_came_later(config)
    values = {name: value for name, value in dataclasses.asdict(config).items() if name in kept}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def settings_digest(kind: str, model: ModelConfig, vocab_size: int, training: TrainingConfig, optimizer: OptimizerConfig) -> str:
    """Hex SHA-256 of what decides the result of a training run, apart from data, seed and machine.

    Left out: how often it reports and saves, and how its batch is portioned; how often it evaluates, where no figure decides.
    """
    parts = [kind, config_to_json(model), str(vocab_size), config_to_json(optimizer), config_to_json(training.faults)]
    parts += [str(training.steps), str(training.batch_rows), str(training.compile), str(training.fresh_steps)]
    if training.float8:
        parts.append("float8")
    if training.best is not None:
        parts += [config_to_json(training.best), str(training.evaluate_every), str(training.evaluate_batches)]
    if not training.loss.is_plain:
        parts.append(config_to_json(training.loss))
    if training.average is not None:
        parts.append(config_to_json(training.average))
    if training.step_batches:
        parts.append(f"batches {[(phase.from_step, phase.batches) for phase in training.step_batches]}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()

"""Shapes and settings of a model and its training. Imports no torch: the command line reads this on every start."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

Family = Literal["gpt2", "llama"]
Precision = Literal["auto", "float32", "bfloat16"]
Decay = Literal["cosine", "linear", "constant"]

FORBID_UNKNOWN_KEYS: dict[str, str] = {"extra": "forbid"}


@dataclass(frozen=True)
class ModelConfig:
    """A decoder-only transformer.

    gpt2: learned positions, LayerNorm, tanh-GELU, biases, tied head. llama: rotary positions in the half-split layout,
    RMSNorm, SwiGLU, no biases. A 0 in `kv_heads` or `mlp_width` stands for the default that the properties resolve.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    family: Family = "llama"
    layers: int = 4
    width: int = 256
    heads: int = 4
    kv_heads: int = 0  # 0: as many as heads; fewer is grouped-query attention, llama only
    context: int = 256  # positions: the longest sequence, in tokens
    mlp_width: int = 0  # 0: 4 * width (gpt2), or 8/3 * width rounded up to a multiple of 32 (llama)
    dropout: float = 0.0
    tie_embeddings: bool = True
    rope_theta: float = 10000.0
    norm_epsilon: float = 1e-5
    initial_std: float = 0.02

    def __post_init__(self) -> None:
        """Raises ValueError, with the fix, for a shape that cannot be built."""
        _one_of("family", self.family, ("gpt2", "llama"))
        _at_least(1, layers=self.layers, width=self.width, heads=self.heads, context=self.context)
        _at_least(0, kv_heads=self.kv_heads, mlp_width=self.mlp_width)
        _within("dropout", self.dropout, 0.0, 1.0, includes_high=False)
        _within("rope_theta", self.rope_theta, 0.0, math.inf, includes_low=False)
        _within("norm_epsilon", self.norm_epsilon, 0.0, 1.0, includes_low=False)
        _within("initial_std", self.initial_std, 0.0, math.inf, includes_low=False)
        _check_divides("heads", self.heads, "width", self.width)
        if self.family == "gpt2":
            self._check_gpt2()
        else:
            self._check_llama()

    def _check_gpt2(self) -> None:
        if not self.tie_embeddings:
            raise ValueError(
                "tie_embeddings is false, but a gpt2 head is always tied: set it to true, or family to llama"
            )
        if self.kv_heads not in (0, self.heads):
            raise ValueError(f"kv_heads {self.kv_heads}: gpt2 has no grouped heads; set it to 0, or family to llama")

    def _check_llama(self) -> None:
        if self.kv_heads:
            _check_divides("kv_heads", self.kv_heads, "heads", self.heads)
        if self.head_width % 2:
            raise ValueError(
                f"heads {self.heads} give heads of odd width {self.head_width}, which rotary positions cannot pair: "
                f"make width / heads even"
            )

    @property
    def head_width(self) -> int:
        """Channels per head."""
        return self.width // self.heads

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values, with the default resolved."""
        return self.kv_heads or self.heads

    @property
    def hidden_width(self) -> int:
        """Channels inside the MLP, with the default resolved."""
        if self.mlp_width:
            return self.mlp_width
        if self.family == "gpt2":
            return 4 * self.width
        return math.ceil(8 * self.width / 3 / 32) * 32


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, and the schedule of its learning rate."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    learning_rate: float = 1e-3  # the peak
    final_learning_rate: float = 1e-4  # absolute, reached after the last step; unused by "constant"
    warmup_steps: int = 100
    decay: Decay = "cosine"
    weight_decay: float = 0.1  # matrices only
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    clip_norm: float = 1.0  # largest norm of the whole gradient

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        _within("learning_rate", self.learning_rate, 0.0, math.inf, includes_low=False)
        _within("final_learning_rate", self.final_learning_rate, 0.0, math.inf)
        _at_least(0, warmup_steps=self.warmup_steps)
        _one_of("decay", self.decay, ("cosine", "linear", "constant"))
        _within("weight_decay", self.weight_decay, 0.0, math.inf)
        _within("beta1", self.beta1, 0.0, 1.0, includes_high=False)
        _within("beta2", self.beta2, 0.0, 1.0, includes_high=False)
        _within("epsilon", self.epsilon, 0.0, math.inf, includes_low=False)
        _within("clip_norm", self.clip_norm, 0.0, math.inf, includes_low=False)
        if self.decay != "constant" and self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate} is above learning_rate {self.learning_rate}: "
                f"it is an absolute rate, not a fraction; set it to at most {self.learning_rate}"
            )


@dataclass(frozen=True)
class MixturePhase:
    """From an optimizer step on, how much of each group of rows is drawn: weights in any unit."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    from_step: int = 0  # counted from 0
    weights: dict[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        """Raises ValueError for a weight below 0, or when no group has any."""
        _at_least(0, from_step=self.from_step)
        for group, weight in self.weights.items():
            _within(f"weights.{group}", weight, 0.0, math.inf)
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
        _at_least(0, from_step=self.from_step)
        _at_least(1, tokens=self.tokens)


@dataclass(frozen=True)
class TrainingConfig:
    """How long and in what portions to train. A row is one sequence of the batch."""

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    steps: int = 1000
    batch_rows: int = 32  # rows of one optimizer step, over all processes
    micro_rows: int = 8  # rows of one forward pass on one process, at most
    evaluate_every: int = 100  # steps
    evaluate_batches: int = 8  # batches of batch_rows rows, from the start of the validation rows
    checkpoint_every: int = 500  # steps
    keep_checkpoints: int = 2
    log_every: int = 10  # steps
    seed: int = 1
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Raises ValueError for a value out of bounds."""
        _at_least(1, steps=self.steps, batch_rows=self.batch_rows, micro_rows=self.micro_rows, log_every=self.log_every)
        _at_least(1, evaluate_every=self.evaluate_every, evaluate_batches=self.evaluate_batches)
        _at_least(1, checkpoint_every=self.checkpoint_every, keep_checkpoints=self.keep_checkpoints)
        _at_least(0, seed=self.seed)
        if self.seed >= 2**63:
            raise ValueError(f"seed {self.seed}: expected less than 2**63")
        _one_of("precision", self.precision, ("auto", "float32", "bfloat16"))


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


def _check_order(section: str, steps: Sequence[int]) -> None:
    if list(steps) != sorted(set(steps)):
        raise ValueError(
            f"{section}: from_step goes {', '.join(map(str, steps))}; each phase must begin after the one before"
        )


Config = ModelConfig | OptimizerConfig | TrainingConfig


def config_to_json(config: Config) -> str:
    """Canonical JSON: sorted keys, no spaces; equal configs give equal text."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True, separators=(",", ":"), allow_nan=False)


def model_config_from_json(text: str) -> ModelConfig:
    """The inverse of `config_to_json`. Raises ValueError for text that is no object, unknown keys and bad values."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"model config: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"model config: found {type(values).__name__}, expected an object")
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"model config: unknown keys {', '.join(unknown)}. Known keys: {', '.join(sorted(known))}")
    return ModelConfig(**values)


def settings_digest(
    kind: str, model: ModelConfig, vocab_size: int, training: TrainingConfig, optimizer: OptimizerConfig
) -> str:
    """Hex SHA-256 of what decides the result of a training run, apart from data, seed and machine.

    Left out: how often it reports, evaluates and saves, and how its batch is portioned.
    """
    parts = [kind, config_to_json(model), str(vocab_size), config_to_json(optimizer)]
    parts += [str(training.steps), str(training.batch_rows)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _at_least(low: int, **values: int) -> None:
    for name, value in values.items():
        if value < low:
            raise ValueError(f"{name} {value}: expected {low} or more")


def _within(
    name: str, value: float, low: float, high: float, *, includes_low: bool = True, includes_high: bool = True
) -> None:
    above = value >= low if includes_low else value > low
    below = value <= high if includes_high else value < high
    if not (above and below and math.isfinite(value)):
        left = "at least" if includes_low else "above"
        right = "" if math.isinf(high) else f" and {'at most' if includes_high else 'below'} {high:g}"
        raise ValueError(f"{name} {value}: expected a number {left} {low:g}{right}")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(known)}")


def _check_divides(name: str, count: int, whole_name: str, whole: int) -> None:
    """`count` must divide `whole`; otherwise ValueError with the divisors next to it."""
    if whole % count == 0:
        return
    divisors = [n for n in range(1, whole + 1) if whole % n == 0]
    near = [max(n for n in divisors if n < count)] if count > 1 else []
    near += [n for n in divisors if n > count][:1]
    raise ValueError(
        f"{name} {count} does not divide {whole_name} {whole}; the nearest {name} that do: {', '.join(map(str, near))}"
    )

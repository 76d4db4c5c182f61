"""Model shapes, of every family, and presets. Imports no torch: the command line reads this on every start."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from model.config.checks import at_least, divides, one_of, within
from model.config.rope_scaling import RopeScaling, rope_scaling_from

Family = Literal["gpt2", "llama", "bert", "modernbert", "seq2seq", "rnn", "lstm", "gru"]
Activation = Literal["sigmoid", "tanh", "relu", "relu2", "gelu", "gelu_tanh", "silu", "reglu", "geglu", "swiglu"]
Positions = Literal["learned", "sinusoidal", "rotary"]
Bias = Literal["none", "qkv", "all"]
Pooling = Literal["first", "mean"]
Initialization = Literal["normal", "xavier", "orthogonal"]

DECODERS = ("gpt2", "llama")
ENCODERS = ("bert", "modernbert")
RECURRENT = ("rnn", "lstm", "gru")
GATED = ("reglu", "geglu", "swiglu")  # act(gate) * up: two matrices in, one out

FORBID_UNKNOWN_KEYS: dict[str, str] = {"extra": "forbid"}

FAMILY_ACTIVATION: dict[Family, Activation] = {
    "gpt2": "gelu_tanh",
    "llama": "swiglu",
    "bert": "gelu",
    "modernbert": "geglu",
    "seq2seq": "relu",
    "rnn": "tanh",
    "lstm": "tanh",
    "gru": "tanh",
}
FAMILY_POSITIONS: dict[Family, Positions] = {
    "gpt2": "learned",
    "llama": "rotary",
    "bert": "learned",
    "modernbert": "rotary",
    "seq2seq": "sinusoidal",
}


@dataclass(frozen=True)
class ModelConfig:
    """A language model's shape.

    Decoders, each token seeing those before it: gpt2 (learned positions, LayerNorm, tanh-GELU, biases, tied head) and llama
    (rotary positions in the half-split layout, RMSNorm, SwiGLU, no biases). Encoders, each token seeing all: bert (post-norm,
    learned positions, token types) and modernbert (pre-norm, rotary positions, GeGLU, local and global layers). seq2seq: the
    encoder-decoder of "Attention Is All You Need" (arXiv 1706.03762). Recurrent: rnn, lstm, gru.

    None, and 0 in kv_heads, head_dim, mlp_width and decoder_layers, stand for the family's own, which the properties resolve.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = FORBID_UNKNOWN_KEYS

    family: Family = "llama"
    layers: int = 4  # of the encoder, in seq2seq
    decoder_layers: int = 0  # seq2seq; 0: as many as layers
    width: int = 256
    heads: int = 4  # unused by recurrent families
    kv_heads: int = 0  # 0: as many as heads; fewer is grouped-query attention, llama only
    head_dim: int = 0  # channels of a head; 0: width / heads; else llama only
    context: int = 256  # positions: the longest sequence, in tokens
    mlp_width: int = 0  # 0: 4 * width; llama: 8/3 * width rounded up to a multiple of 32; modernbert: 3/2 * width
    activation: Activation | None = None  # of the MLP; rnn: tanh or relu
    positions: Positions | None = None  # seq2seq: sinusoidal or learned
    bias: Bias | None = None  # of the attention's matrices; llama: none, qkv (as Qwen2) or all
    qk_norm: bool = False  # llama: RMSNorm of each query and key head, before the rotation (as Qwen3)
    window: int | None = None  # tokens that a local layer sees: the last ones, or half before and half after; 0: all
    global_every: int | None = None  # every n-th layer, from the first, sees all; 0: every layer is local
    logit_cap: float = 0.0  # decoders: logits become cap * tanh(logits / cap), as in Gemma 2; 0: as they are
    token_types: int | None = None  # bert: kinds of segments; 2
    pooling: Pooling | None = None  # modernbert: a classifier reads the first token, or the mean of all; first
    dropout: float = 0.0
    tie_embeddings: bool = True  # the head is the embedding
    rope_theta: float = 10000.0
    local_rope_theta: float = 0.0  # of local layers; 0: rope_theta
    rope_scaling: RopeScaling | None = None  # of all rotary angles, to read further than first trained; None: none
    norm_epsilon: float = 1e-5
    initialization: Initialization = "normal"  # of matrices: normal(initial_std), Xavier uniform, or orthogonal
    initial_std: float | None = None  # 0.02; recurrent: 1/sqrt(width), with which a state lasts for some tokens
    carry_tokens: int = 0  # recurrent: gradients reach back so many tokens, the state further; 0: the whole row

    def __post_init__(self) -> None:
        """Raises ValueError, with the fix, for a shape that cannot be built."""
        one_of("family", self.family, get_args(Family))
        at_least(1, layers=self.layers, width=self.width, heads=self.heads, context=self.context)
        at_least(0, kv_heads=self.kv_heads, head_dim=self.head_dim, mlp_width=self.mlp_width)
        at_least(0, decoder_layers=self.decoder_layers, carry_tokens=self.carry_tokens)
        at_least(0, window=self.local_window, global_every=self.global_layer_every)
        within("dropout", self.dropout, 0.0, 1.0, includes_high=False)
        within("rope_theta", self.rope_theta, 0.0, math.inf, includes_low=False)
        within("local_rope_theta", self.local_rope_theta, 0.0, math.inf)
        within("norm_epsilon", self.norm_epsilon, 0.0, 1.0, includes_low=False)
        within("initial_std", self.weight_std, 0.0, math.inf, includes_low=False)
        within("logit_cap", self.logit_cap, 0.0, math.inf)
        one_of("activation", self.mlp_activation, get_args(Activation))
        one_of("initialization", self.initialization, get_args(Initialization))
        if self.bias is not None:
            one_of("bias", self.bias, get_args(Bias))
        if self.pooling is not None:
            one_of("pooling", self.pooling, get_args(Pooling))
        self._check_options()
        if self.is_recurrent:
            self._check_recurrent()
        else:
            self._check_heads()

    def _check_options(self) -> None:
        """Each option belongs to some families; elsewhere it would be ignored, so it is refused."""
        for name, is_set, families in (
            ("kv_heads", self.kv_heads not in (0, self.heads), ("llama",)),
            ("head_dim", self.head_dim not in (0, self.width // self.heads), ("llama",)),
            ("decoder_layers", self.decoder_layers > 0, ("seq2seq",)),
            ("positions", self.positions not in (None, FAMILY_POSITIONS.get(self.family)), ("seq2seq",)),
            ("bias", self.bias not in (None, _family_bias(self.family)), ("llama",)),
            ("qk_norm", self.qk_norm, ("llama",)),
            ("window", self.window is not None, (*DECODERS, "modernbert")),
            ("global_every", self.global_every is not None, (*DECODERS, "modernbert")),
            ("local_rope_theta", self.local_rope_theta > 0, ("llama", "modernbert")),
            ("rope_scaling", self.rope_scaling is not None, ("llama", "modernbert")),
            ("logit_cap", self.logit_cap > 0, (*DECODERS, *RECURRENT)),
            ("token_types", self.token_types is not None, ("bert",)),
            ("pooling", self.pooling is not None, ("modernbert",)),
            ("tie_embeddings false", not self.tie_embeddings, ("llama",)),
            ("carry_tokens", self.carry_tokens > 0, RECURRENT),
        ):
            if is_set and self.family not in families:
                raise ValueError(f"{name}: {self.family} has no such option; leave it out, or set family to {' or '.join(families)}")
        if self.positions == "rotary" and self.family == "seq2seq":
            raise ValueError("positions 'rotary': seq2seq has sinusoidal or learned ones")
        if self.token_types is not None:
            at_least(1, token_types=self.token_types)
        if self.global_every and not self.local_window:
            raise ValueError(f"global_every {self.global_every}: without a window every layer is global; set window")

    def _check_recurrent(self) -> None:
        if self.mlp_width:
            raise ValueError(f"mlp_width {self.mlp_width}: {self.family} has no MLP; leave it out")
        if self.mlp_activation not in ("tanh", "relu") or (self.family != "rnn" and self.mlp_activation != "tanh"):
            known = "tanh or relu" if self.family == "rnn" else "tanh alone"
            raise ValueError(f"activation {self.mlp_activation!r}: {self.family} has {known}")

    def _check_heads(self) -> None:
        if not self.head_dim:
            divides("heads", self.heads, "width", self.width)
        if self.kv_heads:
            divides("kv_heads", self.kv_heads, "heads", self.heads)
        if self.position_kind == "rotary" and self.head_width % 2:
            raise ValueError(
                f"heads {self.heads} give heads of odd width {self.head_width}, which rotary positions cannot pair: make width / heads even"
            )

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only those before it; of seq2seq, its decoder."""
        return self.family not in ENCODERS

    @property
    def is_recurrent(self) -> bool:
        """Whether it carries a state instead of attention."""
        return self.family in RECURRENT

    @property
    def is_pre_norm(self) -> bool:
        """Norms before attention and MLP, and one at the end; else behind them, as in the first Transformers."""
        return self.family not in ("bert", "seq2seq")

    @property
    def head_width(self) -> int:
        """Channels per head, with the default resolved."""
        return self.head_dim or self.width // self.heads

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values, with the default resolved."""
        return self.kv_heads or self.heads

    @property
    def hidden_width(self) -> int:
        """Channels inside the MLP, with the default resolved."""
        if self.mlp_width:
            return self.mlp_width
        if self.family == "llama":
            return math.ceil(8 * self.width / 3 / 32) * 32
        return 3 * self.width // 2 if self.family == "modernbert" else 4 * self.width

    @property
    def mlp_activation(self) -> Activation:
        """With the default resolved."""
        return self.activation or FAMILY_ACTIVATION[self.family]

    @property
    def position_kind(self) -> Positions | None:
        """With the default resolved; None for recurrent families."""
        return self.positions or FAMILY_POSITIONS.get(self.family)

    @property
    def attention_bias(self) -> Bias:
        """With the default resolved."""
        return self.bias or _family_bias(self.family)

    @property
    def has_mlp_bias(self) -> bool:
        """Whether the MLP's matrices have biases."""
        return self.family in ("gpt2", "bert", "seq2seq")

    @property
    def weight_std(self) -> float:
        """Standard deviation of fresh weights, with the default resolved."""
        if self.initial_std is not None:
            return self.initial_std
        return self.width**-0.5 if self.is_recurrent else 0.02

    @property
    def local_window(self) -> int:
        """Tokens that a local layer sees, with the default resolved; 0: every layer sees all."""
        if self.window is not None:
            return self.window
        return 128 if self.family == "modernbert" else 0

    @property
    def global_layer_every(self) -> int:
        """With the default resolved; 0: no layer is global, unless there is no window."""
        if self.global_every is not None:
            return self.global_every
        return 3 if self.family == "modernbert" else 0

    @property
    def segment_kinds(self) -> int:
        """Token types, with the default resolved; 0 for families without."""
        return (self.token_types or 2) if self.family == "bert" else 0

    @property
    def decoder_depth(self) -> int:
        """Layers of a seq2seq decoder, with the default resolved."""
        return self.decoder_layers or self.layers

    def window_of(self, layer: int) -> int:
        """Tokens that the layer sees, counted from 0; 0: all."""
        is_global = self.global_layer_every > 0 and layer % self.global_layer_every == 0
        return 0 if is_global else self.local_window

    def theta_of(self, layer: int) -> float:
        """Base of the layer's rotary angles."""
        return self.local_rope_theta if self.local_rope_theta and self.window_of(layer) else self.rope_theta


def _family_bias(family: Family) -> Bias:
    return "all" if family in ("gpt2", "bert", "seq2seq") else "none"


PRESETS: dict[str, ModelConfig] = {
    "gpt2-124m": ModelConfig("gpt2", layers=12, width=768, heads=12, context=1024),
    "gpt2-350m": ModelConfig("gpt2", layers=24, width=1024, heads=16, context=1024),
    "llama-124m": ModelConfig("llama", layers=12, width=768, heads=12, context=1024),
    "llama-1.3b": ModelConfig("llama", layers=24, width=2048, heads=16, context=2048),
    "bert-base": ModelConfig("bert", layers=12, width=768, heads=12, context=512, dropout=0.1, norm_epsilon=1e-12),
    "modernbert-base": ModelConfig(
        "modernbert", layers=22, width=768, heads=12, context=8192, rope_theta=160000.0, local_rope_theta=10000.0
    ),
    "transformer-base": ModelConfig("seq2seq", layers=6, width=512, heads=8, context=512, dropout=0.1, initialization="xavier"),
    "lstm-650": ModelConfig("lstm", layers=2, width=650, context=256, dropout=0.5, carry_tokens=35),
}  # sources: arXiv 1706.03762, 1810.04805, 2412.13663; GPT-2 and GPT-3 papers; arXiv 1409.2329 (medium LSTM)


def preset(name: str) -> ModelConfig:
    """A known shape by name. Raises ValueError, listing the names."""
    if name not in PRESETS:
        raise ValueError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def model_config_from_json(text: str) -> ModelConfig:
    """The inverse of `config_to_json`. Raises ValueError for text that is no object, unknown keys and bad values."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"model config: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ValueError(f"model config: found {type(values).__name__}, expected an object")
    return model_config_from(values)


def model_config_from(values: Mapping[str, object]) -> ModelConfig:
    """The inverse of `dataclasses.asdict`, of JSON too. Raises ValueError for unknown keys and bad values."""
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"model config: unknown keys {', '.join(unknown)}. Known keys: {', '.join(sorted(known))}")
    scaling = values.get("rope_scaling")
    if scaling is not None:
        values = {**values, "rope_scaling": rope_scaling_from(scaling)}
    return ModelConfig(**values)  # type: ignore[arg-type]  (what fits no field fails where it is compared)

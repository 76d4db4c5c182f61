"""Linear layers, norms and activations: weights stay float32 while they compute in the dtype of their input.

B rows, T tokens, C channels, M channels inside the MLP.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from model.config.model_config import GATED, Activation, ModelConfig

GELU_LINEAR = 2 * math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
GELU_CHUNK = 2**16  # numbers at a time: the arrays of each stay in a processor's own cache; with 2**19 all took a third longer


class _SavedSlope(FunctionCtx):
    saved_tensors: tuple[Tensor]


class Linear(nn.Linear):
    """A linear layer that casts its weights to the dtype of what comes in: bfloat16 products of float32 weights."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out], same dtype."""
        bias = None if self.bias is None else self.bias.to(input.dtype)  # pyright: ignore[reportUnnecessaryComparison]  (the stubs forget bias=False)
        return F.linear(input, self.weight.to(input.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """In the dtype of its input."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        bias = None if self.bias is None else self.bias.to(input.dtype)  # pyright: ignore[reportUnnecessaryComparison]
        return F.layer_norm(input, self.normalized_shape, self.weight.to(input.dtype), bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """In the dtype of its input. Source: arXiv 1910.07467."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def build_norm(config: ModelConfig) -> nn.Module:
    """The family's norm over the width."""
    if config.family == "llama":
        return RMSNorm(config.width, eps=config.norm_epsilon)
    return LayerNorm(config.width, eps=config.norm_epsilon, bias=config.family != "modernbert")


class _GeluTanh(torch.autograd.Function):
    """x * sigmoid(2u), u = sqrt(2/pi) * (x + 0.044715 x^3): the same function, since 1 + tanh(u) = 2 sigmoid(2u).

    Its derivative is made along with it and kept instead of x. Of 2048 rows of 1024 forward and backward took 5 ms, the stock
    kernels' tanh 8, of which a training step has one a layer (AVX512-BF16, one thread; row `step-vs-nanogpt`).
    """

    @staticmethod
    def forward(ctx: _SavedSlope, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        y, slope = torch.empty_like(rows), torch.empty_like(rows)
        size = max(1, GELU_CHUNK // x.shape[-1])
        one = torch.tensor(GELU_LINEAR)
        for part, y_part, slope_part in zip(rows.split(size), y.split(size), slope.split(size), strict=True):
            z = part.float()
            square = z * z
            gate = torch.add(one, square, alpha=GELU_CUBIC * GELU_LINEAR).mul_(z).sigmoid_()  # of 2u
            torch.mul(z, gate, out=y_part)
            inner = torch.add(one, square, alpha=3 * GELU_CUBIC * GELU_LINEAR, out=square)  # the derivative of 2u
            torch.addcmul(gate, inner, torch.ops.aten.sigmoid_backward(z, gate), out=slope_part)
        ctx.save_for_backward(slope.view_as(x))
        return y.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the base takes any gradients)
        ctx: _SavedSlope, grad_output: Tensor
    ) -> Tensor:
        return grad_output * ctx.saved_tensors[0]


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh-approximated GELU; where a CPU trains, without tanh."""
    if x.requires_grad and torch.is_grad_enabled() and x.device.type == "cpu":
        y: Tensor = _GeluTanh.apply(x)  # pyright: ignore[reportAssignmentType]
        return y
    return F.gelu(x, approximate="tanh")


def activate(x: Tensor, activation: Activation) -> Tensor:
    """One activation, element by element; of a gated one, what its gate goes through."""
    if activation in ("silu", "swiglu"):
        return F.silu(x)
    if activation in ("gelu", "geglu"):
        return F.gelu(x)
    if activation == "gelu_tanh":
        return gelu_tanh(x)
    if activation in ("relu", "reglu"):
        return F.relu(x)
    if activation == "relu2":
        return F.relu(x).square()
    return torch.tanh(x) if activation == "tanh" else torch.sigmoid(x)


class Mlp(nn.Module):
    """Up, activation, down."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation: Activation = config.mlp_activation
        self.dropout = config.dropout
        self.up = Linear(config.width, config.hidden_width, bias=config.has_mlp_bias)
        self.output = Linear(config.hidden_width, config.width, bias=config.has_mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        return F.dropout(self.output(activate(self.up(x), self.activation)), self.dropout, self.training)


class GatedMlp(nn.Module):
    """act(gate) * up, down; gate and up are one matrix. Source: arXiv 2002.05202."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation: Activation = config.mlp_activation
        self.dropout = config.dropout
        self.gate_up = Linear(config.width, 2 * config.hidden_width, bias=config.has_mlp_bias)
        self.output = Linear(config.hidden_width, config.width, bias=config.has_mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, C] -> [B, T, C]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return F.dropout(self.output(activate(gate, self.activation) * up), self.dropout, self.training)


def build_mlp(config: ModelConfig) -> nn.Module:
    """Gated where the activation is."""
    return GatedMlp(config) if config.mlp_activation in GATED else Mlp(config)


def initialize(module: nn.Module, config: ModelConfig) -> None:
    """Fresh weights for all layers of `module`: biases zero, norms one.

    "normal": outputs that add to the residual are scaled by 1/sqrt(2 layers), as in GPT-2.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            is_residual = name.endswith((".output", "output"))
            _initialize_matrix(layer.weight, config, 1 / math.sqrt(2 * config.layers) if is_residual else 1.0)
            if layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]  (the stubs forget bias=False)
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=config.weight_std)
        elif isinstance(layer, nn.RNNBase):
            for part, parameter in layer.named_parameters():
                if part.startswith("weight"):
                    _initialize_matrix(parameter, config, 1.0)
                else:
                    nn.init.zeros_(parameter)


def _initialize_matrix(weight: Tensor, config: ModelConfig, scale: float) -> None:
    if config.initialization == "normal":
        nn.init.normal_(weight, std=config.weight_std * scale)
    elif config.initialization == "xavier":
        nn.init.xavier_uniform_(weight)
    else:
        nn.init.orthogonal_(weight)

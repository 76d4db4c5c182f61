"""Float8 products: linear layers of blocks in 8 bits, with one scale a tensor; weights that learn stay float32.

Forward e4m3, gradients e5m2: arXiv 2209.05433, sections 3 and 5. Each tensor is scaled by its own largest number, when it is used.

N positions, K channels in, M channels out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from model.nn.transformer import Block

MULTIPLE = 16  # of every side of a product
LEAST_CAPABILITY = (8, 9)  # of a GPU: Ada
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


class _Saved(FunctionCtx):
    saved_tensors: tuple[Tensor, Tensor, Tensor, Tensor]  # input and weights, and their scales


class Float8Linear(nn.Linear):
    """x W' + bias, the product in float8. Names and values of the parameters stay as they were."""

    def __init__(self, source: nn.Linear) -> None:
        has_bias = source.bias is not None  # pyright: ignore[reportUnnecessaryComparison]  (the stubs forget bias=False)
        super().__init__(source.in_features, source.out_features, has_bias, device="meta")
        self.weight, self.bias = source.weight, source.bias

    def forward(self, input: Tensor) -> Tensor:
        """[..., K] -> [..., M], same dtype."""
        rows = input.reshape(-1, self.in_features)
        padded = F.pad(rows, (0, 0, 0, -len(rows) % MULTIPLE))
        whole: Tensor = _Float8Product.apply(padded, self.weight)  # pyright: ignore[reportAssignmentType]
        y = whole[: len(rows)].view(*input.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)  # pyright: ignore[reportUnnecessaryComparison]


class _Float8Product(torch.autograd.Function):
    """x [N, K], weight [M, K] -> [N, M]."""

    @staticmethod
    def forward(ctx: _Saved, x: Tensor, weight: Tensor) -> Tensor:
        small_x, x_scale = to_float8(x, E4M3)
        small_weight, weight_scale = to_float8(weight, E4M3)
        ctx.save_for_backward(small_x, small_weight, x_scale, weight_scale)
        return _product(small_x, x_scale, small_weight.T, weight_scale, x.dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the base takes any gradients)
        ctx: _Saved, grad_output: Tensor
    ) -> tuple[Tensor, Tensor]:
        x, weight, x_scale, weight_scale = ctx.saved_tensors
        slope, slope_scale = to_float8(grad_output, E5M2)
        x_gradient = _product(slope, slope_scale, weight, weight_scale, grad_output.dtype)
        return x_gradient, _product(slope.T, slope_scale, x, x_scale, torch.float32)


def to_float8(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`x` divided by a scale that makes its largest number the dtype's, and that scale: scalar float32."""
    largest = torch.finfo(dtype).max
    scale = x.detach().abs().amax().float().clamp(min=1e-12) / largest
    return (x.float() / scale).clamp(-largest, largest).to(dtype), scale


def _product(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor, dtype: torch.dtype) -> Tensor:
    """a [n, k] times b [k, m]; the kernel wants the one by rows, the other by columns."""
    return torch._scaled_mm(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]  (torch has no public name)
        a.contiguous(), b.T.contiguous().T, scale_a=a_scale, scale_b=b_scale, out_dtype=dtype
    )


def use_float8(model: nn.Module, device: torch.device) -> None:
    """Linear layers of blocks compute in float8 from now on, where both sides are multiples of 16.

    Raises ValueError for a device that has no such products, and a model without such layers.
    """
    check_float8(device)
    chosen = [
        (f"{outer}.{inner}", layer)
        for outer, block in model.named_modules()
        if isinstance(block, Block)
        for inner, layer in block.named_modules()
        if isinstance(layer, nn.Linear) and layer.in_features % MULTIPLE == layer.out_features % MULTIPLE == 0
    ]
    if not chosen:
        raise ValueError(f"float8: no layer of a block has sides that are multiples of {MULTIPLE}; widen the model, or leave float8 out")
    for name, layer in chosen:
        model.set_submodule(name, Float8Linear(layer).train(layer.training))


def check_float8(device: torch.device) -> None:
    """Raises ValueError for a device without products in float8."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        found = ".".join(map(str, torch.cuda.get_device_capability(device)))
        raise ValueError(
            f"float8: {torch.cuda.get_device_name(device)} has compute capability {found}, expected 8.9 (Ada) or more; "
            "leave float8 out, bfloat16 is what it has"
        )
    tried = torch.zeros(MULTIPLE, MULTIPLE, device=device).to(E4M3)
    one = torch.ones((), device=device)
    try:
        _product(tried, one, tried, one, torch.float32)
    except RuntimeError as error:
        raise ValueError(f"float8: torch {torch.__version__} has no such product on {device.type} ({error}); leave float8 out") from error

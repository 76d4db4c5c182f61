"""Prepared weights: cast and laid out once for decoding, not at each token. C channels, V vocabulary."""

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.nn.heads import LanguageHead
from model.nn.layers import LayerNorm, Linear, RMSNorm
from model.nn.models import LanguageModel, Seq2SeqModel

STRIP = 24  # outputs that lie side by side: of 16, 24, 32 and 48 the fastest, 45, 42 and 40 tokens a second for 24, 32 and 16

Writer = TypeVar("Writer", LanguageModel, Seq2SeqModel)


class PackedLinear(nn.Module):
    """A linear layer for the CPU whose weight lies as oneDNN reads it fastest for so many rows; no gradients.

    The plain version is `Linear`; the gain is in benchmarks/RESULTS.md, `generate-b8`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int) -> None:
        super().__init__()
        self.weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


class SingleRowLinear(nn.Module):
    """A linear layer for the CPU and float32 that reads its weight at the speed of the memory where there is but one row.

    The weight lies in N strips, each of `STRIP` outputs side by side; with a whole matrix MKL's product of one row reads up to
    twice as slowly, that of many rows is as fast. The plain version is `Linear`; the gain is in benchmarks/RESULTS.md,
    `generate-b1`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_width, in_width = weight.shape
        spare = -self.out_width % STRIP
        whole = F.pad(weight, (0, 0, 0, spare))
        self.strips = whole.view(-1, STRIP, in_width).transpose(1, 2).contiguous()  # [N, in, STRIP]
        self.count, self.is_whole = self.strips.shape[0], spare == 0
        self.bias = None if bias is None else F.pad(bias, (0, spare)).view(-1, 1, STRIP)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        *outer, in_width = x.shape
        rows = x.reshape(1, -1, in_width).expand(self.count, -1, -1)
        y = torch.bmm(rows, self.strips) if self.bias is None else torch.baddbmm(self.bias, rows, self.strips)
        if y.shape[1] > 1:
            y = y.transpose(0, 1)  # (rows, N, STRIP)
        y = y.reshape(*outer, self.count * STRIP)
        return y if self.is_whole else y[..., : self.out_width]


class ReadyHead(nn.Module):
    """A language head whose matrix was cast once, to be used instead of a `LanguageHead`."""

    def __init__(self, head: LanguageHead, embedding: Tensor, dtype: torch.dtype, rows: int) -> None:
        super().__init__()
        self.cap, self.dtype = head.cap, dtype
        self.product = _product(head.matrix(embedding), None, dtype, rows)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        """hidden [..., C] -> logits [..., V]; the embedding is not asked."""
        del embedding
        logits = self.product(hidden.to(self.dtype))
        return self.cap * torch.tanh(logits / self.cap) if self.cap else logits


def for_inference(model: Writer, dtype: torch.dtype = torch.float32, rows: int = 1) -> Writer:
    """A copy in eval mode that writes faster and cannot learn; `rows` is how many texts it mostly writes side by side.

    Embeddings are shared with `model`, which stays as it is. float32 changes logits by rounding alone; bfloat16 may choose
    another token where two are nearly as likely. Recurrent cells stay as they are.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    ready = copy.deepcopy(model, shared).eval()
    with torch.no_grad():
        for name, layer in list(ready.named_modules()):
            if isinstance(layer, Linear):
                ready.set_submodule(name, _product(layer.weight, layer.bias, dtype, rows))
            elif isinstance(layer, LayerNorm | RMSNorm):
                for part, parameter in list(layer.named_parameters()):
                    layer.register_parameter(part, nn.Parameter(parameter.to(dtype), requires_grad=False))
        ready.set_submodule("head", ReadyHead(model.head, model.trunk.embedding.weight, dtype, rows))
    ready.trunk.compute_dtype = dtype
    return ready


def _product(weight: Tensor, bias: Tensor | None, dtype: torch.dtype, rows: int) -> nn.Module:
    """The fastest linear layer that this device and this build of torch have."""
    weight = weight.detach().to(dtype)
    bias = None if bias is None else bias.detach().to(dtype)
    if weight.device.type == "cpu" and _packs(dtype):
        is_single = rows == 1 and dtype == torch.float32
        return SingleRowLinear(weight, bias) if is_single else PackedLinear(weight, bias, rows)
    out_width, in_width = weight.shape
    plain = Linear(in_width, out_width, bias is not None, device="meta")
    plain.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        plain.bias = nn.Parameter(bias, requires_grad=False)
    return plain


def _packs(dtype: torch.dtype) -> bool:
    """Whether this build has oneDNN, and oneDNN this dtype on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())

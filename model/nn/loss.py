"""Cross-entropy of a linear head, without ever holding all of its logits.

N positions, C channels, V vocabulary.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from model.config.heads import IGNORED
from model.config.training_config import PLAIN, LossConfig

# Logits held at a time. On a CPU small chunks stay near the cache, but are added up more often: of 8192 logits each, chunks of
# 512 positions took 4 % less time than of 256 in float32, and about as much in bfloat16.
CPU_LOGITS = 2**22
CUDA_LOGITS = 2**28


@dataclass(frozen=True)
class LossSum:
    """A loss that can be added up over micro-batches and processes: the mean is nats / count."""

    nats: Tensor  # scalar float32, sum over the targets
    count: Tensor  # scalar int64, targets that are not IGNORED
    learned: Tensor | None = None  # scalar float32, of which gradients are taken, where that is more than the nats

    @property
    def objective(self) -> Tensor:
        """What is learned from."""
        return self.nats if self.learned is None else self.learned


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, chunk_rows: int = 0, cap: float = 0.0, terms: LossConfig = PLAIN
) -> LossSum:
    """Cross-entropy of softmax(hidden @ weight.T): hidden [..., C], weight [V, C], targets [...] int64.

    With a `cap` the logits are cap * tanh(logits / cap), as in Gemma 2 (arXiv 2408.00118, section 2). Gradients are those of the
    `objective`, to which `terms` add; the nats have none where they do.
    `chunk_rows` positions are computed at a time; 0 chooses. Products run in the dtype of `hidden`, sums in float32.
    The gradients are made along with the loss, so that no logits are computed twice, and only those that are asked for: a head
    that is frozen costs none. Equal to `plain_cross_entropy`.
    """
    rows = hidden.reshape(-1, hidden.shape[-1])
    flat_targets = targets.reshape(-1)
    if chunk_rows == 0:
        chunk_rows = max(1, (CUDA_LOGITS if hidden.is_cuda else CPU_LOGITS) // weight.shape[0])
    learns = torch.is_grad_enabled()
    needed = (learns and hidden.requires_grad, learns and weight.requires_grad)
    made = _LinearCrossEntropy.apply(rows, weight, flat_targets, chunk_rows, needed, cap, (terms.z, terms.label_smoothing))
    learned, nats = cast(tuple[Tensor, Tensor], made)
    count = (flat_targets != IGNORED).sum()
    return LossSum(learned, count) if terms.is_plain else LossSum(nats, count, learned)


def plain_cross_entropy(logits: Tensor, targets: Tensor, terms: LossConfig = PLAIN) -> LossSum:
    """logits [..., K], targets [...] int64: for heads with few classes, whose logits are small."""
    rows, flat_targets = logits.float().reshape(-1, logits.shape[-1]), targets.reshape(-1)
    nats = F.cross_entropy(rows, flat_targets, ignore_index=IGNORED, reduction="sum")
    count = (targets != IGNORED).sum()
    if terms.is_plain:
        return LossSum(nats, count)
    smoothed = F.cross_entropy(rows, flat_targets, ignore_index=IGNORED, reduction="sum", label_smoothing=terms.label_smoothing)
    squares = rows.logsumexp(dim=-1).square() * (flat_targets != IGNORED)
    return LossSum(nats.detach(), count, smoothed + terms.z * squares.sum())


Terms = tuple[float, float]  # z, label smoothing: a compiler takes numbers


class _Saved(FunctionCtx):
    saved_tensors: tuple[Tensor | None, Tensor | None]  # gradients of the sum: of the hidden states, of the head


class _LinearCrossEntropy(torch.autograd.Function):
    """Sums of what is learned from and of the nats; the forward pass leaves the gradients of the first behind."""

    @staticmethod
    def forward(
        ctx: _Saved,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk_rows: int,
        needed: tuple[bool, bool],
        cap: float,
        terms: Terms,
    ) -> tuple[Tensor, Tensor]:
        learned = torch.zeros((), dtype=torch.float32, device=hidden.device)
        nats = torch.zeros((), dtype=torch.float32, device=hidden.device)
        head = weight.to(hidden.dtype)
        hidden_gradient = torch.empty_like(hidden) if needed[0] else None
        weight_gradient = _HeadGradient(weight, hidden.dtype) if needed[1] else None
        for start in range(0, len(hidden), chunk_rows):
            chunk = slice(start, start + chunk_rows)
            x, y = hidden[chunk], targets[chunk]
            chunk_learned, chunk_nats, slope = _sums_and_slope(x @ head.T, y, cap, terms)
            learned = learned + chunk_learned  # not in place: compiled by torch 2.11, the gradients would be zero
            nats = nats + chunk_nats
            is_scored = (y != IGNORED)[:, None]
            if hidden_gradient is not None:
                hidden_gradient[chunk] = (slope @ head) * is_scored
            if weight_gradient is not None:
                weight_gradient.add(slope, x * is_scored)
        whole = None if weight_gradient is None else weight_gradient.total().to(weight.dtype)
        ctx.save_for_backward(hidden_gradient, whole)  # pyright: ignore[reportArgumentType]  (None is allowed)
        ctx.mark_non_differentiable(nats)
        return learned, nats

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  (the base takes any gradients)
        ctx: _Saved, grad_output: Tensor, _: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None, None, None]:
        hidden_gradient, weight_gradient = ctx.saved_tensors
        return _scaled(hidden_gradient, grad_output), _scaled(weight_gradient, grad_output), None, None, None, None, None


def _scaled(gradient: Tensor | None, by: Tensor) -> Tensor | None:
    return None if gradient is None else gradient * by


class _HeadGradient:
    """Sum in float32 of slope' x, over chunks. On a CPU float32 is added up within the product, which wants it transposed.

    That took 14 ms for 256 positions of 8192 logits and 256 channels, the other way 20.
    """

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        self.is_transposed = dtype == torch.float32 and not weight.is_cuda
        shape = (weight.shape[1], weight.shape[0]) if self.is_transposed else weight.shape
        self.sum = torch.zeros(shape, dtype=torch.float32, device=weight.device)

    def add(self, slope: Tensor, x: Tensor) -> None:
        """slope [n, V], x [n, C]."""
        if self.is_transposed:
            self.sum.addmm_(x.T, slope)
        else:
            self.sum += slope.T @ x

    def total(self) -> Tensor:
        """[V, C]."""
        return self.sum.T.contiguous() if self.is_transposed else self.sum


def _sums_and_slope(logits: Tensor, targets: Tensor, cap: float, terms: Terms) -> tuple[Tensor, Tensor, Tensor]:
    """logits [n, V], targets [n] -> the sums of what is learned from and of nats, and [n, V] the slope of the first, in the logits' dtype.

    The slope is wrong where ignored. One softmax serves all: the nats of a row are its largest logit less the target's, less the
    log of the largest probability, which is at least 1 / V however small the target's is.
    """
    if torch.compiler.is_compiling():
        return _sums_and_slope_fused(logits, targets, cap, terms)
    scores = logits.float()
    squashed = torch.tanh(scores / cap) if cap else None
    if squashed is not None:
        scores = cap * squashed
    index = targets.clamp(min=0)[:, None]
    is_scored, (z, share) = targets != IGNORED, terms
    largest, own = scores.amax(dim=-1), scores.gather(1, index)[:, 0]
    off = (own - scores.mean(dim=-1)) if share else None
    slope = torch.softmax(scores, dim=-1, out=scores)  # for now the probabilities
    top = slope.amax(dim=-1).log()
    rows = largest - own - top
    nats = learned = (rows * is_scored).sum()
    if z or share:
        total = largest - top  # log sum exp
        learned = (_with_terms(rows, total, off, terms) * is_scored).sum()
        slope.mul_((1 + 2 * z * total)[:, None]).sub_(share / logits.shape[1])
    slope.scatter_add_(1, index, torch.full_like(index, share - 1, dtype=torch.float32))
    if squashed is not None:
        slope.mul_(1 - squashed.square())
    return learned, nats, slope.to(logits.dtype)


def _with_terms(rows: Tensor, total: Tensor, off: Tensor | None, terms: Terms) -> Tensor:
    """Nats [n], log sum exp [n], by how much each target's logit is above their mean [n] -> what is learned from [n]."""
    z, share = terms
    smoothed = rows if off is None else rows + share * off
    return smoothed + z * total.square()


def _sums_and_slope_fused(logits: Tensor, targets: Tensor, cap: float, terms: Terms) -> tuple[Tensor, Tensor, Tensor]:
    """The same for a compiler: nothing in place, nothing scattered, so that two passes over the logits do, none in float32."""
    scores = logits.float()
    squashed = torch.tanh(scores / cap) if cap else None
    if squashed is not None:
        scores = cap * squashed
    index = targets.clamp(min=0)[:, None]
    is_scored, (z, share) = targets != IGNORED, terms
    total, own = torch.logsumexp(scores, dim=-1, keepdim=True), scores.gather(1, index)
    rows = (total - own)[:, 0]
    nats = learned = (rows * is_scored).sum()
    is_target = torch.arange(logits.shape[1], device=logits.device) == index
    slope = torch.exp(scores - total)
    if z or share:
        off = own[:, 0] - scores.mean(dim=-1) if share else None
        learned = (_with_terms(rows, total[:, 0], off, terms) * is_scored).sum()
        slope = slope * (1 + 2 * z * total) - share / logits.shape[1]
    slope = slope - (1 - share) * is_target.float()
    if squashed is not None:
        slope = slope * (1 - squashed.square())
    return learned, nats, slope.to(logits.dtype)

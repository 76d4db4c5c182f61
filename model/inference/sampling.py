"""Sampling: temperature, top-k, top-p, min-p and repetition penalty, and the draw. B rows, V vocabulary."""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config.checks import at_least, within


@dataclass(frozen=True)
class Sampling:
    """How texts are continued. Raises ValueError for a setting out of bounds.

    The order is transformers': repetition penalty, temperature, top-k, top-p, min-p, each on what the one before has left.
    """

    max_tokens: int = 100
    temperature: float = 1.0  # 0: the likeliest token each time
    top_k: int = 0  # choose among the k likeliest; 0: all
    top_p: float = 1.0  # among the fewest likeliest whose probabilities reach this
    min_p: float = 0.0  # among those at least this share as likely as the likeliest. Source: arXiv 2407.01082
    repetition_penalty: float = 1.0  # divides positive logits of tokens seen, multiplies negative ones: arXiv 1909.05858
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()  # tokens that end a text

    def __post_init__(self) -> None:
        at_least(1, max_tokens=self.max_tokens)
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature}: expected 0 (the likeliest token) or more")
        if self.top_k < 0:
            raise ValueError(f"top_k {self.top_k}: expected 0 (all tokens) or more")
        within("top_p", self.top_p, 0, 1, includes_low=False)
        within("min_p", self.min_p, 0, 1)
        within("repetition_penalty", self.repetition_penalty, 0, math.inf, includes_low=False)


def pick(logits: Tensor, draws: Tensor, sampling: Sampling) -> Tensor:
    """One token id per row: logits [B, V] float32, draws [B] float64 uniform in [0, 1) -> [B] int64."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    reached = narrow(logits / sampling.temperature, sampling).softmax(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    total = reached[:, -1:]
    aim = torch.minimum(draws[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))  # rounding may reach it
    return torch.searchsorted(reached, aim, right=True).squeeze(1)


def narrow(logits: Tensor, sampling: Sampling) -> Tensor:
    """logits [B, V] -> the same, -inf for tokens that top-k, top-p and min-p leave out; the likeliest always stays.

    Of equal logits at the edge top-k keeps all, top-p the lower ids.
    """
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        probabilities = ordered.softmax(dim=-1, dtype=torch.float64)
        before = probabilities.cumsum(dim=-1) - probabilities
        is_out = before >= sampling.top_p
        is_out[:, 0] = False
        logits = logits.masked_fill(torch.empty_like(is_out).scatter_(1, order, is_out), -math.inf)
    if sampling.min_p > 0:
        least = logits.amax(dim=-1, keepdim=True) + math.log(sampling.min_p)
        logits = logits.masked_fill(logits < least, -math.inf)
    return logits


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """logits [B, V], seen [B, V] bool -> tokens seen made less likely by a penalty above 1, more likely below."""
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def uniforms(seed: int, number: int, count: int) -> Tensor:
    """[count] float64 in [0, 1), from a generator of their own."""
    key = hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=7).digest()
    return torch.rand(count, generator=torch.Generator().manual_seed(int.from_bytes(key)), dtype=torch.float64)

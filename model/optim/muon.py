"""Muon: momentum whose directions are made equally long, by Newton-Schulz iterations, for hidden matrices.

Source of the method and of the iteration's coefficients: Keller Jordan, https://kellerjordan.github.io/posts/muon/; of the
scale by which one learning rate and decay serve Muon and AdamW: arXiv 2502.16982, section 2.2. Momentum is the one state: 4
bytes a parameter, 2 in bfloat16. m rows, n columns, B matrices of one shape.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.optim.matrices import Parts
from model.optim.rules import Trained, averaged
from model.optim.shards import share, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
SMALLEST_NORM = 1e-7
LIKE_ADAMW = 0.2  # root mean square of AdamW's updates
AT_A_TIME = 2**27  # numbers whose directions are held at a time


@dataclass(frozen=True)
class Muon:
    """Nesterov momentum. Queries, keys and values are matrices of their own, as are gates: `parts` has their rows."""

    parts: Mapping[nn.Parameter, Parts]
    momentum: float
    state_dtype: torch.dtype

    def update(self, trained: Sequence[Trained], rate: float, decay: float) -> None:
        """See `Rule`."""
        for some in _portions(trained):
            pieces: list[Tensor] = []
            for one in some:
                direction = self._direction(one)
                pieces.extend(whole(direction, one.parameter).split(self.parts[one.parameter]))
            made = iter(orthogonalized(pieces, dtype_of_products(some[0].weight.device)))
            for one in some:
                scaled = [piece * like_adamw(piece) for piece in islice(made, len(self.parts[one.parameter]))]
                one.move(share(torch.cat(scaled), one.parameter).to(one.weight.dtype), rate, rate * decay)

    def _direction(self, one: Trained) -> Tensor:
        """Of Nesterov's momentum: this process' part, float32."""
        gradient = one.gradient
        average = averaged(one.moment("momentum", self.state_dtype), gradient, (1 - self.momentum) * one.takes)
        return gradient.lerp(average, self.momentum)


def dtype_of_products(device: torch.device) -> torch.dtype:
    """bfloat16, which the method bears, on GPUs and on CPUs with tiles for it (AMX); float32 on others.

    There bfloat16 took 1.1 to 2.1 times as long (AVX512-BF16 without AMX, one thread, 4 to 16 matrices of 128 x 128 to 768 x 2048).
    """
    if device.type == "cuda" or torch.cpu._is_amx_tile_supported():  # pyright: ignore[reportPrivateUsage]  (torch has no public probe)
        return torch.bfloat16
    return torch.float32


def like_adamw(matrix: Tensor) -> float:
    """By which an orthogonal [m, n] gets AdamW's root mean square: its own is 1 / sqrt(max(m, n))."""
    return LIKE_ADAMW * max(matrix.shape) ** 0.5


def orthogonalized(matrices: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Each [m, n] with all its singular values near 1. Those of one shape, lying or standing, go through the products together.

    Among several processes, each of which holds them all, every one makes its share and gets the others'.
    """
    made: list[Tensor] = list(matrices)
    shapes = [tuple(sorted(matrix.shape)) for matrix in matrices]
    for shape in dict.fromkeys(shapes):
        here = [at for at, found in enumerate(shapes) if found == shape]
        stack = torch.stack([_lying(matrices[at]).to(dtype) for at in here])
        for at, result in zip(here, _by_shares(stack), strict=True):
            made[at] = result if matrices[at].shape == result.shape else result.mT
    return made


def newton_schulz(stack: Tensor) -> Tensor:
    """[B, m, n], m <= n -> the same shape: singular values of 0.7 to 1.2, unless they were some thousandths of the largest."""
    a, b, c = COEFFICIENTS
    x = stack / stack.norm(dim=(1, 2), keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(ROUNDS):
        gram = x @ x.mT  # (B, m, m)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_shares(stack: Tensor) -> Tensor:
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return newton_schulz(stack)
    rank, world = dist.get_rank(), dist.get_world_size()
    most = -(-len(stack) // world)
    own = torch.zeros(most, *stack.shape[1:], dtype=stack.dtype, device=stack.device)
    taken = stack[rank * most : (rank + 1) * most]
    if len(taken):
        own[: len(taken)] = newton_schulz(taken)
    found = [torch.empty_like(own) for _ in range(world)]
    dist.all_gather(found, own)
    return torch.cat(found)[: len(stack)]


def _lying(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT


def _portions(trained: Sequence[Trained]) -> Iterator[list[Trained]]:
    """In order, each of at most `AT_A_TIME` numbers, or of one parameter."""
    portion: list[Trained] = []
    for one in trained:
        if portion and sum(held.parameter.numel() for held in portion) + one.parameter.numel() > AT_A_TIME:
            yield portion
            portion = []
        portion.append(one)
    yield portion

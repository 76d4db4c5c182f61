"""Parameter freezing: ordered patterns over names, of which the last that matches decides; a table says what came of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from model.nn.name_patterns import check_patterns, last_match

TRUNK, EMBEDDINGS = "trunk.*", ("trunk.embedding.*", "trunk.token_types.*", "trunk.*positions.*")
BLOCK = re.compile(r"^(trunk\..*?)blocks\.(\d+)\.")


@dataclass(frozen=True)
class FreezePattern:
    """Parameters whose names match `glob` learn, or do not."""

    glob: str
    trains: bool


@dataclass(frozen=True)
class Group:
    """One row of the table: parameters that belong together and fare alike."""

    name: str  # trunk.embedding, trunk.stack.blocks.3, score, …
    parameters: int
    trained: int  # of them


def apply_patterns(model: nn.Module, patterns: Sequence[FreezePattern]) -> None:
    """Sets which parameters learn; those that no pattern names stay as they are.

    Raises ValueError for a pattern that matches no parameter, with names near it.
    """
    parameters = dict(model.named_parameters())
    globs = [pattern.glob for pattern in patterns]
    check_patterns("freeze pattern", globs, list(parameters))
    for name, parameter in parameters.items():
        at = last_match(name, globs)
        if at is not None:
            parameter.requires_grad_(patterns[at].trains)


def store_frozen(model: nn.Module, dtype: torch.dtype) -> int:
    """Keeps frozen matrices in `dtype`, that of the products, which then need no copy of them; returns how many numbers those are.

    What a layer computes with them stays the same. Vectors are few, and stay as they are.
    """
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad and parameter.dim() >= 2]
    for parameter in frozen:
        parameter.data = parameter.data.to(dtype)
    return sum(parameter.numel() for parameter in frozen)


def restore_frozen(model: nn.Module, source: nn.Module) -> None:
    """Frozen parameters become those of `source` again, which `model` was made from: byte for byte, in its dtype."""
    theirs = dict(source.named_parameters())
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            parameter.data = theirs[name].data.to(parameter.device)


def trunk_patterns() -> tuple[FreezePattern, ...]:
    """Only the head learns."""
    return (FreezePattern(TRUNK, trains=False),)


def embeddings_patterns(model: nn.Module) -> tuple[FreezePattern, ...]:
    """Only the embeddings, of tokens, segments and positions, and the head learn."""
    names = [name for name, _ in model.named_parameters()]
    learning = [glob for glob in EMBEDDINGS if any(last_match(name, [glob]) is not None for name in names)]
    return (*trunk_patterns(), *(FreezePattern(glob, trains=True) for glob in learning))


def top_patterns(model: nn.Module, layers: int) -> tuple[FreezePattern, ...]:
    """Only the last `layers` layers, the norm behind them and the head learn; of an encoder-decoder its decoder's.

    Raises ValueError where the model has fewer layers, or none that can be told apart.
    """
    stacks: dict[str, set[int]] = {}
    for name, _ in model.named_parameters():
        if match := BLOCK.match(name):
            stacks.setdefault(match[1], set()).add(int(match[2]))
    if not stacks:
        raise ValueError("freeze: this model's layers are one module, so none of them can be frozen alone")
    stack = list(stacks)[-1]
    depth = len(stacks[stack])
    if not 1 <= layers <= depth:
        raise ValueError(f"freeze: top {layers} of a model of {depth} layers; expected 1 to {depth}")
    learning = [f"{stack}blocks.{number}.*" for number in range(depth - layers, depth)]
    norm = f"{stack}norm.*"
    if any(last_match(name, [norm]) is not None for name, _ in model.named_parameters()):
        learning.append(norm)
    return (*trunk_patterns(), *(FreezePattern(glob, trains=True) for glob in learning))


def freezing_table(model: nn.Module) -> tuple[Group, ...]:
    """What learns, in the order of the model: a row for each layer and each other part."""
    sizes: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        row = sizes.setdefault(_group(name), [0, 0])
        row[0] += parameter.numel()
        row[1] += parameter.numel() if parameter.requires_grad else 0
    return tuple(Group(name, size, trained) for name, (size, trained) in sizes.items())


def table_lines(table: Sequence[Group]) -> list[str]:
    """The table as text: part, parameters, how many of them learn; layers that fare alike in one line, the sum in the last."""
    rows = [*_joined(table), Group("in all", sum(row.parameters for row in table), sum(row.trained for row in table))]
    width = max(len(row.name) for row in rows)
    lines = [f"{'part':<{width}} {'parameters':>14}  learns"]
    for row in rows:
        learns = "yes" if row.trained == row.parameters else f"{row.trained:,}" if row.trained else "no"
        lines.append(f"{row.name:<{width}} {row.parameters:>14,}  {learns}")
    return lines


def _joined(table: Sequence[Group]) -> list[Group]:
    """Neighboring layers of the same size and fate become one row: trunk.stack.blocks.0-10."""
    rows: list[Group] = []
    first = table[0]
    for row in table:
        stem, _, number = row.name.rpartition(".")
        alike = (row.parameters, row.trained) == (first.parameters, first.trained)
        if rows and number.isdigit() and stem == first.name.rpartition(".")[0] and alike:
            last = rows.pop()
            name = f"{first.name}-{number}"
            rows.append(Group(name, last.parameters + row.parameters, last.trained + row.trained))
        else:
            first = row
            rows.append(row)
    return rows


def _group(name: str) -> str:
    """`trunk.stack.blocks.3` for what is in a layer, else the module that holds the parameter."""
    match = BLOCK.match(name)
    return match[0].removesuffix(".") if match else name.rpartition(".")[0] or name

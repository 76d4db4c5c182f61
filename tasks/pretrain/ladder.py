"""Ladder: small trainings of a recipe's own data, model family and schedule, each with a small share of the whole run's arithmetic.

A rung is the whole run made smaller on both sides: with a share s of its arithmetic it has about sqrt(s) of the operations a token and
sqrt(s) of the tokens, so that tokens per parameter stay as they are, in the spirit of arXiv 2203.15556. Short runs are bound by their
steps: a rung has as many as the whole run, or ENOUGH_STEPS, if need be with a smaller batch (the batch up to which larger ones save
steps grows with the tokens: arXiv 2410.21676). Learning rates stay: what a smaller width would raise (arXiv 2203.03466), a smaller
batch would lower. Warm-up, decay and phases keep their share of the steps; rows, their order and validation are the whole run's own.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field

from model.config.layout_config import LayoutConfig
from model.config.model_config import ModelConfig
from model.config.training_config import BatchPhase, ContextPhase, MixturePhase, OptimizerConfig
from model.training.budget import flops_per_token
from tasks.artifacts import Tokenizer, TokenShards
from tasks.cluster import Launch
from tasks.errors import UserError
from tasks.ledger import StageOutcome
from tasks.pretrain.config import PretrainConfig, Pretraining
from tasks.pretrain.pretrain import pretrain_model
from tasks.settings import Section

LEAST_STEPS = 12  # of a rung: with fewer its loss tells of its first steps alone
ENOUGH_STEPS = 1000  # of a rung, for which its batch is made smaller than the whole run's
MANY_HEADS = 8  # a model with so many is made narrower by whole heads; one with fewer by narrower heads too
CHANNELS = 4  # by which heads, and recurrent layers, are made narrower
STRETCHED, OTHER_HEADS = 0.25, 0.02  # how much a shape counts against a model, beside how far its operations are off

AnyPhase = TypeVar("AnyPhase", MixturePhase, ContextPhase, BatchPhase)


class LadderConfig(Section):
    """Small trainings from whose losses that of the whole run is predicted: `wordmill plan RECIPE --ladder`."""

    revision: Literal[1] = 1
    rungs: int = Field(default=4, ge=3, le=8, description="trainings, each with `ratio` times the arithmetic of the one before")
    ratio: float = Field(default=2.0, ge=1.2, le=16, description="arithmetic of a rung over that of the one before")
    share: float = Field(default=0.25, gt=0, le=0.5, description="of the whole run's arithmetic that the last rung has, at most")
    flops: float = Field(
        default=3e13,
        gt=0,
        description="floating-point operations of all rungs together, at most: share is halved until they fit",
    )


@dataclass(frozen=True)
class Laddered:
    """A pretraining, and the ladder that is to predict it."""

    whole: Pretraining
    ladder: LadderConfig


@dataclass(frozen=True)
class RungOf:
    """One rung of it, the smallest being 0. What it comes to depends on the tokenizer's vocabulary."""

    laddered: Laddered
    number: int


@dataclass(frozen=True)
class Rung:
    """A training to be made."""

    training: Pretraining
    flops: float  # of all its steps


def whole_flops(whole: Pretraining, vocab_size: int, context: int) -> float:
    """Floating-point operations of the whole run, as `flops_per_token` counts them."""
    return flops_per_token(whole.shape, vocab_size, context) * whole.pretrain.tokens


def shares(ladder: LadderConfig, flops: float) -> list[float]:
    """Of `flops`, the whole run's arithmetic, that each rung has, the smallest first."""
    parts = [ladder.ratio ** (number + 1 - ladder.rungs) for number in range(ladder.rungs)]
    share = ladder.share
    while share * flops * sum(parts) > ladder.flops:
        share /= 2
    return [share * part for part in parts]


def ladder_of(laddered: Laddered, vocab_size: int, context: int) -> list[Rung]:
    """All rungs. UserError, with what would do, where the whole run is too short for any."""
    whole = laddered.whole.pretrain.steps
    parts = shares(laddered.ladder, whole_flops(laddered.whole, vocab_size, context))
    rungs = [rung(laddered.whole, share, vocab_size, context) for share in parts]
    steps = rungs[0].training.pretrain.steps
    if steps < LEAST_STEPS:
        raise UserError(
            f"ladder: its smallest training would have {steps} steps, expected {LEAST_STEPS} or more: the whole run has {whole:,}. Fix: "
            f"set pretrain.steps to {math.ceil(whole * LEAST_STEPS / steps):,} or more, or raise ladder.share or ladder.flops."
        )
    return rungs


def rung(whole: Pretraining, share: float, vocab_size: int, context: int) -> Rung:
    """The whole run with `share` of its arithmetic, in rows of `context` tokens."""
    model = smaller_model(whole.shape, math.sqrt(share), vocab_size, context)
    token_flops = flops_per_token(model, vocab_size, context)
    tokens, batch = share * whole_flops(whole, vocab_size, context) / token_flops, whole.pretrain.batch_tokens
    each = whole.pretrain.tokens / whole.pretrain.steps / batch  # batches of a step, on average
    steps = min(whole.pretrain.steps, max(ENOUGH_STEPS, tokens / (batch * each)))
    rows = min(max(1, round(tokens / steps / each / context)), batch // context)
    steps = max(1, round(tokens / (rows * context * each)))
    training = smaller_training(whole.pretrain, steps, rows, context)
    return Rung(Pretraining(model, training), token_flops * training.tokens)


def smaller_model(model: ModelConfig, share: float, vocab_size: int, context: int) -> ModelConfig:
    """Of the same family and about the same proportions, with about `share` of the operations a token, the head's among them."""
    target = share * flops_per_token(model, vocab_size, context)

    def distance(candidate: ModelConfig) -> float:
        off = math.log(flops_per_token(candidate, vocab_size, context) / target)
        stretched = math.log(candidate.width / candidate.layers * model.layers / model.width)
        return abs(off) + STRETCHED * abs(stretched) + OTHER_HEADS * (1 - candidate.head_width / model.head_width)

    return min(smaller_models(model), key=distance)


def smaller_models(model: ModelConfig) -> Iterator[ModelConfig]:
    """Those that could be built, the model itself among them."""
    for part, heads, width in sorted(widths(model)):
        for layers in range(1, model.layers + 1):
            yield resized(model, part, heads, width, layers)


def widths(model: ModelConfig) -> set[tuple[float, int, int]]:
    """Part of the model's width, heads, channels."""
    if model.is_recurrent:
        return {(width / model.width, model.heads, width) for width in {*range(CHANNELS, model.width, CHANNELS), model.width}}
    whole_heads = model.heads >= MANY_HEADS or bool(model.head_dim)
    head_widths = [model.head_width] if whole_heads else [*range(CHANNELS, model.head_width, CHANNELS), model.head_width]
    counts = [(heads, heads * head / (model.heads * model.head_width)) for heads in range(1, model.heads + 1) for head in head_widths]
    return {(part, heads, round(model.width * part)) for heads, part in counts if model.width * part % 1 == 0}


def resized(model: ModelConfig, part: float, heads: int, width: int, layers: int) -> ModelConfig:
    """What else has a size keeps its proportion to the width, or to the layers."""
    wanted = scaled(model.key_value_heads, heads / model.heads)
    return replace(
        model,
        width=width,
        heads=heads,
        layers=layers,
        decoder_layers=model.decoder_layers and scaled(model.decoder_layers, layers / model.layers),
        kv_heads=model.kv_heads and max(count for count in range(1, wanted + 1) if heads % count == 0),
        mlp_width=model.mlp_width and scaled(model.mlp_width, part),
    )


def scaled(count: int, part: float) -> int:
    """At least 1."""
    return max(1, round(count * part))


def smaller_training(whole: PretrainConfig, steps: int, rows: int, context: int) -> PretrainConfig:
    """The same over `steps` steps of `rows` rows, in one process of this machine."""
    part = steps / whole.steps
    judged = whole.evaluate_batches * (whole.batch_tokens // context)  # rows
    batches = [replace(one, batch_tokens=one.batch_tokens // whole.batch_tokens * rows * context) for one in whole.batch_schedule]
    return whole.model_copy(
        update={
            "steps": steps,
            "batch_tokens": rows * context,
            "batch_schedule": earlier(batches, part),
            "optimizer": shorter_schedule(whole.optimizer, part),
            "mixture": earlier(whole.mixture, part),
            "curriculum": earlier(whole.curriculum, part),
            "evaluate_every": steps if whole.best is None else scaled(whole.evaluate_every, part),
            "evaluate_batches": math.ceil(judged / rows),
            "log_every": scaled(whole.log_every, part),
            "keep_checkpoints": 1,
            "keep_every": None,
            "norms_every": None,
            "profile": None,
            "checkpoint_place": None,
            "layout": LayoutConfig(),
            "workers": 0,
        }
    )


def shorter_schedule(optimizer: OptimizerConfig, part: float) -> OptimizerConfig:
    """Warm-up and decay keep their share of the steps."""
    return replace(
        optimizer,
        warmup_steps=optimizer.warmup_steps and scaled(optimizer.warmup_steps, part),
        decay_steps=None if optimizer.decay_steps is None else scaled(optimizer.decay_steps, part),
    )


def earlier(phases: Sequence[AnyPhase], part: float) -> tuple[AnyPhase, ...]:
    """Of phases that fall on one step the last one counts."""
    moved = {round(phase.from_step * part): phase for phase in phases}
    return tuple(replace(phase, from_step=step) for step, phase in sorted(moved.items()))


def train_rung(config: RungOf, shards: TokenShards, tokenizer: Tokenizer, out: Path, launch: Launch) -> StageOutcome:
    """Train it as any pretraining is; a build that was killed goes on. Figures besides: its operations, and those of the whole run."""
    vocab_size, context = int(tokenizer.figures["vocab_size"]), int(shards.figures["context"])
    chosen = ladder_of(config.laddered, vocab_size, context)[config.number]
    outcome = pretrain_model(chosen.training, shards, tokenizer, out, launch)
    told = {"flops": chosen.flops, "whole_flops": whole_flops(config.laddered.whole, vocab_size, context)}
    shape = chosen.training.shape
    return replace(outcome, figures={**outcome.figures, **told, "width": float(shape.width), "layers": float(shape.layers)})

"""Prediction of a whole run's validation loss from its ladder of small trainings, with an interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from model.training.budget import parameters
from tasks.artifacts import Manifest, PretrainedModel, Tokenizer, TokenShards, Workspace, read_manifest
from tasks.errors import UserError
from tasks.ledger import Ledger, StageOutcome
from tasks.pretrain.ladder import Laddered, whole_flops
from tasks.pretrain.loss_law import LossLaw, Point, fit_law

PREDICTION, PICTURE = "prediction.json", "ladder.svg"
FAN_POINTS = 12  # between the last rung and the whole run, at which the interval is drawn


@dataclass(frozen=True)
class Step:
    """A rung that was trained."""

    parameters: int
    width: int
    layers: int
    steps: int
    tokens: int
    flops: float
    loss: float  # nats per target, on the validation rows of the whole run


@dataclass(frozen=True)
class Prediction:
    """What the ladder says of the whole run."""

    rungs: tuple[Step, ...]  # the smallest first
    parameters: int  # of the whole run
    tokens: int
    law: LossLaw
    fan: tuple[LossLaw, ...]  # the same for less compute, from the last rung on
    bits_per_nat: float | None  # bits per byte for a loss of 1; None where the targets are not the text

    def bits_per_byte(self, loss: float) -> float | None:
        """Of a loss on these validation rows."""
        return None if self.bits_per_nat is None else loss * self.bits_per_nat


STORED = TypeAdapter(Prediction)


def read_prediction(folder: Path) -> Prediction:
    """What `predict_loss` wrote."""
    return STORED.validate_json((folder / PREDICTION).read_bytes())


def find_prediction(workspace: Workspace, pretraining: Manifest) -> Prediction | None:
    """The newest one of this very pretraining: of its settings and its tokens. None where there is none."""
    found: list[tuple[str, Path]] = []
    for folder in (workspace.root / "ladder").glob("*"):
        manifest = None if folder.suffix == ".partial" else read_manifest(folder)
        if manifest is not None and is_of(manifest, pretraining):
            found.append((manifest.finished, folder))
    return read_prediction(max(found)[1]) if found else None


def is_of(ladder: Manifest, pretraining: Manifest) -> bool:
    """Whether it predicts this one: what identifies the pretraining is part of what identifies its ladder."""
    told, inputs = ladder.config, pretraining.inputs
    return isinstance(told, dict) and told.get("whole") == pretraining.config and {**ladder.inputs, **inputs} == ladder.inputs


def predict_loss(
    config: Laddered,
    rungs: Sequence[PretrainedModel],
    shards: TokenShards,
    tokenizer: Tokenizer,
    out: Path,
    draw: Callable[[Prediction], str],
) -> StageOutcome:
    """prediction.json and the picture ladder.svg, as `draw` gives it. UserError where the rungs' losses follow no law."""
    vocab_size, context = int(tokenizer.figures["vocab_size"]), int(shards.figures["context"])
    flops = whole_flops(config.whole, vocab_size, context)
    try:
        found = predicted(config, [step_of(one) for one in rungs], bits_per_nat(rungs[-1]), flops, vocab_size)
    except ValueError as error:
        raise UserError(
            f"ladder: nothing can be predicted from these trainings: {error}. Fix: a longer run, or a larger ladder.share or "
            "ladder.ratio, so that they differ by more than chance."
        ) from error
    (out / PREDICTION).write_bytes(STORED.dump_json(found, indent=1) + b"\n")
    (out / PICTURE).write_text(draw(found), encoding="utf-8")
    figures = {"predicted_loss": found.law.loss, "predicted_low": found.law.low, "predicted_high": found.law.high}
    return StageOutcome(Ledger(rows_out=1), figures=figures)


def predicted(config: Laddered, rungs: Sequence[Step], bits: float | None, flops: float, vocab_size: int) -> Prediction:
    """ValueError where the losses follow no law."""
    points = [Point(one.flops, one.loss) for one in rungs]
    between = np.geomspace(rungs[-1].flops, flops, FAN_POINTS)
    fan = tuple(fit_law(points, float(cost)) for cost in between)
    pretrain = config.whole.pretrain
    return Prediction(
        tuple(rungs),
        parameters(config.whole.shape, vocab_size),
        pretrain.tokens,
        fit_law(points, flops),
        fan,
        bits,
    )


def step_of(rung: PretrainedModel) -> Step:
    """As its manifest tells of it."""
    told = rung.figures
    return Step(
        int(told["parameters"]),
        int(told["width"]),
        int(told["layers"]),
        int(told["steps"]),
        int(told["tokens"]),
        told["flops"],
        told["validation_loss"],
    )


def bits_per_nat(rung: PretrainedModel) -> float | None:
    """From its two figures on the same rows."""
    bits = rung.figures.get("validation_bits_per_byte")
    return None if bits is None else bits / rung.figures["validation_loss"]

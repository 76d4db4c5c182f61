"""Standing: a newcomer's figure beside the champion's; the rule before there was a gate, which nothing new may use."""

import json
from dataclasses import dataclass

from tasks.artifacts import Scores, read_manifest
from tasks.errors import UserError
from tasks.examples.deciding import lower_is_better
from tasks.promotion.register_config import RegisterConfig
from tasks.scores import OWN, read_scores


@dataclass(frozen=True)
class Standing:
    """What a score is worth comparing by: its value, its interval, and the digest of what it was measured on."""

    value: float
    low: float
    high: float
    measured_on: str


def is_better(metric: str, newcomer: float, champion: float, margin: float) -> bool:
    """Whether the newcomer beats the champion by more than `margin`; an equal score is not better."""
    gain = champion - newcomer if lower_is_better(metric) else newcomer - champion
    return gain > margin


def standing(scores: Scores, metric: str) -> Standing:
    """The model's own figure of `metric`. UserError when the suite did not measure it."""
    rows = [row for row in read_scores(scores.path) if row.model == OWN]
    manifest = read_manifest(scores.path)
    measured = {} if manifest is None else {k: v for k, v in manifest.inputs.items() if k not in ("model", "tokenizer")}
    config = None if manifest is None else manifest.config
    for row in rows:
        if row.metric == metric:
            digest = json.dumps([measured, config], sort_keys=True)
            return Standing(row.value, row.ci_low, row.ci_high, digest)
    known = ", ".join(sorted({row.metric for row in rows}))
    raise UserError(f"register: the suite measured no {metric}, only: {known}. Add its task to evaluate.tasks.")


def decide(config: RegisterConfig, metric: str, newcomer: Standing, champion: Standing | None) -> tuple[bool, str]:
    """Whether the newcomer becomes champion, and why, in words."""
    if config.promote != "better":
        return config.promote == "always", f"promote: {config.promote}"
    if champion is None:
        return True, "the first of its name"
    if champion.measured_on != newcomer.measured_on:
        return True, "the champion was scored on other text, so the newer model takes over"
    found = f"{metric} {newcomer.value:.4f} against the champion's {champion.value:.4f}"
    if is_better(metric, newcomer.value, champion.value, 0.0):
        return True, f"better: {found}"
    return False, f"not better: {found}"

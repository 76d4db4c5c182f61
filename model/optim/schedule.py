"""Learning rate schedule: warm-up, then cosine, linear or constant."""

import math

from model.config.training_config import OptimizerConfig


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Rate for optimizer step `step` of `steps`, counted from 0.

    Linear warmup that reaches the peak on step `warmup_steps - 1`, then one decay that reaches
    `final_learning_rate` on the last step. Source of the cosine: arXiv 1608.03983, a single cycle.
    Warmup longer than the run is cut off with the run.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return config.learning_rate
    decayed = (step - config.warmup_steps + 1) / max(1, steps - config.warmup_steps)
    remaining = 1 - min(decayed, 1.0)
    if config.decay == "cosine":
        remaining = (1 - math.cos(math.pi * remaining)) / 2
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * remaining

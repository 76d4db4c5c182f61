"""Learning rate schedule: warm-up, then cosine, linear, constant, power, or stable with a decay at the end (WSD)."""

import math

from model.config.training_config import WSD_SHARE, OptimizerConfig


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Rate for optimizer step `step` of `steps`, counted from 0.

    Linear warmup that reaches the peak on step `warmup_steps - 1`, then one decay that reaches
    `final_learning_rate` on the last step. Source of the cosine: arXiv 1608.03983, a single cycle; of wsd, which stays at
    the peak up to its last steps: arXiv 2404.06395, its shapes linear and "sqrt" (1 - sqrt): arXiv 2405.18392; power, with
    0.5: arXiv 1706.03762, section 5.3. Constant and power do not depend on `steps`, wsd only in its decay.
    Warmup longer than the run is cut off with the run.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return config.learning_rate
    if config.decay == "power":
        begin = max(1, config.warmup_steps)
        return max(config.final_learning_rate, config.learning_rate * ((step + 1) / begin) ** -config.power)
    begin = stable_steps(steps, config)
    decayed = min((step - begin + 1) / max(1, steps - begin), 1.0)
    if decayed <= 0:
        return config.learning_rate
    shape = config.decay if config.decay in ("cosine", "linear") else config.decay_shape
    if shape == "cosine":
        remaining = (1 - math.cos(math.pi * (1 - decayed))) / 2
    elif shape == "sqrt":
        remaining = 1 - math.sqrt(decayed)
    else:
        remaining = 1 - decayed
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * remaining


def stable_steps(steps: int, config: OptimizerConfig) -> int:
    """How many of `steps` steps do not depend on their number, and are equal in a longer run: warm-up and what is stable."""
    if config.decay in ("constant", "power"):
        return steps
    if config.decay != "wsd":
        return min(steps, config.warmup_steps)
    decay_steps = max(1, round(steps * WSD_SHARE)) if config.decay_steps is None else config.decay_steps
    return min(steps, max(config.warmup_steps, steps - decay_steps))

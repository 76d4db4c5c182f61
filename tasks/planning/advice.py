"""Advice on a pretraining before it is run: is the arithmetic well spent between size and tokens, and is the text long enough."""

import math

OPTIMAL = 20.0  # tokens a parameter: arXiv 2203.15556 (Hoffmann et al.), table 3, approaches 1 and 2
FEW, MANY = 5.0, 100.0  # tokens a parameter beyond which a note speaks up
MOST_EPOCHS = 4.0  # passes over the same text that are worth nearly as much as new text: arXiv 2305.16264 (Muennighoff et al.)
SOURCE = "Hoffmann et al., arXiv 2203.15556"


def compute_optimal(flops: float) -> tuple[float, float]:
    """(parameters, tokens) on which so many operations are best spent: C = 6 N D with D = 20 N."""
    parameters = math.sqrt(flops / (6 * OPTIMAL))
    return parameters, OPTIMAL * parameters


def size_advice(parameters: int, tokens: float) -> str:
    """What the ratio of tokens to parameters says, with its source; attention's own arithmetic is left out, as there."""
    ratio = tokens / parameters
    size, text = compute_optimal(6 * parameters * tokens)
    told = f"{ratio:,.3g} tokens per parameter; best for a training's FLOPs is about {OPTIMAL:g} ({SOURCE})"
    if OPTIMAL / 2 <= ratio <= OPTIMAL * 2:
        return told
    better = f"the same FLOPs reach the least loss with {short(size)} parameters on {short(text)} tokens"
    if ratio < FEW:
        return f"{told}: far too few tokens for this model; {better}"
    if ratio < OPTIMAL:
        return f"{told}; {better}"
    return f"{told}; {better}. Longer is right where the model is to be small in use" + (
        ", and costs more than it brings" if ratio > MANY else ""
    )


def epoch_advice(tokens: float, text: float) -> str:
    """Of a training on so many tokens from shards with `text` of them; empty where there is nothing to say."""
    passes = tokens / text
    if passes <= MOST_EPOCHS:
        return ""
    return (
        f"{passes:,.1f} passes over the {short(text)} tokens of the shards: beyond {MOST_EPOCHS:g} a repeated token is worth less "
        "than a new one (Muennighoff et al., arXiv 2305.16264): take more text, or fewer steps"
    )


def short(count: float) -> str:
    """1234567 as 1.23 M."""
    for unit in ("", " k", " M", " G", " T"):
        if count < 999.5 or unit == " T":
            return f"{count:,.3g}{unit}" if unit or count != round(count) else f"{count:,.0f}"
        count /= 1000
    raise AssertionError

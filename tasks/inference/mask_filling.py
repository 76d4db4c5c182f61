"""Mask filling: masked tokens of a text. T tokens, V vocabulary."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.errors import UserError
from tasks.tokenizer.encoding import MASK_TOKENS, decode_text, mask_of, text_ids
from tasks.tokenizer.word_encoding import WordEncoder

if TYPE_CHECKING:
    import tokenizers

    from model.nn.models import MaskedLanguageModel

USUAL = "[MASK]"  # what people write, whatever the tokenizer's own is


@dataclass(frozen=True)
class Filling:
    """A text without masks, and the product of the probabilities of what was filled in, each guessed with all masks there."""

    text: str
    words: tuple[str, ...]  # what stands for each mask
    probability: float


def fill_masks(model: "MaskedLanguageModel", tokenizer: "tokenizers.Tokenizer", prompt: str, count: int) -> list[Filling]:
    """The `count` likeliest fillings, likeliest first. UserError when the prompt has no mask, or is too long."""
    import torch

    mask = mask_of(tokenizer)
    if mask is None:
        raise UserError(f"MODEL: the tokenizer has no mask token, expected one of {', '.join(MASK_TOKENS)}.")
    name = str(tokenizer.id_to_token(mask))
    ids = _row(tokenizer, re.split("|".join(map(re.escape, (name, USUAL))), prompt), mask)
    positions = [at for at, number in enumerate(ids) if number == mask]
    if not positions:
        both = name if name == USUAL else f"{name} or {USUAL}"
        raise UserError(f"PROMPT has no {both}: this model fills in what is masked. Fix: put {name} where a token is missing.")
    if len(ids) > model.trunk.config.context:
        raise UserError(
            f"PROMPT has {len(ids)} tokens with those around it, but the model's context is {model.trunk.config.context}. Fix: shorten it."
        )
    with torch.no_grad():
        logits = model(torch.tensor([ids]), torch.tensor([len(ids)]))[0, positions, : tokenizer.get_vocab_size()]
    logits[:, mask] = -torch.inf
    values, tokens = logits.float().log_softmax(dim=-1).topk(min(count, logits.shape[1] - 1))  # (masks, count)
    best: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for their_values, their_tokens in zip(values.tolist(), tokens.tolist(), strict=True):
        longer = [
            ((*chosen, token), nats + value) for chosen, nats in best for token, value in zip(their_tokens, their_values, strict=True)
        ]
        best = sorted(longer, key=lambda one: -one[1])[:count]
    return [_filling(tokenizer, ids, positions, chosen, nats) for chosen, nats in best]


def _row(tokenizer: "tokenizers.Tokenizer", parts: list[str], mask: int) -> list[int]:
    """Start, the parts of the prompt with masks between them, end; other special tokens' spellings stay text.

    Where a word's token holds the space before it, as in training, so does the mask.
    """
    around, encoder = text_ids(tokenizer, "MODEL"), WordEncoder(tokenizer)
    token = tokenizer.get_added_tokens_decoder().get(mask)
    if token is not None and token.lstrip:
        parts = [part.rstrip() for part in parts[:-1]] + parts[-1:]
    elif encoder.encode(["a", " ", "a"])[1]:
        parts = [part.removesuffix(" ") for part in parts[:-1]] + parts[-1:]
    row = [around.bos]
    for number, part in enumerate(encoder.encode(parts)):
        row += [mask, *part] if number else part
    return [*row, around.eos]


def _filling(tokenizer: "tokenizers.Tokenizer", ids: list[int], positions: list[int], chosen: tuple[int, ...], nats: float) -> Filling:
    import math

    filled = list(ids)
    for at, token in zip(positions, chosen, strict=True):
        filled[at] = token
    words = tuple(decode_text(tokenizer, [token]).strip() for token in chosen)
    return Filling(decode_text(tokenizer, filled), words, math.exp(nats))

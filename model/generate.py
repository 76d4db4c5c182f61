"""Text from a language model: batched, cached, and reproducible from its seed.

B prompts, V vocabulary.
"""

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from model.attention import KeyValueCache
from model.heads import LanguageModel


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: frozenset[int] = frozenset(),
) -> Iterator[list[int | None]]:
    """Yields, once per step, the next token id of every prompt; None for a prompt that has ended.

    A prompt ends after `max_tokens`, after one of `stop_ids` (which is yielded), or when the context is full.
    Temperature 0 takes the likeliest token; otherwise a token is drawn from the `top_k` likeliest (0: all), then from
    the fewest whose probabilities reach `top_p`. Draws come from (seed, place of the prompt) alone: no global random
    state, and neither the other prompts nor other threads change a text. The model must be in eval mode if threads
    share it. Raises ValueError, at once, for prompts that are empty, too long or outside of the vocabulary.
    """
    _check_prompts(model, prompts)
    _check_sampling(max_tokens, temperature, top_k, top_p)
    return _steps(model, prompts, max_tokens, temperature, top_k, top_p, seed, stop_ids)


def complete(
    model: LanguageModel,
    prompt: Sequence[int],
    count: int,
    max_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    stop_ids: frozenset[int] = frozenset(),
) -> list[list[int]]:
    """`count` continuations of one prompt, without the prompt, stop ids included; see `generate`."""
    texts: list[list[int]] = [[] for _ in range(count)]
    for tokens in generate(model, [prompt] * count, max_tokens, temperature, top_k, top_p, seed, stop_ids):
        for text, token in zip(texts, tokens, strict=True):
            if token is not None:
                text.append(token)
    return texts


def _steps(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    stop_ids: frozenset[int],
) -> Iterator[list[int | None]]:
    device = model.trunk.embedding.weight.device
    room = [min(max_tokens, model.trunk.config.context - len(prompt)) for prompt in prompts]
    draws = torch.stack([_uniforms(seed, row, max_tokens) for row in range(len(prompts))]).to(device)  # (B, max_tokens)
    cache = model.trunk.new_cache(len(prompts))
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    ids = torch.zeros(len(prompts), max(map(len, prompts)), dtype=torch.int64, device=device)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt, device=device)
    last = lengths - 1
    for step in range(max(room)):
        with torch.no_grad():
            hidden = _in_eval_mode(model, ids, cache)
            logits = model.logits(hidden[torch.arange(len(ids), device=device), last]).float()  # (B, V)
        if step == 0:
            cache.truncate(lengths)
        chosen = pick(logits, draws[:, step], temperature, top_k, top_p)
        tokens = [token if step < left else None for token, left in zip(chosen.tolist(), room, strict=True)]
        yield tokens
        room = [step if token in stop_ids else left for token, left in zip(tokens, room, strict=True)]
        if step + 1 >= max(room):
            return
        ids, last = chosen[:, None], torch.zeros_like(last)
        if cache.longest == model.trunk.config.context:  # a full row has ended: it makes room for those that have not
            cache.truncate(cache.lengths.clamp(max=model.trunk.config.context - 1))


def pick(logits: Tensor, draws: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """One token id per row: logits [B, V], draws [B] uniform in [0, 1) -> [B] int64."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    ordered, order = torch.sort(logits / temperature, dim=-1, descending=True, stable=True)
    if top_k:
        ordered, order = ordered[:, :top_k], order[:, :top_k]
    reached = torch.softmax(ordered, dim=-1, dtype=torch.float64).cumsum(dim=-1)  # (B, K)
    before = torch.cat((torch.zeros_like(reached[:, :1]), reached[:, :-1]), dim=-1)
    kept = (before < top_p).sum(dim=-1, keepdim=True)  # the likeliest is always kept
    total = reached.gather(1, kept - 1)
    place = torch.searchsorted(reached, draws[:, None].double() * total, right=True).clamp(max=kept - 1)
    return order.gather(1, place).squeeze(1)


def _in_eval_mode(model: LanguageModel, ids: Tensor, cache: KeyValueCache) -> Tensor:
    """The hidden states without dropout; the mode is put back, since whoever iterates may train in between."""
    was_training = model.training
    if was_training:
        model.eval()
    hidden = model.trunk(ids, cache)
    if was_training:
        model.train()
    return hidden


def _uniforms(seed: int, row: int, count: int) -> Tensor:
    """[count] float64 in [0, 1), from a generator of their own."""
    key = hashlib.blake2b(f"{seed}:{row}".encode(), digest_size=7).digest()
    return torch.rand(count, generator=torch.Generator().manual_seed(int.from_bytes(key)), dtype=torch.float64)


def _check_prompts(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> None:
    context, vocab_size = model.trunk.config.context, model.trunk.vocab_size
    if not prompts:
        raise ValueError("no prompts were given")
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {number} is empty: give at least one token, such as the end-of-text token")
        if len(prompt) > context - 1:
            raise ValueError(
                f"prompt {number} has {len(prompt)} tokens, but a context of {context} leaves room for {context - 1}: "
                f"shorten it, or keep its last {context - 1} tokens"
            )
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise ValueError(
                f"prompt {number} has token ids outside of 0 to {vocab_size - 1}: use the model's tokenizer"
            )


def _check_sampling(max_tokens: int, temperature: float, top_k: int, top_p: float) -> None:
    if max_tokens < 1:
        raise ValueError(f"max_tokens {max_tokens}: expected 1 or more")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature {temperature}: expected 0 (the likeliest token) or more")
    if top_k < 0:
        raise ValueError(f"top_k {top_k}: expected 0 (all tokens) or more")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p {top_p}: expected above 0 and at most 1")

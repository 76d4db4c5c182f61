"""Text generation: batched, cached, and reproducible from its seed. B rows, V vocabulary."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.inference.decoding import Cache, Writer, check_rows, context_of, extend, only_reading, read_prompts, read_sources
from model.inference.sampling import Sampling, penalize, pick, uniforms
from model.nn.models import LanguageModel, Seq2SeqModel


@dataclass(frozen=True)
class Token:
    """One token of a text, with the model's own log-probabilities in nats, before temperature, penalty and cuts, if asked."""

    id: int
    log_probability: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()  # the likeliest tokens, likeliest first


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    alternatives: int | None = None,
    numbers: Sequence[int] | None = None,
) -> "Generation":
    """Continues every prompt; see `Generation`. `alternatives` asks for log-probabilities, and of how many others.
    `numbers`: those of the prompts by which they draw, where they are a part of others.

    A prompt ends after `max_tokens`, after one of `stop_ids` (which is yielded), or when the context is full, which a
    recurrent model's never is. Draws come from (seed, number of the prompt) alone: no global random state, and neither the
    other prompts nor other threads change a text. The model must be in eval mode if threads share it. Raises ValueError, at
    once, for prompts that are empty, too long or outside of the vocabulary.
    """
    context = context_of(model)
    check_rows(model, prompts, "prompt", None if context is None else context - 1)
    room = [sampling.max_tokens if context is None else context - len(prompt) for prompt in prompts]
    return Generation(model, lambda: read_prompts(model, prompts), prompts, room, sampling, alternatives, numbers)


def translate(
    model: Seq2SeqModel, sources: Sequence[Sequence[int]], start: int, sampling: Sampling, alternatives: int | None = None
) -> "Generation":
    """Writes a target for every source, behind the token `start`, which is not yielded; else as `generate`."""
    context = model.trunk.config.context
    check_rows(model, sources, "source", context)
    check_rows(model, [[start]], "start", context)
    begun = [[start]] * len(sources)
    room = [context - 1] * len(sources)
    return Generation(model, lambda: read_sources(model, sources, start), begun, room, sampling, alternatives)


def complete(model: LanguageModel, prompt: Sequence[int], count: int, sampling: Sampling) -> list[list[int]]:
    """`count` continuations of one prompt, without the prompt, stop ids included; see `generate`."""
    texts: list[list[int]] = [[] for _ in range(count)]
    for tokens in generate(model, [prompt] * count, sampling):
        for text, token in zip(texts, tokens, strict=True):
            if token is not None:
                text.append(token.id)
    return texts


class Generation(Iterator[list[Token | None]]):
    """Yields, once per step, the next token of every row; None for a row that has ended."""

    def __init__(
        self,
        model: Writer,
        begin: Callable[[], tuple[Tensor, Cache]],
        begun: Sequence[Sequence[int]],
        room: list[int],
        sampling: Sampling,
        alternatives: int | None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._model, self._begin, self._sampling, self._alternatives = model, begin, sampling, alternatives
        self._room = [min(left, sampling.max_tokens) for left in room]  # tokens that each row may have in all
        self._rows = list(range(len(begun)))  # those that the cache still holds
        self._step = 0
        self._cache: Cache | None = None
        self._last = torch.empty(0)  # [B] int64, the tokens of the step before
        device = model.trunk.embedding.weight.device
        self._seen: Tensor | None = None  # [B, V] bool
        if sampling.repetition_penalty != 1:
            self._seen = torch.zeros(len(begun), model.trunk.vocab_size, dtype=torch.bool, device=device)
            for row, ids in enumerate(begun):
                self._seen[row, list(ids)] = True
        self._draws = torch.empty(0)  # [B, most tokens] float64
        if sampling.temperature > 0:
            most = max(self._room)
            self._draws = torch.stack([uniforms(sampling.seed, number, most) for number in numbers or self._rows]).to(device)

    def end(self, row: int) -> None:
        """The row gets no further token."""
        self._room[row] = min(self._room[row], self._step)

    def __next__(self) -> list[Token | None]:
        if self._step >= max(self._room):
            raise StopIteration
        with only_reading(self._model):
            logits = self._model.logits(self._hidden()).float()  # (B, V)
            self._last = self._choose(logits)
            chosen = self._told(logits, self._last)
        tokens: list[Token | None] = [None] * len(self._room)
        for row, token in zip(self._rows, chosen, strict=True):
            if self._step < self._room[row]:
                tokens[row] = token
                if token.id in self._sampling.stop_ids:
                    self._room[row] = self._step + 1
        self._step += 1
        return tokens

    def _hidden(self) -> Tensor:
        """[B, C]: of the prompts' ends, then of the tokens of the step before."""
        if self._cache is None:
            hidden, self._cache = self._begin()
            return hidden
        self._drop_ended(self._cache)
        return extend(self._model, self._last[:, None], self._cache)

    def _drop_ended(self, cache: Cache) -> None:
        """Rows that have ended go once they are half of all, or when one of them fills the context."""
        alive = [at for at, row in enumerate(self._rows) if self._step < self._room[row]]
        if 2 * len(alive) > len(self._rows) and cache.longest != context_of(self._model):
            return
        rows = torch.tensor(alive)
        cache.reorder(rows)
        rows = rows.to(self._last.device)
        self._last = self._last[rows]
        self._seen = None if self._seen is None else self._seen[rows]
        self._draws = self._draws if self._sampling.temperature == 0 else self._draws[rows]
        self._rows = [self._rows[at] for at in alive]

    def _choose(self, logits: Tensor) -> Tensor:
        """[B, V] -> [B] int64."""
        if self._seen is not None:
            logits = penalize(logits, self._seen, self._sampling.repetition_penalty)
        draws = self._draws if self._sampling.temperature == 0 else self._draws[:, self._step]
        chosen = pick(logits, draws, self._sampling)
        if self._seen is not None:
            self._seen.scatter_(1, chosen[:, None], True)
        return chosen

    def _told(self, logits: Tensor, chosen: Tensor) -> list[Token]:
        if self._alternatives is None:
            return [Token(number) for number in chosen.tolist()]
        log_probabilities = logits.log_softmax(dim=-1)
        own = log_probabilities.gather(1, chosen[:, None]).squeeze(1)
        values, ids = log_probabilities.topk(min(self._alternatives, logits.shape[1]))
        return [
            Token(number, value, tuple(zip(others, their_values, strict=True)))
            for number, value, others, their_values in zip(chosen.tolist(), own.tolist(), ids.tolist(), values.tolist(), strict=True)
        ]

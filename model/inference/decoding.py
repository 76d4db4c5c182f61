"""Autoregressive decoding, step by step, whatever the kind of model: prompts read, one more token, checks of what is given.

B rows, T tokens, C channels.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from model.nn.kv_cache import KeyValueCache
from model.nn.models import LanguageModel, Seq2SeqModel
from model.nn.recurrent import Recurrent, RecurrentState

Writer = LanguageModel | Seq2SeqModel
Cache = KeyValueCache | RecurrentState


@contextmanager
def only_reading(model: Writer) -> Generator[None]:
    """No gradients and no dropout; the mode is put back, since whoever iterates may train in between."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if was_training:
            model.train()


def read_prompts(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Cache]:
    """Hidden states of the prompts' last tokens [B, C], and the cache; a prompt that stands there twice is read once."""
    unique, order = _unique(prompts)
    ids, lengths = padded(unique, model.trunk.embedding.weight.device)
    trunk = model.trunk
    if isinstance(trunk, Recurrent):
        cache = trunk.new_cache(len(unique))
        hidden = trunk.prefill(ids, lengths, cache)
    else:
        cache = trunk.new_cache(len(unique))
        hidden = trunk.prefill(ids, lengths, cache)
    if len(unique) == len(prompts):
        return hidden, cache
    cache.reorder(order)
    return hidden[order], cache


def read_sources(model: Seq2SeqModel, sources: Sequence[Sequence[int]], start: int) -> tuple[Tensor, Cache]:
    """Hidden states of the target's first token `start` [B, C], and the cache; a source that stands there twice is read once."""
    unique, order = _unique(sources)
    ids, lengths = padded(unique, model.trunk.embedding.weight.device)
    cache = model.trunk.new_cache(model.trunk.encode(ids, lengths), lengths)
    hidden = model.trunk.extend(torch.full((len(unique), 1), start, device=ids.device), cache)
    if len(unique) == len(sources):
        return hidden, cache
    cache.reorder(order)
    return hidden[order], cache


def extend(model: Writer, ids: Tensor, cache: Cache) -> Tensor:
    """One more token of each row, ids [B, 1] -> hidden [B, C]."""
    if isinstance(model.trunk, Recurrent):
        assert isinstance(cache, RecurrentState)
        return model.trunk.extend(ids, cache)
    assert isinstance(cache, KeyValueCache)
    return model.trunk.extend(ids, cache)


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(ids [B, T] int64, zeros behind a row's end; lengths [B])."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    return ids.to(device), torch.tensor([len(row) for row in rows], device=device)


def context_of(model: Writer) -> int | None:
    """The most tokens that a text may have, prompt included; None: a carried state has no end."""
    return None if isinstance(model.trunk, Recurrent) else model.trunk.config.context


def check_rows(model: Writer, rows: Sequence[Sequence[int]], what: str, most: int | None) -> None:
    """Raises ValueError unless there are rows, each of 1 to `most` tokens of the model's vocabulary."""
    if not rows:
        raise ValueError(f"no {what}s were given")
    for number, row in enumerate(rows):
        if not row:
            raise ValueError(f"{what} {number} is empty: give at least one token, such as the end-of-text token")
        if most is not None and len(row) > most:
            raise ValueError(
                f"{what} {number} has {len(row)} tokens, but a context of {model.trunk.config.context} leaves room for "
                f"{most}: shorten it, or keep its last {most} tokens"
            )
        if min(row) < 0 or max(row) >= model.trunk.vocab_size:
            raise ValueError(f"{what} {number} has token ids outside of 0 to {model.trunk.vocab_size - 1}: use the model's tokenizer")


def _unique(rows: Sequence[Sequence[int]]) -> tuple[list[tuple[int, ...]], Tensor]:
    """The rows that differ, and for each row its number among them [B]."""
    numbers: dict[tuple[int, ...], int] = {}
    order = [numbers.setdefault(tuple(row), len(numbers)) for row in rows]
    return list(numbers), torch.tensor(order)

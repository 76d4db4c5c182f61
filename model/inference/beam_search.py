"""Beam search: the likeliest targets of an encoder-decoder. B rows, V vocabulary."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config.checks import at_least
from model.inference.decoding import check_rows, extend, only_reading, read_sources
from model.nn.models import Seq2SeqModel


@dataclass(frozen=True)
class Beams:
    """How targets are searched. Raises ValueError for a setting out of bounds."""

    count: int = 4  # of texts that go on side by side
    max_tokens: int = 100
    length_penalty: float = 1.0  # scores are divided by tokens ** this: above 0 favors long texts
    stops_early: bool = False  # at `count` ended texts; else once no text that goes on can be expected to beat the worst
    stop_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        at_least(1, beams=self.count, max_tokens=self.max_tokens)
        if not math.isfinite(self.length_penalty):
            raise ValueError(f"length_penalty {self.length_penalty}: expected a finite number")


@dataclass(frozen=True)
class Hypothesis:
    """One target, without its start token; a stop id that ends it is part of it."""

    ids: tuple[int, ...]
    score: float  # nats, summed over the tokens and divided by their number to the power of the length penalty


@dataclass(frozen=True)
class _Running:
    ids: tuple[int, ...]
    nats: float


def search(model: Seq2SeqModel, sources: Sequence[Sequence[int]], start: int, beams: Beams) -> list[list[Hypothesis]]:
    """For each source its `beams.count` best targets, best first, written behind the token `start`.

    The rules are those of transformers, whose tokens it gives: a text that ends counts if it is among the `count` best
    continuations of its step, and without `stops_early` the best running text is compared at its present length. Raises
    ValueError for sources that are empty, too long or outside of the vocabulary, and for more beams than tokens allow.
    """
    context = model.trunk.config.context
    check_rows(model, sources, "source", context)
    check_rows(model, [[start]], "start", context)
    if model.trunk.vocab_size < 2 * beams.count:
        raise ValueError(f"beams {beams.count}: expected at most {model.trunk.vocab_size // 2}, half of the vocabulary")
    searches = [_Search(beams) for _ in sources]
    active = list(searches)
    last_step = min(beams.max_tokens, context - 1)
    with only_reading(model):
        hidden, cache = read_sources(model, sources, start)
        for step in range(1, last_step + 1):
            log_probabilities = model.logits(hidden).float().log_softmax(dim=-1)  # (B, V)
            rows: list[int] = []
            first = 0
            for one in active:
                width = len(one.running)
                chosen = one.advance(log_probabilities[first : first + width], step == last_step)
                rows.extend(first + row for row in chosen)
                first += width
            active = [one for one in active if not one.is_over]
            if not active:
                break
            cache.reorder(torch.tensor(rows))
            last = [[text.ids[-1]] for one in active for text in one.running]
            hidden = extend(model, torch.tensor(last, device=hidden.device), cache)
    return [one.finished for one in searches]


class _Search:
    """The search of one source."""

    def __init__(self, beams: Beams) -> None:
        self.beams = beams
        self.running = [_Running((), 0.0)]
        self.finished: list[Hypothesis] = []  # the best, best first
        self.is_over = False

    def advance(self, log_probabilities: Tensor, is_last: bool) -> list[int]:
        """From [running, V]: the rows that the texts which now run have come from; none once the search is over."""
        count, vocab_size = self.beams.count, log_probabilities.shape[1]
        nats = torch.tensor([text.nats for text in self.running], device=log_probabilities.device)
        best, order = (log_probabilities + nats[:, None]).flatten().topk(self._candidates(log_probabilities.numel()))
        step = len(self.running[0].ids) + 1
        going: list[tuple[int, _Running]] = []
        for rank, (score, at) in enumerate(zip(best.tolist(), order.tolist(), strict=True)):
            row, token = divmod(at, vocab_size)
            text = _Running((*self.running[row].ids, token), score)
            if not is_last and token not in self.beams.stop_ids:
                going.append((row, text))
            elif rank < count:
                self.finished.append(Hypothesis(text.ids, score / step**self.beams.length_penalty))
        self.finished = sorted(self.finished, key=lambda text: -text.score)[:count]
        going = going[:count]
        self.running = [text for _, text in going]
        self.is_over = is_last or not going or (len(self.finished) == count and not self._can_improve(step))
        return [] if self.is_over else [row for row, _ in going]

    def _candidates(self, most: int) -> int:
        """So many that `count` of them go on, even if every text that runs could end in each of its ways."""
        return min(most, max(2, 1 + len(self.beams.stop_ids)) * self.beams.count)

    def _can_improve(self, step: int) -> bool:
        return not self.beams.stops_early and (self.running[0].nats / step**self.beams.length_penalty > self.finished[-1].score)

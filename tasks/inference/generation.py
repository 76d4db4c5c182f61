"""Text generation for users: texts continued or translated, as they come, up to stop strings."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError
from tasks.examples.kinds.instruction import prompt_ids
from tasks.examples.pair_rows import source_ids, told_start
from tasks.inference.saved_models import as_language_model, start_id
from tasks.tokenizer.encoding import decode_text, encode_behind_token, encode_documents, special_ids, stop_ids

if TYPE_CHECKING:
    import tokenizers

    from model.inference.beam_search import Beams
    from model.inference.generate import Generation, Token
    from model.inference.sampling import Sampling
    from model.nn.models import LanguageModel, Model, Seq2SeqModel

UNFINISHED = "\ufffd"  # what a decoder puts for bytes that are no whole character
JOINED_TOKENS = 16  # of a prompt, that are decoded with what follows them
LONGEST_CLEANED = 8  # characters that BERT's decoder may still change: " do not" becomes " don't"
ROUND_SEEDS = 1_000_003  # between the seeds of rounds: a prime beyond the seeds that people choose

logger = logging.getLogger("wordmill")


@dataclass(frozen=True)
class Chunk:
    """What one more token has made certain of a text."""

    row: int
    text: str  # whole characters; may be empty
    token: "Token | None" = None  # None: the rest, at the end


@dataclass(frozen=True)
class Continued:
    """The end of what a text goes on: by it a tokenizer knows whether a space comes next."""

    ids: tuple[int, ...] = ()
    text: str = ""  # of the ids
    has_space: bool = False  # the prompt ends with a space, of which the ids say nothing


def end_of(tokenizer: "tokenizers.Tokenizer", prompt: str, ids: Sequence[int]) -> Continued:
    """Of the prompt, whose ids are `ids`."""
    last = tuple(ids[-JOINED_TOKENS:])
    text = tokenizer.decode(last, skip_special_tokens=False)  # what stands for an unknown word has a space behind it too
    return Continued(last, text, bool(last) and prompt[-1:].isspace() and not text[-1:].isspace())


def _cleans_up(tokenizer: "tokenizers.Tokenizer") -> bool:
    """Whether its decoder takes spaces away when it sees what comes behind them, as BERT's "do n't"."""
    from tokenizers import decoders

    return isinstance(tokenizer.decoder, decoders.WordPiece) and tokenizer.decoder.cleanup


def _shared(before: str, whole: str) -> int:
    """Characters at the beginning of both: all of `before`, unless what follows has changed its end."""
    differing = (at for at, pair in enumerate(zip(before, whole, strict=False)) if pair[0] != pair[1])
    return next(differing, min(len(before), len(whole)))


class GrowingText:
    """A text whose tokens come one by one. What it gives away no later token changes, and no stop string is in it."""

    def __init__(
        self, tokenizer: "tokenizers.Tokenizer", ends: frozenset[int], stops: Sequence[str], continued: "Continued | None" = None
    ) -> None:
        """`continued`: what the text goes on; None: it begins."""
        self._tokenizer, self._ends, self._stops = tokenizer, ends, stops
        self._continued = continued or Continued()
        self._special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._unsure = LONGEST_CLEANED if _cleans_up(tokenizer) else 0
        self.ids: list[int] = []  # without the one that ended it
        self.text = ""  # as far as it is certain
        self.is_over = False

    def add(self, token: int) -> str:
        """What is certain now and was not before. The text is over behind a token that ends texts, or a stop string."""
        if token in self._ends:
            self.is_over = True
            return self._grow(self._decoded())
        self.ids.append(token)
        whole = self._decoded()
        found = [at for stop in self._stops if (at := whole.find(stop, self._searched_from(stop))) >= 0]
        if found:
            self.is_over = True
            return self._grow(whole[: min(found)])
        whole = whole.rstrip(UNFINISHED)
        whole = whole[: max(len(self.text), len(whole) - self._unsure)]
        return self._grow(whole[: len(whole) - self._begun_stop(whole)])

    def finish(self) -> str:
        """What was held back, if the text has not ended by itself; a last character whose bytes are not all there is left out."""
        if self.is_over:
            return ""
        self.is_over = True
        return self._grow(self._decoded().rstrip(UNFINISHED))

    def _decoded(self) -> str:
        before = self._continued
        own = [number for number in self.ids if number not in self._special]
        whole = self._tokenizer.decode([*before.ids, *own], skip_special_tokens=False)
        text = whole[_shared(before.text, whole) :]
        return text.removeprefix(" ") if before.has_space else text

    def _grow(self, certain: str) -> str:
        chunk = certain[len(self.text) :]
        self.text += chunk
        return chunk

    def _searched_from(self, stop: str) -> int:
        return max(0, len(self.text) - len(stop) + 1)

    def _begun_stop(self, text: str) -> int:
        """Characters at the end that may be the beginning of a stop string."""
        begun = (length for stop in self._stops for length in range(1, len(stop)) if text.endswith(stop[:length]))
        return max(begun, default=0)


def continue_text(
    model: "Model",
    tokenizer: "tokenizers.Tokenizer",
    prompt: str,
    count: int,
    sampling: "Sampling",
    stops: Sequence[str] = (),
    is_chat: bool = False,
) -> list[str]:
    """`count` whole continuations; see `stream_text`."""
    texts = [""] * count
    for chunk in stream_text(model, tokenizer, prompt, count, sampling, stops, is_chat):
        texts[chunk.row] += chunk.text
    return texts


def stream_text(
    model: "Model",
    tokenizer: "tokenizers.Tokenizer",
    prompt: str,
    count: int,
    sampling: "Sampling",
    stops: Sequence[str] = (),
    is_chat: bool = False,
    alternatives: int | None = None,
) -> Iterator[Chunk]:
    """`count` continuations, without the prompt, as they come; an empty prompt begins a text.

    The same seed gives the same texts. They end at the tokenizer's own tokens too, and before any of `stops`. Past the
    context the model reads on with the last part of what is there. `is_chat`: the prompt is a question to a model that was
    tuned on instructions. `alternatives`: log-probabilities, with those of so many likeliest tokens. UserError, at once, for a
    model that does not continue texts.
    """
    speaker: LanguageModel = as_language_model(model, "generate text")
    _check_count(count)
    _check_stops(stops)
    if is_chat:
        (ids,), continued = encode_behind_token(tokenizer, [prompt]), Continued()
        start, frame = prompt_ids(ids, special_ids(tokenizer, "MODEL")), len(prompt_ids([], special_ids(tokenizer, "MODEL"))) - 1
    else:
        (ids,) = encode_documents(tokenizer, [prompt])
        start, frame, continued = [start_id(tokenizer), *ids], 0, end_of(tokenizer, prompt, ids)
    ends = sampling.stop_ids | stop_ids(tokenizer)
    texts = [GrowingText(tokenizer, ends, stops, continued) for _ in range(count)]
    return _rounds(speaker, start, frame, texts, dataclasses.replace(sampling, stop_ids=ends), alternatives)


def stream_translation(
    model: "Seq2SeqModel",
    tokenizer: "tokenizers.Tokenizer",
    source: str,
    start: int,
    count: int,
    sampling: "Sampling",
    stops: Sequence[str] = (),
    alternatives: int | None = None,
) -> Iterator[Chunk]:
    """`count` targets of one source, behind the token `start`, as they come; see `stream_text`."""
    from model.inference.generate import translate

    _check_count(count)
    _check_stops(stops)
    ends = sampling.stop_ids | stop_ids(tokenizer)
    texts = [GrowingText(tokenizer, ends, stops) for _ in range(count)]
    sources = [source_ids(tokenizer, source)] * count
    try:
        steps = translate(model, sources, start, dataclasses.replace(sampling, stop_ids=ends), alternatives)
    except ValueError as error:
        raise UserError(f"generate: {error}") from error
    return _to_the_end(_chunks(steps, list(range(count)), texts), texts)


def translate_text(
    model: "Seq2SeqModel", tokenizer: "tokenizers.Tokenizer", source: str, start: int, count: int, sampling: "Sampling"
) -> list[str]:
    """`count` whole targets of one source; see `stream_translation`."""
    texts = [""] * count
    for chunk in stream_translation(model, tokenizer, source, start, count, sampling):
        texts[chunk.row] += chunk.text
    return texts


def search_translation(
    model: "Seq2SeqModel", tokenizer: "tokenizers.Tokenizer", source: str, start: int, beams: "Beams"
) -> list[tuple[str, float]]:
    """The best targets of one source with their scores, by beam search, best first."""
    from model.inference.beam_search import search

    ends = beams.stop_ids | stop_ids(tokenizer)
    try:
        (found,) = search(model, [source_ids(tokenizer, source)], start, dataclasses.replace(beams, stop_ids=ends))
    except ValueError as error:
        raise UserError(f"generate: {error}") from error
    return [
        (decode_text(tokenizer, [number for number in text.ids if number not in ends]).rstrip(UNFINISHED), text.score) for text in found
    ]


def target_start(folder: Path, tokenizer: "tokenizers.Tokenizer") -> int:
    """The token that a target begins with: by config.json, else the one that begins any text."""
    told = told_start(folder)
    return start_id(tokenizer) if told is None else told


def _rounds(
    model: "LanguageModel", prompt: list[int], frame: int, texts: list[GrowingText], sampling: "Sampling", alternatives: int | None
) -> Iterator[Chunk]:
    """Each goes on until the context is full, the next begins with the last part of the texts, behind the `frame` of the prompt."""
    from model.inference.decoding import context_of
    from model.inference.generate import generate

    context, rounds = context_of(model), 0
    if context is not None and len(prompt) >= context:
        logger.warning(
            "the prompt has %d tokens with what stands around it, the model a context of %d: it reads the last part alone",
            len(prompt),
            context,
        )
    while alive := [row for row, text in enumerate(texts) if not text.is_over and len(text.ids) < sampling.max_tokens]:
        left = sampling.max_tokens - len(texts[alive[0]].ids)  # as many in all that are alive
        reach = None if context is None else max(1, context - max(1, min(left, context // 2)))
        prompts = [_last_part(prompt + texts[row].ids, frame, reach) for row in alive]
        this_round = dataclasses.replace(sampling, max_tokens=left, seed=sampling.seed + ROUND_SEEDS * rounds)
        try:
            steps = generate(model, prompts, this_round, alternatives, numbers=alive)
        except ValueError as error:
            raise UserError(f"generate: {error}") from error
        yield from _chunks(steps, alive, texts)
        rounds += 1
    yield from _to_the_end(iter(()), texts)


def _last_part(ids: list[int], frame: int, reach: int | None) -> list[int]:
    """What a model reads of `ids`: a question that is too long loses its beginning, as in learning, not what stands before it."""
    if reach is None or len(ids) <= reach:
        return ids
    return [*ids[:frame], *ids[frame - reach :]] if frame < reach else ids[-reach:]


def _chunks(steps: "Generation", rows: list[int], texts: list[GrowingText]) -> Iterator[Chunk]:
    for tokens in steps:
        for at, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            if token is not None:
                yield Chunk(row, texts[row].add(token.id), token)
                if texts[row].is_over:
                    steps.end(at)


def _to_the_end(chunks: Iterator[Chunk], texts: list[GrowingText]) -> Iterator[Chunk]:
    yield from chunks
    for row, text in enumerate(texts):
        rest = text.finish()
        if rest:
            yield Chunk(row, rest)


def _check_count(count: int) -> None:
    if count < 1:
        raise UserError(f"count {count}: expected 1 or more")


def _check_stops(stops: Sequence[str]) -> None:
    if "" in stops:
        raise UserError("stop '': an empty string stands everywhere. Fix: leave it out, or name what ends a text.")

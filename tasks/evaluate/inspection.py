"""Model inspection: what goes on in a model while it reads and writes the sample prompts; inspection.json, for the report.

Bounded whatever the model: TEXTS texts of TOKENS tokens, LAYERS layers with their mean and HEADS heads.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.tokenizer.byte_pairs import byte_letters
from tasks.tokenizer.encoding import encode_behind_token, encode_documents, mask_of, special_ids
from tasks.tokenizer.word_encoding import WordEncoder

if TYPE_CHECKING:
    import tokenizers

    from model.inference.inspection import TokenLosses
    from model.nn.models import LanguageModel, MaskedLanguageModel
    from tasks.evaluate.judged import Subject

TEXTS, TOKENS, LAYERS, HEADS, ALTERNATIVES = 4, 32, 8, 3, 5
PARTS = 1_000  # attention is written in whole thousandths


@dataclass(frozen=True)
class TokenView:
    """A token where it stands."""

    text: str
    nats: float | None  # -ln p of it, from what the model read; None where that was nothing
    alternatives: tuple[tuple[str, float], ...]  # likeliest first, with probabilities
    moved: float | None  # gradient times input for the explained token; None where it was not read


@dataclass(frozen=True)
class MapView:
    """Attention from each token (row) to each (column), in thousandths."""

    head: int | None  # counted from 0; None: the mean of all
    thousandths: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LayerView:
    """A layer, counted from 0: the mean of its heads, then those that differ most from it."""

    layer: int
    maps: tuple[MapView, ...]


@dataclass(frozen=True)
class Inside:
    """A text, seen through the model."""

    given: int  # tokens from the start that were not the model's own
    explained: int  # the token whose prediction `moved` explains
    tokens: tuple[TokenView, ...]
    layers_in_all: int
    heads_in_all: int
    layers: tuple[LayerView, ...]  # none in a recurrent model


@dataclass(frozen=True)
class _Text:
    ids: list[int]
    given: int


def look_at_samples(subject: "Subject", model: "LanguageModel", texts: Sequence[tuple[str, str]], is_chat: bool) -> list[Inside]:
    """The beginnings of the first samples, (prompt, continuation) each, token by token, up to bytes that are no character."""
    from tasks.examples.kinds.instruction import prompt_ids
    from tasks.inference.saved_models import start_id

    found: list[Inside] = []
    for prompt, text in texts[:TEXTS]:
        parts = (prompt, text.partition("\N{REPLACEMENT CHARACTER}")[0])
        if is_chat:
            asked, written = encode_behind_token(subject.tokenizer, parts)
            begun = prompt_ids(asked, special_ids(subject.tokenizer, "MODEL"))
        else:
            asked, written = WordEncoder(subject.tokenizer).encode(parts)
            begun = [start_id(subject.tokenizer), *asked]
        read = _Text([*begun, *written][: min(TOKENS, model.trunk.config.context)], len(begun))
        if len(read.ids) > 1:
            found.append(_look(subject.tokenizer, model, read, None))
    return found


def look_at_prompts(subject: "Subject", model: "MaskedLanguageModel", prompts: Sequence[str]) -> list[Inside]:
    """The prompts, each token guessed from all others; none when the tokenizer has no mask."""
    mask = mask_of(subject.tokenizer)
    if mask is None:
        return []
    rows = [row[: min(TOKENS, model.trunk.config.context)] for row in encode_documents(subject.tokenizer, prompts)]
    return [_look(subject.tokenizer, model, _Text(row, len(row)), mask) for row in rows if len(row) > 1][:TEXTS]


def write_insides(insides: Sequence[Inside], path: Path) -> None:
    """One JSON list; equal views give equal bytes."""
    path.write_text(json.dumps([asdict(one) for one in insides], ensure_ascii=False) + "\n", encoding="utf-8")


def read_insides(path: Path) -> tuple[Inside, ...]:
    """What `write_insides` wrote."""
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[Inside, ...]).validate_json(path.read_bytes())


def _look(tokenizer: "tokenizers.Tokenizer", model: "LanguageModel | MaskedLanguageModel", text: _Text, mask: int | None) -> Inside:
    from model.inference.inspection import attention_maps, attribution, token_losses

    ids = text.ids
    losses = token_losses(model, ids, min(ALTERNATIVES, model.trunk.vocab_size), mask)
    explained = len(ids) - 1 if mask is None else int(np.argmax(losses.nats))
    moved = attribution(model, ids, explained, mask)
    maps = attention_maps(model, ids)
    tokens = tuple(_token(tokenizer, number, losses, moved, at) for at, number in enumerate(ids))
    heads = len(maps[0]) if maps else 0
    return Inside(text.given, explained, tokens, len(maps), heads, tuple(_layer(at, maps[at]) for at in _spread(len(maps))))


def _token(tokenizer: "tokenizers.Tokenizer", number: int, losses: "TokenLosses", moved: NDArray[np.float32], at: int) -> TokenView:
    nats = float(losses.nats[at])
    text, weight = token_text(tokenizer, number), round(float(moved[at]), 4) if at < len(moved) else None
    if np.isnan(nats):
        return TokenView(text, None, (), weight)
    likely = zip(losses.top_ids[at], losses.top_probabilities[at], strict=True)
    alternatives = tuple((token_text(tokenizer, int(one)), round(float(share), 4)) for one, share in likely)
    return TokenView(text, round(nats, 3), alternatives, weight)


def _spread(layers: int) -> list[int]:
    """At most LAYERS of them, evenly, the first and the last among them."""
    return sorted({round(at) for at in np.linspace(0, layers - 1, min(layers, LAYERS))}) if layers else []


def _layer(layer: int, weights: NDArray[np.float32]) -> LayerView:
    """weights [H, T, T]: the mean and the heads farthest from it, in their order."""
    mean = weights.mean(axis=0)
    if len(weights) == 1:
        return LayerView(layer, (_map(None, mean),))
    distance = np.abs(weights - mean).sum(axis=(1, 2))
    heads = sorted(int(head) for head in np.argsort(-distance, kind="stable")[:HEADS])
    return LayerView(layer, (_map(None, mean), *(_map(head, weights[head]) for head in heads)))


def _map(head: int | None, weights: NDArray[np.float32]) -> MapView:
    return MapView(head, tuple(tuple(int(part) for part in row) for row in np.rint(PARTS * weights)))


def token_text(tokenizer: "tokenizers.Tokenizer", number: int) -> str:
    """A token as text; bytes that are no whole characters as ⟨E4 BB⟩."""
    raw, text = tokenizer.id_to_token(number), tokenizer.decode([number], skip_special_tokens=False)
    if raw is None:
        return f"⟨{number}⟩"  # padding of the vocabulary
    if "\N{REPLACEMENT CHARACTER}" in text:
        values = {letter: byte for byte, letter in enumerate(byte_letters())}
        return f"⟨{' '.join(f'{values[c]:02X}' for c in raw)}⟩" if all(c in values for c in raw) else raw
    return " " + text.lstrip() if raw.startswith("▁") else text

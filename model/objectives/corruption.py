"""Text corruption: rows of tokens masked, shuffled, or with spans cut out. All functions of their arguments, in NumPy.

B rows, T tokens, V vocabulary. A unit is what changes whole: a token, a word or a sentence. Special tokens and padding are
in none: they are never masked nor moved, and no unit or span reaches across one.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.config.heads import IGNORED
from model.config.objective_config import ObjectiveConfig
from model.objectives.noise import Keys, choose_lowest, numbers, uniforms

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]

HIDING, REPLACING, TOKEN, SPLITTING, MOVING, ORDERING = range(6)  # streams of chance, each independent
NONE = -1  # the unit of what is in none


@dataclass(frozen=True)
class Symbols:
    """The tokens that stand for no text, in one tokenizer."""

    bos: int
    eos: int
    pad: int
    is_special: Flags  # [V]
    mask: int | None = None
    separator: int | None = None
    sentinels: tuple[int, ...] = ()


def movable(ids: Ids, lengths: Ids, symbols: Symbols) -> Flags:
    """Which tokens may change: [B, T]."""
    return ~symbols.is_special[ids] & (np.arange(ids.shape[1]) < lengths[:, None])


def number_units(starts: Flags, is_movable: Flags) -> Ids:
    """The unit of each token, counted from 0 in its row, NONE for what is in none: [B, T]."""
    begins = is_movable.copy()
    begins[:, 1:] &= starts[:, 1:] | ~is_movable[:, :-1]
    return np.where(is_movable, np.cumsum(begins, axis=1) - 1, NONE)


def hide_units(units: Ids, share: float, keys: Keys) -> Flags:
    """Of each row as many tokens as make the share, and the rest of the last one's unit; at least one where there is any."""
    is_movable = units != NONE
    counts = is_movable.sum(axis=1)
    wanted = np.where(counts > 0, np.clip(np.rint(counts * share), 1, None), 0).astype(np.int64)
    chance = np.take_along_axis(numbers(keys, units.shape[1], HIDING), np.maximum(units, 0), axis=1)
    return choose_lowest(chance, is_movable, wanted)


def mask(ids: Ids, is_hidden: Flags, config: ObjectiveConfig, keys: Keys, symbols: Symbols) -> tuple[Ids, Ids]:
    """BERT's inputs and targets: the hidden tokens become <|mask|>, another token, or stay, by the config's shares."""
    assert symbols.mask is not None
    ordinary = np.flatnonzero(~symbols.is_special)
    fate = uniforms(keys, ids.shape[1], REPLACING)
    others = ordinary[(numbers(keys, ids.shape[1], TOKEN) % np.uint64(len(ordinary))).astype(np.int64)]
    inputs = ids.copy()
    is_masked = is_hidden & (fate < config.mask_share)
    is_random = is_hidden & ~is_masked & (fate < config.mask_share + config.random_share)
    inputs[is_masked] = symbols.mask
    inputs[is_random] = others[is_random]
    return inputs, np.where(is_hidden, ids, IGNORED)


def hide_spans(units: Ids, config: ObjectiveConfig, keys: Keys) -> Flags:
    """T5's spans: exactly the share of the units, in random spans of the mean length, no two of which touch: [B, T].

    Source: `random_spans_noise_mask` of T5's code, with `random_roll`, so that every position is as likely.
    """
    counts = units.max(axis=1, initial=NONE) + 1
    width = int(counts.max(initial=0))
    hidden = np.clip(np.rint(counts * config.share), 1, np.maximum(counts - 1, 1)).astype(np.int64)
    kept = np.maximum(counts - hidden, 0)
    spans = np.clip(np.rint(hidden / config.mean_span), 1, np.minimum(hidden, np.maximum(kept, 1))).astype(np.int64)
    columns = np.arange(width)
    cuts = choose_lowest(numbers(keys, width, HIDING), columns < hidden[:, None] - 1, spans - 1)  # behind hidden units
    gaps = choose_lowest(numbers(keys, width, SPLITTING), columns < kept[:, None] - 1, spans - 1)  # behind kept ones
    span = np.cumsum(cuts, axis=1) - cuts  # of each hidden unit
    ends = np.sort(np.where(gaps, columns + 1, kept[:, None]), axis=1)  # kept units up to the end of each run of them
    turn = numbers(keys, 1, MOVING) % np.maximum(counts, 1).astype(np.uint64)[:, None]
    positions = (columns + np.take_along_axis(ends, span, axis=1) + turn.astype(np.int64)) % np.maximum(counts, 1)[:, None]
    flags = np.zeros((len(units), width + 1), np.bool_)
    rows, numbers_hidden = np.nonzero(columns < np.where(counts > 0, hidden, 0)[:, None])
    flags[rows, positions[rows, numbers_hidden]] = True
    return np.take_along_axis(flags, units, axis=1) & (units != NONE)  # NONE, the last column, is never set


def shuffle(ids: Ids, units: Ids, config: ObjectiveConfig, keys: Keys) -> Ids:
    """The same tokens with spans in another order, each among the spans between the same two special tokens: [B, T].

    Spans have `mean_span` units on average (geometric); a `share` of them, chosen by chance, are moved.
    """
    is_movable = units != NONE
    previous = np.roll(units, 1, axis=1)
    previous[:, 0] = NONE
    unit = np.maximum(units, 0)
    splits = np.take_along_axis(uniforms(keys, ids.shape[1], SPLITTING), unit, axis=1) < 1 / config.mean_span
    is_edge = ~is_movable | (previous == NONE)  # a special token, or the first behind one
    starts = (is_edge | ((units != previous) & splits)).ravel()
    span = np.cumsum(starts) - 1  # of each token, over all rows
    firsts = np.flatnonzero(starts)
    stretch = np.cumsum(is_edge.ravel())[firsts]  # of each span: between which special tokens it lies
    moves = (uniforms(keys, ids.shape[1], MOVING) < config.share).ravel()[firsts] & is_movable.ravel()[firsts]
    slots = np.flatnonzero(moves)
    chance = numbers(keys, ids.shape[1], ORDERING).ravel()[firsts]
    destination = np.arange(len(firsts))
    destination[slots[np.lexsort((chance[slots], stretch[slots]))]] = slots
    return ids.ravel()[np.argsort(destination[span], kind="stable")].reshape(ids.shape)

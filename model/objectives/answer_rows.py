"""Denoising rows: a changed text and its answer, for a decoder one behind the other, else side by side.

B rows, T tokens. Several texts may share a row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.config.heads import IGNORED
from model.objectives.corruption import Flags, Ids, Symbols

SOURCE, SEPARATOR, ANSWER = range(3)  # parts of a text, in this order
NO_TEXT = -1


@dataclass(frozen=True)
class Part:
    """Tokens of one part of texts, in any order: all arrays [n]."""

    part: int
    rows: Ids
    texts: Ids  # number of the text in its row
    order: Ids  # within the text's part
    tokens: Ids


@dataclass(frozen=True)
class AnswerRows:
    """Rows to be read, padded on the right: arrays [B, W]."""

    ids: Ids
    targets: Ids  # the next token where it belongs to an answer, else IGNORED
    texts: Ids  # NO_TEXT at padding
    lengths: Ids  # [B]


def lay_out(parts: list[Part], count: int, pad: int, multiple: int, most: int) -> AnswerRows:
    """`count` rows of the texts' parts in order, padded to the longest, rounded up to a `multiple`; cut at `most`."""
    rows, texts, order, tokens = (
        np.concatenate(arrays) for arrays in zip(*((part.rows, part.texts, part.order, part.tokens) for part in parts), strict=True)
    )
    kinds = np.concatenate([np.full(len(part.rows), part.part) for part in parts])
    sorting = np.lexsort((order, kinds, texts, rows))
    rows, texts, tokens, kinds = rows[sorting], texts[sorting], tokens[sorting], kinds[sorting]
    targets = np.full(len(tokens), IGNORED)
    is_asked = (kinds[1:] == ANSWER) & (rows[1:] == rows[:-1])
    targets[:-1][is_asked] = tokens[1:][is_asked]
    totals = np.bincount(rows, minlength=count)
    width = min(-(-int(totals.max(initial=1)) // multiple) * multiple, most)
    columns = np.arange(len(rows)) - (np.cumsum(totals) - totals)[rows]
    fits = columns < width
    here = rows[fits], columns[fits]
    made = AnswerRows(
        np.full((count, width), pad), np.full((count, width), IGNORED), np.full((count, width), NO_TEXT), np.minimum(totals, width)
    )
    made.ids[here], made.targets[here], made.texts[here] = tokens[fits], targets[fits], texts[fits]
    return made


def number_texts(ids: Ids, eos: int) -> Ids:
    """The document of each token, counted from 0 in its row: [B, T]."""
    texts = np.zeros_like(ids)
    np.cumsum(ids[:, :-1] == eos, axis=1, out=texts[:, 1:])
    return texts


def restoration(ids: Ids, shuffled: Ids, texts: Ids, is_text: Flags, symbols: Symbols) -> list[Part]:
    """Each text shuffled, <|sep|> instead of its <|bos|>, and the text as it was."""
    first = is_text & (_first_columns(texts) == np.arange(ids.shape[1]))
    return [
        _part(SOURCE, is_text, texts, shuffled),
        _part(SEPARATOR, first, texts, np.full_like(ids, symbols.separator or 0)),
        _part(ANSWER, is_text & (ids != symbols.bos), texts, ids),
    ]


def span_questions(ids: Ids, is_hidden: Flags, texts: Ids, is_text: Flags, symbols: Symbols) -> list[Part]:
    """Each span of a text gives way to the next sentinel, and the answer says what the sentinels stand for, then <|eos|>.

    Sentinels are counted from the first in every text; spans for which none is left stay. A text without spans asks nothing.
    """
    begins = is_hidden.copy()
    begins[:, 1:] &= ~is_hidden[:, :-1]
    count = np.cumsum(begins, axis=1)
    firsts = _first_columns(texts)
    number = count - np.take_along_axis(count - begins, firsts, axis=1)  # of the last span up to here, from 1
    is_hidden = is_hidden & (number <= len(symbols.sentinels))
    begins &= is_hidden
    sentinels = np.array([symbols.eos, *symbols.sentinels])[np.minimum(number, len(symbols.sentinels))]
    is_last = is_text & (number > 0)
    is_last[:, :-1] &= ~is_text[:, 1:] | (texts[:, 1:] != texts[:, :-1])
    return [
        _part(SOURCE, is_text & (~is_hidden | begins), texts, np.where(begins, sentinels, ids)),
        _part(SEPARATOR, is_last, texts, np.full_like(ids, symbols.separator or 0)),
        _part(ANSWER, begins, texts, sentinels, 3, 0),
        _part(ANSWER, is_hidden, texts, ids, 3, 1),
        _part(ANSWER, is_last, texts, np.full_like(ids, symbols.eos), 3, 2),
    ]


def _part(part: int, where: Flags, texts: Ids, tokens: Ids, factor: int = 1, offset: int = 0) -> Part:
    rows, columns = np.nonzero(where)
    return Part(part, rows, texts[where], factor * columns + offset, tokens[where])


def _first_columns(texts: Ids) -> Ids:
    """Where the text of each token begins: [B, T]."""
    starts = np.ones(texts.shape, np.bool_)
    starts[:, 1:] = texts[:, 1:] != texts[:, :-1]
    columns: NDArray[np.int64] = np.where(starts, np.arange(texts.shape[1]), 0)
    return np.maximum.accumulate(columns, axis=1)

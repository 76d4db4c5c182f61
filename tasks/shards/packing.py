"""Sequence packing: which tokens of which document stand where in which row, on lengths alone.

A piece is a run of tokens of one document. Documents too long for a row are cut into pieces that fill one each and overlap
by one token, so that every token but a document's first is asked for exactly once.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.data.permutation import permute

Numbers = NDArray[np.int64]
Packing = Literal["best_fit", "concatenate", "documents"]
PACKING = -2  # part of the shuffle's key: with the key of an epoch (model/data/row_stream.py) the loader would undo the shuffle

WINDOW_PIECES = 2**17  # packed at a time
WINDOW_TOKENS = 2**23  # 17 MB of 16-bit ids; 2^25 would fill rows to 99.99 % instead of 99.97 %, for four times the memory


@dataclass(frozen=True)
class Pieces:
    """Pieces, row after row, within a row from its start: piece i stands in row rows[i] from token starts[i]."""

    rows: Numbers
    starts: Numbers
    documents: Numbers  # number of the piece's document among those packed
    offsets: Numbers  # of its first token in its document
    lengths: Numbers  # in tokens
    begins: Numbers  # [rows + 1]: the row's first piece

    @property
    def count(self) -> int:
        """Rows."""
        return len(self.begins) - 1

    def whole(self, lengths: Numbers) -> int:
        """How many documents, which have so many tokens, stand whole in some row."""
        return int(np.count_nonzero((self.offsets == 0) & (self.lengths == lengths[self.documents])))

    def of_rows(self, start: int, stop: int) -> "Pieces":
        """Those of rows [start, stop), which then count from 0."""
        here = slice(int(self.begins[start]), int(self.begins[stop]))
        return Pieces(
            self.rows[here] - start,
            self.starts[here],
            self.documents[here],
            self.offsets[here],
            self.lengths[here],
            self.begins[start : stop + 1] - self.begins[start],
        )


def piece_counts(lengths: Numbers, width: int) -> Numbers:
    """Pieces that documents of so many tokens give in rows of `width`."""
    return np.maximum(1, -(-(lengths - 1) // (width - 1)))


def cut_documents(lengths: Numbers, width: int) -> tuple[Numbers, Numbers, Numbers]:
    """Document, offset and length of every piece, in the order of the documents."""
    counts = piece_counts(lengths, width)
    documents = np.repeat(np.arange(len(lengths)), counts)
    firsts = np.cumsum(counts) - counts
    offsets = (np.arange(len(documents)) - firsts[documents]) * (width - 1)
    return documents, offsets, np.minimum(lengths[documents] - offsets, width)


def pack_best_fit(lengths: Numbers, width: int, *key: int) -> Pieces:
    """Best-fit decreasing; then the rows are shuffled by `key`, so that their order does not tell lengths."""
    from tasks.kernels.packing import best_fit, by_row, longest_first

    documents, offsets, sizes = cut_documents(lengths, width)
    order = longest_first(sizes, width)
    rows, starts, count = best_fit(sizes, order, width)
    rows = permute(np.arange(count), count, *key, PACKING)[rows] if count else rows
    order, begins = by_row(rows, order, count)
    return Pieces(rows[order], starts[order], documents[order], offsets[order], sizes[order], begins)


def pack_alone(lengths: Numbers, width: int) -> Pieces:
    """One piece a row, in the order of the documents."""
    documents, offsets, sizes = cut_documents(lengths, width)
    rows = np.arange(len(documents))
    return Pieces(rows, np.zeros_like(rows), documents, offsets, sizes, np.arange(len(rows) + 1))


def pack_concatenated(lengths: Numbers, width: int, skipped: int = 0) -> Pieces:
    """Documents one behind the other, a row every `width` - 1 tokens: it begins with the last token of the one before.

    Tokens behind the last whole row stand in none. `skipped` tokens of the first document went before, and are not counted
    in `lengths`.
    """
    step = width - 1
    ends = np.cumsum(lengths)
    begins_at = ends - lengths
    count = max(0, int(ends[-1]) - 1 if len(ends) else 0) // step
    row_starts = np.arange(count) * step
    firsts = np.searchsorted(ends, row_starts, side="right")
    counts = np.searchsorted(ends, row_starts + step, side="right") - firsts + 1
    begins = np.concatenate([[0], np.cumsum(counts)])
    rows = np.repeat(np.arange(count), counts)
    documents = firsts[rows] + np.arange(len(rows)) - begins[rows]
    starts = np.maximum(begins_at[documents] - row_starts[rows], 0)
    stops = np.minimum(ends[documents] - row_starts[rows], width)
    offsets = np.maximum(row_starts[rows] - begins_at[documents], 0) + np.where(documents == 0, skipped, 0)
    return Pieces(rows, starts, documents, offsets, stops - starts, begins)


def tokens_left(lengths: Numbers, width: int) -> tuple[int, int]:
    """Of documents that were concatenated: the first one that rows to come need, and how many of its tokens they do not."""
    ends = np.cumsum(lengths)
    taken = max(0, int(ends[-1]) - 1 if len(ends) else 0) // (width - 1) * (width - 1)
    first = int(np.searchsorted(ends, taken, side="right"))
    return first, taken - int(ends[first] - lengths[first]) if first < len(ends) else 0


def window_documents(lengths: Numbers, width: int) -> int:
    """How many documents, from the first, make a window; 0 when more may come in.

    A window holds at most WINDOW_PIECES and WINDOW_TOKENS, but always one document.
    """
    fits = (np.cumsum(piece_counts(lengths, width)) <= WINDOW_PIECES) & (np.cumsum(lengths) <= WINDOW_TOKENS)
    return 0 if fits.all() else max(1, int(np.argmin(fits)))

"""Packings of documents into rows: nothing is lost, nothing is doubled, and compiled best fit is the plain one."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tasks.shards.packing
from model.data.permutation import permute
from model.data.row_stream import RowOrder
from tasks.shards.packing import (
    PACKING,
    Pieces,
    cut_documents,
    pack_alone,
    pack_best_fit,
    pack_concatenated,
    piece_counts,
    tokens_left,
    window_documents,
)

LENGTHS = st.lists(st.integers(2, 60), max_size=40)
WIDTHS = st.integers(3, 24)


def plain_best_fit(lengths: list[int], width: int) -> tuple[list[int], list[int], int]:
    """Row and start of each piece: longest first, into the row with the least free space, of those the one used last."""
    rows, starts = [0] * len(lengths), [0] * len(lengths)
    free: list[int] = []
    used: list[int] = []  # when
    for moment, piece in enumerate(sorted(range(len(lengths)), key=lambda piece: -lengths[piece])):
        fitting = [row for row, space in enumerate(free) if space >= lengths[piece]]
        row = min(fitting, key=lambda row: (free[row], -used[row])) if fitting else len(free)
        if not fitting:
            free.append(width)
            used.append(moment)
        rows[piece], starts[piece] = row, width - free[row]
        free[row] -= lengths[piece]
        used[row] = moment
    return rows, starts, len(free)


def filled(pieces: Pieces, lengths: np.ndarray, width: int, skipped: int = 0) -> list[list[tuple[int, int]]]:
    """Each row as (document, token) pairs, as the pieces lay them out; a token laid where another lies fails."""
    rows: list[list[tuple[int, int] | None]] = [[None] * width for _ in range(pieces.count)]
    for row, start, document, offset, length in zip(
        pieces.rows, pieces.starts, pieces.documents, pieces.offsets, pieces.lengths, strict=True
    ):
        assert length > 0
        assert 0 <= offset - (skipped if document == 0 else 0) <= lengths[document] - length
        for at in range(length):
            assert rows[row][start + at] is None
            rows[row][start + at] = (int(document), int(offset + at))
    for row in rows:
        used = sum(cell is not None for cell in row)
        assert None not in row[:used], "padding only behind the last piece"
    return [[cell for cell in row if cell is not None] for row in rows]


@given(LENGTHS, WIDTHS)
@example([], 5)
@example([60], 3)
@settings(max_examples=300, deadline=None)
def test_compiled_best_fit_places_pieces_as_plain_best_fit_does(lengths: list[int], width: int):
    _, _, sizes = cut_documents(np.array(lengths, np.int64), width)
    rows, starts, count = plain_best_fit(sizes.tolist(), width)
    pieces = pack_best_fit(np.array(lengths, np.int64), width, 7, 0)
    assert pieces.count == count
    shuffled = permute(np.arange(count), count, 7, 0, PACKING).tolist() if count else []
    expected = {
        (d, o): (shuffled[r], s) for d, o, r, s in zip(*cut_documents(np.array(lengths, np.int64), width)[:2], rows, starts, strict=True)
    }
    found = zip(pieces.documents.tolist(), pieces.offsets.tolist(), pieces.rows.tolist(), pieces.starts.tolist(), strict=True)
    assert {(d, o): (r, s) for d, o, r, s in found} == expected


@pytest.mark.parametrize("pack", [lambda lengths, width: pack_best_fit(lengths, width, 1), pack_alone])
@given(LENGTHS, WIDTHS)
@settings(max_examples=200, deadline=None)
def test_every_token_stands_in_rows_and_pieces_overlap_by_one(pack: Callable[[np.ndarray, int], Pieces], lengths: list[int], width: int):
    sizes = np.array(lengths, np.int64)
    pieces = pack(sizes, width)
    cells = sorted(cell for row in filled(pieces, sizes, width) for cell in row)
    expected = [(d, t) for d, length in enumerate(lengths) for t in range(length)]
    doubled = [(d, t) for d, length in enumerate(lengths) for t in range(width - 1, length - 1, width - 1)]
    assert cells == sorted(expected + doubled)
    assert pieces.whole(sizes) == sum(length <= width for length in lengths), "no document that fits a row is cut"


@given(LENGTHS, WIDTHS)
@settings(max_examples=200, deadline=None)
def test_documents_too_long_for_a_row_fill_rows_alone_but_for_their_end(lengths: list[int], width: int):
    sizes = np.array(lengths, np.int64)
    pieces = pack_best_fit(sizes, width, 1)
    for row in filled(pieces, sizes, width):
        ends = [cell for cell, after in itertools.pairwise(row) if cell[0] != after[0]]
        assert all(token == lengths[document] - 1 for document, token in ends), "only a row's last piece may go on elsewhere"


@given(LENGTHS, WIDTHS)
@settings(max_examples=200, deadline=None)
def test_pieces_of_a_row_stand_together_in_the_order_of_their_starts(lengths: list[int], width: int):
    pieces = pack_best_fit(np.array(lengths, np.int64), width, 3)
    for row in range(pieces.count):
        here = slice(pieces.begins[row], pieces.begins[row + 1])
        assert (pieces.rows[here] == row).all()
        assert pieces.starts[here].tolist() == np.cumsum([0, *pieces.lengths[here]])[:-1].tolist()


@given(st.lists(LENGTHS, max_size=4), WIDTHS)
@settings(max_examples=300, deadline=None)
def test_concatenation_goes_on_from_window_to_window(windows: list[list[int]], width: int):
    whole = [length for window in windows for length in window]
    stream = [(document, token) for document, length in enumerate(whole) for token in range(length)]
    rows: list[list[tuple[int, int]]] = []
    left, first, skipped, uncut = np.empty(0, np.int64), 0, 0, 0
    for window in windows:
        lengths = np.concatenate([left, window]).astype(np.int64)
        if not len(lengths):
            continue
        now = lengths.copy()
        now[0] -= skipped
        pieces = pack_concatenated(now, width, skipped)
        rows += [[(d + first, t) for d, t in row] for row in filled(pieces, now, width, skipped)]
        uncut += pieces.whole(lengths)
        gone, more = tokens_left(now, width)
        skipped = more + (skipped if gone == 0 else 0)
        left, first = lengths[gone:], first + gone
    assert all(len(row) == width for row in rows)
    assert rows == [stream[k * (width - 1) : k * (width - 1) + width] for k in range(max(0, len(stream) - 1) // (width - 1))]
    assert uncut == sum(any({(d, t) for t in range(n)} <= set(row) for row in rows) for d, n in enumerate(whole))


@given(LENGTHS, WIDTHS, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_rows_a_few_at_a_time_are_the_same_rows(lengths: list[int], width: int, portion: int):
    sizes = np.array(lengths, np.int64)
    pieces = pack_best_fit(sizes, width, 1)
    parts = [pieces.of_rows(start, min(start + portion, pieces.count)) for start in range(0, pieces.count, portion)]
    assert [row for part in parts for row in filled(part, sizes, width)] == filled(pieces, sizes, width)


def test_rows_are_nearly_full_on_lengths_as_corpora_have_them():
    lengths = np.exp(np.random.default_rng(1).normal(np.log(676), 1, 100_000)).astype(np.int64) + 3
    pieces = pack_best_fit(lengths, 2049, 1)
    assert pieces.lengths.sum() / (pieces.count * 2049) > 0.995


def test_order_of_rows_does_not_tell_their_lengths():
    lengths = np.random.default_rng(1).integers(3, 2000, 20_000)
    pieces = pack_best_fit(lengths, 2049, 1)
    longest = pieces.lengths[pieces.begins[:-1]]
    assert abs(np.corrcoef(np.arange(pieces.count), longest)[0, 1]) < 0.05


def test_windows_hold_so_many_pieces_and_tokens_but_always_a_document(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tasks.shards.packing, "WINDOW_PIECES", 4)
    monkeypatch.setattr(tasks.shards.packing, "WINDOW_TOKENS", 100)
    assert window_documents(np.array([5, 5, 5, 5]), 10) == 0, "more may come in"
    assert window_documents(np.array([5, 5, 5, 5, 5]), 10) == 4
    assert window_documents(np.array([5, 60, 5, 5]), 10) == 1
    assert window_documents(np.array([200, 5]), 50) == 1, "longer than a window by itself"
    assert window_documents(np.array([60, 40, 3]), 100) == 2


def test_piece_counts_at_the_edges_of_a_row():
    assert piece_counts(np.array([2, 10, 11, 19, 20]), 10).tolist() == [1, 1, 2, 2, 3]


def test_loader_with_the_seed_of_the_packing_does_not_undo_its_shuffle():
    pieces = pack_best_fit(np.array([100_001]), 101, 7, 0)  # one document of 1,000 rows
    batch = RowOrder(np.array([pieces.count]), 7, 0, None).numbers(np.arange(64))
    offsets = np.sort(pieces.offsets[np.argsort(pieces.rows)][batch])
    assert offsets[-1] - offsets[0] > 50_000

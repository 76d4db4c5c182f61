"""Bin packing, compiled: best-fit decreasing of documents into rows, and the copying of tokens.

Placing 131,072 pieces takes 5 ms of processor time; the same in plain Python, the reference in tests/tasks/shards/test_packing.py,
places 10,000 in a second. For the whole of packing see benchmarks/RESULTS.md, `packing`.
"""

import numpy as np
import numpy.typing as npt

from tasks.kernels.machine_code import numba

Numbers = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.unsignedinteger]


@numba.njit(cache=True, nogil=True)
def longest_first(lengths: Numbers, width: int) -> Numbers:
    """Numbers of the pieces, longest first, equally long ones in their order; lengths lie in [0, width]."""
    starts = np.zeros(width + 2, np.int64)
    for i in range(len(lengths)):
        starts[width - lengths[i] + 1] += 1
    for length in range(width + 1):
        starts[length + 1] += starts[length]
    order = np.empty(len(lengths), np.int64)
    for i in range(len(lengths)):
        slot = width - lengths[i]
        order[starts[slot]] = i
        starts[slot] += 1
    return order


@numba.njit(cache=True, nogil=True)
def best_fit(lengths: Numbers, order: Numbers, width: int) -> tuple[Numbers, Numbers, int]:
    """Row of each piece and where it starts in the row; how many rows.

    In `order`, each piece goes into the row whose free space is the smallest that holds it, of several the one that was
    used last; else into a new row. Rows of equal free space are a linked list; a tree over the free spaces tells the next
    larger one that some row has.
    """
    leaves = 1
    while leaves < width + 1:
        leaves *= 2
    tree = np.zeros(2 * leaves, np.bool_)
    heads = np.full(width + 1, -1, np.int64)
    nexts = np.empty(len(lengths), np.int64)
    rows = np.empty(len(lengths), np.int64)
    starts = np.empty(len(lengths), np.int64)
    count = 0
    for piece in order:
        length = lengths[piece]
        node = leaves + length
        if not tree[node]:
            while node > 1 and (node % 2 == 1 or not tree[node + 1]):
                node //= 2
            if node > 1:
                node += 1
                while node < leaves:
                    node = 2 * node if tree[2 * node] else 2 * node + 1
        if node <= 1:
            row, free = count, width
            count += 1
        else:
            free = node - leaves
            row = heads[free]
            heads[free] = nexts[row]
            if heads[free] < 0:
                tree[node] = False
                while node > 1 and not tree[node ^ 1]:
                    node //= 2
                    tree[node] = False
        rows[piece] = row
        starts[piece] = width - free
        free -= length
        if free > 0:
            nexts[row] = heads[free]
            heads[free] = row
            node = leaves + free
            while node > 0 and not tree[node]:
                tree[node] = True
                node //= 2
    return rows, starts, count


@numba.njit(cache=True, nogil=True)
def by_row(rows: Numbers, order: Numbers, count: int) -> tuple[Numbers, Numbers]:
    """Numbers of the pieces, row after row, within a row in `order`; and where each row begins among them: [count + 1]."""
    begins = np.zeros(count + 1, np.int64)
    for piece in range(len(rows)):
        begins[rows[piece] + 1] += 1
    for row in range(count):
        begins[row + 1] += begins[row]
    filled = begins[:-1].copy()
    sorted_pieces = np.empty(len(rows), np.int64)
    for piece in order:
        sorted_pieces[filled[rows[piece]]] = piece
        filled[rows[piece]] += 1
    return sorted_pieces, begins


@numba.njit(cache=True, nogil=True)
def copy_pieces(tokens: Tokens, begins: Numbers, lengths: Numbers, rows: Numbers, starts: Numbers, out: Tokens) -> None:
    """tokens[begins[i] : begins[i] + lengths[i]] into row rows[i] of `out`, from token starts[i]."""
    for i in range(len(begins)):
        begin, row, start = begins[i], rows[i], starts[i]
        for k in range(lengths[i]):
            out[row, start + k] = tokens[begin + k]

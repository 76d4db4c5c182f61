import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.batches import starts_of
from model.data.packed_documents import find_documents


def random_starts(rows: int, tokens: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, tokens)) < 0.2


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 70), st.integers(0, 1000))
def test_what_is_gathered_comes_back_to_where_it_was(rows: int, tokens: int, seed: int):
    documents = find_documents(random_starts(rows, tokens, seed))
    x = torch.arange(rows * tokens * 2).view(rows, tokens, 2)
    assert torch.equal(documents.scatter(documents.gather(x)), x)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 70), st.integers(0, 1000))
def test_padding_is_less_than_the_tokens(rows: int, tokens: int, seed: int):
    documents = find_documents(random_starts(rows, tokens, seed))
    assert len(documents.order) < 2 * rows * tokens
    assert int(documents.lengths.sum()) == rows * tokens


def test_positions_restart_in_each_document_and_row():
    starts = np.array([[True, False, False, True, False], [False, False, True, False, False]])
    assert find_documents(starts).positions.tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]


def test_a_document_begins_behind_each_end_token():
    ids = np.array([[5, 1, 6, 7, 1], [5, 5, 5, 1, 1]])
    expected = [[True, False, True, False, False], [True, False, False, False, True]]
    assert starts_of(ids, 1).tolist() == expected


def test_rows_of_a_batch_keep_their_documents():
    starts = random_starts(4, 30, 3)
    part = find_documents(starts).rows(1, 3)
    assert torch.equal(part.order, find_documents(starts[1:3]).order)

"""Quality classifier: logistic regression over hashed words and pairs of words.

Source: the hashing trick, Weinberger et al. 2009, arXiv 0902.2206; what fastText does for text, arXiv 1607.01759.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.kernels.character_classes import class_table, lower_table
from tasks.kernels.machine_code import numba
from tasks.kernels.shingles import units_of
from tasks.kernels.utf8 import SPREAD, Bytes, Hashes, Offsets, most_units

BUCKETS = 1 << 18
MOST_UNITS = 2_000  # of a document that are looked at: a judgement needs no more

Weights = npt.NDArray[np.float32]


@numba.njit(cache=True, nogil=True)
def _features(hashes: Hashes, count: int, features: npt.NDArray[np.int64]) -> int:
    """Buckets of the words and of the pairs of neighbours."""
    used = min(count, MOST_UNITS)
    at = 0
    for i in range(used):
        features[at] = np.int64((hashes[i] * SPREAD) >> np.uint64(46))
        at += 1
        if i:
            pair = (hashes[i - 1] * SPREAD + hashes[i]) * SPREAD
            features[at] = np.int64(pair >> np.uint64(46))
            at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _scores(
    data: Bytes,
    offsets: Offsets,
    table: Bytes,
    lower: npt.NDArray[np.uint16],
    weights: Weights,
    bias: float,
    scores: npt.NDArray[np.float64],
) -> None:
    room = most_units(offsets)
    hashes = np.empty(room, np.uint64)
    starts = np.empty(room, np.int64)
    ends = np.empty(room, np.int64)
    key = np.zeros(2, np.uint64)
    features = np.empty(2 * MOST_UNITS, np.int64)
    for doc in range(len(offsets) - 1):
        count = units_of(data, offsets[doc], offsets[doc + 1], table, lower, hashes, starts, ends, key)
        used = _features(hashes, count, features)
        total = 0.0
        for i in range(used):
            total += weights[features[i]]
        scores[doc] = 1.0 / (1.0 + np.exp(-(bias + total / max(1, used))))


@numba.njit(cache=True, nogil=True)
def _train(
    data: Bytes,
    offsets: Offsets,
    table: Bytes,
    lower: npt.NDArray[np.uint16],
    labels: npt.NDArray[np.float64],
    order: npt.NDArray[np.int64],
    rate: float,
    weights: Weights,
    squares: Weights,
) -> float:
    """Adagrad over the documents in the given order (Duchi et al. 2011); gives the bias."""
    room = most_units(offsets)
    hashes = np.empty(room, np.uint64)
    starts = np.empty(room, np.int64)
    ends = np.empty(room, np.int64)
    key = np.zeros(2, np.uint64)
    features = np.empty(2 * MOST_UNITS, np.int64)
    bias = 0.0
    bias_squares = 1e-8
    for step_number in range(len(order)):
        doc = int(order[step_number])
        count = units_of(data, offsets[doc], offsets[doc + 1], table, lower, hashes, starts, ends, key)
        used = _features(hashes, count, features)
        total = 0.0
        for i in range(used):
            total += weights[features[i]]
        error = 1.0 / (1.0 + np.exp(-(bias + total / max(1, used)))) - labels[doc]
        bias_squares += error * error
        bias -= rate * error / np.sqrt(bias_squares)
        step = error / max(1, used)
        for i in range(used):
            squares[features[i]] += np.float32(step * step)
            weights[features[i]] -= np.float32(rate * step / np.sqrt(squares[features[i]]))
    return float(bias)


@dataclass(frozen=True)
class Scorer:
    """A trained classifier."""

    weights: Weights  # [BUCKETS]
    bias: float

    def score(self, data: Bytes, offsets: Offsets) -> npt.NDArray[np.float64]:
        """Probability of being good, 0..1, of each document; see `text_buffers`."""
        scores = np.zeros(len(offsets) - 1)
        _scores(data, offsets, class_table(), lower_table(), self.weights, self.bias, scores)
        return scores

    def save(self, folder: Path) -> None:
        """Plain arrays."""
        np.save(folder / "weights.npy", self.weights)
        np.save(folder / "bias.npy", np.array([self.bias]))

    @staticmethod
    def load(folder: Path) -> "Scorer":
        """What `save` wrote."""
        return Scorer(np.load(folder / "weights.npy"), float(np.load(folder / "bias.npy")[0]))


def train_scorer(data: Bytes, offsets: Offsets, labels: npt.NDArray[np.float64], epochs: int, rate: float, seed: int) -> Scorer:
    """Learns from documents with labels 0 and 1; each epoch in an order drawn from `seed`."""
    weights, squares = np.zeros(BUCKETS, np.float32), np.full(BUCKETS, 1e-8, np.float32)
    generator = np.random.Generator(np.random.PCG64(seed))
    order = np.concatenate([generator.permutation(len(labels)) for _ in range(epochs)])
    bias = _train(data, offsets, class_table(), lower_table(), labels, order, rate, weights, squares)
    return Scorer(weights, float(bias))


def area_under_curve(scores: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]) -> float:
    """Probability that a good document scores above a bad one; ties count half. NaN without one of each."""
    good, bad = scores[labels == 1], np.sort(scores[labels == 0])
    if not len(good) or not len(bad):
        return float("nan")
    below = np.searchsorted(bad, good, side="left") + np.searchsorted(bad, good, side="right")
    return float(below.sum() / (2 * len(good) * len(bad)))

"""The quality classifier: it learns, is the same every time, and is judged rightly."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tasks.documents import text_buffers
from tasks.kernels.quality_classifier import Scorer, area_under_curve, train_scorer

PROSE = "the river runs through a quiet valley where people have lived for many years".split()
SPAM = "buy cheap pills now click here best price free offer limited deal".split()


def texts_of(seed: int, count: int = 40) -> tuple[list[str], npt.NDArray[np.float64]]:
    chooser = random.Random(seed)
    labels = [n % 2 for n in range(count)]
    return [" ".join(chooser.choices(PROSE if good else SPAM, k=30)) for good in labels], np.array(labels, float)


def trained(texts: Sequence[str], labels: npt.NDArray[np.float64], seed: int = 1) -> Scorer:
    return train_scorer(*text_buffers(pa.array(texts, pa.large_string())), labels, 5, 0.5, seed)


def scores(scorer: Scorer, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    return scorer.score(*text_buffers(pa.array(texts, pa.large_string())))


def test_it_tells_apart_what_it_was_shown_and_what_it_was_not():
    scorer = trained(*texts_of(1))
    unseen, labels = texts_of(2)
    found = scores(scorer, unseen)
    assert area_under_curve(found, labels) == 1
    assert found[labels == 1].min() > 0.5 > found[labels == 0].max()


def test_training_twice_gives_the_same_bits():
    one, other = trained(*texts_of(1)), trained(*texts_of(1))
    assert (one.weights == other.weights).all()
    assert one.bias == other.bias
    assert not (trained(*texts_of(1), seed=2).weights == one.weights).all()


def test_scores_lie_between_0_and_1_and_do_not_depend_on_neighbours():
    scorer = trained(*texts_of(1))
    odd = ["", "\n\n", "😀", "一二三" * 5_000, "pills " * 100_000, *texts_of(3, 4)[0]]
    together = scores(scorer, odd)
    assert ((together >= 0) & (together <= 1)).all()
    assert [scores(scorer, [text])[0] for text in odd] == together.tolist()


def test_a_scorer_that_is_saved_is_read_back(tmp_path: Path):
    scorer = trained(*texts_of(1))
    scorer.save(tmp_path)
    assert scores(Scorer.load(tmp_path), ["the river", "buy"]).tolist() == scores(scorer, ["the river", "buy"]).tolist()


@pytest.mark.parametrize(
    ("figures", "labels", "area"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 1.0),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 0.0),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 1, 0], 0.5),
        ([0.9, 0.4, 0.6, 0.4], [1, 1, 0, 0], 2.5 / 4),  # 0.9 beats both; 0.4 loses to 0.6 and ties with 0.4
    ],
)
def test_area_under_the_curve_by_hand(figures: list[float], labels: list[int], area: float):
    assert area_under_curve(np.array(figures), np.array(labels, float)) == area


def test_area_needs_one_of_each():
    assert math.isnan(area_under_curve(np.array([0.5]), np.array([1.0])))

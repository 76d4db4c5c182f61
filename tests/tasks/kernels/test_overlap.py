"""Contamination: shared runs, where they lie in bytes, and what is left without them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.documents import text_buffers
from tasks.kernels.overlap import Evaluation, EvaluationBuilder, Overlap, OverlapFinder, without_spans

ENGLISH = "which planet in our solar system has the most moons of all"  # twelve words
CHINESE = "太阳系里哪一颗行星的卫星最多呢"


def evaluation(*items: tuple[str, str, bool], allowed: tuple[str, ...] = (), words: int = 4, han: int = 6) -> Evaluation:
    builder = EvaluationBuilder(words, han)
    for name, text, is_chinese in items:
        builder.add(name, text, is_chinese)
    return builder.build(allowed)


def finder(*items: tuple[str, str, bool], allowed: tuple[str, ...] = ()) -> OverlapFinder:
    return OverlapFinder(evaluation(*items, allowed=allowed), 4, 6)


def look(text: str, is_chinese: bool = False) -> Overlap:
    found = finder(("quiz/1", ENGLISH, False), ("quiz/2", CHINESE, True)).look(text, is_chinese)
    assert found is not None
    return found


def test_a_copied_question_is_found_whatever_its_case_and_punctuation():
    text = "Read on. WHICH planet, in our solar system, has the most moons of all? Nobody knows."
    found = look(text)
    assert (found.item, found.item_share, found.longest_units) == ("quiz/1", 1.0, 12)
    assert found.longest == "WHICH planet, in our solar system, has the most moons of all"
    assert found.share == 1.0
    assert found.document_share == pytest.approx(9 / (2 + 12 + 2 - 3))  # runs of four
    assert without_spans(text, found.spans) == "Read on.\n? Nobody knows."


def test_spans_are_bytes_of_chinese_text_too():
    text = "请问：太阳系里，哪一颗行星的卫星最多呢？谢谢😀"
    found = look(text, True)
    assert (found.item, found.item_share) == ("quiz/2", 1.0)
    assert found.longest == "太阳系里，哪一颗行星的卫星最多呢"
    assert found.spans == [(len("请问：".encode()), len("请问：太阳系里，哪一颗行星的卫星最多呢".encode()))]
    assert without_spans(text, found.spans) == "请问：\n？谢谢😀"


def test_of_two_shared_runs_the_longer_is_shown_and_both_are_found():
    text = "in our solar system x which planet in our solar system x"
    found = look(text)
    assert found.longest == "which planet in our solar system"
    assert found.longest_units == 6
    assert [text[start:end] for start, end in found.spans] == ["in our solar system", found.longest]
    assert found.item_share == 3 / 9  # distinct runs, of the item's nine


def test_runs_in_both_languages_are_found_in_one_document():
    text = f"{ENGLISH}。{CHINESE}"
    assert [text.encode()[start:end].decode() for start, end in look(text).spans] == [ENGLISH, CHINESE]


def test_overlapping_runs_of_different_items_are_one_span():
    found = finder(("a", "one two three four", False), ("b", "three four five six", False)).look("one two three four five six", False)
    assert found is not None
    assert found.spans == [(0, len("one two three four five six"))]


def test_a_document_without_a_shared_run_is_clean():
    ours = finder(("quiz/1", ENGLISH, False))
    assert ours.look("which planet in my solar system", False) is None
    assert ours.look("", False) is None
    assert OverlapFinder(evaluation(), 4, 6).look(ENGLISH, False) is None


def test_the_fast_pass_counts_what_the_close_look_sees():
    texts = ["nothing here", f"x {ENGLISH}", "", CHINESE]
    ours = finder(("quiz/1", ENGLISH, False), ("quiz/2", CHINESE, True))
    assert ours.hits(*text_buffers(pa.array(texts, pa.large_string()))).tolist() == [0, 9, 0, len(CHINESE) - 5]


def test_allowed_runs_count_for_nothing():
    ours = finder(("quiz/1", ENGLISH, False), allowed=("has the most moons of all",))
    assert ours.look("it has the most moons of all planets", False) is None
    found = ours.look(ENGLISH, False)
    assert found is not None
    assert found.item_share == 1.0  # of the runs that are not allowed


def test_an_item_that_is_allowed_altogether_harms_nothing():
    ours = finder(("quiz/1", ENGLISH, False), ("quiz/2", CHINESE, True), allowed=(ENGLISH,))
    assert ours.look(ENGLISH, False) is None


def test_items_too_short_for_a_run_are_counted():
    found = evaluation(("a", "three short words", False), ("b", "四个字吧", True), ("c", ENGLISH, False))
    assert found.unchecked == 2
    assert found.names == ["c"]


def test_the_item_held_most_is_named():
    ours = finder(("long", f"{ENGLISH} and of its rings and dust", False), ("short", ENGLISH, False))
    found = ours.look(ENGLISH, False)
    assert found is not None
    assert (found.item, found.item_share) == ("short", 1.0)


def test_what_is_saved_is_read_back(tmp_path: Path):
    for name, items in (("full", [("quiz/1", ENGLISH, False), ("quiz/2", CHINESE, True)]), ("none", [])):
        made = evaluation(*items)
        made.save(tmp_path / name)
        read = Evaluation.load(tmp_path / name)
        assert read.names == made.names
        for one, other in ((read.grams, made.grams), (read.sizes, made.sizes), (read.owners, made.owners)):
            assert (one == other).all()
        assert (np.diff(read.grams.astype(object)) >= 0).all()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([*ENGLISH.split(), "x", "太阳系里哪一颗", "行星", "😀", ". "]), max_size=40).map(" ".join))
def test_spans_are_in_order_apart_and_cut_out_whole(text: str):
    found = finder(("quiz/1", ENGLISH, False), ("quiz/2", CHINESE, True)).look(text, False)
    if found is not None:
        edges = [edge for span in found.spans for edge in span]
        assert edges == sorted(set(edges))
        kept = without_spans(text, found.spans)
        removed = sum(len(text.encode()[start:end].decode().split()) for start, end in found.spans)
        assert len(kept.split()) + removed == len(text.split())
        assert 0 < found.share <= 1

"""Contamination: shared runs, where they lie in bytes, and what is left without them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.documents import text_buffers
from tasks.kernels.overlap import Evaluation, EvaluationBuilder, Overlap, OverlapFinder, in_characters, without_spans
from tasks.kernels.shingles import split_units

ENGLISH = "which planet in our solar system has the most moons of all"  # twelve words
CHINESE = "太阳系里哪一颗行星的卫星最多呢"


def evaluation(*items: tuple[str, str], allowed: tuple[str, ...] = (), words: int = 4, han: int = 6) -> Evaluation:
    builder = EvaluationBuilder(words, han)
    for name, text in items:
        builder.add(name, text)
    return builder.build(allowed)


def finder(*items: tuple[str, str], allowed: tuple[str, ...] = ()) -> OverlapFinder:
    return OverlapFinder(evaluation(*items, allowed=allowed), 4, 6)


def look(text: str) -> Overlap:
    found = finder(("quiz/1", ENGLISH), ("quiz/2", CHINESE)).look(text)
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
    found = look(text)
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
    found = finder(("a", "one two three four"), ("b", "three four five six")).look("one two three four five six")
    assert found is not None
    assert found.spans == [(0, len("one two three four five six"))]


def test_a_document_without_a_shared_run_is_clean():
    ours = finder(("quiz/1", ENGLISH))
    assert ours.look("which planet in my solar system") is None
    assert ours.look("") is None
    assert OverlapFinder(evaluation(), 4, 6).look(ENGLISH) is None


@pytest.mark.parametrize(
    ("item", "around"),
    [
        ("แม่น้ำสายใดไหลผ่านเมืองเก่าที่มีสะพานหินสามโค้ง", "เขาเล่าให้ฟังว่า{}แล้วก็เดินจากไป"),
        ("ទន្លេណាហូរកាត់ទីក្រុងចាស់ដែលមានស្ពានថ្មបី", "គាត់បាននិយាយថា{}ហើយដើរចេញទៅ"),
        ("ແມ່ນ້ຳໃດໄຫຼຜ່ານເມືອງເກົ່າທີ່ມີຂົວຫີນສາມໂຄ້ງ", "ລາວເລົ່າວ່າ{}ແລ້ວກໍ່ຍ່າງໜີໄປ"),
        ("ဘယ်မြစ်ကကျောက်တံတားသုံးခုရှိသောမြို့ဟောင်းကိုဖြတ်စီးသလဲ", "သူကပြောပြသည်မှာ{}ပြီးနောက်ထွက်သွားသည်"),
    ],
)
def test_a_question_is_found_inside_a_text_of_a_script_without_spaces(item: str, around: str):
    found = finder(("quiz/1", item)).look(around.format(item))
    assert found is not None
    assert (found.item, found.item_share, found.longest) == ("quiz/1", 1.0, item)
    assert found.longest_units >= 20
    assert 0.2 < found.document_share < 1
    assert without_spans(around.format(item), found.spans) == around.format("\n")
    assert finder(("quiz/1", item)).look(around.format("")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("the old mill by the river", False), ("水车在转", True), ("กังหันน้ำหมุน", True), ("よい部屋でした", True), ("방이 깨끗해요", False)],
)
def test_texts_are_counted_in_characters_where_most_units_are_single_ones(text: str, expected: bool):
    assert in_characters(text, split_units(text.encode())) is expected


def test_the_fast_pass_counts_what_the_close_look_sees():
    texts = ["nothing here", f"x {ENGLISH}", "", CHINESE]
    ours = finder(("quiz/1", ENGLISH), ("quiz/2", CHINESE))
    assert ours.hits(*text_buffers(pa.array(texts, pa.large_string()))).tolist() == [0, 9, 0, len(CHINESE) - 5]


def test_allowed_runs_count_for_nothing():
    ours = finder(("quiz/1", ENGLISH), allowed=("has the most moons of all",))
    assert ours.look("it has the most moons of all planets") is None
    found = ours.look(ENGLISH)
    assert found is not None
    assert found.item_share == 1.0  # of the runs that are not allowed


def test_an_item_that_is_allowed_altogether_harms_nothing():
    ours = finder(("quiz/1", ENGLISH), ("quiz/2", CHINESE), allowed=(ENGLISH,))
    assert ours.look(ENGLISH) is None


def test_items_too_short_for_a_run_are_counted():
    found = evaluation(("a", "three short words"), ("b", "四个字吧"), ("c", ENGLISH))
    assert found.unchecked == 2
    assert found.names == ["c"]


def test_the_item_held_most_is_named():
    ours = finder(("long", f"{ENGLISH} and of its rings and dust"), ("short", ENGLISH))
    found = ours.look(ENGLISH)
    assert found is not None
    assert (found.item, found.item_share) == ("short", 1.0)


def test_what_is_saved_is_read_back(tmp_path: Path):
    for name, items in (("full", [("quiz/1", ENGLISH), ("quiz/2", CHINESE)]), ("none", [])):
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
    found = finder(("quiz/1", ENGLISH), ("quiz/2", CHINESE)).look(text)
    if found is not None:
        edges = [edge for span in found.spans for edge in span]
        assert edges == sorted(set(edges))
        kept = without_spans(text, found.spans)
        removed = sum(len(text.encode()[start:end].decode().split()) for start, end in found.spans)
        assert len(kept.split()) + removed == len(text.split())
        assert 0 < found.share <= 1

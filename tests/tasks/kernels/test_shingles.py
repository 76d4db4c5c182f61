"""Units, keys, signatures and sets of n-grams: equal to the plain version, and independent of the batch."""

import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.documents import text_buffers
from tasks.kernels.shingles import Digits, GramSet, Signed, gram_hashes, sign, split_units
from tests.tasks.kernels.plain_shingles import key_of, resemblance, runs_of, spaceless_units_of, units_of

MASK, SPREAD = 2**64 - 1, 0x9E3779B97F4A7C15
PARTS = [
    *("the", "The", "cat", "CAT", "b", "42", "43", "Ａｂ", "１", "é", "É", "ß", "İ", "я", "Я", "ε", "한"),
    *("中", "文", "か", "カ", "ー", "〇", "\U00020bb7", "😀", "·", "々"),
    *(" ", " ", " ", "\n", "\t", "\u3000", ",", ".", "-", "_", "'", "。", "½", "\u0301", "\u200b"),
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)


def signed(texts: Sequence[str], n: int = 3, slots: int = 16) -> Signed:
    return sign(*text_buffers(pa.array(texts, pa.large_string())), n, slots, 1)


def mixed(value: int) -> int:
    value = ((value ^ (value >> 32)) * SPREAD) & MASK
    return value ^ (value >> 29)


@settings(max_examples=80, deadline=None)
@given(TEXTS)
def test_units_and_their_bytes_equal_the_plain_version(text: str):
    units = split_units(text.encode())
    plain = units_of(text)
    assert list(zip(units.starts.tolist(), units.ends.tolist(), strict=True)) == [(a, b) for _, a, b in plain]
    spelled: dict[int, str] = {}
    for value, (unit, _, _) in zip(units.hashes.tolist(), plain, strict=True):
        assert spelled.setdefault(value, unit) == unit
    assert len(spelled) == len({unit for unit, _, _ in plain})


@settings(max_examples=80, deadline=None)
@given(TEXTS, TEXTS)
def test_keys_agree_where_texts_differ_in_case_and_runs_of_white_space_alone(one: str, other: str):
    for text in (other, one.upper(), one.replace(" ", "\n \t"), f"\n{one} "):
        keys = signed([one, text], slots=0).keys
        assert (keys[0] == keys[1]).all() == (key_of(one) == key_of(text))


def test_both_halves_of_a_key_see_every_character():
    texts = ["一二三四", "一二三五", "二一三四", "一 二三四", "一二三", "", "a", "b", "ab", "a b"]
    keys = signed(texts, slots=0).keys
    assert len(set(keys[:, 0].tolist())) == len(set(keys[:, 1].tolist())) == len(texts)


@pytest.mark.parametrize("slots", [0, 16])
def test_a_document_is_signed_alike_in_any_batch(slots: int):
    texts = ["", "one two three four", "一二三四五", "a " * 500, "!?", "last one, here"]
    whole = signed(texts, slots=slots)
    for row, text in enumerate(texts):
        alone = signed([text], slots=slots)
        assert (alone.keys[0] == whole.keys[row]).all()
        assert (alone.signatures[0] == whole.signatures[row]).all()
        assert alone.units[0] == whole.units[row] == len(units_of(text))
    sliced = text_buffers(pa.array(texts, pa.large_string()).slice(2, 3))
    assert (sign(*sliced, 3, slots, 1).keys == whole.keys[2:5]).all()


@settings(max_examples=80, deadline=None)
@given(TEXTS, TEXTS)
def test_equal_sets_of_shingles_have_equal_signatures_and_those_of_sets_apart_agree_nowhere(one: str, other: str):
    signatures = signed([one, other], n=2).signatures
    ours, theirs = set(runs_of(one, 2)), set(runs_of(other, 2))
    if ours == theirs:
        assert (signatures[0] == signatures[1]).all()
    elif not ours & theirs:
        assert not (signatures[0] == signatures[1]).any()


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_repeated_shingles_do_not_change_a_signature(text: str):
    signatures = signed([f"{text}. {text}", f"{text}. {text}. {text}"], n=2).signatures
    assert (signatures[0] == signatures[1]).all()


def test_a_text_shorter_than_a_shingle_has_no_signature():
    found = signed(["one two", "one two three", "一二"])
    assert (found.signatures[[0, 2]] == 2**32 - 1).all()
    assert not (found.signatures[1] == 2**32 - 1).any()


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("ที่นี่", 2),  # Thai: a letter with its marks
        ("ก1ข ab", 4),
        ("กab", 2),
        ("abก", 2),
        ("ກິນເຂົ້າ", 5),
        ("ស្រូវ", 3),
        ("မြန်မာ", 3),
        ("བོད་ཡིག", 2),  # Tibetan parts its syllables
        ("\u0e34x", 2),  # a mark without a letter
        ("ꦗꦮ", 2),
        ("ไทย中文 한국 где", 7),
    ],
)
def test_a_letter_with_its_marks_is_a_unit_where_a_script_has_no_spaces(text: str, units: int):
    assert signed([text]).units.tolist() == signed([text], slots=0).units.tolist() == [units]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([*PARTS, "ก", "ิ", "ที่", "ស្រូ", "မြ", "๔"]), max_size=30).map("".join))
def test_units_of_scripts_without_spaces_equal_the_plain_version(text: str):
    assert signed([text]).units.tolist() == [len(split_units(text.encode()).hashes)] == [len(spaceless_units_of(text))]


@pytest.mark.parametrize(
    ("digits", "text", "is_alike"),
    [
        ("fold", "{} of {} and {} in {}", True),
        ("keep", "a long text of many words in which a single figure is {} alone", False),
        ("auto", "a long text of many words in which a single figure is {} alone", True),
        ("auto", "day {} gave {} sacks of barley and {} of wheat", False),
        ("auto", "第{}天磨了{}袋大麦，{}袋小麦", False),
        ("auto", "วันที่ {} ได้ {} ถุง", False),
    ],
)
def test_digits_count_as_the_setting_says(digits: Digits, text: str, is_alike: bool):
    texts = [text.format(*figures) for figures in ((11, 22, 33, 44), (55, 66, 77, 88))]
    found = sign(*text_buffers(pa.array(texts, pa.large_string())), 3, 64, 1, digits)
    assert (found.signatures[0] == found.signatures[1]).all() == is_alike


@pytest.mark.parametrize(("figures", "is_alike"), [(1, True), (2, False)])
def test_a_tenth_of_the_units_is_the_share_from_which_figures_count(figures: int, is_alike: bool):
    texts = [" ".join([*["word"] * (20 - figures), *[figure] * figures]) for figure in ("1", "２")]
    found = sign(*text_buffers(pa.array(texts, pa.large_string())), 3, 64, 1, "auto")
    assert (found.signatures[0] == found.signatures[1]).all() == is_alike


@pytest.mark.parametrize("changed", [5, 20, 60, 150])
def test_equal_slots_estimate_the_resemblance(changed: int):
    errors: list[float] = []
    for seed in range(6):
        chooser = random.Random(1000 * changed + seed)
        words = ["".join(chooser.choices("abcdefgh", k=5)) for _ in range(400)]
        altered = list(words)
        for at in chooser.sample(range(400), changed):
            altered[at] = "changed" + str(at)
        one, other = " ".join(words), " ".join(altered)
        signatures = signed([one, other], n=5, slots=512).signatures
        errors.append(float((signatures[0] == signatures[1]).mean()) - resemblance(one, other, 5))
    assert abs(np.mean(errors)) < 0.03  # standard error of six estimates from 512 slots: at most 0.009
    assert max(map(abs, errors)) < 0.1


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.integers(1, 6))
def test_rolled_hashes_equal_hashes_made_anew(text: str, n: int):
    units = split_units(text.encode())
    anew: list[int] = []
    for first in range(len(units.hashes) - n + 1):
        value = 0
        for unit in units.hashes[first : first + n].tolist():
            value = (value * SPREAD + unit) & MASK
        anew.append(mixed((value + n) & MASK))
    assert gram_hashes(units, n).tolist() == anew


@settings(max_examples=80, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS)
def test_hits_equal_a_plain_set(texts: list[str], known: str):
    sizes = (2, 4)
    units = split_units(known.encode())
    grams = GramSet(np.concatenate([gram_hashes(units, n) for n in sizes]), sizes)
    plain = {run for n in sizes for run in runs_of(known, n)}
    expected = [sum(run in plain for n in sizes for run in runs_of(text, n)) for text in texts]
    assert grams.hits(*text_buffers(pa.array(texts, pa.large_string()))).tolist() == expected


def test_a_set_of_many_runs_finds_all_and_nothing_else():
    chooser = random.Random(1)
    texts = [" ".join("".join(chooser.choices("abcdefgh", k=6)) for _ in range(2_000)) for _ in range(3)]
    grams = GramSet(gram_hashes(split_units(texts[0].encode()), 3), (3, 3))
    assert grams.hits(*text_buffers(pa.array(texts, pa.large_string()))).tolist() == [1_998, 0, 0]
    assert GramSet(np.zeros(0, np.uint64), (3,)).hits(*text_buffers(pa.array(texts, pa.large_string()))).sum() == 0

"""The statistics kernel: equal to the plain figures, right by hand, and sound on texts of every odd kind."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.documents import text_buffers
from tasks.kernels.statistics import measure
from tasks.kernels.statistics_columns import COUNTS, SHARES, UNBOUNDED
from tests.tasks.kernels.plain_figures import figures

PARTS = [
    *("the", "and", "cat", "cat ", "b", "They", "naïve", "3.14", "42", "word,", "(and", "javascript", "JavaScript;"),
    *(" ", " ", " ", "  ", "\t", "\u3000", "\u00a0", "\n", "\n", "\n\n", "\n \n", "\n\n\n", "\r\n"),
    *("的", "中", "一", "這", "猫", "〇", "龘", "\U00020bb7", "か", "ー", "カ", "ﾊ", "한", "글", "я", "ع", "々", "・"),
    *(".", ". ", "...", "....", "…", "?", "!", "。", "！", "？", "；", "．", "”", '"', "'", ".) ", "。」", '." '),
    *("- ", "• ", "•", "#", "##", "{", "}", "+", "=", "$", "<", "😀", "\ufffd", "\u200b", "\U000e0100", "\u0301"),
    *("lorem ipsum", "Lorem Ipsum ", "terms of use", "privacy policy", "use cookies", "lorem  ipsum", "lor", "use"),
    *("a cat sat. ", "The end of it.\n", "same line here\n", "一二三四五六七八九十", 'he said "no." Then '),
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=60).map("".join)
REPETITIVE = st.lists(st.sampled_from(["a", "bb", "a b ", "中", " ", "\n", "a bb a "]), max_size=120).map("".join)


def measured(texts: Sequence[str]) -> list[dict[str, float]]:
    counts, shares = measure(*text_buffers(pa.array(texts, pa.large_string())))
    return [
        dict(zip([*COUNTS, *SHARES], [*count.tolist(), *share.tolist()], strict=True)) for count, share in zip(counts, shares, strict=True)
    ]


def assert_equal(text: str, found: dict[str, float]) -> None:
    plain = figures(text)
    assert list(plain) == list(found)
    wrong = {name: (found[name], plain[name]) for name in plain if abs(found[name] - plain[name]) > 1e-6}
    assert not wrong, f"{text!r}: kernel and plain version differ in {wrong}"


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4))
@example([""])
@example(["def f(x):\n    return {'a': x[0] ** 2}  # no...\n\n\n    if x != 3:\n        f(x)\n", "", "\t\tx += 1;\n}\n}\n"])
@example(["\n\n\n"])
@example(["   \u3000"])
@example(["a...."])
@example([". . ."])
@example(["(javascript is on.", "one two lorem ipsum.", "one two { use cookies."])
def test_figures_equal_the_plain_version(texts: list[str]):
    for text, found in zip(texts, measured(texts), strict=True):
        assert_equal(text, found)


@settings(max_examples=100, deadline=None)
@given(REPETITIVE)
def test_repetition_equals_the_plain_version(text: str):
    assert_equal(text, measured([text])[0])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40).filter(lambda text: text.isprintable()))
def test_any_text_has_finite_figures_within_bounds(text: str):
    for name, value in measured([text])[0].items():
        assert np.isfinite(value)
        assert value >= 0
        assert name in COUNTS or name in UNBOUNDED or value <= 1, name


@settings(max_examples=30, deadline=None)
@given(st.lists(TEXTS, max_size=6), TEXTS)
def test_figures_do_not_depend_on_neighbours(others: list[str], text: str):
    alone = measured([text])[0]
    assert measured([*others, text, *others])[len(others)] == alone


def test_figures_of_a_sliced_column_are_those_of_its_rows():
    texts = ["first one here.", "", "第二篇。", "third", "last\n"]
    column = pa.array(texts, pa.large_string())
    data, offsets = text_buffers(column.slice(1, 3))
    counts, shares = measure(data, offsets)
    whole = measure(*text_buffers(column))
    assert (counts == whole[0][1:4]).all()
    assert (shares == whole[1][1:4]).all()


def test_a_batch_of_nothing_has_no_rows():
    counts, shares = measure(*text_buffers(pa.array([], pa.large_string())))
    assert counts.shape == (0, len(COUNTS))
    assert shares.shape == (0, len(SHARES))


def test_an_english_text_by_hand():
    text = "The cat sat on the mat.\nThe dog #1 sat...\n\n- The cat sat on the mat.\n- to be"
    # words   6                        4                6 + the dash               3, a dash among them
    found = measured([text])[0]
    assert found["chars"] == 23 + 1 + 17 + 2 + 25 + 1 + 7 == len(text)
    assert found["words"] == 6 + 4 + 7 + 3
    assert (found["lines"], found["paragraphs"]) == (4, 2)
    assert found["stop_words"] == 3  # the, to, be; "The" is none
    assert found["word_chars"] == pytest.approx(((3 + 3 + 3 + 2 + 3 + 4) * 2 + (3 + 3 + 2 + 6) + (2 + 2)) / 18)  # no dashes
    assert found["hash_share"] == 1 / 20
    assert found["ellipsis_share"] == 1 / 20
    assert found["bullet_line_share"] == 2 / 4
    assert found["ellipsis_line_share"] == 1 / 4
    assert found["alpha_word_share"] == 17 / 20  # neither the dashes nor #1
    assert found["duplicate_line_share"] == 0
    assert found["top_2gram_share"] == 2 * len("The cat") / len(text)  # first of those that occur twice
    assert found["top_3gram_share"] == 2 * len("The cat sat") / len(text)
    assert found["top_4gram_share"] == 2 * len("The cat sat on") / len(text)
    assert found["duplicate_5gram_share"] == len("Thecatsatonthe") / len(text)
    assert found["duplicate_6gram_share"] == len("Thecatsatonthemat.") / len(text)
    assert found["duplicate_7gram_share"] == 0
    assert found["punctuated_line_share"] == 3 / 4
    assert found["short_line_share"] == 1
    assert found["newlines_per_word"] == 4 / 20
    assert found["longest_line_share"] == 25 / len(text)
    assert found["digit_share"] == 1 / (18 + 14 + 19 + 5)  # characters that are not white space
    assert found["c4_sentences"] == 2  # the first and the third line; an ellipsis ends none


def test_a_chinese_text_by_hand():
    text = "我的猫在家。\n我的猫在家。\n他们说：“好！”然后走了。GPT也好"
    found = measured([text])[0]
    assert found["chars"] == 6 + 1 + 6 + 1 + 18
    assert found["length"] == 32 + 3 * 20
    assert found["bytes"] == 27 * 3 + len("GPT\n\n")
    # Each Han character is a word, and so are 。 (twice), ：“, ！” and 。GPT.
    assert found["words"] == 6 + 6 + 13
    assert found["han"] == 5 + 5 + 10
    assert found["stop_words_zh"] == len("我的在他们了也")
    assert found["han_share"] == 20 / 23
    assert found["alpha_word_share"] == 21 / 25
    assert found["word_chars"] == (20 + len("。GPT")) / 21
    assert found["duplicate_line_share"] == 1 / 3
    assert found["duplicate_line_char_share"] == 6 / 30
    assert found["top_2gram_share"] == 2 * len("我的") / 32
    assert found["top_4gram_share"] == 2 * len("我的猫在") / 32
    assert found["duplicate_5gram_share"] == len("我的猫在家") / 32
    assert found["duplicate_6gram_share"] == len("我的猫在家。") / 32
    assert found["duplicate_7gram_share"] == 0
    assert found["punctuated_line_share"] == 2 / 3
    assert found["c4_sentences"] == 2


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("One two three. Four five six.", 2),
        ('He said "No." Then he left.', 2),
        ('Look here! "What is it?" she asked.', 2),
        ("It costs 3.14 dollars, e.g. here.", 1),
        ("Wait . . . what is it? . . .", 1),
        ("他说：“好。”然后走了。真的！", 3),
        ("这里没有句号也没有空格", 0),
        ("and so on and on...", 0),
        ("and so on and on…", 0),
        ("too short.", 0),
        ("read our privacy policy here.", 0),
        ("x" * 1001 + " and so on.", 0),
        ("x" * 1000 + " and so on.", 1),
    ],
)
def test_sentences_of_lines_that_c4_would_keep(line: str, sentences: int):
    assert measured([line])[0]["c4_sentences"] == sentences


def test_c4_looks_for_phrases_anywhere_in_a_line_and_for_brackets_before_policies():
    assert measured(["we say (lorem ipsum) to all."])[0]["c4_lorem"] == 1
    assert measured(["we say lorem ipsum to all"])[0]["c4_lorem"] == 0  # no punctuation at its end: C4 drops the line
    assert measured(["run MyJavaScript { now }."])[0]["c4_brackets"] == 0  # the line goes before brackets are looked for
    assert measured(["our Privacy Policy { is this }."])[0]["c4_brackets"] == 1


def test_full_stops_are_ellipses_in_threes_and_only_side_by_side():
    found = {text: measured([text])[0] for text in ("a....", "a......", "a . . .", "a…", "a...\u3000", "a. ..")}
    assert [figures["ellipsis_share"] for figures in found.values()] == [1, 2, 0, 1, 1, 0]
    assert [figures["ellipsis_line_share"] for figures in found.values()] == [1, 1, 0, 1, 1, 0]


def test_replacement_characters_are_counted():
    assert measured(["a\ufffd\ufffd b\ufffd"])[0]["replaced"] == 3


def test_a_share_that_is_a_threshold_is_not_above_it():
    text = "\n".join(["same here"] * 4 + [f"line number {n}" for n in range(6)])  # 3 of 10 lines stood before
    assert measured([text])[0]["duplicate_line_share"] == 0.3


def test_white_space_on_a_line_parts_no_paragraphs():
    assert measured(["a\n \nb"])[0]["paragraphs"] == 1
    assert measured(["a\n\nb\n\n\n\na"])[0]["paragraphs"] == 3
    assert measured(["a\n\nb\n\n\n\na"])[0]["duplicate_paragraph_share"] == 1 / 3


def test_figures_of_long_and_odd_texts_are_exact():
    long_word = "x" * 1_000_000
    empty_lines = "\n" * 100_000
    word, lines = measured([long_word, empty_lines])
    assert (word["words"], word["word_chars"], word["longest_line_share"], word["latin_share"]) == (1, 1e6, 1, 1)
    assert (lines["lines"], lines["words"], lines["newlines_per_word"]) == (0, 0, 100_000)
    assert lines["duplicate_line_share"] == lines["duplicate_paragraph_share"] == 0
    assert measured(["😀😀 😀"])[0]["symbol_share"] == 1
    assert measured(["... !!! ,;"])[0]["word_chars"] == 0
    assert measured(["a\n" * 2000])[0]["duplicate_line_share"] == 1999 / 2000

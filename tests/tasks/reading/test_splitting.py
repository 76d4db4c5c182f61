"""Cutting: no text is lost, none is longer than asked, and a part knows where it came from."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.splitting import cut_parts, cut_text

texts = st.lists(st.text("ab# 林\n\r", max_size=40), max_size=20).map("".join)
splits = st.sampled_from(["file", "window", "blank_lines", "heading"])


@given(texts, splits, st.integers(1, 30))
def test_parts_hold_all_text_in_order_and_fit_the_window(text: str, split: str, window: int):
    lines = text.splitlines(keepends=True)
    parts = list(cut_parts(lines, split, window, "^#"))  # type: ignore[arg-type]
    assert "".join("".join(part.text for part in parts).split()) == "".join(text.split())
    assert all(0 < len(part.text) <= window and part.text.strip() for part in parts)
    whole = "".join(lines)
    assert all(whole[part.start : part.end].strip() == part.text.strip() for part in parts)


def test_lines_longer_than_the_window_are_cut_and_shorter_ones_are_not():
    assert list(cut_text(["abc\n", "defgh\n", "i\n"], "window", 4)) == ["abc", "defg", "h\ni"]


def test_paragraphs_are_merged_up_to_the_window_and_never_cut():
    lines = "\n\n".join(["word " * 9] * 5).splitlines(keepends=True)
    assert [len(text.split()) for text in cut_text(lines, "blank_lines", 100)] == [18, 18, 9]


def test_a_document_starts_at_each_heading_and_before_the_first():
    lines = ["preface\n", "第一回 甲\n", "text\n", "\n", "第二回 乙\n", "text\n"]
    assert list(cut_text(lines, "heading", 100, "^第.回")) == ["preface", "第一回 甲\ntext", "第二回 乙\ntext"]


def test_blank_lines_without_end_take_no_room():
    (part,) = cut_parts(["a\n", *["\n"] * 5_000, "b"], "file", 1_000)
    assert len(part.text) < 200
    assert (part.start, part.end) == (0, 5_003)

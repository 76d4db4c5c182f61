"""Cutting: no text is lost, none is longer than asked, and a piece knows where it came from."""

from hypothesis import given
from hypothesis import strategies as st

from tasks.reading.splitting import cut_pieces, cut_text

texts = st.lists(st.text("ab# 林\n\r", max_size=40), max_size=20).map("".join)
splits = st.sampled_from(["file", "window", "blank_lines", "heading"])


@given(texts, splits, st.integers(1, 30))
def test_pieces_hold_all_text_in_order_and_fit_the_window(text: str, split: str, window: int):
    lines = text.splitlines(keepends=True)
    pieces = list(cut_pieces(lines, split, window, "^#"))  # type: ignore[arg-type]
    assert "".join("".join(piece.text for piece in pieces).split()) == "".join(text.split())
    assert all(0 < len(piece.text) <= window and piece.text.strip() for piece in pieces)
    whole = "".join(lines)
    assert all(whole[piece.start : piece.end].strip() == piece.text.strip() for piece in pieces)


def test_lines_longer_than_the_window_are_cut_and_shorter_ones_are_not():
    assert list(cut_text(["abc\n", "defgh\n", "i\n"], "window", 4)) == ["abc", "defg", "h\ni"]


def test_paragraphs_are_merged_up_to_the_window_and_never_cut():
    lines = "\n\n".join(["word " * 9] * 5).splitlines(keepends=True)
    assert [len(text.split()) for text in cut_text(lines, "blank_lines", 100)] == [18, 18, 9]


def test_a_document_starts_at_each_heading_and_before_the_first():
    lines = ["preface\n", "第一回 甲\n", "text\n", "\n", "第二回 乙\n", "text\n"]
    assert list(cut_text(lines, "heading", 100, "^第.回")) == ["preface", "第一回 甲\ntext", "第二回 乙\ntext"]


def test_blank_lines_without_end_take_no_place():
    (piece,) = cut_pieces(["a\n", *["\n"] * 5_000, "b"], "file", 1_000)
    assert len(piece.text) < 200
    assert (piece.start, piece.end) == (0, 5_003)

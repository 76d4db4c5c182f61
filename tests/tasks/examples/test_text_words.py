"""How a text falls into words, as the rows had them that a model learned from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.examples.stdlib_examples import token_kind_examples
from tasks.examples.text_words import WordRule, spaced, word_rule


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It 's  the\tview .", ["It", " 's", " the", " view", " ."]),
        ("北京是中国的首都。", list("北京是中国的首都。")),
        ("在 2008 年，iPhone 很贵", ["在", "2008", "年", "，", "iPhone", "很", "贵"]),
        ("東京タワーは", list("東京タワーは")),
        ("나는 학교에 간다", ["나는", " 학교에", " 간다"]),
        ("กินข้าว", ["กิ", "น", "ข้", "า", "ว"]),
        ("so cute😍😍 !", ["so", " cute😍😍", " !"]),
        ("你好😍 ok", ["你", "好", "😍", " ok"]),
        ("e\u0301te\u0301 葛\U000e0100城", ["e\u0301te\u0301", "葛\U000e0100", "城"]),
        ("a b c", ["a", "b", "c"]),
        ("", []),
        (" \n", []),
    ],
)
def test_words_are_parted_by_white_space_and_by_scripts_without_it(text: str, words: list[str]) -> None:
    assert WordRule().words(text) == words


@given(st.lists(st.text(st.sampled_from("ab1.,'é나😀"), min_size=1, max_size=4), max_size=8))
def test_words_set_apart_by_spaces_are_those_of_the_row(words: list[str]) -> None:
    assert WordRule().words(" ".join(words)) == spaced(words)


@given(st.text("ab 1北京，나ไม่\n\u0301", max_size=20), st.sampled_from(["spaces", "characters", "python"]))
def test_no_word_is_empty_and_no_character_is_lost(text: str, manner: str) -> None:
    words = WordRule(manner).words(text)  # type: ignore[arg-type]
    assert all(word.strip() for word in words)
    if manner != "python":  # which leaves comments' white space and line ends to no word
        assert "".join("".join(words).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([["It", "'s", "U.S.", "news"], ["Oh", "!"]], WordRule("spaces")),
        ([list("生于1967年"), list("北京 大学".replace(" ", ""))], WordRule("characters")),
        ([["我们", "在", "北京"], ["OK", "2008", "年"]], WordRule("spaces", 2)),
        ([["나는", "학교에"]], WordRule("spaces")),
        ([], WordRule("spaces")),
    ],
)
def test_rule_is_that_which_gives_the_rows_back(rows: list[list[str]], rule: WordRule) -> None:
    assert word_rule([spaced(row) for row in rows]) == rule


def test_words_of_chinese_rows_stay_whole_where_spaces_part_them() -> None:
    rule = word_rule([["我们", "在", "中华人民共和国"]])
    assert rule.words("我们 在 中华人民共和国") == ["我们", "在", "中华人民共和国"]
    assert rule.words("我们在中国") == list("我们在中国")


def test_tokens_of_python_are_found_again_in_their_text() -> None:
    rows = [example.tokens for example, _ in zip(token_kind_examples(), range(200), strict=False)]
    rule = word_rule(rows)
    assert rule == WordRule("python")
    assert [rule.words("".join(row)) for row in rows] == [list(row) for row in rows]
    assert rule.words("def f(x: (") == ["def", " f", "(", "x", ":", " ("]


def test_space_around_a_token_of_a_file_is_none_of_it() -> None:
    assert spaced(["He", " said", "so ", "你", "好", "나는", "학교에"]) == ["He", " said", " so", "你", "好", "나는", " 학교에"]

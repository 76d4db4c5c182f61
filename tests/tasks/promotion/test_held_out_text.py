"""New rows that hold text that models are judged on: exact, in long runs, and nearly."""

import random

import pytest

from tasks.promotion.held_out_text import find_held_out

HELD = "The committee will meet again on Thursday morning to decide about the new bridge across the river near Eastham station."


def sentence(seed: int, words: int) -> str:
    chooser = random.Random(seed)
    return " ".join("".join(chooser.choices("abcdefghijklmnop", k=6)) for _ in range(words))


OTHERS = {f"other/{n}": sentence(n, 18) for n in range(200)}


def reasons(*rows: str, judged: str = HELD) -> dict[int, str]:
    return {number: match.reason for number, match in find_held_out(rows, {**OTHERS, "held": judged}).items()}


@pytest.mark.parametrize("row", [HELD, HELD.upper(), f"  {HELD.replace(' ', chr(10))} ", HELD.replace(" ", ", "), f"“{HELD}”!"])
def test_a_copy_in_another_case_spacing_or_punctuation_is_held_out_text(row: str) -> None:
    (match,) = find_held_out([row], {**OTHERS, "held": HELD}).values()
    assert (match.item, match.reason) == ("held", "held_out_text")


def test_a_short_text_is_found_by_its_copy_alone() -> None:
    assert reasons("see room 1", "see room 2", judged="See room 1.") == {0: "held_out_text"}
    assert reasons("🙂", "🙁", judged="🙂") == {0: "held_out_text"}


def test_a_changed_word_or_ending_is_a_near_copy() -> None:
    assert reasons(HELD.replace("morning", "evening"), f"{HELD} Really.") == dict.fromkeys(range(2), "near_held_out")


def test_a_changed_character_of_chinese_is_a_near_copy() -> None:
    held = "今天下午三点钟委员会将在市政厅讨论新桥的建设方案并且公布结果请大家准时参加"
    short = "如果这个赛季勇士再夺冠是不是对联盟发展不利"
    assert reasons(short.replace("再", "再次"), judged=short) == {0: "near_held_out"}
    assert reasons(held.replace("三", "四"), "明天上午我们去公园散步看花喝茶聊天下棋打牌唱歌跳舞画画写字", judged=held) == {
        0: "near_held_out"
    }


def test_a_long_row_that_holds_a_judged_text_is_found_and_the_run_is_shown() -> None:
    row = f"{sentence(999, 200)} {HELD} {sentence(998, 200)}"
    (match,) = find_held_out([row], {**OTHERS, "held": HELD}).values()
    assert match.reason == "near_held_out"
    assert match.text == HELD.removesuffix(".")


def test_rows_of_their_own_are_clean_and_so_is_one_with_a_phrase_in_common() -> None:
    phrase = " ".join(HELD.split()[:8])
    assert reasons(sentence(500, 18), f"{phrase} {sentence(501, 18)}", "", "…") == {}


def test_the_fixed_words_of_a_prompt_are_no_evidence() -> None:
    prompt = "You are a careful assistant. Read the following message of a customer and say in one word what it is about:"
    judged = {f"held/{n}": f"{prompt} {sentence(n, 4)}" for n in range(60)}
    rows = [f"{prompt} {sentence(n, 4)}" for n in range(500, 540)]
    assert find_held_out(rows, judged) == {}
    assert set(find_held_out([f"{prompt}  {sentence(7, 4)}"], judged)) == {0}


def test_nothing_is_found_in_nothing() -> None:
    assert find_held_out([], OTHERS) == find_held_out(["row"], {}) == {}

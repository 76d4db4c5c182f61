"""Repairs of characters, words and lines: what is mended, what stays, and that a second time changes nothing."""

import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.text.lines import LineConfig, LineFilter, ends_a_sentence
from tasks.text.repairs import UNCOMPOSED, RepairConfig, Repairer
from tasks.text.words import WordConfig
from tests.clean_texts import CLEAN_TEXTS
from tests.torture_text import TextCase, text_cases

DEFAULT = Repairer(RepairConfig())
OFF = RepairConfig(line_ends=False, mojibake=False, nfc=False, invisible=False, max_marks=None, trailing_spaces=False, max_blank_lines=None)
ODD = (
    " \t\n\r\x00\x0b\x0c\x85\x92\xa0\xad\u0301\u0316\u200b\u200c\u200d\u202e\u2028\u3000"
    "\ufdd0\ufe0f\ufeff\ufffd\uffff\U000e0041\U000e0100\ue000"
    "aÂÃäé€™œ中あ한من👨🏴\ud800\udc00"
)
TEXTS = st.text(st.one_of(st.sampled_from(ODD), st.characters()), max_size=60)
CHARACTER_CASES = [case for case in text_cases() if case.group == 4]


@pytest.mark.parametrize("case", CHARACTER_CASES, ids=lambda case: case.name)
def test_each_damaged_text_is_mended_and_flagged(case: TextCase):
    repaired = DEFAULT.repair(case.text)
    assert (case.repaired is None and case.flags) or repaired.text == (case.repaired or case.text)
    assert list(repaired.flags) == list(case.flags)


@settings(max_examples=500, deadline=None)
@given(TEXTS)
@example("Ã\u200b©")
@example("e\u200b\u0301")
@example("\u1100" + "\u0301" * 5 + "\u1161")
def test_a_second_repair_changes_nothing(text: str):
    once = DEFAULT.repair(text).text
    again = DEFAULT.repair(once)
    assert again.text == once
    assert not again.flags


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.booleans(), st.booleans(), st.sampled_from([None, 0, 1]))
def test_a_second_repair_changes_nothing_with_other_settings(text: str, private: bool, indent: bool, blank: int | None):
    config = RepairConfig(private_use=private, ideographic_indent=indent, max_blank_lines=blank, max_marks=1, nfc=False)
    repairer = Repairer(config)
    once = repairer.repair(text).text
    assert repairer.repair(once).text == once


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_a_repaired_text_can_be_encoded_and_is_composed(text: str):
    repaired = DEFAULT.repair(text).text
    assert repaired.encode().decode() == repaired
    assert all(unicodedata.is_normalized("NFC", part) for part in UNCOMPOSED.split(repaired))


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab .,\n中文，。“”＂ＡｂﬁéÜß–"), max_size=80))
def test_plain_text_loses_nothing_but_white_space(text: str):
    assert "".join(DEFAULT.repair(text).text.split()) == "".join(text.split())


def test_the_colours_of_a_terminal_go_as_a_whole():
    log = "\x1b[1;31mred\x1b[0m and \x1b]0;title\x07plain, a[31m as written"
    assert DEFAULT.repair(log) == ("red and plain, a[31m as written", ("control",), {})


@pytest.mark.parametrize("text", ["aÜ“ und „Spaß“", "“café”“thé”", "«\xa0café\xa0» est", "MENÜ… ÉTÉ– é—à"])
def test_a_letter_before_quotes_and_dashes_is_no_mojibake(text: str):
    assert DEFAULT.repair(text).text == text


CLEAN = [(language, text) for language, texts in CLEAN_TEXTS.items() for text in texts]


@pytest.mark.parametrize(("language", "text"), CLEAN)
def test_clean_text_of_any_language_is_not_changed(language: str, text: str):
    assert DEFAULT.repair(text) == (text, (), {})


def windows(damaged: bytes) -> str:
    """As browsers read Windows-1252: what it leaves open are controls."""
    return "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in damaged)


@pytest.mark.parametrize("read", [windows, lambda damaged: damaged.decode("latin-1")], ids=["windows", "latin"])
def test_a_text_that_was_damaged_whole_is_mended_in_every_language(read: Callable[[bytes], str]):
    """But for the three whose texts hold, between blanks, a lone letter of another script."""
    texts = [text.replace("\xa0", " ") for language, text in CLEAN if language not in ("English", "Korean", "Japanese")]
    assert [DEFAULT.repair(read(text.encode())).text for text in texts] == texts


@pytest.mark.parametrize(
    ("damaged", "mended"),
    [
        ("Ã–sterreich ist schÃ¶n", "Österreich ist schön"),
        ("PRESENTACIÃ“N, ESPAÃ‘A", "PRESENTACIÓN, ESPAÑA"),
        ("Itâ€™s done.Â  Next 100Â km", "It’s done.  Next 100 km"),
        ("voilÃ  fini, Ã  la carte au cafÃ©", "voilà fini, à la carte au café"),
        ("â€œHelloâ€ said â€œsheâ€\ufffd.", "“Hello” said “she”."),
        ("â‚¬5 â„¢ 20Â°C 10 mÂ² Â£5 Â© 2020 ðŸ˜€", "€5 ™ 20°C 10 m² £5 © 2020 😀"),
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚ Ð² Ð³Ð¾Ñ€Ð¾Ð´Ðµ", "привет в городе"),
        ("He wrote “naïve” and, elsewhere, cafÃ©; Â is an operator", "He wrote “naïve” and, elsewhere, café; Â is an operator"),
    ],
)
def test_what_no_language_writes_is_mended_and_the_rest_by_its_evidence(damaged: str, mended: str):
    assert DEFAULT.repair(damaged).text == mended


@pytest.mark.parametrize(
    "code",
    [
        "```python\nx = 'Ã©tÃ©'\n```",
        "~~~\nÃ©tÃ©\n~~~",
        "It prints\n\n    Ã©tÃ©\n    â€™\n\nand ends.",
        "The name `Ã©tÃ©` stays, and ``â€™`` too.",
        "x = 'schÃ¶n'\nprint(\"cafÃ©\")\nassert mend('Ã©') == 'é'",
        ">>> fix_text('âœ” No problems')",
        'CASES = [\n    ("Ã©", "é"),\n    "â€™",\n]',
        '{"text": "Itâ€™s"}',
        'String s = "cafÃ©";',
    ],
)
def test_code_keeps_what_it_spells(code: str):
    assert DEFAULT.repair(code).text == code
    assert DEFAULT.repair(f"{code}\n\nItâ€™s schÃ¶n.").text == f"{code}\n\nIt’s schön."


def test_a_paragraph_with_an_indent_is_no_code():
    assert DEFAULT.repair("    Itâ€™s late.\nAnd dark.\n\n    Weâ€™re home.\nSo be it.").text == (
        "    It’s late.\nAnd dark.\n\n    We’re home.\nSo be it."
    )


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("🏴\U000e0067\U000e0062", "🏴"),  # a flag that is never ended
        ("🏴" + "".join(chr(0xE0000 + ord(letter)) for letter in "ignore all rules") + "\U000e007f", "🏴"),
        ("pass\u200dword\u200c", "password"),
        ("a\u200b b", "a b"),
        ("שלום\u202e abc", "שלום abc"),
        ("q\u200ex", "qx"),
    ],
)
def test_what_nobody_sees_goes_where_no_script_is_spelled_with_it(dirty: str, clean: str):
    assert DEFAULT.repair(dirty).text == clean


def test_a_script_may_have_twice_as_many_marks():
    tibetan, towers = "ཧ" + "ྐྵྨླྺྻྃ", "a" + "\u0301" * 9
    assert DEFAULT.repair(tibetan + towers).text == tibetan + "á" + "\u0301" * 4


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_with_every_step_off_a_text_stays_as_it_is(text: str):
    assert Repairer(OFF).repair(text).text == text


@pytest.mark.parametrize("length", range(1, 40))
def test_damage_is_seen_wherever_it_stands(length: int):
    for bad in ("\0", "\u200b", " \n", "\r", "\n\n\n\n", "Ã©"):
        for at in range(length):
            text = "x" * at + bad + "y" * (length - at)
            assert DEFAULT.repair(text).text != text


def test_marks_are_capped_on_each_base_alone():
    repaired = Repairer(RepairConfig(max_marks=2)).repair("x\u0301\u0302\u0303q\u0301\u0302")
    assert repaired.text == "x\u0301\u0302q\u0301\u0302"


def test_private_use_characters_go_when_asked():
    repaired = Repairer(RepairConfig(private_use=True)).repair("a\ue000b\U000f0000c\U00100000d")
    assert repaired.text == "abcd"
    assert repaired.flags == ("private_use",)


def test_ideographic_indents_go_when_asked():
    assert Repairer(RepairConfig(ideographic_indent=True)).repair("\u3000\u3000一。\n\u3000二\u3000三。").text == "一。\n二\u3000三。"


@pytest.mark.parametrize("text", ["Ã" * 200_000, "e" + "\u0301" * 1_000_000, "\u200d" * 1_000_000, " \n" * 500_000, "Â " * 50_000])
def test_repair_takes_linear_time(text: str):
    start = time.process_time()
    DEFAULT.repair(text)
    assert time.process_time() - start < 10


def test_english_stop_words_go_with_their_spaces():
    repairer = Repairer(RepairConfig(words=WordConfig(stop_words="en")))
    assert repairer.repair("The cat sat on the mat.\nIt isn’t of an age").text == "cat sat mat.\nage"


@pytest.mark.parametrize("stop_words", ["zh", "en+zh", ["the", "的"], ["です"], ["ที่"]])
def test_stop_words_of_languages_without_spaces_are_refused(stop_words: object):
    with pytest.raises(ValidationError, match="stop_words"):
        WordConfig.model_validate({"stop_words": stop_words})


def test_no_stop_word_is_cut_out_of_another_word():
    repairer = Repairer(RepairConfig(words=WordConfig(stop_words=["the", "и", "क"])))
    assert repairer.repair("The theme и идея 目的地, breathe क कहानी").text == "theme идея 目的地, breathe कहानी"


def test_own_stop_words_are_found_in_any_case():
    assert Repairer(RepairConfig(words=WordConfig(stop_words=["Foo"]))).repair("a FOO foobar b").text == "a foobar b"


def test_special_characters_leave_a_space():
    config = WordConfig(special_characters="symbols_and_punctuation")
    assert Repairer(RepairConfig(words=config)).repair("one+two, 三，四! 😀five").text == "one two 三 四 five"


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("the of isn't 的了我们 +,。\n"), max_size=60))
def test_a_second_removal_of_words_changes_nothing(text: str):
    words = WordConfig(stop_words="en", special_characters="symbols")
    repairer = Repairer(RepairConfig(words=words, lines=LineConfig(min_words=2, duplicates=True)))
    once = repairer.repair(text).text
    assert repairer.repair(once).text == once


@pytest.mark.parametrize("line", ["Done.", "完了。", "真的？”", "“Why?”", "(It ended.)", "没说完……", "he said!'", "列表；"])
def test_lines_that_end_a_sentence(line: str):
    assert ends_a_sentence(line)


@pytest.mark.parametrize("line", ["Home", "首页", "About us >", "第一章", "and,", ")"])
def test_lines_that_end_none(line: str):
    assert not ends_a_sentence(line)


def filtered(config: LineConfig, text: str) -> tuple[str, dict[str, int]]:
    result = LineFilter(config).filter(text)
    return result.text, dict(result.dropped)


def test_lines_go_by_the_first_check_they_fail_and_are_counted():
    config = LineConfig(min_words=3, max_chars=40, javascript=True, terminal_punctuation=True)
    text = "Home\nPlease enable JavaScript to go on.\nA line without an end\nThis one stays.\n" + "long " * 20
    expected = {"min_words": 1, "javascript": 1, "terminal_punctuation": 1, "max_chars": 1}
    assert filtered(config, text) == ("This one stays.", expected)


def test_a_line_of_exactly_min_words_stays():
    assert filtered(LineConfig(min_words=3), "one two three\none two\n一二三\n一二") == ("one two three\n一二三", {"min_words": 2})


def test_boilerplate_lines_go_in_both_languages():
    text = "Body.\nThis site uses cookies.\n正文。\n请阅读隐私政策。\nLorem ipsum dolor"
    assert filtered(LineConfig(policy=True, lorem_ipsum=True), text) == ("Body.\n正文。", {"policy": 2, "lorem_ipsum": 1})


def test_repeated_lines_go_across_blank_ones():
    assert filtered(LineConfig(duplicates=True), "a\n a\n\na\nb\na") == ("a\n\nb\na", {"duplicates": 2})


def test_lines_that_match_a_pattern_go():
    assert filtered(LineConfig(patterns=["^Share", "分享到"]), "Share this\nWe Share\n点击分享到微博") == ("We Share", {"patterns": 2})


def test_repeated_lines_are_counted_by_the_repairer():
    repaired = Repairer(RepairConfig(lines=LineConfig(duplicates=True))).repair("a\na\nb")
    assert repaired.text == "a\nb"
    assert dict(repaired.dropped_lines) == {"duplicates": 1}


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ValidationError, match="is no RE2 expression"):
        LineConfig(patterns=["(unclosed"])


def test_a_pattern_takes_linear_time():
    start = time.process_time()
    filtered(LineConfig(patterns=["(a|aa)+$"]), "a" * 100_000 + "b")
    assert time.process_time() - start < 5

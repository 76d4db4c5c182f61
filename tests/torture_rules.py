"""Documents made to break rules and comparisons: groups 9 (filters) and 10 (copies) of the torture set."""

from collections.abc import Iterator
from dataclasses import dataclass

BOILERPLATE_PAGES = 3_000
PROSE = (
    "The ferry left the harbour an hour before dawn, with two cars, eleven passengers and a crate of hens on board. "
    "Nobody spoke until the lighthouse was behind them; then the engineer began to sing, and after a while the cook "
    "joined in. By noon the wind had turned and the sea was flat as glass, so that the captain let the children hold the "
    "wheel. It was their first crossing. They asked how deep the water is, who had counted the islands, and why no bird "
    "was to be seen so far from land. In the evening a light came up to the west, and the old man who sold tickets said "
    "that this was the place. Everyone went on deck to look. What they saw there have not all of them told in the same way."
)
CHINESE = (
    "渡船在天亮前一个小时离开了港口，船上有两辆车、十一位乘客和一筐母鸡。直到灯塔落在后面，谁也没有说话；后来轮机手唱起歌来，"
    "过了一会儿，厨子也跟着唱了。到了中午，风向变了，海面平得像一面镜子，船长就让孩子们握一握舵轮。这是他们头一回过海。"
    "他们问水有多深，是谁数过这些岛，又为什么离岸这样远便看不见一只鸟。傍晚时分，西边亮起一盏灯，卖票的老人说，就是那里了。"
    "大家都走上甲板去看。他们在那里看见的东西，后来各人讲得都不一样。"
)
TALE = (
    "A miller kept two cats and a clock that was always wrong by the same seven minutes.",
    "Every spring the river rose as far as the third step, where his grandfather had cut a mark.",
    "He read the mark in the morning, wrote down the day, and went back to his stones.",
    "Farmers came with barley in wet sacks and stayed to argue about the price of rope.",
    "One of them claimed to have seen a pike as long as a ladder under the old bridge.",
    "Nobody believed him, although his boat had lost an oar and half of its painted name.",
    "When the frost came they carried lamps across the ice to find what the summer had sunk.",
    "There were bottles, a wheel, the anchor of some barge, and the bell of a drowned church.",
    "The bell hangs over the door now and is rung when a cart turns into the yard.",
    "Strangers ask about it, and each of them is told a story that none before him has heard.",
)
MARKET = (
    "每逢初五，镇上的人都到河边去赶集",
    "卖伞的坐在桥头，卖糖的站在树下，谁也不肯换地方",
    "有一年下了大雨，桥被水冲走了半边",
    "大家只好撑船过去，把鸡鸭和布匹都堆在船尾",
    "一个穿灰衣服的先生在船上替人写信，写一封收两个铜钱",
    "他写得很慢，每写完一行便抬头看看天色",
    "后来桥修好了，先生却还住在船上，说那里的光线比别处好",
    "到了晚上，集散了，灯一盏一盏地灭掉",
)
HAN = "".join(chr(0x4E00 + 37 * number) for number in range(400))  # no sentence, no space, no character twice
CODE = "\n".join(
    f"def step_{n}(x: int) -> int:\n    if x > {n}:\n        return x * {n} + {n * 7}\n    return step_{n + 1}(x - 1)\n" for n in range(12)
)


@dataclass(frozen=True)
class RuleCase:
    """A document, and the reason that it is dropped for; None: it is kept."""

    group: int
    name: str
    text: str
    reason: str | None


def filter_cases() -> list[RuleCase]:
    """Group 9: documents in which a share is of nothing. Every rule of every preset looks at them."""
    return [
        RuleCase(9, "prose", PROSE, None),
        RuleCase(9, "Chinese prose", CHINESE, None),
        RuleCase(9, "no words", " \u3000\t\xa0", "empty_text"),
        RuleCase(9, "no lines", "\n" * 300, "empty_text"),
        RuleCase(9, "nothing visible", "\u200b\u2060 \u00ad\n\ufeff", "empty"),
        RuleCase(9, "one letter", "a", "min_chars"),
        RuleCase(9, "all punctuation", "?!.,;:-)( " * 60, "min_letter_share"),
        RuleCase(9, "punctuation without a space", "…。！？" * 100, "min_letter_share"),
        RuleCase(9, "only emoji", "😀🎉🚀" * 100, "min_letter_share"),
        RuleCase(9, "only combining marks", "\u0301" * 300, "min_chars"),
        RuleCase(9, "only digits", "31415 92653 " * 60, "min_letter_share"),
        RuleCase(9, "only Han without a space", HAN, "fineweb2_stop_words"),
        RuleCase(9, "one Han character", "船" * 400, "max_duplicate_10gram_share"),
        RuleCase(9, "only code", CODE, None),
        RuleCase(9, "one word", "a" * 2_000, "max_word_chars"),
        RuleCase(9, "one line many times", "The ferry left.\n" * 200, "max_duplicate_line_char_share"),
        RuleCase(9, "half in Chinese", PROSE + "\n" + CHINESE, "fineweb2_language_score"),
    ]


def copy_cases() -> list[RuleCase]:
    """Group 10: copies, near ones, and what only looks like them."""
    first, middle, last = TALE[:8], [*TALE[1:8], TALE[8]], [*TALE[2:8], *TALE[8:10]]
    return [
        RuleCase(10, "shorter than a shingle", "three short words", None),
        RuleCase(10, "the same again", "three short words", "exact_copy"),
        RuleCase(10, "shorter than a shingle, another", "three other words", None),
        RuleCase(10, "as short in Chinese", "三个字", None),
        RuleCase(10, "the same in other type", "Three  SHORT words", "exact_copy"),
        RuleCase(10, "one shingle repeated", "row " * 100, None),
        RuleCase(10, "one shingle repeated more often", "row " * 500, "near_copy"),
        RuleCase(10, "chain, first", " ".join(first), None),
        RuleCase(10, "chain, second, like the first", " ".join(middle), "near_copy"),
        RuleCase(10, "chain, third, like the second alone", " ".join(last), "near_copy"),
        RuleCase(10, "Chinese", "。".join(MARKET), None),
        RuleCase(10, "Chinese with another end", "。".join([*MARKET[:-1], "第二天又是这样"]), "near_copy"),
        *boilerplate(),
    ]


def boilerplate() -> Iterator[RuleCase]:
    """A cluster of thousands: one notice, in which a number differs or nothing at all."""
    notice = "This page is not there any more. " + "Please go back to the start and look for another one, or ask us. " * 3
    for number in range(BOILERPLATE_PAGES):
        reason = None if number == 0 else ("exact_copy" if number % 2 else "near_copy")
        page = "one" if number == 0 or number % 2 else "number " + "".join(chr(97 + number // 26**place % 26) for place in range(3))
        yield RuleCase(10, f"boilerplate {number}", f"{notice} You came from page {page}.", reason)


def rule_cases() -> list[RuleCase]:
    """All cases of both groups."""
    return [*filter_cases(), *copy_cases()]

"""Select: which rule drops a document, and what a recipe's rules may say."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.corpus.annotate import STATISTICS
from tasks.corpus.select import (
    PRESETS,
    PresetName,
    SelectConfig,
    SelectWork,
    _check_some_left,  # pyright: ignore[reportPrivateUsage]
    bounds_of,
    judge,
    preset_digests,
    read_preset,
    select_table,
    told_defaults,
)
from tasks.documents import text_buffers
from tasks.errors import UserError
from tasks.executor.tables import TableFile
from tasks.kernels.statistics import measure
from tasks.kernels.statistics_columns import COLUMNS, COUNTS, SHARES
from tasks.ledger import Ledger

Value = float | str | None


def table(*rows: Mapping[str, Value]) -> pa.Table:
    """Statistics of documents; figures that are not named are those of a harmless text, or null where they may be."""
    whole: list[dict[str, Value]] = []
    for number, row in enumerate(rows):
        harmless: dict[str, Value] = {name: 1_000 if name in COUNTS else 0 if name in SHARES else None for name in COLUMNS}
        harmless |= {"letter_share": 1.0, "word_chars": 5.0}
        whole.append({"id": str(number), "source": "web", "language": "en", **harmless, **row})
    return pa.Table.from_pylist(whole, schema=STATISTICS)


def config(**settings: object) -> SelectConfig:
    return SelectConfig.model_validate({"presets": [], **settings})


def reasons(select: SelectConfig, *rows: Mapping[str, Value]) -> list[str | None]:
    return judge(select, table(*rows)).reasons.tolist()


@pytest.mark.parametrize("name", get_args(PresetName))
def test_presets_parse_and_name_statistics_that_exist(name: PresetName):
    preset = read_preset(name)
    assert preset.name == name
    assert preset.source
    assert {rule.column for rule in preset.rules} <= set(COLUMNS)
    assert len(bounds_of([name], [])) == sum((rule.min is not None) + (rule.max is not None) for rule in preset.rules)


def test_every_preset_file_can_be_chosen():
    assert {path.stem for path in PRESETS.glob("*.yaml")} == set(get_args(PresetName))


def test_all_presets_together_have_no_reason_twice():
    names: list[PresetName] = list(get_args(PresetName))
    assert len(bounds_of(names, [])) == sum(len(bounds_of([name], [])) for name in names)


@pytest.mark.parametrize("bound", [0.1, 0.12, 0.3, 0.67, 0.7, 1 / 3])
def test_bounds_are_inclusive_though_figures_are_kept_in_32_bits(bound: float):
    rules = [{"column": "alpha_word_share", "min": bound, "max": bound}]
    just_off = [float(np.nextafter(np.float32(bound), np.float32(side))) for side in (0, 1)]
    found = reasons(config(rules=rules), *({"alpha_word_share": share} for share in (bound, *just_off)))
    assert found == [None, "min_alpha_word_share", "max_alpha_word_share"]


def test_zero_is_a_bound_like_any_other():
    rules = [{"column": "c4_lorem", "max": 0}, {"column": "words", "min": 0}]
    assert reasons(config(rules=rules), {"c4_lorem": 0, "words": 0}, {"c4_lorem": 1}) == [None, "max_c4_lorem"]


def test_a_figure_that_is_not_known_breaks_no_rule():
    rules = [{"column": "quality", "min": 0.5, "max": 0.9}]
    rows = [{"quality": None}, {"quality": 0.4}, {"quality": 0.7}, {"quality": 0.95}]
    assert reasons(config(rules=rules), *rows) == [None, "min_quality", None, "max_quality"]


def test_the_first_broken_rule_is_the_reason_and_its_figure_is_kept():
    rules = [{"column": "words", "min": 10}, {"column": "lines", "min": 5}]
    judged = judge(config(rules=rules), table({"words": 9, "lines": 4}, {"lines": 4}, {}))
    assert judged.reasons.tolist() == ["min_words", "min_lines", None]
    assert judged.values.tolist()[:2] == [9, 4]
    assert np.isnan(judged.values[2])
    assert reasons(config(rules=rules[::-1]), {"words": 9, "lines": 4}) == ["min_lines"]


def test_presets_come_before_rules():
    select = config(presets=["basic"], rules=[{"column": "words", "min": 100}])
    assert reasons(select, {"length": 19, "words": 1}) == ["min_chars"]


def test_a_rule_with_an_earlier_reason_takes_its_place():
    select = config(presets=["basic"], rules=[{"column": "chars", "min": 10}, {"column": "words", "min": 5}])
    assert reasons(select, {"chars": 50}, {"chars": 9}, {"chars": 2e6}) == [None, "min_chars", "max_chars"]
    assert bounds_of(["basic"], select.rules)[0].threshold == 10  # where the earlier one stood


def test_rules_that_are_off_drop_nothing():
    select = config(presets=["basic"], off=["min_chars"])
    assert reasons(select, {"length": 5}, {"chars": 2e6}) == [None, "max_chars"]


def test_rules_look_at_their_languages_and_sources_alone():
    rows = [{"language": "en"}, {"language": "zh"}, {"language": "zh", "source": "book"}]
    short = {"column": "words", "min": 5_000}
    assert reasons(config(rules=[{**short, "languages": ["zh"]}]), *rows) == [None, "min_words", "min_words"]
    assert reasons(config(rules=[{**short, "sources": ["book", "x"]}]), *rows) == [None, None, "min_words"]
    both = {**short, "languages": ["zh"], "sources": ["web"]}
    assert reasons(config(rules=[both]), *rows) == [None, "min_words", None]


def test_languages_that_are_not_chosen_and_empty_texts_go():
    select = config(languages=["en", "zh"])
    assert reasons(select, {}, {"language": "zh"}, {"language": "fr"}, {"language": "und"}, {"chars": 0}) == [
        *(None, None, "languages", "languages", "empty")
    ]


def test_named_rules_show_their_name():
    rules = [{"name": "short", "column": "words", "min": 5}, {"name": "size", "column": "chars", "min": 5, "max": 9}]
    rows = [{"words": 1}, {"chars": 4}, {"chars": 10}]
    assert reasons(config(rules=rules), *rows) == ["short", "size_min", "size_max"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rules": [{"column": "word", "min": 1}]}, "did you mean words?"),
        ({"rules": [{"column": "zzzzz", "min": 1}]}, "known: bytes, chars"),
        ({"rules": [{"column": "words"}]}, "neither min nor max"),
        ({"rules": [{"column": "words", "min": 2, "max": 1}]}, "min (2) is above max (1)"),
        ({"off": ["min_char"], "presets": ["basic"]}, "did you mean min_chars?"),
        ({"off": ["min_words"], "presets": []}, "no rule is called 'min_words'"),
        ({"presets": ["gophers"]}, "gopher"),
        ({"rules": [{"column": "words", "min": 1, "name": "Two Words"}]}, "name"),
        ({"rules": [{"column": "words", "min": 1, "languages": []}]}, "languages"),
    ],
)
def test_mistakes_in_a_recipe_are_told(settings: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=re.escape(message)):
        config(**settings)


def test_a_changed_preset_is_a_changed_input():
    digests = preset_digests(config(presets=["gopher", "c4"]))
    assert list(digests) == ["preset gopher", "preset c4"]
    assert len(set(digests.values())) == 2


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        ({"min_chars": 7, "max_chars": 1}, "lower it with clean.select.rules=[{name: min_chars, column: length, min: …}], or leave"),
        ({"max_symbol_share": 8}, "raise it with clean.select.rules=[{column: symbol_share, max: …}]"),
        ({"max_symbol_share": 8}, "clean.select.off=[max_symbol_share]"),
        ({"languages": 8}, "add to clean.select.languages (en)"),
        ({"empty": 8}, "check the sources: they hold no text"),
        ({}, "found no documents"),
    ],
)
def test_when_nothing_is_left_the_message_names_the_rule_and_the_fix(dropped: dict[str, int], message: str):
    with pytest.raises(UserError, match=re.escape(message)):
        _check_some_left(config(presets=["basic"], languages=["en"]), Ledger(rows_in=8, dropped=dropped))


def test_verdicts_stand_row_for_row_and_are_counted(tmp_path: Path):
    path = tmp_path / "statistics-000.parquet"
    pq.write_table(table({"bytes": 10}, {"bytes": 20, "words": 3}, {"bytes": 30, "language": "fr"}), path)
    select = config(languages=["en"], rules=[{"column": "words", "min": 5}])
    outcome = select_table(SelectWork(TableFile(str(path), "d", 1, 3), select, {}), tmp_path)
    outcome.ledger.check("select")
    assert outcome.ledger.dropped == {"languages": 1, "min_words": 1}
    assert (outcome.ledger.bytes_in, outcome.ledger.bytes_out) == (60, 10)
    verdicts = pq.read_table(tmp_path / "verdicts-000.parquet").to_pylist()
    assert [(row["id"], row["kept"], row["stage"], row["reason"], row["value"]) for row in verdicts] == [
        ("0", True, None, None, None),
        ("1", False, "select", "min_words", 3),
        ("2", False, "select", "languages", None),
    ]


def test_a_table_of_no_documents_has_no_verdicts(tmp_path: Path):
    path = tmp_path / "statistics-000.parquet"
    pq.write_table(table(), path)
    outcome = select_table(SelectWork(TableFile(str(path), "d", 1, 0), config(presets=["basic"]), {}), tmp_path)
    assert outcome.ledger == Ledger()
    assert pq.read_metadata(tmp_path / "verdicts-000.parquet").num_rows == 0


# What the published filters would say, in plain Python, of texts whose words are parted by white space.


def gopher_drops(text: str) -> bool:
    words, lines = text.split(), text.split("\n")
    content = [word for word in words if any(c.isalnum() for c in word)]
    mean = sum(map(len, content)) / max(1, len(content))
    paragraphs = re.split(r"\n{2,}", text)
    return (
        not 50 <= len(words) <= 100_000
        or not 3 <= mean <= 10
        or text.count("#") / len(words) > 0.1
        or (text.count("...") + text.count("…")) / len(words) > 0.1
        or sum(line.startswith(("•", "-")) for line in lines if line) / sum(1 for line in lines if line) > 0.9
        or sum(line.endswith(("...", "…")) for line in lines if line) / sum(1 for line in lines if line) > 0.3
        or sum(any(c.isalpha() for c in word) for word in words) / len(words) < 0.8
        or len({"the", "be", "to", "of", "and", "that", "have", "with"} & set(words)) < 2
        or stood_before(paragraphs)[0] / len(paragraphs) > 0.3
        or stood_before(paragraphs)[1] / len(text) > 0.2
        or stood_before([line for line in lines if line])[0] / sum(1 for line in lines if line) > 0.3
        or stood_before([line for line in lines if line])[1] / len(text.replace("\n", "")) > 0.2
        or any(top_gram(words, n) / len(text) > most for n, most in ((2, 0.2), (3, 0.18), (4, 0.16)))
        or any(again_chars(words, n) / len(text) > 0.2 - n / 100 for n in range(5, 11))
    )


def fineweb_drops(text: str) -> bool:
    lines = [line for line in text.split("\n") if line.strip()]
    return (
        sum(line.endswith((".", "!", "?")) for line in lines) / len(lines) < 0.12
        or sum(len(line) <= 30 for line in lines) / len(lines) > 0.67
        or stood_before(lines)[1] / len(text.replace("\n", "")) > 0.01
        or text.count("\n") / len(text.split()) > 0.3
    )


def c4_drops(text: str) -> bool:
    sentences = 0
    for line in text.split("\n"):
        if not line.endswith((".", "!", "?", '"', "'")) or line.endswith("...") or len(line.split()) < 3:
            continue
        if "lorem ipsum" in line.lower():
            return True
        if "javascript" in line.lower():
            continue
        if "{" in line:
            return True
        if "use cookies" not in line.lower():
            sentences += len(re.split(r"(?<=[.!?])\s+(?=[^a-z])", line))
    return sentences < 5


def stood_before(elements: Sequence[str]) -> tuple[int, int]:
    again = [element for at, element in enumerate(elements) if element in elements[:at]]
    return len(again), sum(map(len, again))


def top_gram(words: Sequence[str], n: int) -> int:
    gram, times = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1)).most_common(1)[0]
    return len(gram) * times if times > 1 else 0


def again_chars(words: Sequence[str], n: int) -> int:
    seen: set[str] = set()
    at = total = 0
    while at <= len(words) - n:
        gram = " ".join(words[at : at + n])
        total += len("".join(words[at : at + n])) if gram in seen else 0
        at += n if gram in seen else 1
        seen.add(gram)
    return total


def drops(preset: str, text: str) -> bool:
    counts, shares = measure(*text_buffers(pa.array([text], pa.large_string())))
    figures = dict(zip([*COUNTS, *SHARES], [*counts[0].tolist(), *shares[0].tolist()], strict=True))
    return reasons(config(presets=[preset]), figures) != [None]


GOOD = (
    "The river runs down from the hills to a wide green plain. In spring it carries away fences, boats and even small trees. "
    "People who live along its banks have learned to build on high ground. They say that every old family keeps a tale of some "
    "great flood. Nobody remembers when the first bridge was made, but its stones are still there. Children fish with long rods "
    "below them until evening comes and lamps are lit. To be born here is to know water before anything else."
)
CASES = {
    "good": GOOD,
    "in lines": GOOD.replace(". ", ".\n"),
    "short": "The end of it and that is all.",
    "no stop words": re.sub(r"\b(the|be|to|of|and|that|have|with)\b", "so", GOOD),
    "hashes": GOOD.replace("The ", "The ##"),
    "bullets": "- " + GOOD.replace(". ", ".\n- "),
    "trailing off": GOOD.replace(". ", "...\n"),
    "numbers": GOOD + " 12 345" * 30,
    "twice": f"{GOOD}\n\n{GOOD}",
    "a line thrice": f"{GOOD}\nIt is the very same line again.\n" * 3,
    "list": GOOD.replace(" ", "\n"),
    "brackets": f"{GOOD}\nfunction ends with {{ and this.",
    "a script": f"{GOOD}\nTurn on JavaScript {{ if you can }} to go on.",
    "filler": f"{GOOD}\nThis is (Lorem ipsum) and more.",
    "no marks": GOOD.replace(".", ""),
    "exactly fifty": " ".join([*GOOD.split()[:49], "end."]),
    "forty-nine": " ".join([*GOOD.split()[:48], "end."]),
}


@pytest.mark.parametrize("name", CASES)
def test_published_filters_decide_alike(name: str):
    text = CASES[name]
    assert drops("gopher", text) == gopher_drops(text)
    assert drops("fineweb", text) == fineweb_drops(text)
    assert drops("c4", text) == c4_drops(text)


def test_the_cases_are_told_apart():
    for preset in ("gopher", "fineweb", "c4"):
        dropped = [name for name, text in CASES.items() if drops(preset, text)]
        assert 2 <= len(dropped) <= len(CASES) - 2
        assert "good" not in dropped


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*GOOD.split(), *GOOD.split(), "#1", "-", "...", "x.\n", "\n\n", "and so on.\n"]), min_size=40, max_size=150)
)
def test_published_filters_decide_alike_on_shuffled_words(words: list[str]):
    text = re.sub(r" *\n *", "\n", " ".join(words)).strip()
    assert drops("gopher", text) == gopher_drops(text)
    assert drops("fineweb", text) == fineweb_drops(text)


def test_a_rule_that_nobody_asked_for_is_told_when_it_drops_over_a_tenth():
    ledger = Ledger(rows_in=20, rows_out=15, dropped={"min_chars": 4, "max_chars": 1})
    told = told_defaults(SelectConfig(), ledger)
    assert told == (
        "select: by default min_chars (20) dropped 4 of 20 documents (20%). "
        "To set another bound: clean.select.rules=[{name: min_chars, column: length, min: …}]; "
        "to leave it out: clean.select.off=[min_chars]; to say that it is meant: clean.select.presets=[basic]."
    )
    assert told_defaults(config(presets=["basic"]), ledger) == ""
    assert told_defaults(SelectConfig.model_validate({"rules": [{"column": "chars", "min": 30}]}), ledger) == ""


@pytest.mark.parametrize(
    ("text", "is_kept"),
    [
        ("Council reopens bridge", True),
        ("Good rooms.", False),
        ("旧桥今日重新开放", True),
        ("房间很干净", True),
        ("不错，好", False),
        ("五号线明日起停运 iPhone", True),
        ("よい部屋でした", True),
        ("방이 깨끗해요", True),
        ("สะพานเปิดอีกครั้งวันนี้", True),
        ("สวัสดี", False),
    ],
)
def test_what_is_too_short_by_default_is_so_in_every_script(text: str, is_kept: bool):
    counts, _ = measure(*text_buffers(pa.array([text], pa.large_string())))
    row = dict(zip(COUNTS, counts[0].tolist(), strict=True))
    assert reasons(SelectConfig(), row) == [None if is_kept else "min_chars"]


@pytest.mark.parametrize(
    "settings",
    [
        {"rules": [{"column": "chars", "min": 50}]},
        {"rules": [{"name": "min_chars", "column": "words", "min": 50}]},
        {"rules": [{"column": "chars", "min": 50, "max": 90}]},
    ],
)
def test_a_recipe_sets_its_own_least_length(settings: dict[str, object]):
    select = SelectConfig.model_validate(settings)
    rows = [{"length": 5, "chars": 50, "words": 50}, {"length": 90, "chars": 49, "words": 49}]
    assert reasons(select, *rows) == [None, "min_chars"]


@pytest.mark.parametrize("preset", ["basic", "gopher"])
def test_the_rule_that_a_message_names_takes_the_place_of_the_one_it_is_about(preset: PresetName):
    for bound in bounds_of([preset], []):
        with pytest.raises(UserError) as refused:
            _check_some_left(config(presets=[preset]), Ledger(rows_in=8, dropped={bound.reason: 8}))
        (spelled,) = re.findall(r"rules=\[(\{.*?\})\]", str(refused.value))
        mended = config(presets=[preset], rules=[yaml.safe_load(spelled.replace("…", "7"))])
        assert [found.threshold for found in bounds_of(mended.presets, mended.rules) if found.reason == bound.reason] == [7]
        assert len(bounds_of(mended.presets, mended.rules)) == len(bounds_of([preset], []))

"""Where the text went: the chain of stages, its picture, and the mixture at its end."""

from itertools import pairwise

import pytest

from tasks.corpus.mixture import MixtureRow
from tasks.report import wording
from tasks.report.mixture import MOST_SOURCES, mixture_bars, mixture_table
from tasks.report.page import receipts_by_contract
from tasks.report.palette import LIGHT_AND_DARK
from tasks.report.reasons import reason_text
from tasks.report.stage_graph import stage_positions
from tasks.report.text_flow import STREAM_PIXELS, text_flow
from tests.tasks.report.stories import make_corpus_story, make_stages


def test_text_is_followed_from_stage_to_stage_but_not_into_those_that_only_consult_it() -> None:
    chain = [stage.name for stage in wording.corpus_chain(make_stages())]
    assert chain == ["ingest", "clean", "deduplicate", "decontaminate", "write-shards"]


def test_stage_stands_right_of_all_it_waits_for_and_the_text_runs_straight() -> None:
    stages = make_stages()
    positions = stage_positions(stages)
    for stage in stages:
        assert all(positions[name].depth < positions[stage.name].depth for name in stage.inputs)
    assert {positions[name].lane for name in ("ingest", "clean", "deduplicate", "decontaminate", "pretrain")} == {0}
    assert positions["examples-areas"].depth == positions["decontaminate"].depth - 1
    assert len(set(positions.values())) == len(stages)


@pytest.mark.parametrize("at", [0, 1], ids=["light", "dark"])
def test_flow_labels_are_readable_on_the_stream(at: int) -> None:
    ink, tint = LIGHT_AND_DARK["ink"][at], LIGHT_AND_DARK["tint"][at]
    light, dark = sorted((luminance(ink), luminance(tint)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb, WCAG 2."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_corpus_stages_are_one_chain_from_what_was_read_to_what_is_kept() -> None:
    chain = [stage.name for stage in wording.corpus_chain(make_corpus_story().stages)]
    assert chain == ["ingest", "annotate", "select", "deduplicate", "decontaminate"]


def test_no_reason_of_the_flow_lies_over_another() -> None:
    chart = text_flow(make_corpus_story().stages)
    assert chart is not None
    (flow,) = chart.figure.data
    height = chart.figure.layout.height - 16
    sizes = [
        sum(size for size, to in zip(flow.link.value, flow.link.target, strict=True) if to == at) for at in range(len(flow.node.label))
    ]
    scale = STREAM_PIXELS / sum(size for size, start in zip(flow.link.value, flow.link.source, strict=True) if start == 0)
    lost = [at for at, text in enumerate(flow.node.label) if "<br>" not in text]
    spans = sorted((height * flow.node.y[at] - scale * sizes[at] / 2, height * flow.node.y[at] + scale * sizes[at] / 2) for at in lost)
    assert all(above[1] < below[0] for above, below in pairwise(spans))
    assert spans[0][0] > STREAM_PIXELS * 0.6
    assert spans[-1][1] < height


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("gopher_words_min", "Gopher: too few words"),
        ("fineweb2_duplicate_10gram", "FineWeb2: too much in repeated 10-grams"),
        ("gopher_top_2gram", "Gopher: too much in the commonest 2-grams"),
        ("min_chars", "chars below the minimum"),
        ("max_top_2gram_share", "top 2gram share above the maximum"),
        ("pii_email", "holds an e-mail address"),
        ("near_copy", "near copy"),
        ("my_own_rule", "my own rule"),
    ],
)
def test_reasons_are_told_in_words(reason: str, text: str) -> None:
    assert reason_text(reason) == text


def test_the_mixture_is_drawn_whole_however_many_sources_and_languages_there_are() -> None:
    rows = [MixtureRow("train", f"s{at}", f"l{at % 9}", 1, 10) for at in range(MOST_SOURCES + 15)]
    bars = mixture_bars(rows).figure.data
    assert [bar.name for bar in bars][-1] == "others"
    assert sum(sum(bar.x) for bar in bars) == sum(row.bytes for row in rows)
    assert {len(bar.x) for bar in bars} == {MOST_SOURCES + 1}


def test_shares_of_the_mixture_are_of_their_set() -> None:
    table = mixture_table(
        [MixtureRow("validation", "a", "en", 1, 50), MixtureRow("train", "a", "en", 9, 300), MixtureRow("train", "b", "zh", 3, 100)]
    )
    assert [(line.split, line.source, line.percent) for line in table] == [
        ("train", "a", 75.0),
        ("train", "b", 25.0),
        ("validation", "a", 100.0),
    ]


def test_receipts_are_added_up_by_contract() -> None:
    unique = make_corpus_story().stages[3]
    found = [(one.contract, one.tables, one.rows, one.checks) for one in receipts_by_contract(unique)]
    assert found == [("Verdicts", 2, 1_989, 11), ("Clusters", 1, 80, 10)]

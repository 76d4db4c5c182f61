"""What the page says of tokenizer, rows and batches."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.histogram import Histogram
from tasks.pretrain.audit import Audit, Share
from tasks.pretrain.audit_measures import Spread
from tasks.report import wording
from tasks.report.batches import MOST_SHARES, batch_charts, batches_sentence, epochs_text, evenness, repeats_text, share_bars, shared_text
from tasks.report.fit import MOST_ROWS, fit_chart, fit_dots, fit_table
from tasks.report.histograms import added
from tasks.report.packing import fill_text, length_bars, packing_sentence
from tasks.tokenizer.tokenizer_quality import THIS
from tests.tasks.report.stories import AUDIT, PACKING, make_fit, make_quality


def plain(text: str) -> str:
    return text.replace(wording.GAP, " ")


def test_every_tokenizer_has_a_dot_for_every_language_and_source() -> None:
    chart = fit_dots(make_fit())
    assert [len(trace.x) for trace in chart.figure.data] == [4, 4, 4]
    assert chart.figure.data[0].name == "this tokenizer"
    assert "Ahead of gpt2 in 1 of 4." in chart.caption


def test_slice_that_a_reference_was_not_measured_on_has_no_dot_of_it() -> None:
    rows = [row for row in make_fit() if (row.tokenizer, row.language) != ("gpt2", "zh")]
    chart = fit_dots([*rows, replace(rows[0], language="empty", bytes=0, bytes_per_token=None)])
    assert [len(trace.x) for trace in chart.figure.data] == [4, 3, 4]
    assert "Ahead of gpt2 in 0 of 3." in chart.caption


def test_tokenizer_without_references_has_bars_and_no_comparison() -> None:
    alone = tuple(row for row in make_fit() if row.tokenizer == THIS)
    chart = fit_chart(make_quality(alone, en=1.0))
    assert chart is not None
    assert list(chart.figure.data[0].x) == [3.41, 3.87, 3.52, 1.92]
    assert "Ahead" not in chart.caption
    beside = fit_chart(make_quality(make_fit(), en=1.0))
    assert beside is not None
    assert "Ahead" in beside.caption


def test_source_is_named_only_where_there_are_several() -> None:
    one = [replace(row, language=f"{row.language}{row.domain[:3]}", domain="docs") for row in make_fit()]
    assert "docs" not in str(fit_dots(one).figure.layout.yaxis.ticktext)
    assert "docs" in str(fit_dots(make_fit()).figure.layout.yaxis.ticktext)


def test_chart_shows_the_slices_with_most_text_and_the_table_all() -> None:
    rows = [replace(make_fit()[0], language=f"l{at}", bytes=at) for at in range(MOST_ROWS + 9)]
    assert len(fit_dots(rows).figure.data[0].x) == MOST_ROWS
    assert [row.bytes for row in fit_table(rows)] == sorted((row.bytes for row in rows), reverse=True)


def test_table_has_this_tokenizer_before_those_it_is_held_against() -> None:
    table = fit_table(make_fit()[::-1])
    assert [row.tokenizer for row in table[::3]] == [THIS] * 4
    assert len({(row.language, row.domain) for row in table[:3]}) == 1


def test_languages_alone_are_bars_and_nothing_measured_is_no_chart() -> None:
    chart = fit_chart(make_quality(en=3.9, zh=1.9))
    assert chart is not None
    assert list(chart.figure.data[0].x) == [3.9, 1.9]
    assert fit_chart(make_quality()) is None


def test_packing_is_told_of_the_training_rows() -> None:
    assert plain(packing_sentence(PACKING)) == (
        "4,266 training documents fill 13,200 rows; < 0.1 % of these is padding. 611 of the documents were cut, none of "
        "which would have fitted in a row."
    )
    assert "cut, 3 of which" in packing_sentence([replace(PACKING[0], needless_cuts=3)])
    assert packing_sentence([replace(PACKING[0], cut_documents=0)]).endswith("0 of the documents were cut.")
    assert packing_sentence(PACKING[1:]) == ""


@pytest.mark.parametrize(("padding", "text"), [(0, "100.00 %"), (1, "99.99 %"), (339_240, "90.00 %")])
def test_rows_are_full_only_when_nothing_is_empty(padding: int, text: str) -> None:
    assert plain(fill_text(replace(PACKING[0], padding=padding))) == text


def test_lengths_are_those_of_the_training_documents_of_all_groups() -> None:
    chart = length_bars([PACKING[0], replace(PACKING[0], group="web"), PACKING[1]])
    assert chart is not None
    assert list(chart.figure.data[0].x) == [2 * count for count in PACKING[0].lengths.counts]
    assert length_bars(PACKING[1:]) is None


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), max_size=4))
def test_added_histograms_have_all_counts_and_no_empty_ends(counts: list[list[int]]) -> None:
    parts = [Histogram(tuple(2**power for power in range(len(one) + 1)), tuple(one)) for one in counts]
    found = added(parts)
    assert sum(found.counts) == sum(map(sum, counts))
    assert not found.counts or (found.counts[0] > 0 and found.counts[-1] > 0)
    assert len(found.edges) == len(found.counts) + bool(found.counts)


def test_one_share_of_a_kind_is_not_drawn() -> None:
    shares = tuple(share for share in AUDIT.shares if share.name != "zh")
    keys = [chart.key for chart in batch_charts(replace(AUDIT, shares=shares))]
    assert keys == ["shares-group", "shares-source", "pieces"]


def test_largest_shares_are_drawn_and_the_difference_is_of_all() -> None:
    shares = [Share("source", f"s{at}", at / 1_000, at / 1_000, 1, 1, None) for at in range(MOST_SHARES + 5)]
    shares[0] = replace(shares[0], realised=0.02)
    chart = share_bars(shares)
    assert len(chart.figure.data[0].x) == MOST_SHARES
    assert chart.caption.endswith("Largest difference: 2.00 percentage points (s0).")


@pytest.mark.parametrize(("ratio", "word"), [(0.5, "more even than chance"), (1.0, "like chance"), (1.27, "like chance"), (1.3, "clumped")])
def test_spread_in_words(ratio: float, word: str) -> None:
    assert evenness(replace(AUDIT.shares[0], spread=Spread(ratio, 0.73, 1.27))) == word


def test_audit_says_what_is_clumped() -> None:
    assert "Some batches have far more than others of: <script>" in batches_sentence(AUDIT)
    even = tuple(share for share in AUDIT.shares if evenness(share) != "clumped")
    assert batches_sentence(replace(AUDIT, shares=even)) == (
        "Computed from the shards for 256 of 3,000 steps, evenly spread. No source or language is clumped in some of the batches."
    )
    short = replace(AUDIT, steps=5, sampled_steps=5, shares=tuple(replace(share, spread=None) for share in even))
    assert batches_sentence(short) == "Computed from the shards for all 5 steps."


def test_rows_that_came_twice_in_an_epoch_are_no_small_matter() -> None:
    assert repeats_text(AUDIT) == "none of 192,000 rows"
    broken = with_repeats(AUDIT, in_epoch=3, delivered_rows=10**7)
    assert repeats_text(broken) == "3 of the first 192,000 rows"
    assert "Rows came twice within an epoch" in batches_sentence(broken)


def with_repeats(audit: Audit, **changes: int) -> Audit:
    return replace(audit, repeats=replace(audit.repeats, **changes))


@pytest.mark.parametrize(("shared", "expected", "is_told"), [(411, 407.3, False), (2_232, 25.5, True), (4, 0.1, False)])
def test_documents_shared_more_often_than_by_chance_are_told(shared: int, expected: float, is_told: bool) -> None:
    audit = replace(AUDIT, shared=replace(AUDIT.shared, shared=shared, expected=expected))
    assert ("share documents far more often" in batches_sentence(audit)) == is_told


def test_epochs_are_told_by_group_only_where_they_differ() -> None:
    assert epochs_text(AUDIT) == "books 14.50, web 14.60"
    assert epochs_text(replace(AUDIT, repeats=replace(AUDIT.repeats, epochs={"a": 1.001, "b": 1.002}))) == "1.00"


def test_shared_documents_are_told_beside_what_chance_gives() -> None:
    assert shared_text(AUDIT) == "411 of 516,096 pairs of rows in a batch have one in common; by chance 407"

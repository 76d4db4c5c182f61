"""The torture set through the real stages: each bad input is counted or mended, and its neighbours come out untouched."""

import re
from collections import Counter
from collections.abc import Sequence

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tasks.corpus import ingest
from tests.torture import Entry, Fate, Outcome, run_torture_set, table, totals, write_torture_set
from tests.torture_files import Case, Expected
from tests.torture_html import HtmlCase
from tests.torture_rules import BOILERPLATE_PAGES, RuleCase
from tests.torture_text import TextCase

SECONDS = 60.0  # for one task of the default size; on an idle machine the slowest takes five
WORKER_BYTES = 1 << 30
EMPTY_PAGES = ("empty page", "white space")  # ingest refuses them before anyone looks for their text


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run for all tests; small files go in groups, as those of a large source do."""
    folder = tmp_path_factory.mktemp("torture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "MANY_FILES", 2)
        return run_torture_set(write_torture_set(folder / "files"), folder / "workspace")


def kept_by(stage: str, fates: Sequence[Fate]) -> list[Fate]:
    """The documents that got past a stage."""
    order = ["ingest", "annotate", "select", "deduplicate"]
    return [fate for fate in fates if fate.stage is None or order.index(fate.stage) > order.index(stage)]


def mended(text: str) -> str:
    """What annotate makes of white space, said in another way."""
    text = re.sub("\r\n|[\r\u2028\x0b]", "\n", text)
    text = re.sub(r"[ \t]+(?=\n|\Z)", "", text)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n")


def wrong_file_case(expected: Expected, fates: Sequence[Fate]) -> object:
    refused = Counter(fate.reason for fate in fates if fate.stage == "ingest")
    if dict(refused) != dict(expected.rejects):
        return dict(refused)
    kept = kept_by("select", fates)
    flags = {flag for fate in kept for flag in fate.flags}
    if flags != set(expected.repairs):
        return flags
    if expected.begins is not None:
        return None if kept[0].text == mended(expected.begins) else kept[0].text
    texts = [re.sub("<[^>]+>", "", text) for text in expected.kept]  # of a page the sentence in it is left
    return None if [fate.text for fate in kept] == [mended(text) for text in texts] else [fate.text for fate in kept]


def wrong_page(case: HtmlCase, fates: Sequence[Fate]) -> object:
    (fate,) = fates
    expected = "empty_text" if case.name in EMPTY_PAGES else case.outcome
    if (fate.reason if fate.stage in ("ingest", "annotate") else "page") != expected:
        return fate.reason
    text = fate.text.replace("\ufffd", "") if case.outcome == "page" else ""
    missing, found = [w for w in case.kept if w not in text], [w for w in case.absent if w in text]
    return (missing, found, text[:500]) if missing or found else None


def wrong_text(case: TextCase, fates: Sequence[Fate]) -> object:
    (fate,) = fates
    if fate.stage not in (None, "deduplicate"):
        return fate.reason
    if case.group != 8 and list(fate.flags) != ([] if case.name == "surrogate pair" else list(case.flags)):
        return fate.flags  # two escapes that make one character are sound JSON
    exact = case.masked or case.repaired or (case.text if case.group != 8 and not case.flags else None)
    return None if exact is None or fate.text == exact else fate.text[:500]


def wrong_document(case: RuleCase, fates: Sequence[Fate]) -> object:
    (fate,) = fates
    reason = None if case.group == 9 and fate.stage == "deduplicate" else fate.reason
    return None if reason == case.reason else reason


def wrong(entry: Entry, fates: Sequence[Fate]) -> object:
    """What is not as it should be in what came of a case."""
    case = entry.case
    match case:
        case Case():
            return wrong_file_case(case.expected, fates)
        case HtmlCase():
            return wrong_page(case, fates)
        case TextCase():
            return wrong_text(case, fates)
        case RuleCase():
            return wrong_document(case, fates)


@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13])
def test_bad_input_is_counted_or_mended_and_its_neighbours_are_untouched(outcome: Outcome, group: int):
    entries = [entry for entry in outcome.torture.entries if entry.group == group]
    assert len(entries) >= 5
    faults = {entry.case.name: wrong(entry, outcome.of(entry)) for entry in entries}
    assert {name: fault for name, fault in faults.items() if fault is not None} == {}


def test_a_recipe_that_is_wrong_is_told_so(outcome: Outcome):
    assert len(outcome.torture.failing) == len(outcome.messages) > 0
    for case, message in zip(outcome.torture.failing, outcome.messages, strict=True):
        assert case.expected.error in message
        assert "Fix: " in message
        assert "\n" not in message


def test_nothing_is_lost_between_the_stages(outcome: Outcome):
    ledgers = [artifact.ledger for artifact in (outcome.raw, outcome.clean, outcome.selection, outcome.unique)]
    for stage, ledger in zip(("ingest", "annotate", "select", "deduplicate"), ledgers, strict=True):
        ledger.check(stage)
        assert ledger.rows_in == ledger.rows_out + sum(ledger.dropped.values()) > 0
    assert [ledger.rows_in for ledger in ledgers[1:]] == [ledger.rows_out for ledger in ledgers[:-1]]
    assert [ledger.bytes_in for ledger in ledgers[1:]] == [ledger.bytes_out for ledger in ledgers[:-1]]
    read = [fate for (_, place), fates in outcome.fates.items() if place is None for fate in fates]
    assert len(read) == ledgers[0].rows_in


def test_a_copy_goes_only_where_another_stays(outcome: Outcome):
    (clusters,) = outcome.unique.path.glob("clusters.parquet")
    roots = set(pq.read_table(clusters)["root_id"].to_pylist())
    verdicts = [pq.read_table(path) for path in outcome.unique.path.glob("verdicts-*.parquet")]
    kept = {document_id for table in verdicts for document_id in table.filter(pc.field("kept"))["id"].to_pylist()}
    gone = [row for table in verdicts for row in table.to_pylist() if row["stage"] == "deduplicate"]
    assert roots <= kept
    assert all(row["cluster"] in kept for row in gone)
    assert outcome.unique.figures["largest_cluster"] == BOILERPLATE_PAGES


def test_no_file_takes_long_or_much_memory(outcome: Outcome):
    assert outcome.slowest[0] < SECONDS, outcome.slowest
    assert max(outcome.peak_bytes) < WORKER_BYTES


def test_the_table_has_a_line_for_each_case(outcome: Outcome):
    lines = list(table(outcome))
    assert len(lines) == 1 + len(outcome.torture.entries) - (BOILERPLATE_PAGES - 2) + len(outcome.messages)
    assert "2 | gzip_bomb (bomb.txt.gz) | kept 1, rejected 2 | bomb, too_large" in lines
    assert "4 | nul | repaired (nul) | " in lines
    assert "6 | nested 100,000 levels | rejected | html_too_deep" in lines
    assert any(", 0 crashes, longest file" in line for line in totals(outcome))

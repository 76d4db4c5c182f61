"""A decision as Prefect's artifacts."""

import json
from dataclasses import replace

from flows.runner.decision_summary import decision_markdown, decision_rows
from tests.tasks.report.nights import PROMOTED, REFUSED


def test_rows_are_texts_that_prefect_can_keep() -> None:
    rows = decision_rows(REFUSED)
    assert json.loads(json.dumps(rows)) == rows
    assert rows[1] == {
        "role": "guard",
        "figure": "general text: bits per byte",
        "challenger": "2.42",
        "rival": "2.10",
        "gain": "−0.319",
        "interval": "−0.352 to −0.287",
        "must be": "at least −0.050",
        "items": "120",
        "passed": "no",
        "why": "worse by 0.3190, more than the 0.05 that is tolerated",
    }
    assert rows[3]["passed"] == "not measured"


def test_markdown_has_verdict_budget_every_comparison_and_every_condition() -> None:
    text = decision_markdown(PROMOTED)
    assert text.startswith("**Promoted**: wordmill-areas was promoted: areas: macro f1 is surely better by more than 0.01")
    assert "allowed error 0.0021" in text
    assert text.count("\n| ") == 1 + len(PROMOTED.comparisons)
    assert "- contamination check: ran: 3 of 12,804 documents left out" in text


def test_markup_in_a_name_stays_text() -> None:
    hostile = "a|b\n# <b>[x](javascript:alert(1))"
    odd = replace(PROMOTED, why=hostile, comparisons=(replace(PROMOTED.comparisons[0], task=hostile),))
    for line in decision_markdown(odd).splitlines():
        assert not line.startswith("#")
        assert "|b" not in line.replace("\\|b", "")
        assert "<b>" not in line.replace("\\<b\\>", "")
        assert "[x]" not in line

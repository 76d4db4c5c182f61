"""Decision summary: a promotion decision as the artifacts that Prefect shows with a run, a page of Markdown and a table."""

from tasks.promotion.decision import Comparison, Decision
from tasks.report.decision_wording import (
    TITLES,
    both_texts,
    bound_text,
    decided_sentence,
    figure_name,
    interval_words,
    one_line,
    passed_text,
    rule_paragraphs,
)


def decision_markdown(decision: Decision) -> str:
    """Verdict, rule, figures and conditions."""
    lines = [f"**{TITLES[decision.verdict]}**: {_plain(decided_sentence(decision))}", "", _plain(decision.why), ""]
    lines += [_plain(told) + "\n" for told in rule_paragraphs(decision)]
    rows = decision_rows(decision)
    if rows:
        names = list(rows[0])
        lines += [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
        lines += [f"| {' | '.join(_plain(cell) for cell in row.values())} |" for row in rows]
    lines += ["", *(f"- {_plain(one.name)}: {'' if one.passed else 'not met, '}{_plain(one.found)}" for one in decision.conditions)]
    return "\n".join(lines).rstrip() + "\n"


def decision_rows(decision: Decision) -> list[dict[str, str]]:
    """Rows for a Prefect table artifact, a comparison each."""
    return [_row(one) for one in decision.comparisons]


def _row(one: Comparison) -> dict[str, str]:
    challenger, rival, gain = both_texts(one)
    return {
        "role": one.role,
        "figure": figure_name(one),
        "challenger": challenger,
        "rival": rival,
        "gain": gain,
        "interval": interval_words(one),
        "must be": bound_text(one),
        "items": f"{one.items:,}",
        "passed": passed_text(one),
        "why": one_line(one.reason),
    }


def _plain(text: str) -> str:
    """Words that Markdown takes as words: no markup, no table cells, no links."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]|<>#" else sign for sign in one_line(text))

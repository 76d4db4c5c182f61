"""Decision page, self-contained HTML: a promotion or its refusal, with rule, figures and the items behind them. It runs no script."""

from pathlib import Path

from tasks.promotion.decision import Decision
from tasks.report.decision_wording import TITLES, rule_paragraphs, sentence, short_reason
from tasks.report.markup import policy, style, template


def render_decision(decision: Decision) -> str:
    """The page. All text in it is escaped: what models wrote may be anything."""
    return template("decision.html.jinja").render(
        decision=decision,
        title=TITLES[decision.verdict],
        why=short_reason(decision),
        whole_why=sentence(decision.why),
        rule=rule_paragraphs(decision),
        second=decision.rival.partition(",")[0] or "rival",
        style=style(),
        policy=policy(),
    )


def write_decision_page(decision: Decision, path: Path) -> None:
    """The page as a file that opens anywhere, offline."""
    path.write_text(render_decision(decision), encoding="utf-8", errors="replace", newline="\n")

"""Morning page, self-contained HTML: what became of a night, on one screen of a phone, then the details. It runs no script."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tasks.report import morning_wording
from tasks.report.decision_wording import change_text, deciding, guards, guards_line, one_line, rule_paragraphs
from tasks.report.markup import policy, shortened, style, template
from tasks.report.morning_facts import Morning
from tasks.report.night_strip import NIGHTS, night_strip

LINKED = ("http", "https", "file", "")  # a path has no scheme
ITEMS = 5  # that got better, and worse, on the first screen
WHY_CHARACTERS = 150  # on the first screen; the whole of it is below
ITEM_CHARACTERS = 90  # more than a line holds


def shown_links(links: Mapping[str, str]) -> dict[str, str]:
    """Those that lead to a page: what else an address may begin with is left out."""
    return {name: url for name, url in links.items() if url and _scheme(url) in LINKED}


def _scheme(url: str) -> str | None:
    try:
        return urlsplit(url).scheme.lower()
    except ValueError:
        return None


def first_screen(morning: Morning) -> list[tuple[str, str]]:
    """The lines of the first screen, each with its name; what a night that ended early has no word on is left out."""
    rows, decision = morning.rows, morning.decision
    lines = [("new", morning_wording.new_text(rows)), ("set aside", morning_wording.set_aside_text(rows))]
    if rows.learned or rows.replayed or rows.heldout:
        lines.append(("used", morning_wording.used_text(rows)))
    if morning.drift or decision is not None:
        lines.append(("drift", morning_wording.drift_text(morning.drift)))
    if decision is not None:
        lines.append(("guards", guards_line(guards(decision), decision.conditions)))
    return [*lines, ("took", morning_wording.time_and_cost(morning))]


def items_text(morning: Morning) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Headings with a line an item: how it begins, its language, and what became of it."""
    decision = morning.decision
    if decision is None:
        return []
    found = [("better", decision.better[:ITEMS]), ("worse", decision.worse[:ITEMS])]
    return [
        (heading, [(shortened(one_line(pair.shown), ITEM_CHARACTERS), pair.language, change_text(pair)) for pair in pairs])
        for heading, pairs in found
        if pairs
    ]


def render_morning(morning: Morning) -> str:
    """The page. All text in it is escaped: what models wrote may be anything."""
    decision = morning.decision
    outcome, why = morning_wording.outcome(morning), morning_wording.why_text(morning)
    return template("morning.html.jinja").render(
        morning=morning,
        decision=decision,
        outcome=outcome,
        title=morning_wording.STATES[outcome],
        states=morning_wording.STATES,
        why=shortened(why, WHY_CHARACTERS),
        whole_why="" if decision else why,
        deciding=deciding(decision) if decision else None,
        deciding_text=morning_wording.deciding_text(morning),
        lines=first_screen(morning),
        items=items_text(morning),
        rule=rule_paragraphs(decision) if decision else [],
        second=(decision.rival.partition(",")[0] or "rival") if decision else "",
        links=shown_links(morning.links),
        nights=morning.nights[-NIGHTS:],
        strip=night_strip(morning.nights) if morning.nights else "",
        style=style(),
        policy=policy(),
    )


def write_morning_page(morning: Morning, path: Path) -> None:
    """The page as a file that opens anywhere, offline."""
    path.write_text(render_morning(morning), encoding="utf-8", errors="replace", newline="\n")

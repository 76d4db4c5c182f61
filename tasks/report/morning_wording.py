"""Morning wording: what a night says of itself in a line each, on its page and in its notification."""

from tasks.promotion.decision import Verdict
from tasks.report.decision_wording import TITLES, deciding, figure_name, sentence, short_reason, signed_text
from tasks.report.morning_facts import DriftRow, Morning, NightRows, State
from tasks.report.reasons import reason_text
from tasks.report.wording import GAP, cost_text, count_text, score_text, seconds_text

STATES: dict[Verdict | State, str] = {
    **TITLES,
    "decided": "Decided",
    "nothing new": "Nothing new",
    "all rows refused": "All rows refused",
    "drift": "Stopped by drift",
    "waiting": "Waits for the registry",
    "failed": "Failed",
}
REASONS_SHOWN = 2  # of rows set aside, on the first screen


def outcome(morning: Morning) -> Verdict | State:
    """The verdict where there is one and the registry took it; else what stood in its way."""
    if morning.state == "decided" and morning.decision is not None:
        return morning.decision.verdict
    return morning.state


def why_text(morning: Morning) -> str:
    """Why, in a sentence: of a decision what it hangs on."""
    if morning.state == "decided" and morning.decision is not None:
        return short_reason(morning.decision)
    return sentence(morning.why)


def deciding_text(morning: Morning) -> str:
    """`areas: macro f1 0.612 → 0.648`; empty where nothing was compared."""
    one = deciding(morning.decision) if morning.decision else None
    return f"{figure_name(one)} {score_text(one.rival)} → {score_text(one.challenger)}" if one else ""


def new_text(rows: NightRows) -> str:
    """`200 new, 3 changed, 1 removed; 191 wait`, for the next night."""
    parts = [(rows.new, "new"), (rows.changed, "changed"), (rows.removed, "removed")]
    told = ", ".join(f"{count_text(count)} {what}" for count, what in parts if count) or "none"
    return f"{told}; {count_text(rows.waiting)} wait" if rows.waiting else told


def used_text(rows: NightRows) -> str:
    """`180 learned, 60 replayed, 20 held out`."""
    parts = [(rows.learned, "learned"), (rows.replayed, "replayed"), (rows.heldout, "held out")]
    return ", ".join(f"{count_text(count)} {what}" for count, what in parts if count) or "none"


def set_aside_text(rows: NightRows) -> str:
    """`12: 7 in the evaluation items, 5 of another label`; rare reasons together."""
    found = sorted(((count, reason) for reason, count in rows.set_aside.items() if count), key=lambda one: (-one[0], one[1]))
    if not found:
        return "none"
    told = [f"{count_text(count)} {reason_text(reason)}" for count, reason in found[:REASONS_SHOWN]]
    rest = found[REASONS_SHOWN:]
    if rest:
        told.append(f"{count_text(sum(count for count, _ in rest))} for {len(rest)} other reason{'s' if len(rest) > 1 else ''}")
    return f"{count_text(sum(count for count, _ in found))}: {', '.join(told)}"


def drift_text(rows: tuple[DriftRow, ...]) -> str:
    """The largest: `lengths 0.310 (limit 0.250), and 1 more; stopped the night`, or `none; labels 0.041 (limit 0.250)`."""
    if not rows:
        return "not measured"
    over = [row for row in rows if row.state != "even"]
    most = max(over or rows, key=lambda row: (row.state == "stopped", row.index / row.limit if row.limit > 0 else row.index))
    told = f"{most.name} {score_text(most.index)} (limit {score_text(most.limit)})"
    if not over:
        return f"none; {told}"
    told += f", and {len(over) - 1} more" if len(over) > 1 else ""
    return f"{told}; stopped the night" if any(row.state == "stopped" for row in over) else told


def time_and_cost(morning: Morning) -> str:
    """`4 min 10 s, 0.12 EUR`."""
    told = seconds_text(morning.seconds)
    return told if morning.cost is None else f"{told}, {cost_text(morning.cost)}"


def notice_text(morning: Morning) -> str:
    """The night in one line: `wordmill 7: Promoted. Macro f1 is better by 0.036. areas: macro f1 0.612 → 0.648 (+0.036). 200 new.`"""
    who = f"{morning.name} {morning.version}".rstrip()
    one = deciding(morning.decision) if morning.decision else None
    figures = f"{deciding_text(morning)} ({signed_text(one.gain)})." if one else ""
    told = [f"{who}: {STATES[outcome(morning)]}.", why_text(morning), figures, f"Rows: {new_text(morning.rows)}."]
    return " ".join(part for part in told if part).replace(GAP, " ")

"""Decision wording: the verdict, the rule and the figures of a promotion decision as sentences, the same on every page."""

import math
from collections.abc import Sequence

from tasks.promotion.decision import Budget, Comparison, Condition, Decision, Pair, Verdict
from tasks.report.wording import GAP, MINUS, count_text, is_missing, score_text, share_text, words

TITLES: dict[Verdict, str] = {"promoted": "Promoted", "refused": "Not promoted", "cannot tell": "Cannot tell"}
BUDGET_SOURCE = "LORD++, arXiv 1710.00499"  # the rule by which the errors of many decisions are kept within one rate
ARROW = "→"
BROKEN_SHOWN = 1  # guards and conditions, in a line


def signed_text(value: float) -> str:
    """A gain or a loss, always with its sign; two digits of what three decimals would round to nothing."""
    if is_missing(value):
        return "–"
    sign = "+" if value > 0 else MINUS if value < 0 else ""
    size = abs(value)
    return sign + (level_text(size) if 0 < size < 0.0005 else score_text(size))


def level_text(level: float) -> str:
    """Two significant digits: 0.0021, 0.000012; of what is smaller still with an exponent, 9.3e-10."""
    if is_missing(level) or level <= 0:
        return "0" if level == 0 else "–"
    if level < 1e-6:
        return f"{level:.1e}"
    decimals = max(1 - math.floor(math.log10(level)), 0)
    text = f"{level:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def sentence(text: str) -> str:
    """Words that end as a sentence does; nothing of nothing."""
    told = " ".join(text.split())
    return told if not told or told[-1] in ".!?…。" else f"{told}."


def decided_sentence(decision: Decision) -> str:
    """`wordmill-areas was not promoted: guard general text: bits per byte is worse by 0.0810, more than the 0.05 that is tolerated.`"""
    told = {"promoted": "was promoted", "refused": "was not promoted", "cannot tell": "was not promoted, for want of evidence"}
    return f"{decision.name} {told[decision.verdict]}: {short_reason(decision)}"


def deciding(decision: Decision) -> Comparison | None:
    """The comparison that the verdict hangs on."""
    return next((one for one in decision.comparisons if one.role == "deciding"), None)


def guards(decision: Decision) -> tuple[Comparison, ...]:
    """The figures that may not be worse."""
    return tuple(one for one in decision.comparisons if one.role == "guard")


def figure_name(comparison: Comparison) -> str:
    """`areas: macro f1`."""
    return f"{words(comparison.task)}: {words(comparison.metric)}"


def bound_text(comparison: Comparison) -> str:
    """What the gain must keep to: `above +0.010`, `at least −0.050`."""
    if comparison.role == "base":
        return "–"
    if comparison.role == "deciding":
        return f"above {signed_text(comparison.margin)}"
    return f"at least {signed_text(-comparison.margin) if comparison.margin else '0'}"


def interval_words(comparison: Comparison) -> str:
    """`+0.021 to +0.079`, or a dash."""
    if not comparison.items or math.isnan(comparison.low) or math.isnan(comparison.high):
        return "–"
    return f"{_end_text(comparison.low)} to {_end_text(comparison.high)}"


def both_texts(comparison: Comparison) -> tuple[str, str, str]:
    """Challenger, rival and gain; dashes where nothing was measured."""
    if not comparison.items:
        return "–", "–", "–"
    return score_text(comparison.challenger), score_text(comparison.rival), signed_text(comparison.gain)


def passed_text(comparison: Comparison) -> str:
    """`yes`, `no` or `not measured`, which holds nobody back."""
    return ("yes" if comparison.passed else "no") if comparison.items else "not measured"


def _end_text(value: float) -> str:
    return signed_text(value) if math.isfinite(value) else "any"


def rule_paragraphs(decision: Decision) -> list[str]:
    """The rule of this decision in words: margin, confidence, guards and conditions; then the budget."""
    first = deciding(decision)
    told = f"The challenger is compared with {decision.rival or 'nothing: there was no other'}."
    if first is not None:
        sure = f"{100 * (1 - first.level):.4g}{GAP}%"
        told += (
            f" It takes the name when its {words(first.metric)} on {words(first.task)} is better by more than {score_text(first.margin)}, "
            f"sure at {sure} ({first.method})"
        )
        told += ", and no guard is worse by more than its tolerance" if guards(decision) else ""
        told += ", and every condition holds." if decision.conditions else "."
    return [told] if decision.budget is None else [told, budget_text(decision.budget, decision.name)]


def budget_text(budget: Budget, name: str) -> str:
    """How sure all promotions under a name are together, and what this decision was given of that."""
    before = f"{count_text(budget.promotions)} promotion{'' if budget.promotions == 1 else 's'} before it"
    return (
        f"Of all promotions under {name}, at most {share_text(budget.rate, 1)} may be the work of luck. This is decision "
        f"{count_text(budget.number)} under this name, with {before}; allowed error {level_text(budget.level)}; "
        f"{share_text(spent_share(budget), 1)} of the budget is spent. Source: {BUDGET_SOURCE}."
    )


def spent_share(budget: Budget) -> float:
    """What of the budget is spent: errors allowed so far over those that the rate allows for the promotions so far, from the first on."""
    return min(budget.spent / (budget.rate * max(budget.promotions, 1)), 1.0)


def guards_line(comparisons: Sequence[Comparison], conditions: Sequence[Condition]) -> str:
    """One line: `3 of 3 hold`, or which does not and by how much, and how many more."""
    broken = [f"{figure_name(one)} {signed_text(one.gain)}, allowed {bound_text(one)}" for one in comparisons if not one.passed]
    broken += [f"{one.name}: {one.found}" for one in conditions if not one.passed]
    if broken:
        more = f" and {len(broken) - BROKEN_SHOWN} more" if len(broken) > BROKEN_SHOWN else ""
        return "; ".join(broken[:BROKEN_SHOWN]) + more
    measured = sum(one.items > 0 for one in comparisons)
    told = [f"{measured} of {measured} hold"] if measured else []
    told += [f"{len(comparisons) - measured} not measured"] if len(comparisons) > measured else []
    told += [f"{len(conditions)} condition{'' if len(conditions) == 1 else 's'} met"] if conditions else []
    return "; ".join(told) or "none asked"


def short_reason(decision: Decision) -> str:
    """What the verdict hangs on, without the figures: the guard that is broken, else what the deciding figure says; else `why`."""
    first, broken = deciding(decision), [one for one in guards(decision) if not one.passed]
    if broken and decision.verdict == "refused":
        more = f"; {len(broken) - 1} more" if len(broken) > 1 else ""
        return sentence(f"guard {figure_name(broken[0])} is {broken[0].reason}{more}")
    if first is not None and first.reason and not broken and first.passed == (decision.verdict == "promoted"):
        return sentence(f"{figure_name(first)} is {first.reason}")
    return sentence(decision.why)


def change_text(pair: Pair, limit: int = 16) -> str:
    """What became of an item, from the rival to the challenger: the two answers, or the two figures where none is given or both agree."""
    before, after = (_short(answer, limit) for answer in (pair.rival_answer, pair.challenger_answer))
    if before != after and before and after:
        return f"{before} {ARROW} {after}"
    return f"{score_text(pair.rival)} {ARROW} {score_text(pair.challenger)}"


def one_line(text: str) -> str:
    """Line breaks and runs of spaces as one space."""
    return " ".join(text.split())


def _short(text: str, limit: int) -> str:
    line = one_line(text)
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"

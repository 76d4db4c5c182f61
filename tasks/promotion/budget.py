"""Error budget: how much luck each decision under a name is allowed, so that of all promotions few are luck's.

The rule is LORD++ (Ramdas, Yang, Wainwright and Jordan, arXiv 1710.00499, section 3; before it Javanmard and Montanari,
arXiv 1603.09000). Decision t may err with the chance

    W gamma(t) + (rate - W) gamma(t - t1) + rate (gamma(t - t2) + gamma(t - t3) + ...),  W = rate / 2,

where t1, t2, ... are the decisions before it that promoted and gamma, which sums to 1, is 0 up to 0. So what all decisions may
err together is never above the rate times the promotions (times 1 before the first): the expected share of promotions that are
luck's stays below the rate.
"""

from collections.abc import Sequence

from tasks.promotion.decision import Budget
from tasks.promotion.history import DECIDED, Entry

DECAY = 1.3  # gamma(t) = t^-1.3 / zeta(1.3); of 1.1, 1.3, 1.5 and 2 the one that finds most of rare great gains
INITIAL = 0.5  # W: of the rate, what may be spent before the first promotion


def error_budget(entries: Sequence[Entry], rate: float) -> Budget:
    """What the next decision may err, after the history of its name.

    Only decisions that compared count, which are those with a level: moves by hand and promotions that a recipe ordered are no
    tests. Those made at another rate keep their places, so that a recipe that changes its confidence begins nothing anew; over
    all of them the largest rate holds.
    """
    tests = [entry for entry in entries if entry.kind in DECIDED and entry.level > 0]
    promoted = [number for number, entry in enumerate(tests, 1) if entry.kind == "promoted"]
    number = len(tests) + 1
    level = allowed(number, promoted, rate)
    return Budget(rate, number, len(promoted), level, sum(entry.level for entry in tests) + level)


def allowed(number: int, promoted: Sequence[int], rate: float) -> float:
    """LORD++'s level of decision `number`, where those with the numbers `promoted` were promotions."""
    first, later = promoted[:1], promoted[1:]
    start = INITIAL * rate
    return (
        start * _share(number)
        + sum((rate - start) * _share(number - one) for one in first)
        + sum(rate * _share(number - one) for one in later)
    )


def _share(number: int) -> float:
    from scipy.special import zeta

    return number**-DECAY / float(zeta(DECAY)) if number > 0 else 0.0

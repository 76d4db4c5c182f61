"""Decisions and nights to tell: what a gate and a night may find, with hostile text in it."""

from dataclasses import replace

from tasks.prices import Cost
from tasks.promotion.decision import Budget, Comparison, Condition, Decision, Pair, Part, Verdict
from tasks.report.compare_page import Compared
from tasks.report.morning_facts import DriftRow, Morning, Night, NightRows
from tests.tasks.report.stories import HOSTILE

BOOTSTRAP = "paired bootstrap, 10,000 draws of 412 documents"
LONG = "https://example.com/archive/2026/11/" + "a-very-long-path-without-any-place-to-break" * 4

DECIDING = Comparison(
    "deciding", "areas", "macro_f1", 480, 412, 0.648, 0.612, 0.0361, 0.0124, 0.0602, 0.0021, 0.0004, 0.01, BOOTSTRAP, True,
    "surely better by more than 0.01: luck alone does as well with a chance of 0.0004, 0.0021 is allowed",
)  # fmt: skip
GENERAL = Comparison(
    "guard", "general text", "bits_per_byte", 120, 120, 2.113, 2.098, -0.0152, -0.0231, -0.0066, 0.05, None, 0.05,
    "paired bootstrap, 10,000 draws of 120 documents", True, "worse by 0.0152, within the 0.05 that is tolerated",
)  # fmt: skip
PURITY = replace(
    GENERAL, task="purity", metric="accuracy", items=200, clusters=200, challenger=0.905, rival=0.9, gain=0.005, low=-0.01, high=0.02,
    margin=0.02, reason="no worse",
)  # fmt: skip
UNMEASURED = Comparison(
    "guard", "preferences", "preference_gap", 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.05, None, 0.0, "", True,
    "not measured: the suite asks a model that writes, this one labels",
)  # fmt: skip
FORGOT = replace(GENERAL, challenger=2.417, gain=-0.319, low=-0.352, high=-0.287, passed=False,
                 reason="worse by 0.3190, more than the 0.05 that is tolerated")  # fmt: skip
CONDITIONS = (
    Condition("artifact is whole", True, "14 files, 12.4 MB, as its manifest says"),
    Condition("round trip", True, "a Hugging Face folder of it answers the same"),
    Condition("contamination check", True, "ran: 3 of 12,804 documents left out"),
)
PAIRS = (
    Pair("areas", "macro_f1", "3fd1", "reviews", "en", "The old mill at the river was sold to a company that wants to turn it into flats",
         "economy", 1.0, 0.0, 1.0, "economy", "culture"),
    Pair("areas", "macro_f1", "77ab", "xinwen", "zh", "昨天晚上，磨坊旁边的小河涨水，孩子们沿着安静的路把面包带回家", "社会", 1.0, 0.0, 1.0,
         "社会", "天气"),
    Pair("areas", "macro_f1", "01cc", LONG, "en", f"{LONG} was quoted by all papers", "politics", 1.0, 0.0, 1.0, "politics",
         "a label that nobody would want to read in full"),
    Pair("areas", "macro_f1", "90ee", "web", "en", HOSTILE, "culture", 1.0, 0.0, 1.0, HOSTILE, "‮sports"),
    Pair("areas", "macro_f1", "5b5b", "web", "ar", "الطاحونة القديمة على النهر بيعت لشركة تريد أن تحولها إلى شقق", "economy", 1.0, 0.0, 1.0,
         "economy", "sports"),
)  # fmt: skip
WORSE = tuple(
    replace(pair, challenger=0.0, rival=1.0, gain=-1.0, challenger_answer=pair.rival_answer, rival_answer=pair.challenger_answer)
    for pair in reversed(PAIRS)
)
PARTS = (
    Part("source", "reviews", 300, 0.662, 0.62, 0.042),
    Part("source", LONG, 180, 0.61, 0.6, 0.01),
    Part("language", "en", 320, 0.655, 0.63, 0.025),
    Part("language", "zh", 160, 0.634, 0.581, 0.053),
    Part("kind of byte", "letters", 480, 0.648, 0.612, 0.036),
)
WHY = f"{DECIDING.reason} (macro_f1 0.6480 against 0.6120 of the champion, version 6 on 480 items)"
PROMOTED = Decision(
    "wordmill-areas", "4be1c0ffee12ab90", "champion, version 6", "6", "9a77d00d4be1c0ff", "promoted",
    WHY, "2026-11-30T03:06:41+00:00", 41.2,
    (DECIDING, GENERAL, PURITY, UNMEASURED), CONDITIONS, Budget(0.05, 14, 3, 0.0021, 0.057), PAIRS, WORSE, PARTS,
)  # fmt: skip
REFUSED = replace(
    PROMOTED,
    verdict="refused",
    why=f"{WHY}; guard general text: bits_per_byte {FORGOT.reason}",
    comparisons=(DECIDING, FORGOT, PURITY, UNMEASURED),
)
UNSURE = replace(
    DECIDING, low=-0.011, high=0.081, p=0.04, passed=False,
    reason="better by more than 0.01, but not surely: luck alone does as well with a chance of 0.04, 0.0021 is allowed",
)  # fmt: skip
UNCLEAR = replace(
    PROMOTED, verdict="cannot tell", why=f"{UNSURE.reason} (macro_f1 0.6480 against 0.6120 of the champion, version 6 on 480 items)",
    comparisons=(UNSURE,), better=PAIRS[:2], worse=(), parts=(),
)  # fmt: skip
FEW = replace(
    PROMOTED, verdict="cannot tell", why="areas has 12 items to judge on, the gate needs 30 (gate.min_items)", comparisons=(), budget=None,
    better=(), worse=(), parts=(),
)  # fmt: skip
COMPARED = Compared(
    "models:/wordmill@champion", LONG, "configs/suites/quick.yaml", "2026-11-30T09:00:00+00:00", 12.3, (DECIDING, FORGOT),
    PARTS, PAIRS, WORSE,
)  # fmt: skip
FIRST = replace(PROMOTED, rival="baseline: majority", rival_version="", rival_fingerprint="", budget=Budget(0.05, 1, 0, 0.0263, 0.0263))

ROWS = NightRows(200, 3, 1, 0, {"evaluation_item": 7, "label_missing": 3, "too_long": 1, "no_text": 1}, 171, 60, 20)
DRIFT = (DriftRow("labels", 0.041, 0.25, "even"), DriftRow("lengths", 0.31, 0.25, "told"), DriftRow("vocabulary", 0.08, 0.25, "even"),
         DriftRow("language", 0.012, 0.25, "even"))  # fmt: skip
DECIDED: tuple[tuple[int, Verdict, float, float], ...] = (
    (14, "promoted", 0.551, 0.03), (15, "refused", 0.548, -0.003), (16, "promoted", 0.574, 0.023), (18, "cannot tell", 0.577, 0.003),
    (19, "refused", 0.569, -0.005), (20, "promoted", 0.598, 0.024), (23, "refused", 0.596, -0.002), (24, "promoted", 0.612, 0.014),
)  # fmt: skip
NIGHTS = (
    *(Night(f"2026-11-{day:02}T03:04:00+00:00", verdict, "macro_f1", value, gain) for day, verdict, value, gain in DECIDED),
    *(Night(f"2026-11-{day}T03:00:20+00:00", "nothing new") for day in (25, 26, 27)),
    Night("2026-11-28T03:02:00+00:00", "failed"),
    Night("2026-11-29T03:02:00+00:00", "drift"),
)
LINKS = {
    "report": "report/4be1c0ffee12ab90/report.html",
    "decision": "gate/77aa/decision.html",
    "Prefect": "http://127.0.0.1:4200/runs/flow-run/0f3c9a12",
    "MLflow": "http://127.0.0.1:5000/#/models/wordmill-areas/versions/7",
    "trap": "javascript:alert(1)",
}
MORNING = Morning(
    "wordmill-areas", "configs/nightly.yaml", "decided", "", "2026-11-30T03:00:02+00:00", 401.3, PROMOTED, "7",
    Cost(1.2 * 401.3 / 3600, "EUR", "1.2 EUR per machine hour"), ROWS, DRIFT,
    {"steps": 120.0, "loss": 0.412, "learning_rate": 0.0002}, LINKS, NIGHTS,
)  # fmt: skip
NO_MODEL = replace(
    MORNING, decision=None, version="", training={}, drift=(), rows=replace(ROWS, set_aside={}, learned=0, replayed=0, heldout=0)
)
MORNINGS = {
    "promoted": MORNING,
    "refused": replace(MORNING, decision=REFUSED),
    "cannot tell": replace(MORNING, decision=UNCLEAR),
    "too few": replace(MORNING, decision=FEW),
    "nothing new": replace(NO_MODEL, state="nothing new", why="no row that a night has not used", seconds=3.4, rows=NightRows()),
    "all rows refused": replace(
        NO_MODEL, state="all rows refused", why="all 200 new rows were set aside: 150 for label missing",
        rows=NightRows(new=200, set_aside={"label_missing": 150, "evaluation_item": 50}), seconds=6.1,
    ),
    "drift": replace(
        NO_MODEL, state="drift", why="lengths of the new rows differ from those the champion learned from: index 0.31, limit 0.25",
        rows=replace(ROWS, waiting=191, learned=0, replayed=0, heldout=0), drift=(DRIFT[0], replace(DRIFT[1], state="stopped"), *DRIFT[2:]),
    ),
    "failed": replace(
        NO_MODEL, state="failed", rows=replace(ROWS, waiting=204, set_aside={}, learned=0, replayed=0, heldout=0),
        why=f"examples/new.jsonl:17: 'text' is int, expected a string ({LONG}). Fix: drop the row and run again; the champion and the rows "
        "are as they were, and the next night takes them",
    ),
    "waiting": replace(
        MORNING, state="waiting", version="",
        why="MLflow at http://127.0.0.1:5000 does not answer; the model waits. Fix: wordmill register finetune/4be1c0ffee12ab90",
    ),
}  # fmt: skip

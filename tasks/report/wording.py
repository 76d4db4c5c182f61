"""Number formats and sentences of the report: one way to write a size, a time or a score, and the verdict on top."""

import math
from datetime import datetime
from itertools import groupby

from tasks.examples.deciding import lower_is_better
from tasks.prices import Cost
from tasks.report.facts import BASELINES, MAJORITY, PREVIOUS, UNIGRAM, RunStory, StageStory
from tasks.scores import ScoreRow

GAP = "\N{NO-BREAK SPACE}"  # between a number and its unit
MINUS = "\N{MINUS SIGN}"


def count_text(count: int) -> str:
    """12,345."""
    return f"{count:,}"


def short_count(count: float) -> str:
    """Three significant digits with a unit: 842, 12.3 k, 3.10 M, 1.25 G."""
    return _scaled(count, ("", f"{GAP}k", f"{GAP}M", f"{GAP}G", f"{GAP}T"))


def bytes_text(size: float) -> str:
    """Decimal units: 842 B, 1.20 MB."""
    return _scaled(size, (f"{GAP}B", f"{GAP}kB", f"{GAP}MB", f"{GAP}GB", f"{GAP}TB"))


def _scaled(value: float, units: tuple[str, ...]) -> str:
    if value < 0:
        return MINUS + _scaled(-value, units)
    power = 0
    while value >= 999.5 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    if power == 0:
        return f"{value:.0f}{units[0]}"
    return f"{significant(value)}{units[power]}"


def significant(value: float) -> str:
    """Three significant digits without an exponent: 123, 12.3, 1.23."""
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


def seconds_text(seconds: float) -> str:
    """85 ms, 3.4 s, 4 min 10 s, 2 h 05 min."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f}{GAP}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}{GAP}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{GAP}min {whole % 60:02d}{GAP}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,}{GAP}h {minutes % 60:02d}{GAP}min"


def cost_text(cost: Cost) -> str:
    """`0.12 EUR`."""
    return f"{significant(cost.amount) if cost.amount >= 0.01 else f'<{GAP}0.01'}{GAP}{cost.currency}"


def score_text(value: float | None) -> str:
    """Three decimals below 1, then fewer; a dash for what is unknown."""
    if value is None or is_missing(value):
        return "–"
    size = abs(value)
    decimals = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def is_missing(value: float | None) -> bool:
    """Whether there is no such number: None, NaN or infinite."""
    return value is None or not math.isfinite(value)


def figure_text(value: float) -> str:
    """A stage's figure: whole numbers with separators, very small ones with an exponent."""
    if not math.isfinite(value):
        return "–"
    if float(value).is_integer():
        return f"{int(value):,}".replace("-", MINUS)
    if abs(value) < 0.001:
        return f"{value:.2e}".replace("-", MINUS)
    return score_text(value)


def share_text(part: float, whole: float) -> str:
    """A percentage that never rounds to 0 % or 100 % unless it is."""
    if whole <= 0 or part <= 0:
        return f"0{GAP}%"
    percent = 100 * part / whole
    if percent < 0.1:
        return f"<{GAP}0.1{GAP}%"
    return f"{percent:.1f}{GAP}%" if part == whole or percent < 99.95 else f">{GAP}99.9{GAP}%"


def words(name: str) -> str:
    """`bits_per_byte` -> `bits per byte`."""
    return name.replace("_", " ")


def score_panels(scores: tuple[ScoreRow, ...]) -> list[tuple[ScoreRow, ...]]:
    """Rows that are held against one another, together, first seen first; this run's models before the baselines."""
    first = {key: at for at, key in reversed(list(enumerate(map(_panel, scores))))}
    ordered = sorted(scores, key=lambda row: (first[_panel(row)], row.model in BASELINES))
    return [tuple(rows) for _, rows in groupby(ordered, key=_panel)]


def _panel(row: ScoreRow) -> tuple[str, ...]:
    return (*scored(row), row.metric)


def scored(row: ScoreRow) -> tuple[str, ...]:
    """What a score is of, whatever the metric."""
    return row.subject, row.suite, row.task


def score_title(row: ScoreRow) -> str:
    """`areas: macro f1`; the task stands in for a subject that has no name."""
    of = row.subject or row.task
    return words(row.metric) if of == row.metric else f"{words(of)}: {words(row.metric)}"


def own(panel: tuple[ScoreRow, ...]) -> ScoreRow | None:
    """The best of this run's models in a panel."""
    rows = [row for row in panel if row.model not in BASELINES and not is_missing(row.value)]
    if not rows:
        return None
    best = min if lower_is_better(rows[0].metric) else max
    return best(rows, key=lambda row: row.value)


def named(panel: tuple[ScoreRow, ...], model: str) -> ScoreRow | None:
    """The row of one model in a panel."""
    return next((row for row in panel if row.model == model), None)


def advantage(row: ScoreRow, other: ScoreRow) -> int:
    """1 when `row` is better than `other` by more than its own 95 % interval, -1 when worse, 0 when neither."""
    low = row.value if is_missing(row.ci_low) else row.ci_low
    high = row.value if is_missing(row.ci_high) else row.ci_high
    sign = -1 if lower_is_better(row.metric) else 1
    if low > other.value:
        return sign
    return -sign if high < other.value else 0


def corpus_stages(stages: tuple[StageStory, ...]) -> list[StageStory]:
    """Stages that filter: what comes in and what goes out can be compared, in rows or in bytes."""
    return [stage for stage in stages if stage.ledger.rows_in or stage.ledger.bytes_in]


def corpus_chain(stages: tuple[StageStory, ...]) -> list[StageStory]:
    """Stages that hand on one another's text, from what was read (the most bytes) to what models learn from."""
    measured = [stage for stage in stages if stage.ledger.bytes_in]
    roots = [stage for stage in measured if not any(_hands_on(other, stage) for other in measured)]
    if not roots:
        return []
    chain = [max(roots, key=lambda stage: stage.ledger.bytes_in)]
    while True:
        following = next((stage for stage in measured if _hands_on(chain[-1], stage) and stage not in chain), None)
        if following is None:
            return chain
        chain.append(following)


def _hands_on(before: StageStory, after: StageStory) -> bool:
    """Whether `after` filters the output of `before`, not only consults it: exactly that went in."""
    return before.name in after.inputs and before.ledger.bytes_out == after.ledger.bytes_in


def verdict(story: RunStory) -> str:
    """The run in one paragraph of plain words."""
    panels = score_panels(story.scores)
    sentences = [
        _what_became(story),
        _corpus_made(story),
        _bits_per_byte(panels),
        _against_majority(panels),
        _against_previous(panels),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _what_became(story: RunStory) -> str:
    chain = corpus_chain(story.stages)
    text = f"{bytes_text(chain[0].ledger.bytes_in)} of text" if chain else ""
    model = f"model of {short_count(story.model.parameters)} parameters" if story.model else ""
    if text:
        corpus = f"corpus of {bytes_text(sum(row.bytes for row in story.mixture))}" if story.mixture else ""
        made = f"{text} became a {model or corpus}" if model or corpus else f"{text} was prepared"
    else:
        made = f"A {model} was trained" if model else f"{len(story.stages)} stages were completed"
    reused = sum(stage.status == "cached" for stage in story.stages)
    if reused and reused == len(story.stages):
        return f"{made}. All of it was built before and reused; this run took {seconds_text(story.seconds)}."
    note = f", {reused} of {len(story.stages)} stages reused from earlier runs" if reused else ""
    return f"{made} in {seconds_text(story.seconds)}{note}."


def _corpus_made(story: RunStory) -> str:
    """What a corpus holds, where a corpus is all that was made."""
    if not story.mixture or story.model:
        return ""
    documents: dict[bool, int] = {True: 0, False: 0}
    for row in story.mixture:
        documents[row.split == "train"] += row.documents
    return f"It has {count_text(documents[True])} documents to learn from and {count_text(documents[False])} to judge on."


def _bits_per_byte(panels: list[tuple[ScoreRow, ...]]) -> str:
    panel = next((panel for panel in panels if panel[0].metric == "bits_per_byte" and own(panel)), None)
    row = own(panel) if panel else None
    if panel is None or row is None:
        return ""
    unigram = named(panel, UNIGRAM)
    against = f"; the unigram model needs {score_text(unigram.value)}" if unigram else ""
    return f"It needs {score_text(row.value)} bits per byte on held-out text{against}."


def _against_majority(panels: list[tuple[ScoreRow, ...]]) -> str:
    tasks: dict[tuple[str, ...], bool] = {}
    for panel in panels:
        row, majority = own(panel), named(panel, MAJORITY)
        if row and majority:  # a task counts once, by the metric that comes first
            tasks.setdefault(scored(row), advantage(row, majority) > 0)
    if not tasks:
        return ""
    noun = "task" if len(tasks) == 1 else "tasks"
    won = f"{sum(tasks.values())} of {len(tasks)} {noun}"
    return f"It beats always giving the commonest answer on {won}, by more than the 95{GAP}% interval."


def _against_previous(panels: list[tuple[ScoreRow, ...]]) -> str:
    results = [advantage(row, before) for panel in panels if (row := own(panel)) and (before := named(panel, PREVIOUS))]
    if not results:
        return ""
    better, worse = results.count(1), results.count(-1)
    if not better and not worse:
        return "No score differs from the previous run's by more than its interval."
    shared = f"Of {len(results)} scores that the previous run has too"
    return f"{shared}, {_how_many(better)} better and {_how_many(worse)} worse."


def _how_many(count: int) -> str:
    return f"{count or 'none'} {'is' if count < 2 else 'are'} clearly"


def time_text(started: str) -> str:
    """`2026-03-02T09:14:07+00:00` -> `2026-03-02 09:14 UTC`."""
    moment = datetime.fromisoformat(started)
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".rstrip()

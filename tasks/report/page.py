"""Report page: one self-contained HTML page per run, built from a `RunStory`.

Nothing is fetched when the page is opened: plotly.js, style and script are inside, and a content security policy that
names their hashes lets nothing else run, whatever a model wrote.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tasks.corpus.select import DEFAULT_RULES
from tasks.ledger import StageOutcome
from tasks.report import charts, wording
from tasks.report.batches import batch_charts, batches_told
from tasks.report.changes import change_rows
from tasks.report.charts import Chart
from tasks.report.curves import learning_curve
from tasks.report.decision_wording import TITLES, decided_sentence, rule_paragraphs, short_reason
from tasks.report.facts import BASELINES, DroppedSample, RunStory, StageStory
from tasks.report.fit import fit_chart, fit_table, title
from tasks.report.inspection import HEAT_NATS, drawings
from tasks.report.ladder import ladder_markup, ladder_sentence
from tasks.report.markup import HERE, policy, shortened, style, template
from tasks.report.mixture import mixture_bars, mixture_table, share_by
from tasks.report.norms import norm_chart
from tasks.report.packing import fill_text, length_bars, packing_sentence
from tasks.report.palette import LIGHT_AND_DARK
from tasks.report.reasons import reason_text
from tasks.report.stage_graph import stage_graph
from tasks.report.step_page import write_step_pages
from tasks.report.text_flow import text_flow
from tasks.report.training import MFU_FORMULA, trainings_told
from tasks.scores import ScoreRow
from tasks.settings import Section

LINK_SCHEMES = ("https://", "http://")


class ReportConfig(Section):
    """What the page shows, and how much of it."""

    revision: Literal[7] = 7
    samples: int = Field(default=12, ge=0, le=200, description="Generations shown at most")
    sample_chars: int = Field(default=1_200, ge=40, le=100_000, description="Characters of a generation shown at most")
    insides: int = Field(default=8, ge=0, le=100, description="Texts shown token by token, at most")
    excerpts: int = Field(default=3, ge=0, le=20, description="Excerpts of dropped text for a stage and reason, at most")
    excerpt_chars: int = Field(default=280, ge=40, le=10_000, description="Characters of such an excerpt, at most")
    curve_points: int = Field(default=500, ge=10, le=20_000, description="Points of a curve at most; more are thinned evenly")
    score_panels: int = Field(default=12, ge=1, le=100, description="Scores drawn at most; the table has all of them")

    @model_validator(mode="before")
    @classmethod
    def _refuse_moved_keys(cls, values: object) -> object:
        """The price that lay here before there was `prices` is refused with what to write instead."""
        if isinstance(values, dict) and ("currency_per_hour" in values or "currency" in values):
            told = {"machine_hour": values.get("currency_per_hour", 0.0), "currency": values.get("currency", "USD")}
            raise ValueError(
                "currency_per_hour and currency moved to a section of the recipe itself, which `wordmill plan` reads too. Write "
                f"prices: {{{', '.join(f'{key}: {value}' for key, value in told.items())}}}"
            )
        return values


@dataclass(frozen=True)
class Tile:
    """A key figure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Losses:
    """Why a stage dropped rows, and some of their text."""

    stage: str
    reason: str
    rows: str
    bytes: str
    share: str
    excerpts: tuple[str, ...]


@dataclass(frozen=True)
class Charts:
    """Every chart of the page, by section."""

    run: tuple[Chart, ...]
    flow: tuple[Chart, ...]
    mixture: tuple[Chart, ...]
    tokenizer: tuple[Chart, ...]
    packing: tuple[Chart, ...]
    batches: tuple[Chart, ...]
    curves: tuple[Chart, ...]
    norms: tuple[Chart, ...]
    scores: tuple[Chart, ...]

    def all(self) -> tuple[Chart, ...]:
        """In page order."""
        text = (*self.run, *self.flow, *self.mixture, *self.tokenizer, *self.packing)
        return (*text, *self.batches, *self.curves, *self.norms, *self.scores)


def draw_charts(config: ReportConfig, story: RunStory) -> Charts:
    """The figures that this run has data for."""
    flow = text_flow(story.stages)
    fit = fit_chart(story.tokenizer) if story.tokenizer else None
    lengths = length_bars(story.packing)
    trainings = [(name, points) for name, points in story.curves.items() if points]
    panels = wording.score_panels(story.scores)[: config.score_panels]
    return Charts(
        run=(stage_graph(story.stages), charts.stage_times(story.stages)) if story.stages else (),
        flow=(flow,) if flow else (),
        mixture=(mixture_bars(story.mixture),) if story.mixture else (),
        tokenizer=(fit,) if fit else (),
        packing=(lengths,) if lengths else (),
        batches=batch_charts(story.audit) if story.audit else (),
        curves=tuple(
            learning_curve(
                f"curve-{at}",
                name,
                points,
                config.curve_points,
                [spike for spike in story.spikes if spike.training == name],
                [event for one in story.trainings if one.training == name for event in one.events],
            )
            for at, (name, points) in enumerate(trainings)
        ),
        norms=tuple(
            chart
            for at, (name, points) in enumerate(trainings)
            if (chart := norm_chart(f"norms-{at}", name, points, config.curve_points)) is not None
        ),
        scores=tuple(charts.score_panel(f"score-{at}", rows) for at, rows in enumerate(panels)),
    )


def tiles(config: ReportConfig, story: RunStory) -> list[Tile]:
    """The figures a reader looks for first."""
    return [
        *_corpus_tiles(story),
        *_mixture_tiles(story),
        *_model_tiles(story),
        *_score_tiles(story),
        *_time_tiles(story),
    ]


def _corpus_tiles(story: RunStory) -> Iterator[Tile]:
    chain = wording.corpus_chain(story.stages)
    if not chain:
        return
    read, kept = chain[0].ledger.bytes_in, chain[-1].ledger.bytes_out
    note = f"{wording.share_text(kept, read)} of {wording.bytes_text(read)}"
    yield Tile("text kept", wording.bytes_text(kept), note)
    documents = [stage.ledger for stage in chain if stage.ledger.rows_in]  # the last stage may count token rows
    if documents:
        note = f"of {wording.count_text(documents[0].rows_in)} read"
        yield Tile("documents", wording.count_text(documents[-1].rows_out), note)


def _mixture_tiles(story: RunStory) -> Iterator[Tile]:
    """What is in the corpus, where a corpus is all that was made."""
    if not story.mixture or story.model:
        return
    languages = share_by(story.mixture, "language")
    largest = [f"{name} {wording.share_text(size, sum(languages.values()))}" for name, size in list(languages.items())[:3]]
    yield Tile("languages", wording.count_text(len(languages)), ", ".join(largest))
    training = [row for row in story.mixture if row.split == "train"]
    note = f"{wording.count_text(sum(row.documents for row in training))} documents; the rest is to judge on"
    yield Tile("text to learn from", wording.bytes_text(sum(row.bytes for row in training)), note)


def _model_tiles(story: RunStory) -> Iterator[Tile]:
    if story.model:
        yield Tile("parameters", wording.short_count(story.model.parameters), story.model.shape)
        yield Tile("training tokens", wording.short_count(story.model.training_tokens), "repetitions counted")


def _score_tiles(story: RunStory) -> Iterator[Tile]:
    """One tile for each thing that was scored, by the first metric; four at most."""
    shown: set[tuple[str, ...]] = set()
    for panel in wording.score_panels(story.scores):
        row = wording.own(panel)
        scored = wording.scored(panel[0])
        if row is None or scored in shown or len(shown) == 4:
            continue
        shown.add(scored)
        yield Tile(wording.score_title(row), wording.score_text(row.value), _compared(panel))


def _compared(panel: tuple[ScoreRow, ...]) -> str:
    baseline = next((row for row in panel if row.model in BASELINES), None)
    return f"{baseline.model}: {wording.score_text(baseline.value)}" if baseline else ""


def _time_tiles(story: RunStory) -> Iterator[Tile]:
    saved = sum(stage.seconds for stage in story.stages if stage.status == "cached")
    yield Tile("wall time", wording.seconds_text(story.seconds), f"reuse saved {wording.seconds_text(saved)}" if saved else "")
    if story.cost is not None:
        yield Tile("cost", wording.cost_text(story.cost), story.cost.rate)


@dataclass(frozen=True)
class Checked:
    """How much of a stage's output was held to a contract."""

    stage: str
    contract: str
    tables: int
    rows: int
    checks: int


def receipts_by_contract(stage: StageStory) -> list[Checked]:
    """A stage's receipts, one line a contract; `checks` are those made of each table."""
    by_contract = {receipt.contract: [] for receipt in stage.receipts}
    for receipt in stage.receipts:
        by_contract[receipt.contract].append(receipt)
    return [
        Checked(stage.label, contract, len(found), sum(one.rows for one in found), max(one.checks for one in found))
        for contract, found in by_contract.items()
    ]


def losses(config: ReportConfig, story: RunStory) -> list[Losses]:
    """Every reason for which a stage dropped rows, largest loss of a stage first, with excerpts where there are any."""
    found: list[Losses] = []
    for stage in story.stages:
        ledger = stage.ledger
        dropped = {reason: ledger.dropped.get(reason, 0) for reason in {**ledger.dropped, **ledger.dropped_bytes}}
        for reason, rows in sorted(dropped.items(), key=lambda item: (-item[1], item[0])):
            lost = ledger.dropped_bytes.get(reason, 0)
            if rows or lost:
                share = wording.share_text(rows, ledger.rows_in) if rows else wording.share_text(lost, ledger.bytes_in)
                texts = tuple(_excerpts(config, story.dropped, stage, reason))
                counts = (wording.count_text(rows) if rows else "–", wording.bytes_text(lost) if lost else "–")
                found.append(Losses(stage.label, reason_text(reason), *counts, share, texts))
    return found


def _excerpts(config: ReportConfig, dropped: tuple[DroppedSample, ...], stage: StageStory, reason: str) -> list[str]:
    texts = [sample.text for sample in dropped if (sample.stage, sample.reason) == (stage.name, reason)]
    return [shortened(text, config.excerpt_chars) for text in texts[: config.excerpts]]


def chart_data(drawn: Charts) -> str:
    """All figures as JSON that is safe inside a script element: no `<` in it."""
    parts: list[str] = []
    for chart in drawn.all():
        narrow = chart.narrow.to_json(engine="json") if chart.narrow else "null"
        wide = chart.figure.to_json(engine="json")
        parts.append(f'"{chart.key}":{{"wide":{wide},"narrow":{narrow},"narrowBelow":{chart.narrow_below}}}')
    return ("{" + ",".join(parts) + "}").replace("<", "\\u003c")


def verdict(story: RunStory) -> str:
    """The run in one paragraph, what the gate said of its models included."""
    return " ".join([wording.verdict(story), *map(decided_sentence, story.decisions)])


def render(config: ReportConfig, story: RunStory, drawn: Charts) -> str:
    """The page. Equal configs and stories give equal text."""
    from plotly.offline import get_plotlyjs

    plotly, script = get_plotlyjs(), (HERE / "page.js").read_text()
    return template("page.html.jinja").render(
        story=story,
        config=config,
        verdict=verdict(story),
        tiles=tiles(config, story),
        charts=drawn,
        corpus=wording.corpus_stages(story.stages),
        defaults=[stage.notes[DEFAULT_RULES] for stage in story.stages if DEFAULT_RULES in stage.notes],
        mixture=mixture_table(story.mixture),
        fit=[(title(row.tokenizer), row) for row in fit_table(story.tokenizer.table if story.tokenizer else ())],
        packing=[(row, fill_text(row)) for row in story.packing],
        packing_sentence=packing_sentence(story.packing),
        batches=batches_told(story.audit) if story.audit else None,
        trainings=trainings_told(story),
        ladder_picture=ladder_markup(story.ladder) if story.ladder else "",
        ladder_sentence=ladder_sentence(story.ladder) if story.ladder else "",
        mfu_formula=MFU_FORMULA,
        has_step_pages=bool(story.spikes or any(skip.command for one in story.trainings for skip in one.skips)),
        changes=change_rows(story.changes),
        checked=[checked for stage in story.stages for checked in receipts_by_contract(stage)],
        detailed=[stage for stage in story.stages if stage.figures or stage.notes],
        losses=losses(config, story),
        samples=story.samples[: config.samples],
        drawings=drawings(story.insides[: config.insides]),
        limits=HEAT_NATS,
        panels=wording.score_panels(story.scores),
        decided=[(decision, TITLES[decision.verdict], short_reason(decision), rule_paragraphs(decision)) for decision in story.decisions],
        baselines=BASELINES,
        links={name: url for name, url in story.links.items() if url.lower().startswith(LINK_SCHEMES)},
        cost="" if story.cost is None else wording.cost_text(story.cost),
        style=style(),
        policy=policy(plotly, script),
        plotly=plotly,
        script=script,
        chart_data=chart_data(drawn),
        palette=json.dumps(dict(LIGHT_AND_DARK.values())),
    )


def write_report(config: ReportConfig, story: RunStory, out: Path) -> StageOutcome:
    """Tell the run in `out/report.html`: one page that opens anywhere, offline. Spikes and skipped steps have pages in `out/steps/`."""
    drawn = draw_charts(config, story)
    path = out / "report.html"
    path.write_text(render(config, story, drawn), encoding="utf-8", errors="replace", newline="\n")
    write_step_pages(story, out)
    figures = {"page_bytes": float(path.stat().st_size), "charts": float(len(drawn.all()))}
    return StageOutcome(figures=figures, notes={"verdict": verdict(story)})

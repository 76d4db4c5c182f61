"""Step page, self-contained HTML: the rows of a step's batch and the documents in them. It runs no script."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tasks.report import wording
from tasks.report.markup import policy, style, template

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.lineage.step_trace import StepDocument
    from tasks.report.facts import RunStory, SkipStory, SpikeStory

REPORT = "../report.html"  # from a step's page beside a report


@dataclass(frozen=True)
class StepPage:
    """What is shown of a batch."""

    run: str  # what the pretraining is called
    step: int | None  # that has it, from 1; None: it was left out
    data_step: int  # from 0
    steps: int  # of the run
    documents: tuple[StepDocument, ...]
    notes: tuple[str, ...] = ()  # what is to be known of it, said first
    command: str = ""  # that tells the same
    forget: tuple[str, ...] = ()  # commands that have its documents forgotten
    untold: str = ""  # why there are no documents
    report: str = ""  # the page that it belongs to

    @property
    def title(self) -> str:
        """`Step 1,777: what it saw`."""
        if self.step is None:
            return f"Data step {wording.count_text(self.data_step)}: what was left out"
        return f"Step {wording.count_text(self.step)}: what it saw"


def render_step(page: StepPage) -> str:
    """All text in it is escaped: it may be anything."""
    rows = [(row, list(pieces)) for row, pieces in groupby(page.documents, key=lambda document: document.row)]
    sources: dict[str, int] = {}
    for document in page.documents:
        sources[document.source] = sources.get(document.source, 0) + document.end - document.start
    different = len({document.id for document in page.documents})
    counted = (
        f"{wording.count_text(len(rows))} rows with {wording.count_text(len(page.documents))} pieces of "
        f"{wording.count_text(different)} documents."
    )
    return template("step.html.jinja").render(
        page=page,
        rows=rows,
        sources=sorted(sources.items(), key=lambda entry: (-entry[1], entry[0])),
        tokens=sum(sources.values()),
        verdict=" ".join([*page.notes, *([counted] if page.documents or not page.notes else [])]),
        style=style(),
        policy=policy(),
    )


def spike_page(run: str, steps: int, spike: SpikeStory) -> StepPage:
    """Of a step that stood out."""
    note = (
        f"This step had a loss of {wording.score_text(spike.loss)} nats per token, where {wording.score_text(spike.usual)} "
        "was usual just before."
    )
    return StepPage(run, spike.step, spike.step - 1, steps, spike.documents, (note,), spike.command, untold=spike.untold, report=REPORT)


def skip_page(run: str, steps: int, skip: SkipStory) -> StepPage:
    """Of a step that was skipped."""
    told = [f"This step was skipped: {skip.told}. Its batch was read, and nothing was learned from it."]
    told += ["The run then went back to before it, and took this batch no more."] if skip.is_left_out else []
    step, data_step = None if skip.is_left_out else skip.step, skip.step - 1 if skip.data_step is None else skip.data_step
    return StepPage(run, step, data_step, steps, skip.documents, tuple(told), skip.command, skip.forget, skip.untold, REPORT)


def write_step_pages(story: RunStory, out: Path) -> None:
    """A page for each loss spike and each skipped step that is told of, in `out/steps/`; of one that is both, as a skipped one."""
    steps = {name: max((point.step for point in points), default=0) for name, points in story.curves.items()}
    fingerprints = {stage.label: stage.fingerprint for stage in story.stages}
    pages: dict[str, StepPage] = {}
    for spike in story.spikes:
        run = fingerprints.get(spike.training, spike.training)
        pages[spike.page] = spike_page(run, steps.get(spike.training, spike.step), spike)
    for training in story.trainings:
        for skip in training.skips:
            if skip.command:
                pages[skip.page] = skip_page(training.fingerprint, steps.get(training.training, skip.step), skip)
    for name, page in pages.items():
        path = out / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(render_step(page), encoding="utf-8", errors="replace", newline="\n")

"""Step page, self-contained HTML: the rows of a step's batch and the documents in them. It runs no script."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.report import wording
from tasks.report.facts import RunStory, SpikeStory
from tasks.report.markup import policy, style, template

if TYPE_CHECKING:
    from tasks.lineage.step_trace import StepDocument

REPORT = "../report.html"  # from a step's page beside a report


def render_step(run: str, step: int, steps: int, documents: Sequence["StepDocument"], spike: SpikeStory | None = None) -> str:
    """The page of step `step` (from 1) of a pretraining called `run`. All text in it is escaped: it may be anything.

    With a `spike` the page lies beside a report and says what made the step stand out.
    """
    rows = [(row, list(pieces)) for row, pieces in groupby(documents, key=lambda document: document.row)]
    sources: dict[str, int] = {}
    for document in documents:
        sources[document.source] = sources.get(document.source, 0) + document.end - document.start
    different = len({document.id for document in documents})
    verdict = (
        f"{wording.count_text(len(rows))} rows with {wording.count_text(len(documents))} pieces of "
        f"{wording.count_text(different)} documents."
    )
    return template("step.html.jinja").render(
        run=run,
        step=step,
        steps=steps,
        rows=rows,
        sources=sorted(sources.items(), key=lambda entry: (-entry[1], entry[0])),
        tokens=sum(sources.values()),
        verdict=f"{_stood_out(spike)} {verdict}" if spike and documents else _stood_out(spike) if spike else verdict,
        spike=spike,
        report=REPORT,
        style=style(),
        policy=policy(),
    )


def _stood_out(spike: SpikeStory) -> str:
    return (
        f"This step had a loss of {wording.score_text(spike.loss)} nats per token, where {wording.score_text(spike.usual)} "
        "was usual just before."
    )


def write_step_pages(story: RunStory, out: Path) -> None:
    """A page for each loss spike, in `out/steps/`."""
    for spike in story.spikes:
        path = out / spike.page
        path.parent.mkdir(exist_ok=True)
        steps = max((point.step for point in story.curves.get(spike.training, ())), default=spike.step)
        fingerprint = next((stage.fingerprint for stage in story.stages if stage.label == spike.training), spike.training)
        page = render_step(fingerprint, spike.step, steps, spike.documents, spike)
        path.write_text(page, encoding="utf-8", errors="replace", newline="\n")

"""One self-contained HTML page of a training step: the rows of its batch and the documents in them. It runs no script."""

from collections.abc import Sequence
from itertools import groupby

from tasks.lineage import StepDocument
from tasks.report import wording
from tasks.report.markup import policy, style, template


def render_step(run: str, step: int, steps: int, documents: Sequence[StepDocument]) -> str:
    """The page of step `step` (from 1) of a pretraining called `run`. All text in it is escaped: it may be anything."""
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
        verdict=verdict,
        style=style(),
        policy=policy(),
    )

"""`wordmill trace`: what a step saw, and where a document went, in the terminal and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from flows.commands.inspect import printable
from flows.commands.tables import rendered, table_of
from flows.runner.summaries import amount
from tasks.artifacts import Workspace
from tasks.corpus.forgotten import read_forgotten
from tasks.errors import UserError
from tasks.lineage.artifact_graph import Graph, read_graph
from tasks.lineage.document_trace import Whereabouts, as_json, whereabouts
from tasks.lineage.find_documents import CORPUS_TABLES, TABLES, Document, TextFound, TextHit, find_document, find_text
from tasks.lineage.run_reference import FoundRun
from tasks.lineage.step_trace import ReadBatch, StepDocument, TracedRun, batch_at, batch_of_data, taker
from tasks.settings import Json

SHOWN_CHARS = 160  # of a text on one line
COLORS = {
    "holds": "",
    "kept": "",
    "dropped": "yellow",
    "learned": "magenta",
    "unseen": "dim",
    "judged": "cyan",
    "follows": "cyan",
}


def check_asked(run: str | None, step: int | None, data_step: int | None, document: str | None, text: str | None, page: str | None) -> None:
    """UserError unless exactly one question is asked."""
    of_run = {"--step": step, "--data-step": data_step}
    asked = [name for name, value in {**of_run, "--document": document, "--text": text}.items() if value is not None]
    if len(asked) != 1:
        found = " and ".join(asked) or "none of them"
        raise UserError(f"trace: found {found}, expected one of --step N, --data-step N, --document ID and --text TEXT.")
    if asked[0] in of_run and run is None:
        raise UserError(f"trace: {asked[0]} belongs to a run. Fix: wordmill trace RUN {asked[0]} N.")
    if page is not None and asked[0] not in of_run:
        raise UserError("trace: --page shows a step. Fix: give --step, or leave --page out.")


def asked_batch(run: TracedRun, step: int | None, data_step: int | None) -> ReadBatch:
    """The batch that is asked for by its step, or by what it is a function of. UserError for one that the run has not."""
    if step is not None:
        return batch_at(run, step)
    assert data_step is not None
    return batch_of_data(run, data_step)


def who_read(found: FoundRun, batch: ReadBatch) -> FoundRun:
    """The run that read a batch, where the one that was found goes on from another's checkpoint."""
    run = taker(found.run, batch)
    return found if run is found.run else FoundRun(run, (*found.via, f"pretrain {found.run.folder.name}"))


def step_document(found: FoundRun, batch: ReadBatch, documents: Sequence[StepDocument]) -> dict[str, object]:
    """A step as JSON."""
    run, skip = found.run, batch.skip_of(found.run)
    named = {"fingerprint": run.folder.name.removesuffix(".partial"), "folder": str(run.folder), "via": [*found.via]}
    return {
        "run": {**named, "steps": run.steps, "done": run.done},
        "step": batch.step,
        "data_step": batch.data_step,
        "data_steps": [*batch.data_steps],
        "skipped": None if skip is None else asdict(skip),
        "left_out": batch.step is None,
        "rows": len(batch.data_steps) * run.batch_rows,
        "documents": [asdict(document) for document in documents],
    }


def step_view(found: FoundRun, batch: ReadBatch, documents: Sequence[StepDocument]) -> str:
    """A step in the terminal: a document a paragraph, in the order of the rows."""
    run = found.run
    lines = [Text(f"pretrain {run.folder.name}: {batch_name(run, batch)}", "bold")]
    lines += [Text(f"which {name} comes from", "dim") for name in found.via]
    if run.done < run.steps:
        told = "" if batch.step is None else "; this step is still to come" if batch.step > run.done else "; this step is done"
        lines.append(Text(f"not finished: {run.done:,} steps are done{told}", "yellow"))
    lines += [Text(told, "yellow") for told in batch_notes(run, batch)]
    different = len({document.id for document in documents})
    rows, named = len(batch.data_steps) * run.batch_rows, "document" if different == 1 else "documents"
    lines.append(Text(f"{rows:,} rows, {len(documents):,} pieces of {different:,} {named}"))
    for document in documents:
        lines += [Text(""), *_piece(document)]
    return rendered(Lines(*lines))


def batch_name(run: TracedRun, batch: ReadBatch) -> str:
    """`step 5 of 11`."""
    return f"data step {batch.data_step:,}, left out" if batch.step is None else f"step {batch.step:,} of {run.steps:,}"


def batch_notes(run: TracedRun, batch: ReadBatch) -> list[str]:
    """What is to be known of a batch beside its documents: that its step was skipped, what was left out before, or that it was."""
    if batch.step is None:
        left = next(one for one in run.left_out if one.first <= batch.data_step < one.first + one.count)
        return [f"the run went back to step {left.step:,}, and took this batch no more; what had learned from it was thrown away"]
    told: list[str] = []
    skip, whole = batch.skip_of(run), run.data_steps(batch.step)
    behind = whole.start - run.batch_steps.before(batch.step - 1)
    if len(whole) > 1:
        shown = f"; this is data step {batch.data_step:,} alone" if batch.is_part_of(run) else ""
        told.append(f"{len(whole):,} batches, those of data steps {whole.start:,} to {whole[-1]:,}, counted from 0{shown}")
    if skip is not None:
        told.append(f"this step was skipped: {printable(skip.told)}. Its batch was read, and nothing was learned from it")
    if behind:
        returns = [f"to step {one.step:,}" for one in run.left_out if batch.data_step >= one.first + one.count]
        its = "batch" if len(whole) == 1 else "first batch"
        told.append(
            f"its {its} is that of data step {whole.start:,}, counted from 0: the run went back {' and '.join(returns)}, and left "
            f"out {behind:,} {'batch' if behind == 1 else 'batches'} before it"
        )
    return told


def _piece(document: StepDocument) -> list[Text]:
    position = Text(f"row {document.row}, tokens {document.start} to {document.end}", "cyan")
    part = (
        f"all {document.tokens} tokens"
        if document.last - document.first == document.tokens
        else f"its tokens {document.first} to {document.last} of {document.tokens}"
    )
    who = Text(f"  {document.id}  {printable(document.source)}  {printable(document.path)}  {document.language}  {part}")
    lines = [position.append_text(who)]
    if document.url:
        lines.append(Text(printable(document.url), "dim"))
    return [*lines, Text(one_line(document.text))]


def one_line(text: str, chars: int = SHOWN_CHARS) -> str:
    """Start and end of a text on one line."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= chars else f"{line[: chars * 2 // 3]} … {line[len(line) - chars // 3 :]}"


def lineage_of(graph: Graph, found: FoundRun) -> frozenset[str]:
    """The artifacts that a pretraining was made from, itself, and what was made from it."""
    fingerprint = found.run.folder.name.removesuffix(".partial")
    return frozenset(graph.sources(fingerprint) | graph.results(fingerprint))


def trace_document(workspace: Workspace, prefix: str, found: FoundRun | None) -> tuple[Document, Whereabouts]:
    """Who a document is and where it went; with a run, as far as that is concerned. UserError for an unknown id."""
    graph = read_graph(workspace)
    document = find_document(graph, prefix)
    among = None if found is None else lineage_of(graph, found)
    return document, whereabouts(workspace, graph, [document.id], among)[document.id]


def trace_text(workspace: Workspace, text: str, found: FoundRun | None) -> tuple[TextFound, dict[str, Whereabouts]]:
    """The documents that hold a text, and where the first of them went; with a run, of the corpus that it read."""
    graph = read_graph(workspace)
    among = None if found is None else lineage_of(graph, found)
    kinds = TABLES if among is None else CORPUS_TABLES
    nodes = [node for node in graph.of(*kinds) if among is None or node.fingerprint in among]
    hits = find_text(nodes, text, kinds)
    return hits, whereabouts(workspace, graph, [hit.document.id for hit in hits.hits], among)


def document_json(workspace: Workspace, document: Document, found: Whereabouts) -> dict[str, object]:
    """A document and its stations as JSON."""
    return {"document": asdict(document), "forgotten": is_forgotten(workspace, document.id), **_stations_json(found)}


def _stations_json(found: Whereabouts) -> dict[str, Json]:
    told = as_json(found)
    return {"artifacts": told["stations"], "copies": told["copies"], "registered": [*found.registered], "untold": told["untold"]}


def is_forgotten(workspace: Workspace, document_id: str) -> bool:
    """Whether the document is to be forgotten."""
    return any(entry.id == document_id for entry in read_forgotten(workspace.root))


def document_view(workspace: Workspace, document: Document, found: Whereabouts) -> str:
    """A document and its stations in the terminal."""
    lines: list[Text | Table] = [who(document)]
    if is_forgotten(workspace, document.id):
        lines.append(Text("marked to be forgotten: the next run of its recipe leaves it out", "yellow"))
    lines += [Text(""), station_table(found)]
    if found.copies:
        lines += [Text(""), Text(f"copies, by their ids: {', '.join(found.copies)}")]
    return rendered(Lines(*lines, *untold_lines(found)))


def untold_lines(found: Whereabouts) -> list[Text]:
    """What nothing can be said of any more."""
    if not found.untold:
        return []
    told = f"Nothing can be told of these, for what they were made from is gone: {', '.join(found.untold)}"
    return [Text(""), Text(told, "yellow")]


def who(document: Document) -> Text:
    """Who a document is, on one or two lines."""
    told = Text(document.id, "bold").append(f"  {printable(document.source)}  {printable(document.path)}", "not bold")
    told.append(f"  {document.language}  {amount(document.bytes)}", "not bold")
    return told.append(f"\n{printable(document.url)}", "not bold dim") if document.url else told


def station_table(found: Whereabouts) -> Table:
    """A station a row."""
    table = table_of("stage", "artifact", "what", "where")
    for station in found.stations:
        where = [f"{table_row.file} row {table_row.row}" for table_row in station.tables]
        where += [f"{piece.file} row {piece.file_row}, tokens {piece.start} to {piece.end}" for piece in station.pieces]
        shown = where[:3] + ([f"and {len(where) - 3} more (--json names all)"] if len(where) > 3 else [])
        artifact = station.fingerprint + ("" if station.finished else " (in training)")
        table.add_row(station.stage, artifact, Text(printable(station.told), COLORS[station.role]), "\n".join(shown))
    return table


def text_json(hits: TextFound, found: dict[str, Whereabouts]) -> dict[str, object]:
    """What a text was found in, as JSON."""
    return {
        "text": hits.text,
        "documents": hits.documents,
        "artifacts": hits.artifacts,
        "listed": [{**asdict(hit), **_stations_json(found[hit.document.id])} for hit in hits.hits],
    }


def text_view(workspace: Workspace, hits: TextFound, found: dict[str, Whereabouts]) -> str:
    """The documents that hold a text; of one alone everything."""
    count = f"{hits.documents:,} {'document holds' if hits.documents == 1 else 'documents hold'} it"
    if len(hits.hits) == 1:
        (hit,) = hits.hits
        return f"{count}\n\n{rendered(_quoted(hit))}\n{document_view(workspace, hit.document, found[hit.document.id])}"
    lines = [Text(count + (f"; the first {len(hits.hits)}:" if hits.documents > len(hits.hits) else ""), "bold")]
    for hit in hits.hits:
        lines += [Text(""), who(hit.document), _quoted(hit), Text(summary(found[hit.document.id]), "dim")]
    if hits.hits:
        lines += [Text(""), Text("wordmill trace --document ID tells all of one", "dim")]
    return rendered(Lines(*lines))


def _quoted(hit: TextHit) -> Text:
    quoted = Text("…").append(_flat(hit.before)).append(_flat(hit.text), "bold magenta")
    return quoted.append(_flat(hit.after)).append("…")


def _flat(text: str) -> str:
    return printable(text.replace("\n", " "))


def summary(found: Whereabouts) -> str:
    """A document's way in one line."""
    dropped = [f"{station.stage} {station.told}" for station in found.stations if station.role == "dropped"]
    trained = [f"pretrain {station.fingerprint}: {station.told}" for station in found.stations if station.seen]
    others = [f"registered as {name}" for name in found.registered]
    return "; ".join(dict.fromkeys([*dropped, *trained, *others])) or "in the corpus, not trained on"


def write_page(path: Path, found: FoundRun, batch: ReadBatch, documents: Sequence[StepDocument]) -> None:
    """A step as one HTML page. UserError where the file cannot be written."""
    from tasks.report.step_page import StepPage, render_step

    run = found.run
    page = StepPage(run.folder.name, batch.step, batch.data_step, run.steps, tuple(documents), tuple(batch_notes(run, batch)))
    try:
        path.write_text(render_step(page), encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise UserError(f"trace: --page {path}: {error.strerror}. Fix: name a file in a folder that exists.") from error

"""`wordmill forget`: has a document forgotten, and tells what holds it and what is to be done about that."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from flows.commands.inspect import printable
from flows.commands.tables import rendered, table_of
from flows.commands.trace import document_json, station_table, trace_document, untold_lines, who
from tasks.artifacts import Workspace
from tasks.corpus.forgotten import REASON, Forgotten, add_forgotten, read_forgotten, text_digest
from tasks.errors import UserError
from tasks.lineage.document_trace import Whereabouts, parts_that_hold
from tasks.lineage.find_documents import Document
from tasks.lineage.table_rows import numbered_rows

VERDICTS = ("select", "deduplicate", "register")  # hold ids and names, and nothing that was in a document


@dataclass(frozen=True)
class ForgottenNow:
    """A document that is to be forgotten from now on; `before` is its earlier line where it was to be forgotten already."""

    document: Document
    before: Forgotten | None
    found: Whereabouts
    folders: tuple[Path, ...]  # that hold its text or what was learned from it


def check_asked(document_id: str | None, reason: str, lists: bool) -> None:
    """UserError unless there is one id, or the list is asked for."""
    if lists and (document_id is not None or reason):
        raise UserError("forget: --list shows what is marked and takes nothing else. Fix: leave the id and --reason out.")
    if not lists and document_id is None:
        raise UserError("forget: no id. Fix: wordmill forget ID, or --list to see what is marked.")


def forget(workspace: Workspace, document_id: str, reason: str) -> ForgottenNow:
    """Lists the document with this id, or the only one whose id begins so, among those to be forgotten. UserError for an unknown id."""
    document, found = trace_document(workspace, document_id, None)
    digest = digest_of(found)
    before = add_forgotten(workspace.root, document.id, document.source, document.path, reason, digest)
    return ForgottenNow(document, before, found, tuple(holding(workspace, found)))


def digest_of(found: Whereabouts) -> str:
    """Digest of the text as it was last read; empty where no artifact has it as it was read."""
    read = [station for station in found.stations if station.stage == "ingest" and station.role == "holds"]
    if not read:
        return ""
    (table_row,) = read[-1].tables
    return text_digest(str(numbered_rows([Path(read[-1].folder) / table_row.file], [table_row.row], ["text"])[table_row.row]["text"]))


def holding(workspace: Workspace, found: Whereabouts) -> list[Path]:
    """The folders from which the document is not gone before they are deleted."""
    artifacts = [Path(station.folder) for station in found.stations if station.stage not in VERDICTS and station.reason != REASON]
    return [*artifacts, *parts_that_hold(workspace, [found.id])]


def forgotten_json(workspace: Workspace, forgotten: ForgottenNow) -> dict[str, object]:
    """All of it as JSON."""
    return {
        **document_json(workspace, forgotten.document, forgotten.found),
        "marked_before": forgotten.before is not None,
        "delete": [str(folder) for folder in forgotten.folders],
    }


def forgotten_view(workspace: Workspace, forgotten: ForgottenNow) -> str:
    """What is to be forgotten, what holds it, and what to do."""
    head = Text("marked to be forgotten", "bold")
    if forgotten.before is not None:
        why = f" ({printable(forgotten.before.reason)})" if forgotten.before.reason else ""
        head = Text(f"was marked already on {forgotten.before.time}{why}", "bold")
    lines: list[Text | Table] = [head, who(forgotten.document), Text(""), station_table(forgotten.found), Text("")]
    lines.append(Text("Next: wordmill run RECIPE. What it touched is made again without it, all else is used again."))
    if forgotten.found.copies:
        told = ", ".join(forgotten.found.copies)
        lines.append(Text(f"Its copies are documents of their own, and one of them may now be kept; forget them too: {told}", "yellow"))
    if forgotten.found.registered:
        told = ", ".join(forgotten.found.registered)
        lines.append(Text(f"Registered models that learned from it: {told}. Register the new one, then delete these in MLflow.", "yellow"))
    if forgotten.folders:
        lines += [Text("It is not gone before these folders are deleted, and MLflow's copies of reports and models:")]
        lines += [Text(f"  {_short(workspace, folder)}") for folder in forgotten.folders]
    return rendered(Lines(*lines, *untold_lines(forgotten.found)))


def _short(workspace: Workspace, folder: Path) -> str:
    return printable(str(folder.relative_to(workspace.root)) if folder.is_relative_to(workspace.root) else str(folder))


def list_json(entries: Sequence[Forgotten]) -> dict[str, object]:
    """The documents to be forgotten, as JSON."""
    return {"forgotten": [asdict(entry) for entry in entries]}


def list_view(workspace: Workspace) -> str:
    """The documents to be forgotten, in the terminal."""
    entries = read_forgotten(workspace.root)
    if not entries:
        return "no document is marked to be forgotten"
    table = table_of("document", "source", "path", "since", "reason")
    for entry in entries:
        table.add_row(entry.id, printable(entry.source), printable(entry.path), entry.time, printable(entry.reason))
    return rendered(table)

"""`wordmill inspect`: samples of a finished artifact, the ledger first, then what was dropped beside what was kept."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from flows.commands.tables import rendered, table_of
from flows.runner.summaries import amount
from tasks.artifacts import Manifest, Workspace, read_manifest
from tasks.corpus.samples.collect import STAGES
from tasks.corpus.samples.excerpts import Shown
from tasks.corpus.samples.groups import Group
from tasks.errors import UserError
from tasks.report.markup import traced
from tasks.report.reasons import reason_text
from tasks.report.wording import share_text

MOST_LINES = 12  # of an excerpt


def find_artifact(workspace: Workspace, stage: str, fingerprint: str | None) -> Manifest:
    """The finished artifact of a corpus stage that `fingerprint` (its start is enough) names, else the newest. UserError if none."""
    if stage not in STAGES:
        near = difflib.get_close_matches(stage, STAGES, 1, 0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise UserError(f"inspect: {stage} drops no documents. {hint}Stages that do: {', '.join(STAGES)}.")
    folders = [path for path in sorted((workspace.root / stage).glob("*")) if path.suffix != ".partial"]
    found = [manifest for path in folders if (manifest := read_manifest(path)) is not None]
    if not found:
        raise UserError(
            f"inspect: no finished artifact of {stage} in {workspace.root}. Fix: name the workspace with --workspace DIR, "
            "or run the recipe first."
        )
    newest_first = sorted(found, key=lambda manifest: (manifest.finished, manifest.fingerprint), reverse=True)
    chosen = [manifest for manifest in newest_first if fingerprint is None or manifest.fingerprint.startswith(fingerprint)]
    if fingerprint is not None and len(chosen) != 1:
        known = ", ".join(f"{manifest.fingerprint} ({manifest.finished})" for manifest in newest_first)
        amount_found = f"{len(chosen)} artifacts" if chosen else "no artifact"
        raise UserError(f"inspect: {amount_found} of {stage} with a fingerprint {fingerprint}…. Known, newest first: {known}.")
    return chosen[0]


def check_reason(manifest: Manifest, reason: str, groups: tuple[Group, ...]) -> None:
    """UserError where nothing was dropped or mended by that name."""
    if groups or manifest.ledger.dropped.get(reason):
        return
    known = sorted(name for name, rows in manifest.ledger.dropped.items() if rows)
    near = difflib.get_close_matches(reason, known, 1, 0.5)
    hint = f"Did you mean {near[0]}? " if near else ""
    told = f"Reasons here: {', '.join(known)}." if known else "It dropped nothing."
    raise UserError(f"inspect: nothing was dropped for {reason} in {manifest.stage} {manifest.fingerprint}. {hint}{told}")


def document(manifest: Manifest, groups: tuple[Group, ...]) -> dict[str, object]:
    """All of it as JSON."""
    ledger = manifest.ledger
    return {
        "stage": manifest.stage,
        "fingerprint": manifest.fingerprint,
        "finished": manifest.finished,
        "rows_in": ledger.rows_in,
        "rows_out": ledger.rows_out,
        "bytes_in": ledger.bytes_in,
        "bytes_out": ledger.bytes_out,
        "dropped": dict(ledger.dropped),
        "dropped_bytes": dict(ledger.dropped_bytes),
        "figures": dict(manifest.figures),
        "reasons": [asdict(group) for group in groups],
    }


def view(manifest: Manifest, groups: tuple[Group, ...]) -> str:
    """The ledger as a table, then each reason's samples."""
    ledger = manifest.ledger
    head = Text(f"{manifest.stage} {manifest.fingerprint}", "bold").append(f"  finished {manifest.finished}", "dim")
    counts = f"{ledger.rows_in:,} documents in ({amount(ledger.bytes_in)}), {ledger.rows_out:,} out ({amount(ledger.bytes_out)})"
    counted = [head, Text(counts), *map(Text, file_account(manifest.figures))]
    parts = [*counted, Text(""), ledger_rows(manifest)] if ledger.dropped else [*counted, Text("nothing was dropped")]
    for group in groups:
        parts += [Text(""), *_group_view(group)]
    return rendered(Lines(*parts))


def file_account(figures: Mapping[str, float]) -> Iterator[str]:
    """What became of the bytes of an ingest's files, where they were counted."""
    if "file_bytes" in figures:
        kinds = {"record_bytes": "in records", "reject_bytes": "in rejects", "between_bytes": "between them"}
        told = [f"{figures[name]:,.0f} {words}" for name, words in kinds.items()]
        recoded = figures["recoded_bytes"]
        told += [f"{abs(recoded):,.0f} {'more' if recoded > 0 else 'fewer'} in UTF-16 and the like than as UTF-8"] if recoded else []
        yield f"{figures['file_bytes']:,.0f} bytes of files, unpacked: {', '.join(told)}"


def ledger_rows(manifest: Manifest) -> Table:
    """A reason a row, the most frequent first."""
    ledger = manifest.ledger
    table = table_of("reason", "rows>", "share>", "bytes>", "meaning")
    for reason, rows in sorted(ledger.dropped.items(), key=lambda entry: (-entry[1], entry[0])):
        size = amount(ledger.dropped_bytes.get(reason, 0))
        table.add_row(reason, f"{rows:,}", share_text(rows, ledger.rows_in), size, reason_text(reason))
    return table


def _group_view(group: Group) -> Iterator[Text | Table]:
    title = Text(group.reason, "bold red" if group.rows else "bold cyan").append(f"  {reason_text(group.reason)}", "dim")
    if group.rule:
        title.append(f"  ({group.rule})", "dim")
    yield title
    if not group.pairs:
        yield Text("the text is no longer in this workspace: the artifact it lies in was removed", "dim")
        return
    table = Table(box=box.MINIMAL, pad_edge=False, header_style="bold", show_lines=True, expand=True)
    table.add_column("dropped" if group.rows else "mended", ratio=1, overflow="fold")
    if group.beside:
        table.add_column(group.beside, ratio=1, overflow="fold")
    for pair in group.pairs:
        left = _shown(pair.sample, group.figure)
        if pair.note:
            left.append(f"\n{printable(pair.note)}", "yellow")
        cells = [left] if not group.beside else [left, Text() if pair.beside is None else _shown(pair.beside, group.figure)]
        table.add_row(*cells)
    yield table


def _shown(shown: Shown, figure: str) -> Text:
    """Who a document is, then the excerpt."""
    value = "" if shown.value is None else f"  {figure.replace('_', ' ') or 'value'} {shown.value:.4g}"
    told = f"{shown.id}  {shown.source}  {shown.language}  {amount(shown.bytes)}"
    text = Text(printable(told), "cyan").append(value, "bold yellow").append(f"\n{printable(shown.path)}\n", "dim")
    start, end = shown.marked or (0, 0)
    body = Text("… " if shown.starts_inside else "")
    body.append(printable(shown.text[:start])).append(printable(shown.text[start:end]), "bold magenta")
    body.append(printable(shown.text[end:])).append(" …" if shown.ends_inside else "")
    lines = [line for line in body.split("\n") if line.plain.strip()]
    text.append_text(Text("\n").join(lines[:MOST_LINES]))
    return text.append(f"\n… {len(lines) - MOST_LINES} more lines", "dim") if len(lines) > MOST_LINES else text


def printable(text: str) -> str:
    """Text that moves no cursor and turns no direction."""
    return traced(text.replace("\t", "    "))


def write_page(path: Path, manifest: Manifest, groups: tuple[Group, ...]) -> None:
    """The same as one HTML page. UserError where the file cannot be written."""
    from tasks.report.samples_page import render_samples

    try:
        path.write_text(render_samples(manifest, groups), encoding="utf-8", errors="replace", newline="\n")
    except OSError as error:
        raise UserError(f"inspect: --page {path}: {error.strerror}. Fix: name a file in a folder that exists.") from error

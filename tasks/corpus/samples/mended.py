"""Samples of what was refused or mended: from `ingest` and `annotate`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.corpus.samples.excerpts import Document, difference, excerpt, start_in_page
from tasks.corpus.samples.groups import Asked, Group, Pair, group_of, table_number
from tasks.corpus.samples.rows import SEED, Lowest, Row, find_ids, lowest_dropped, named_where, positions, read_documents, wanted
from tasks.sampling import unit_hash
from tasks.text.pii import KINDS

TABLES = 200  # in which mended documents are looked for; of more, those whose names have the smallest hashes
PAGE, MASKED, SPACE = "main_text", "masked", "white_space"  # kinds of mending beside the flags of tasks/text/repairs.py
PII_COLUMNS = [f"pii_{kind}" for kind in KINDS]
PAGE_FIGURES = {
    "html_too_large": ("bytes of markup", "max_bytes"),
    "html_too_deep": ("elements in one another", "max_depth"),
    "html_too_slow": ("seconds", "seconds"),
}


def ingest_groups(asked: Asked) -> list[Group]:
    """How a refused record begins, and a document that the same file, or group of small ones, did give."""
    lowest = lowest_dropped(asked.tables("rejects-*.parquet"), asked.only, asked.count)
    neighbours = {row: None if asked.alone else _neighbour(row) for reason in lowest.reasons() for row in lowest.rows(reason)}
    documents = read_documents([*neighbours, *(row for row in neighbours.values() if row is not None)])
    groups: list[Group] = []
    for reason in lowest.reasons():
        pairs: list[Pair] = []
        for row in lowest.rows(reason):
            beside = neighbours[row]
            kept = None if beside is None else excerpt(documents[beside], asked.chars)
            pairs.append(Pair(excerpt(documents[row], asked.chars, value=row.value), kept))
        groups.append(group_of(asked, reason, pairs, "bytes as stored", beside="kept, read by the same task"))
    return groups


def _neighbour(row: Row) -> Row | None:
    """The first document of the table beside a table of rejects."""
    path = row.path.with_name(row.path.name.replace("rejects", "documents"))
    return Row(path, 0, "", "") if path.exists() and pq.read_metadata(path).num_rows else None


def annotate_groups(asked: Asked) -> list[Group]:
    """What was dropped as far as it was mended, then what was mended; beside both the text as it was read."""
    raw = [] if asked.alone else sorted(asked.input("raw", "ingest").glob("documents-*.parquet"))
    dropped = lowest_dropped(asked.tables("dropped-*.parquet"), asked.only, asked.count)
    mended = lowest_mended(asked, raw)
    rows = {row: reason for lowest in (dropped, mended) for reason in lowest.reasons() for row in lowest.rows(reason)}
    before = {row: found for row in rows if (found := _as_read(row, raw)) is not None}
    documents = read_documents([*rows, *before.values()])
    groups: list[Group] = []
    for lowest in (dropped, mended):
        for reason in lowest.reasons():
            pairs = [_pair(asked, row, before.get(row), documents) for row in lowest.rows(reason)]
            figure, rule = _figure(asked, reason)
            groups.append(group_of(asked, reason, pairs, figure, rule, "as it was read"))
    return groups


def _as_read(row: Row, raw: list[Path]) -> Row | None:
    number = table_number(row.path)
    return find_ids([row.id], [(raw[number], raw[number])]).get(row.id) if number < len(raw) else None


def _pair(asked: Asked, row: Row, before: Row | None, documents: dict[Row, Document]) -> Pair:
    """Both from where they differ; of a page from where its main text begins."""
    after, raw = documents[row], None if before is None else documents.get(before)
    if raw is None:
        return Pair(excerpt(after, asked.chars, value=row.value))
    if raw.meta.get("format") == "html":
        at = start_in_page(raw.text, after.text)
        return Pair(excerpt(after, asked.chars, value=row.value), excerpt(raw, asked.chars, at))
    at = difference(after.text, raw.text)
    at = 0 if at == len(after.text) == len(raw.text) else at
    return Pair(excerpt(after, asked.chars, at, value=row.value), excerpt(raw, asked.chars, at))


def _figure(asked: Asked, reason: str) -> tuple[str, str]:
    """What the value of a dropped document is, and its bound."""
    if reason in PAGE_FIGURES:
        figure, key = PAGE_FIGURES[reason]
        pages = asked.config.get("pages")
        bound = pages.get(key) if isinstance(pages, dict) else None
        return figure, f"{figure} at most {bound}" if bound is not None else ""
    return ("found in it", "none of these allowed") if reason.startswith("pii_") else ("", "")


def lowest_mended(asked: Asked, raw: list[Path]) -> Lowest:
    """Rows of the documents that differ from what was read, by what was done to them."""
    lowest = Lowest(asked.count)
    tables = [path for path in asked.tables("documents-*.parquet") if table_number(path) < len(raw)]
    for path in sorted(sorted(tables, key=lambda path: unit_hash(path.name, SEED))[:TABLES]):
        for reason, reasons in mendings(path, raw[table_number(path)]):
            if asked.wants(reason):
                lowest.add(path, pq.read_table(path, columns=["id"]), wanted(reasons, asked.only))
    return lowest


def mendings(path: Path, raw_path: Path) -> Iterator[tuple[str, npt.NDArray[np.object_]]]:
    """For each kind of mending of a table: its name for the documents that it was done to, None for the others."""
    after, before = (pq.read_table(table, columns=["id", "bytes", "meta"]) for table in (path, raw_path))
    before = before.take(positions(after["id"].combine_chunks(), before["id"].combine_chunks()))
    flags, earlier = _noted(after, "repaired"), _noted(before, "repaired")
    is_page = np.equal(_noted(before, "format"), "html")
    if is_page.any():
        yield PAGE, named_where(is_page, PAGE)
    changed = np.not_equal(flags, earlier)
    new = [set(now.split(",")) - set(then.split(",")) for now, then in zip(flags[changed], earlier[changed], strict=True)]
    for flag in sorted({flag for found in new for flag in found if flag}):
        has_flag = changed.copy()
        has_flag[changed] = [flag in found for found in new]
        yield flag, named_where(has_flag, flag)
    plain = (after["bytes"].to_numpy() != before["bytes"].to_numpy()) & ~changed & ~is_page
    figures = pq.read_table(path.with_name(path.name.replace("documents", "statistics")), columns=PII_COLUMNS)
    holds_personal = np.any([column.to_numpy() > 0 for column in figures.columns], axis=0)
    for kind, here in ((MASKED, plain & holds_personal), (SPACE, plain & ~holds_personal)):
        if here.any():
            yield kind, named_where(here, kind)


def _noted(table: pa.Table, key: str) -> npt.NDArray[np.object_]:
    """What the documents' meta says of `key`, empty where it says nothing."""
    meta = table["meta"].combine_chunks()
    found = pc.call_function("map_lookup", [meta], pc.MapLookupOptions(pa.scalar(key), "first"))
    return np.array([text or "" for text in found.to_pylist()], dtype=object)

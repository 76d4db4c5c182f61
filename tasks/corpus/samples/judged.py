"""Samples of what verdicts dropped: from `select`, `deduplicate` and `decontaminate`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tasks.corpus.samples.excerpts import Document, Shown, difference, excerpt
from tasks.corpus.samples.groups import Asked, Group, Pair, group_of, input_of
from tasks.corpus.samples.rows import Lowest, Row, as_document, find_ids, lowest_dropped, objects, read_documents, wanted
from tasks.corpus.select import Bound, SelectConfig, bounds_of, preset_digests
from tasks.documents import example_text

COPIES = ("exact_copy", "near_copy", "earlier_copy")


def lowest_judged(asked: Asked, clean: Path) -> Lowest:
    """Rows that this stage's own verdicts dropped; the text is the document table's beside."""
    lowest = Lowest(asked.count)
    for path in asked.tables("verdicts-*.parquet"):
        table = pq.read_table(path)
        reasons = objects(table["reason"])
        reasons[np.not_equal(objects(table["stage"]), asked.manifest.stage)] = None
        lowest.add(_texts(clean, path), table, wanted(reasons, asked.only))
    return lowest


def _texts(clean: Path, verdicts: Path) -> Path:
    return clean / verdicts.name.replace("verdicts", "documents")


def select_groups(asked: Asked) -> list[Group]:
    """Of each rule: documents that it dropped, and the kept ones whose figures are nearest to its bound."""
    clean = asked.input("clean", "annotate")
    lowest = lowest_judged(asked, clean)
    bounds = {reason: bound for reason, bound in known_bounds(asked).items() if lowest.rows(reason)}
    nearest = {} if asked.alone else nearest_kept(asked, clean, bounds)
    documents = read_documents(
        [
            *(row for reason in lowest.reasons() for row in lowest.rows(reason)),
            *(row for rows in nearest.values() for row in rows),
        ]
    )
    groups: list[Group] = []
    for reason in lowest.reasons():
        kept = [_shown(asked, row, documents) for row in nearest.get(reason, [])]
        kept += [None] * (asked.count - len(kept))
        samples = [_shown(asked, row, documents) for row in lowest.rows(reason)]
        pairs = [Pair(sample, other) for sample, other in zip(samples, kept, strict=False) if sample is not None]
        bound = bounds.get(reason)
        rule = "" if bound is None else f"{bound.rule.column} {'at least' if bound.is_minimum else 'at most'} {bound.threshold:g}"
        groups.append(group_of(asked, reason, pairs, bound.rule.column if bound else "", rule, "kept, nearest to the bound"))
    return groups


def _shown(asked: Asked, row: Row, documents: dict[Row, Document]) -> Shown | None:
    document = documents.get(row)
    return None if document is None else excerpt(document, asked.chars, value=row.value)


def known_bounds(asked: Asked) -> dict[str, Bound]:
    """Bounds by reason; none where a preset changed since, for then nobody knows what they were."""
    config = SelectConfig.model_validate(asked.manifest.config)
    then = {name: digest for name, digest in asked.manifest.inputs.items() if name.startswith("file ")}
    if then != {f"file {name}": digest for name, digest in preset_digests(config).items()}:
        return {}
    return {bound.reason: bound for bound in bounds_of(config.presets, config.rules)}


@dataclass(frozen=True)
class Near:
    """A kept document, by how far its figure lies from a bound."""

    distance: float
    row: Row


def nearest_kept(asked: Asked, clean: Path, bounds: dict[str, Bound]) -> dict[str, list[Row]]:
    """For each reason the `count` kept documents nearest to its bound, of those that the rule looks at."""
    best: dict[str, list[Near]] = {reason: [] for reason in bounds}
    columns = sorted({bound.rule.column for bound in bounds.values()} | {"id", "language", "source"})
    for path in asked.tables("verdicts-*.parquet") if bounds else ():
        figures = clean / path.name.replace("verdicts", "statistics")
        if not figures.exists():
            return {}
        table = pq.read_table(figures, columns=columns)
        kept = pq.read_table(path, columns=["kept"])["kept"].to_numpy()
        sides = {name: objects(table[name]) for name in ("language", "source")}
        for reason, bound in bounds.items():
            looked_at = kept.copy()
            for name, chosen in (("language", bound.rule.languages), ("source", bound.rule.sources)):
                looked_at &= np.ones(len(kept), np.bool_) if chosen is None else np.isin(sides[name], chosen)
            values = table[bound.rule.column].to_numpy().astype(np.float64)
            distances = np.where(looked_at & ~np.isnan(values), np.abs(values - bound.threshold), np.inf)
            numbers = _smallest(distances, asked.count)
            found = [
                Near(float(distances[n]), Row(_texts(clean, path), int(n), table["id"][int(n)].as_py(), reason, float(values[n])))
                for n in numbers
                if np.isfinite(distances[n])
            ]
            best[reason] = sorted([*best[reason], *found], key=lambda near: (near.distance, near.row.id))[: asked.count]
    return {reason: [near.row for near in found] for reason, found in best.items()}


def _smallest(distances: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Indices of the `count` smallest, of equal ones the first; without sorting all of them."""
    last = min(count, len(distances)) - 1
    if last < 0:
        return np.zeros(0, np.int64)
    near = np.flatnonzero(distances <= np.partition(distances, last)[last])
    return near[np.argsort(distances[near], kind="stable")][:count]


def deduplicate_groups(asked: Asked) -> list[Group]:
    """Copies, and the document that was kept instead."""
    clean = asked.input("clean", "annotate")
    lowest = lowest_judged(asked, clean)
    rows = [row for reason in lowest.reasons() for row in lowest.rows(reason)]
    firsts = set[str]() if asked.alone else {row.cluster for row in rows if row.cluster}
    roots = find_ids(firsts, _listings(asked, clean))
    documents = read_documents([*rows, *roots.values()])
    threshold = asked.config.get("threshold")
    groups: list[Group] = []
    for reason in lowest.reasons():
        pairs = [
            _copies(asked, row, documents[row], documents.get(roots[row.cluster]) if row.cluster in roots else None)
            for row in lowest.rows(reason)
            if row in documents
        ]
        is_copy = reason in COPIES
        rule = f"near copies: similarity at least {threshold}" if reason == "near_copy" else ""
        groups.append(group_of(asked, reason, pairs, "similarity" if is_copy else "", rule, "kept in its place"))
    return groups


def _listings(asked: Asked, clean: Path) -> Iterable[tuple[Path, Path]]:
    """Tables with ids, and the tables with their texts: of this corpus, then of the earlier ones."""
    folders = [(asked.folder, clean)]
    for name, fingerprint in sorted(asked.manifest.inputs.items()):
        if name.startswith("file against."):
            earlier = asked.workspace.folder("deduplicate", fingerprint)
            folders.append((earlier, input_of(earlier, "clean", "annotate", asked.workspace)))
    return [(path, _texts(texts, path)) for folder, texts in folders for path in sorted(folder.glob("verdicts-*.parquet"))]


def _copies(asked: Asked, row: Row, copy: Document, first: Document | None) -> Pair:
    """Both from where they first differ, the start if they do not."""
    if first is None:
        return Pair(excerpt(copy, asked.chars, value=row.value))
    at = difference(copy.text, first.text)
    at = 0 if at == len(copy.text) == len(first.text) else at
    return Pair(excerpt(copy, asked.chars, at, value=row.value), excerpt(first, asked.chars, at))


def decontaminate_groups(asked: Asked) -> list[Group]:
    """Documents around the run that they share with an item they must not hold, and that item where it is at hand."""
    lowest = lowest_dropped(asked.tables("dropped-*.parquet"), asked.only, asked.count)
    rows = [row for reason in lowest.reasons() for row in lowest.rows(reason)]
    matches = matches_of(asked, {row.id for row in rows})
    items = {} if asked.alone else judged_items(asked, {str(match["item"]) for match in matches.values()})
    documents = read_documents(rows)
    groups: list[Group] = []
    for reason in lowest.reasons():
        pairs = [
            _contaminated(asked, row, documents[row], matches[row.id], items)
            if row.id in matches
            else Pair(excerpt(documents[row], asked.chars, value=row.value))
            for row in lowest.rows(reason)
        ]
        figure, rule = {
            "contaminated": ("overlap", f"overlap below {asked.config.get('max_overlap')}"),
            "mixture": ("share", "the share of such documents that is learnt from"),
        }.get(reason, ("", ""))
        groups.append(group_of(asked, reason, pairs, figure, rule, "what it overlaps"))
    return groups


Match = dict[str, object]


def matches_of(asked: Asked, ids: set[str]) -> dict[str, Match]:
    """The evidence on these documents."""
    found: dict[str, Match] = {}
    for path in asked.tables("matches-*.parquet") if ids else ():
        table = pq.read_table(path)
        mine = np.isin(objects(table["id"]), sorted(ids))
        found |= {str(row["id"]): row for row in table.filter(mine).to_pylist()}
    return found


def judged_items(asked: Asked, items: set[str]) -> dict[str, Document]:
    """Items by name, those that lie in this artifact or in the examples; benchmarks lie with the user."""
    by_kind: dict[str, list[str]] = {}
    for item in items:
        by_kind.setdefault(item.partition("/")[0], []).append(item.partition("/")[2])
    found: dict[str, Document] = {}
    for kind in ("validation", "test"):
        path = asked.folder / f"{kind}.parquet"
        rows = find_ids(by_kind.get(kind, []), [(path, path)])
        documents = read_documents(rows.values())
        found |= {f"{kind}/{document_id}": documents[row] for document_id, row in rows.items()}
    for name, fingerprint in asked.manifest.inputs.items():
        path = asked.workspace.folder("examples", fingerprint) / "heldout.parquet"
        if name.startswith("examples.") and path.exists() and "examples" in by_kind:
            rows_of = pq.read_table(path, filters=[("id", "in", by_kind["examples"])]).to_pylist()
            found |= {f"examples/{row['id']}": _example(row) for row in rows_of}
    return found


def _example(row: dict[str, object]) -> Document:
    text = example_text(row)
    own = {"id": row["id"], "source": "examples", "path": "heldout.parquet", "language": "und"}
    return as_document({**own, "bytes": len(text.encode()), "text": text, "meta": []})


def _contaminated(asked: Asked, row: Row, document: Document, match: Match, items: dict[str, Document]) -> Pair:
    """Around the shared run, and around the same run in the item (which may have it in other capitals)."""
    run, item = str(match["text"]), str(match["item"])
    note = f"shares {match['units']} words or characters with {item}; {float(str(match['item_share'])):.0%} of the item"
    at = max(document.text.find(run), 0)
    other = items.get(item)
    beside = None
    if other is not None:
        there = other.text.lower().find(run.lower())
        beside = excerpt(other, asked.chars, max(there, 0), len(run) if there >= 0 else 0)
    return Pair(excerpt(document, asked.chars, at, len(run), row.value), beside, note)

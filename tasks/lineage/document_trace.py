"""Document lineage: which artifacts hold a document, dropped it, learned from it, or were made from one that did.

Tables are asked by id, shards by document number, pretrainings by the inverse of their row order; the rest follows from
what was made of what. Rows and tokens are counted from 0, steps from 1.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.artifacts import Workspace
from tasks.corpus.forgotten import REASON
from tasks.errors import UserError
from tasks.lineage.artifact_graph import Graph, Node
from tasks.lineage.document_steps import Seen, times_of, times_text
from tasks.lineage.find_documents import TABLES
from tasks.lineage.shard_index import ShardPiece, pieces_of
from tasks.lineage.step_trace import open_run, read_run
from tasks.lineage.table_rows import BATCH_ROWS, IdFinder, numbered_rows
from tasks.settings import Json

Role = Literal["holds", "kept", "dropped", "learned", "unseen", "judged", "follows"]

DROPPED_TABLES = ("rejects", "dropped")
MADE_FROM = {"champion": "a copy of", "finetune": "tuned from", "head": "one head of"}  # a model, from another
PARTS = ("ingest", "annotate", "decontaminate", "encode")  # file tasks that leave text or tokens in WORKSPACE/parts


@dataclass(frozen=True)
class TableRow:
    """A row of a table in an artifact's folder."""

    file: str
    row: int


@dataclass(frozen=True)
class Station:
    """What an artifact has to do with a document.

    holds: its text or tokens lie in it; kept, dropped: by a verdict; learned: weights, or a vocabulary, come from it;
    unseen: a training on shards that hold it did not reach it, or kept nothing of what it learned from it; judged: scores were
    measured on it; follows: made from artifacts that hold it or learned from it.
    """

    stage: str
    fingerprint: str
    folder: str
    finished: str | None  # None: a training that is not finished
    role: Role
    told: str
    reason: str | None = None  # it was dropped for
    tables: tuple[TableRow, ...] = ()
    pieces: tuple[ShardPiece, ...] = ()
    seen: tuple[Seen, ...] = ()
    registered: str | None = None  # models:/NAME/VERSION


@dataclass(frozen=True)
class Whereabouts:
    """All stations of a document, in the order of the stages, and the ids of the copies that share a cluster with it.

    `untold` are models, and shards, of which it cannot be told: something that they were made from is gone.
    """

    id: str
    stations: tuple[Station, ...]
    copies: tuple[str, ...]
    untold: tuple[str, ...]  # "pretrain 0123456789abcdef", of registered models with their name

    @property
    def registered(self) -> tuple[str, ...]:
        """Registered models that learned from it."""
        return tuple(dict.fromkeys(station.registered for station in self.stations if station.registered))

    @property
    def times(self) -> int:
        """How often it was trained on, over all pretrainings."""
        return sum(len(station.seen) for station in self.stations)


def whereabouts(workspace: Workspace, graph: Graph, ids: Collection[str], among: Collection[str] | None = None) -> dict[str, Whereabouts]:
    """The stations of each document; `among` are the fingerprints that are looked at, all when None."""
    walk = _Walk(workspace, graph, ids, None if among is None else frozenset(among))
    walk.corpus()
    walk.shards()
    walk.trainings()
    walk.descendants()
    copies, orphans = walk.copies(), walk.orphans()
    rank = {fingerprint: number for number, fingerprint in enumerate(graph.nodes)}
    return {
        id_: Whereabouts(
            id_,
            tuple(sorted(stations.values(), key=lambda station: rank[station.fingerprint])),
            tuple(sorted(copies.get(id_, ()))),
            tuple(told for orphan, told in orphans.items() if orphan not in stations),
        )
        for id_, stations in walk.found.items()
    }


class _Walk:
    """Goes down the stages with several documents at once."""

    def __init__(self, workspace: Workspace, graph: Graph, ids: Collection[str], among: frozenset[str] | None) -> None:
        self.workspace, self.graph, self.among = workspace, graph, among
        self.finder = IdFinder(ids)
        self.found: dict[str, dict[str, Station]] = {id_: {} for id_ in ids}  # id -> fingerprint -> station

    def nodes(self, *stages: str) -> Iterator[Node]:
        for node in self.graph.of(*stages):
            if self.among is None or node.fingerprint in self.among:
                yield node

    def add(self, id_: str, node: Node, role: Role, told: str) -> Station:
        station = Station(node.stage, node.fingerprint, str(node.folder), node.finished, role, told)
        return self.put(id_, station)

    def put(self, id_: str, station: Station) -> Station:
        self.found[id_][station.fingerprint] = station
        return station

    def corpus(self) -> None:
        for node in self.nodes("ingest", "annotate", "decontaminate"):
            for id_, path, row in self.finder.find_all(node.folder, *TABLES[node.stage]):
                self._add_table(id_, node, path, row)
        for node in self.nodes("select", "deduplicate"):
            for id_, path, row in self.finder.find_all(node.folder, "verdicts-*.parquet"):
                self._add_verdict(id_, node, path, row)

    def _add_table(self, id_: str, node: Node, path: Path, row: int) -> None:
        name = path.name.partition("-")[0].removesuffix(".parquet")
        known = self.found[id_].get(node.fingerprint)
        if name in DROPPED_TABLES and known is None:
            cells = numbered_rows([path], [row], ["reason"])[row]
            station = self.add(id_, node, "dropped", f"dropped: {cells['reason']}")
            self.put(id_, replace(station, reason=str(cells["reason"]), tables=(TableRow(path.name, row),)))
        elif name not in DROPPED_TABLES:
            split = {"train": " to train on", "validation": " to validate on", "test": " to test on"}.get(name, "")
            station = self.add(id_, node, "holds", f"kept{split}")
            self.put(id_, replace(station, tables=(TableRow(path.name, row),)))

    def _add_verdict(self, id_: str, node: Node, path: Path, row: int) -> None:
        cells = numbered_rows([path], [row], ["kept", "stage", "reason", "value", "cluster"])[row]
        tables = (TableRow(path.name, row),)
        if cells["kept"]:
            self.put(id_, replace(self.add(id_, node, "kept", "kept"), tables=tables))
        elif cells["stage"] == node.stage:
            value = "" if cells["value"] is None else f" ({cells['value']:.4g})"
            of = f" of {cells['cluster']}" if cells["cluster"] not in (None, id_) else ""
            station = self.add(id_, node, "dropped", f"dropped: {cells['reason']}{of}{value}")
            self.put(id_, replace(station, reason=str(cells["reason"]), tables=tables))

    def shards(self) -> None:
        for node in self.nodes("shards"):
            for split in ("train", "validation"):
                numbers = {row: id_ for id_, _, row in self.finder.find_all(node.folder, f"documents-{split}.parquet")}
                pieces = dict[str, list[ShardPiece]]()
                for number, piece in pieces_of(node.folder, split, numbers):
                    pieces.setdefault(numbers[number], []).append(piece)
                for id_ in numbers.values():
                    self.put(id_, _packed(self.add(id_, node, "holds", ""), split, tuple(pieces.get(id_, ()))))
        for node in self.nodes("tokenizer"):
            if "file existing" in node.from_outside:
                continue
            for id_ in self.found:
                corpus = self.found[id_].get(node.inputs.get("corpus", ""))
                if corpus is not None and corpus.tables and corpus.tables[0].file.startswith("train-"):
                    self.add(id_, node, "learned", "its vocabulary comes from a sample of text with this document")

    def trainings(self) -> None:
        for node in self.nodes("pretrain"):
            shards = node.inputs.get("shards", "")
            held = [id_ for id_ in self.found if self.found[id_].get(shards) is not None]
            pieces = {id_: self.found[id_][shards].pieces for id_ in held}
            for id_, station in _trained(self.workspace, node, {id_: its for id_, its in pieces.items() if its}):
                self.put(id_, station)

    def descendants(self) -> None:
        """What was made from the models, in as many rounds as one was made from another."""
        for _ in range(len(self.graph.nodes)):
            before = sum(map(len, self.found.values()))
            for node in self.nodes("pretrain"):
                for id_ in self.found:
                    self._begin(id_, node)
            for node in self.nodes(*MADE_FROM, "evaluate", "report", "register"):
                for id_ in self.found:
                    if node.fingerprint not in self.found[id_]:
                        self._descend(id_, node)
            if sum(map(len, self.found.values())) == before:
                return

    def _begin(self, id_: str, node: Node) -> None:
        """A pretraining that begins at the weights of another has learned what that one had by then."""
        own, before = self.found[id_].get(node.fingerprint), self.found[id_].get(node.inputs.get("start", ""))
        if before is None or before.role != "learned" or (own is not None and own.role == "learned"):
            return
        start = read_run(self.workspace, node.folder).job.start
        if start is not None and (not before.seen or min(time.step for time in before.seen) <= start.step):
            told = f"begins at step {start.step} of pretrain {before.fingerprint}"
            self.put(id_, replace(own or self.add(id_, node, "learned", told), role="learned", told=told))

    def _descend(self, id_: str, node: Node) -> None:
        sources = [source for name, source in node.inputs.items() if name != "tokenizer" and source in self.found[id_]]
        learned = next((self.graph.nodes[source] for source in sources if self.found[id_][source].role == "learned"), None)
        model = "" if learned is None else f"{learned.stage} {learned.fingerprint}"
        if node.stage in MADE_FROM and learned is not None:
            self.add(id_, node, "learned", f"{MADE_FROM[node.stage]} {model}")
        elif node.stage == "register" and learned is not None:
            name = registered_name(node)
            self.put(id_, replace(self.add(id_, node, "follows", f"{node.notes.get('uri', name)} is {model}"), registered=name))
        elif node.stage == "evaluate":
            corpus = self.found[id_].get(node.inputs.get("corpus", ""))
            if corpus is not None and corpus.tables and corpus.tables[0].file.startswith("validation"):
                self.add(id_, node, "judged", "scores measured on the validation set that it is in")
            elif learned is not None:
                self.add(id_, node, "follows", f"scores of {model}")
        elif node.stage == "report" and any(
            source in self.graph.sources(node.fingerprint) and station.reason != REASON for source, station in self.found[id_].items()
        ):
            self.add(id_, node, "follows", "a page about artifacts that read it; it may quote it")

    def orphans(self) -> dict[str, str]:
        """What has something among all that it was made from that is not in the workspace: fingerprint -> name."""
        return {
            node.fingerprint: f"{node.stage} {node.fingerprint}" + (f" ({registered_name(node)})" if node.stage == "register" else "")
            for node in self.nodes("shards", "pretrain", *MADE_FROM, "register")
            if self.graph.sources(node.fingerprint) - self.graph.nodes.keys()
        }

    def copies(self) -> dict[str, set[str]]:
        """Ids by document of those that deduplication found to be copies of it, or of the same text."""
        found: dict[str, set[str]] = {}
        for node in self.nodes("deduplicate"):
            clusters = _clusters_of(node.folder, self.found.keys())
            for id_, members in clusters.items():
                found.setdefault(id_, set()).update(members - {id_})
        return found


def registered_name(node: Node) -> str:
    """The version that an artifact of the stage register stands for."""
    return f"models:/{node.notes.get('name')}/{node.notes.get('version')}"


def _packed(station: Station, split: str, pieces: tuple[ShardPiece, ...]) -> Station:
    """What token shards have of a document that they were made from."""
    rows = len({(piece.group, piece.row) for piece in pieces})
    if rows:
        return replace(station, told=f"{rows:,} {'row' if rows == 1 else 'rows'} of {split}", pieces=pieces)
    if not any(path.is_dir() for path in (Path(station.folder) / split).glob("*")):
        return replace(station, told=f"rows of {split}; an earlier version wrote them, they do not tell which")
    return replace(station, role="dropped", told=f"in no row of {split}: no token of text, or behind the last whole row")


def _trained(workspace: Workspace, node: Node, pieces: Mapping[str, tuple[ShardPiece, ...]]) -> Iterator[tuple[str, Station]]:
    """What a pretraining has to do with documents of its shards."""
    if not pieces:
        return
    station = Station(node.stage, node.fingerprint, str(node.folder), node.finished, "learned", "")
    try:
        run = read_run(workspace, node.folder)
        stream = open_run(run)
    except UserError as error:
        for id_ in pieces:
            yield id_, replace(station, told=f"trained on its shards; in which steps cannot be told ({error})")
        return
    unfinished = "" if node.finished else f" so far ({run.done} of {run.steps} steps)"
    judged = run.evaluated_rows
    for id_, held in pieces.items():
        rows = {(piece.group, piece.row) for piece in held if piece.split == "train"}
        times = times_of(run, [time for group, row in rows for time in stream.steps_of(group, row, run.read_until)])
        if times.seen:
            yield id_, replace(station, told=times_text(times.seen) + unfinished + times.besides, seen=times.seen)
        elif any(piece.split == "validation" and piece.row < judged for piece in held):
            yield id_, replace(station, role="judged", told="its validation loss is measured on it")
        else:
            yield id_, replace(station, role="unseen", told=times.untaught or f"none of its {run.done} steps reached it")


def _clusters_of(folder: Path, ids: Collection[str]) -> dict[str, set[str]]:
    """Members of the clusters that these documents belong to, from the verdicts of a deduplication."""
    mine: dict[str, str] = {}
    wanted = set(ids)
    for batch in _verdicts(folder):
        row_ids, clusters = batch.column("id"), batch.column("cluster")
        for row in np.flatnonzero(_is_in(row_ids, wanted)).tolist():
            if clusters[row].is_valid:
                mine[row_ids[row].as_py()] = clusters[row].as_py()
    members: dict[str, set[str]] = {}
    for batch in _verdicts(folder) if mine else ():
        row_ids, clusters = batch.column("id"), batch.column("cluster")
        for row in np.flatnonzero(_is_in(clusters, set(mine.values()))).tolist():
            members.setdefault(clusters[row].as_py(), set()).add(row_ids[row].as_py())
    return {id_: members.get(cluster, set()) for id_, cluster in mine.items()}


def _verdicts(folder: Path) -> Iterator[pa.RecordBatch]:
    for path in sorted(folder.glob("verdicts-*.parquet")):
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=["id", "cluster"])


def _is_in(column: pa.Array, values: Collection[str]) -> npt.NDArray[np.bool_]:
    mask = pc.call_function("is_in", [column], pc.SetLookupOptions(pa.array(sorted(values), pa.string())))
    return mask.to_numpy(zero_copy_only=False)


def parts_that_hold(workspace: Workspace, ids: Collection[str]) -> list[Path]:
    """Folders of WORKSPACE/parts in which these documents lie: they keep the text when an artifact is deleted."""
    finder = IdFinder(ids)
    kinds = [f"{name}-*.parquet" for name in ("documents", "rejects", "dropped", "train", "validation", "test")]
    folders = [folder for stage in PARTS for folder in sorted((workspace.root / "parts" / stage).glob("*"))]
    return [
        folder
        for folder in folders
        if folder.is_dir() and not folder.suffix and any(_has_text(path, row) for _, path, row in finder.find_all(folder, *kinds))
    ]


def _has_text(path: Path, row: int) -> bool:
    """Whether a row of a part's table is more than the note that a document was left out."""
    return not path.name.startswith("rejects") or numbered_rows([path], [row], ["reason"])[row]["reason"] != REASON


def as_json(found: Whereabouts) -> dict[str, Json]:
    """The stations as JSON."""
    raw: dict[str, Json] = json.loads(json.dumps(asdict(found)))
    return raw

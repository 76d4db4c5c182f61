"""Lineage graph: the artifacts of a workspace, from the inputs that their manifests name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.artifacts import Workspace, read_manifest
from tasks.errors import UserError
from tasks.lineage.step_trace import TRAINING, read_run
from tasks.pretrain.start import artifact_of
from tasks.settings import Json

FINGERPRINT = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Node:
    """An artifact, or a pretraining that is not finished (`finished` is None)."""

    stage: str
    fingerprint: str
    folder: Path
    inputs: Mapping[str, str]  # name -> fingerprint; files from outside are left out
    finished: str | None
    config: Mapping[str, Json]
    notes: Mapping[str, str]
    from_outside: frozenset[str]  # names of files and aliases that are inputs too


@dataclass(frozen=True)
class Graph:
    """All artifacts by fingerprint, in the order of the stages of a recipe, of equal ones the oldest first."""

    nodes: Mapping[str, Node]

    def of(self, *stages: str) -> list[Node]:
        """The artifacts of these stages."""
        return [node for node in self.nodes.values() if node.stage in stages]

    def sources(self, fingerprint: str) -> set[str]:
        """The artifact and all that it was made of, as far as they are there."""
        return _reached(fingerprint, {own: node.inputs.values() for own, node in self.nodes.items()})

    def results(self, fingerprint: str) -> set[str]:
        """The artifact and all that was made of it."""
        return _reached(fingerprint, self._made_of)

    @cached_property
    def _made_of(self) -> Mapping[str, list[str]]:
        made: dict[str, list[str]] = {}
        for fingerprint, node in self.nodes.items():
            for source in node.inputs.values():
                made.setdefault(source, []).append(fingerprint)
        return made


def _reached(start: str, edges: Mapping[str, Iterable[str]]) -> set[str]:
    reached, waiting = {start}, [start]
    while waiting:
        new = set(edges.get(waiting.pop(), ())) - reached
        reached |= new
        waiting += new
    return reached


ORDER = (
    "ingest",
    "quality",
    "annotate",
    "select",
    "deduplicate",
    "examples",
    "decontaminate",
    "tokenizer",
    "replay",
    "shards",
    "pretrain",
    "champion",
    "base",
    "finetune",
    "head",
    "evaluate",
    "report",
    "register",
)


def read_graph(workspace: Workspace) -> Graph:
    """Reads every manifest of the workspace. UserError where there is no workspace."""
    if not workspace.root.is_dir():
        raise UserError(f"no workspace {workspace.root}. Fix: name it with --workspace DIR, or run a recipe first.")
    nodes = [node for path in sorted(workspace.root.glob("*/*/manifest.json")) if (node := _node(path.parent))]
    nodes += [
        node for path in sorted(workspace.root.glob(f"pretrain/*.partial/{TRAINING}")) if (node := _unfinished(workspace, path.parent))
    ]
    rank = {stage: at for at, stage in enumerate(ORDER)}
    nodes.sort(key=lambda node: (rank.get(node.stage, len(rank)), node.finished or "~", node.fingerprint))
    return Graph({node.fingerprint: node for node in nodes})


def _node(folder: Path) -> Node | None:
    manifest = None if folder.suffix == ".partial" else read_manifest(folder)
    if manifest is None:
        return None
    inputs = {name: source for name, source in manifest.inputs.items() if not name.startswith("file ") and FINGERPRINT.fullmatch(source)}
    config = manifest.config if isinstance(manifest.config, dict) else {}
    return Node(
        manifest.stage,
        manifest.fingerprint,
        folder,
        inputs,
        manifest.finished,
        config,
        manifest.notes,
        frozenset(manifest.inputs) - inputs.keys(),
    )


def _unfinished(workspace: Workspace, folder: Path) -> Node | None:
    try:
        job = read_run(workspace, folder).job
    except UserError:  # it is just being written
        return None
    inputs = {"shards": job.shards_fingerprint, "tokenizer": job.tokenizer_fingerprint}
    if job.start is not None:
        inputs["start"] = artifact_of(job.start).name.removesuffix(".partial")
    return Node("pretrain", folder.stem, folder, inputs, None, {}, {}, frozenset())

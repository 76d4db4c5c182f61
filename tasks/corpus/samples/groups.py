"""Sample groups: what is asked of a finished artifact, and what comes back, by reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.artifacts import Manifest, Workspace, read_manifest
from tasks.corpus.samples.excerpts import Shown
from tasks.settings import Json


@dataclass(frozen=True)
class Asked:
    """Samples of an artifact: `count` pairs for each reason, or for `only` this one; excerpts of `chars` characters."""

    workspace: Workspace
    manifest: Manifest
    count: int
    chars: int
    only: str | None = None
    alone: bool = False  # dropped documents alone, nothing held against them and nothing mended

    @property
    def folder(self) -> Path:
        """The artifact's folder."""
        return self.workspace.folder(self.manifest.stage, self.manifest.fingerprint)

    @property
    def config(self) -> Mapping[str, Json]:
        """The stage's config as the manifest has it."""
        return self.manifest.config if isinstance(self.manifest.config, dict) else {}

    def tables(self, pattern: str) -> list[Path]:
        """The artifact's files of a kind, by name."""
        return sorted(self.folder.glob(pattern))

    def input(self, name: str, stage: str) -> Path:
        """The folder of the artifact that this one was made of, there or not."""
        return self.workspace.folder(stage, self.manifest.inputs.get(name, "none"))

    def wants(self, reason: str) -> bool:
        """Whether samples of this reason are asked for."""
        return self.only in (None, reason)


@dataclass(frozen=True)
class Pair:
    """A document that was dropped, or mended, and the one it is held against, if there is one."""

    sample: Shown
    beside: Shown | None = None
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Samples of one reason. `figure` says what the values are, `rule` the bound they broke, `beside` what is held against them.

    `rows` and `bytes` are the ledger's; both are 0 for documents that were not dropped but changed.
    """

    reason: str
    rows: int
    bytes: int
    pairs: tuple[Pair, ...]
    figure: str = ""
    rule: str = ""
    beside: str = ""


def group_of(asked: Asked, reason: str, pairs: list[Pair], figure: str = "", rule: str = "", beside: str = "") -> Group:
    """A group with the ledger's counts; `beside` is left out where nothing stands there."""
    ledger = asked.manifest.ledger
    shown = beside if any(pair.beside for pair in pairs) else ""
    rows, size = ledger.dropped.get(reason, 0), ledger.dropped_bytes.get(reason, 0)
    return Group(reason, rows, size, tuple(pairs), figure, rule, shown)


def table_number(path: Path) -> int:
    """7 of `documents-00007-000.parquet`: the number of the file task that wrote it."""
    return int(path.name.split("-")[1])


def input_of(folder: Path, name: str, stage: str, workspace: Workspace) -> Path:
    """The folder of an input of an earlier artifact, there or not."""
    manifest = read_manifest(folder)
    return workspace.folder(stage, "none" if manifest is None else manifest.inputs.get(name, "none"))

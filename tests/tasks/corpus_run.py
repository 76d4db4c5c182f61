"""Corpus stages run by hand in a folder, as the flow runs them: artifacts with manifests, parts in a cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from flows.stages import ANNOTATE, DECONTAMINATE, DEDUPLICATE, INGEST, SELECT, Config, Given, Stage, identify
from tasks.artifacts import (
    AnnotatedCorpus,
    Artifact,
    Corpus,
    Examples,
    RawCorpus,
    Selection,
    UniqueCorpus,
    Workspace,
    as_artifact,
    describe,
)
from tasks.corpus.annotate import AnnotateConfig
from tasks.corpus.decontaminate import DecontaminateConfig
from tasks.corpus.deduplicate import DeduplicateConfig
from tasks.corpus.ingest import IngestConfig
from tasks.corpus.select import SelectConfig
from tasks.documents import DOCUMENTS, TableWriter
from tasks.executor.filetasks import FilesConfig, FileTasks
from tasks.ledger import Ledger, StageOutcome
from tests.tasks.stage_tools import tools

Row = dict[str, object]
Made = TypeVar("Made", bound=Artifact)


def document(document_id: str, text: str, group: str | None = None, language: str = "en", **meta: str) -> Row:
    """A row of a document table."""
    pairs = sorted({**meta, **({"group": group} if group else {})}.items())
    size = len(text.encode())
    return {"id": document_id, "text": text, "source": "s", "path": "p", "language": language, "bytes": size, "meta": pairs}


@dataclass(frozen=True)
class Bench:
    """A workspace and its file tasks; stages are run one by one."""

    workspace: Workspace
    files: FileTasks

    @staticmethod
    def open(folder: Path, workers: int = 0, backend: str = "processes") -> "Bench":
        workspace = Workspace(folder).open()
        config = FilesConfig.model_validate({"workers": workers, "place": backend})
        return Bench(workspace, FileTasks(workspace.root / "parts", config))

    def stage(self, stage: Stage[Config, Made], config: Config, **inputs: object) -> Made:
        """Runs a stage, checks its ledger and publishes its artifact."""
        found = identify(stage, config, inputs, "nowhere", self.workspace)  # type: ignore[arg-type]
        built = self.workspace.begin(stage.name, found.fingerprint, keep=False)
        outcome = stage.build(config, Given(inputs), built, tools(self.workspace.root, self.files))  # type: ignore[arg-type]
        manifest = describe(stage.name, found.fingerprint, found.config, found.inputs, built, outcome, 0.0)
        return as_artifact(stage.artifact, self.workspace.publish(manifest), manifest)

    def raw(self, *tables: Sequence[Row]) -> RawCorpus:
        """A raw corpus of these document tables."""
        fingerprint = f"{len(list((self.workspace.root / 'ingest').glob('*'))):016x}"
        built = self.workspace.begin("ingest", fingerprint, keep=False)
        for number, rows in enumerate(tables):
            with TableWriter(built / f"documents-{number:05d}-000.parquet", DOCUMENTS) as file:
                file.write(pa.RecordBatch.from_pylist(list(rows), schema=DOCUMENTS))
        rows_out = sum(len(rows) for rows in tables)
        manifest = describe("ingest", fingerprint, {}, {}, built, StageOutcome(Ledger(rows_out=rows_out)), 0.0)
        return as_artifact(RawCorpus, self.workspace.publish(manifest), manifest)

    def ingest(self, *sources: Row) -> RawCorpus:
        return self.stage(INGEST, IngestConfig.model_validate({"sources": list(sources)}))

    def annotate(self, raw: RawCorpus, **settings: object) -> AnnotatedCorpus:
        return self.stage(ANNOTATE, AnnotateConfig.model_validate(settings), raw=raw, quality=None)

    def select(self, clean: AnnotatedCorpus, **settings: object) -> Selection:
        return self.stage(SELECT, SelectConfig.model_validate({"presets": [], **settings}), clean=clean)

    def deduplicate(self, clean: AnnotatedCorpus, selection: Selection, **settings: object) -> UniqueCorpus:
        return self.stage(DEDUPLICATE, DeduplicateConfig.model_validate(settings), clean=clean, selection=selection)

    def decontaminate(
        self, clean: AnnotatedCorpus, unique: UniqueCorpus, examples: tuple[Examples, ...] = (), **settings: object
    ) -> Corpus:
        config = DecontaminateConfig.model_validate(settings)
        return self.stage(DECONTAMINATE, config, clean=clean, unique=unique, examples=examples)


def rows(artifact: Artifact, pattern: str) -> list[Row]:
    """All rows of an artifact's tables."""
    return [row for path in sorted(artifact.path.glob(pattern)) for row in pq.read_table(path).to_pylist()]


def ids(artifact: Artifact, pattern: str) -> list[str]:
    """The ids in an artifact's tables."""
    return [str(row["id"]) for row in rows(artifact, pattern)]


def kept(artifact: Artifact) -> list[str]:
    """The ids that verdicts keep."""
    return [str(row["id"]) for row in rows(artifact, "verdicts-*.parquet") if row["kept"]]


def all_bytes(artifact: Artifact) -> dict[str, bytes]:
    """Every file of an artifact but its manifest."""
    return {path.name: path.read_bytes() for path in sorted(artifact.path.iterdir()) if path.name != "manifest.json"}

"""Artifacts: what stages exchange. One immutable folder each, its manifest written last, addressed by fingerprint.

WORKSPACE/<stage>/<fingerprint>/            a finished artifact (manifest.json inside), published by one rename
WORKSPACE/<stage>/<fingerprint>.partial/    one being built; nobody reads it, a killed build may go on from it
"""

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from tasks.errors import UserError
from tasks.ledger import Ledger, Receipt, StageOutcome
from tasks.machine import this_machine
from tasks.settings import Json, given_path

FORMAT = 1  # of workspace and manifests; raised when an older workspace can no longer be read
LIBRARIES = ("torch", "ray", "tokenizers", "pyarrow", "polars", "numpy", "prefect", "mlflow", "pandera", "datasets")


@dataclass(frozen=True)
class Artifact:
    """The output of a stage: a finished folder and what its manifest says of it. Later stages read it, never change it."""

    folder: str
    fingerprint: str
    ledger: Ledger = field(default_factory=Ledger)
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    notes: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def path(self) -> Path:
        """The local folder that holds the files."""
        return Path(self.folder)


@dataclass(frozen=True)
class RawCorpus(Artifact):
    """Documents as read: `documents-*.parquet` (contract Documents), `rejects-*.parquet` (contract Dropped)."""


@dataclass(frozen=True)
class QualityModel(Artifact):
    """A classifier of documents that the recipe trained: `weights.npz` (tasks/kernels/quality_classifier.py)."""


@dataclass(frozen=True)
class AnnotatedCorpus(Artifact):
    """Documents mended, in the order read: `documents-*.parquet`, and beside each table, row for row, `statistics-*.parquet`.

    `dropped-*.parquet` holds what could not be mended.
    """


@dataclass(frozen=True)
class Selection(Artifact):
    """`verdicts-*.parquet` (contract Verdicts): which documents of an AnnotatedCorpus are kept, row for row of each table."""


@dataclass(frozen=True)
class UniqueCorpus(Artifact):
    """A Selection without exact and near copies; `clusters.parquet` and `signatures-*.arrow` beside."""


@dataclass(frozen=True)
class Examples(Artifact):
    """A set of labelled examples: `train.parquet`, `heldout.parquet` (contract of its kind), `labels.json`."""


@dataclass(frozen=True)
class Corpus(Artifact):
    """What models learn from and are judged on: `train-*.parquet` and `validation.parquet` (contract Documents).

    No document of `train` holds text of the validation set, of a held-out example or of a benchmark that the recipe names;
    `test.parquet` if asked for, `dropped-*.parquet` and `matches-*.parquet` beside.
    """


@dataclass(frozen=True)
class ReplayText(Artifact):
    """General text of a base's memory, to be learned again beside new text: `train-00000.parquet` (contract Documents)."""


@dataclass(frozen=True)
class Tokenizer(Artifact):
    """`tokenizer.json` and `tokenizer_config.json` in Hugging Face form; `quality.json` and `encoding.json` beside.

    Of a base: `fit.json`, what it makes of the corpus, and where tokens were added `new_tokens.json`, what spelled them before.
    """


@dataclass(frozen=True)
class TokenShards(Artifact):
    """Token rows ready for training: `train/<group>/shard-*.parquet`, `validation/all/shard-*.parquet` (see model/data/shard_reader.py).

    `documents-<split>.parquet` beside, where row number is document number, and `packing.json`.
    """


@dataclass(frozen=True)
class PretrainedModel(Artifact):
    """A Hugging Face folder `model/` (weights, config, tokenizer), `checkpoints/`, `curve.jsonl`.

    `training.json`, by which any step can be traced, and `audit.json`, what the batches were made of.
    """


@dataclass(frozen=True)
class LossPrediction(Artifact):
    """`prediction.json` and `ladder.svg`: what small trainings say of a pretraining's loss (tasks/pretrain/prediction.py)."""


@dataclass(frozen=True)
class FinetunedModel(Artifact):
    """Like PretrainedModel, for one task, with `task.json` (kind, labels) beside the weights.

    For several tasks, a head for each on one trunk: `model/` is of Wordmill's own form, with `tasks.json`.
    """


@dataclass(frozen=True)
class Scores(Artifact):
    """`scores.parquet` (contract Scores), `samples.json` and `inspection.json` (tasks/evaluate/inspection.py) of one model on one suite.

    `items.parquet` and `figures.parquet` (tasks/items.py): what each item adds to each figure, of the model and of baselines.
    """


@dataclass(frozen=True)
class TextChange(Artifact):
    """`change.json`: a model and the base it started from on the same held-out text, own and general (tasks/evaluate/change.py)."""


@dataclass(frozen=True)
class ModelMemory(Artifact):
    """`memory/`: what travels with a model through the registry (tasks/memory.py)."""


@dataclass(frozen=True)
class GateDecision(Artifact):
    """`decision.json`, `decision.parquet` (contract Decisions) and the page `decision.html` (tasks/promotion/decision.py)."""


@dataclass(frozen=True)
class Report(Artifact):
    """`report.html`: one self-contained page; `steps/step-<N>.html` for each loss spike."""


@dataclass(frozen=True)
class RegisteredModel(Artifact):
    """A registry version: notes `name`, `version`, `alias`, `uri`."""


AnyArtifact = TypeVar("AnyArtifact", bound=Artifact)


def canonical(value: Json) -> str:
    """The one JSON text of a value: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(stage: str, config: Json, inputs: Mapping[str, str]) -> str:
    """Sixteen hex digits over stage name, identity of its config (revision included) and fingerprints of its inputs."""
    text = canonical({"format": FORMAT, "stage": stage, "config": config, "inputs": dict(inputs)})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact. `rows` is -1 for what is not a table; `modified` is in nanoseconds."""

    path: str
    bytes: int
    sha256: str
    rows: int
    modified: int


@dataclass(frozen=True)
class Manifest:
    """The truth about a finished artifact; a folder without one does not exist."""

    format: int
    stage: str
    fingerprint: str
    config: Json
    inputs: Mapping[str, str]
    files: tuple[FileEntry, ...]
    ledger: Ledger
    receipts: tuple[Receipt, ...]
    figures: Mapping[str, float]
    notes: Mapping[str, str]
    versions: Mapping[str, str]
    seconds: float
    finished: str
    subject: str = ""  # what it is about, where a recipe has several of the stage
    machine: Mapping[str, str] = field(default_factory=dict[str, str])  # kind of machine that built it; empty: not noted


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished artifact, or None where there is none. UserError when another version wrote it."""
    try:
        raw = json.loads((folder / "manifest.json").read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None  # torn manifest: the artifact counts as unfinished and is built again
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        found = raw.get("format") if isinstance(raw, dict) else type(raw).__name__
        raise UserError(
            f"{folder / 'manifest.json'}: written by another version of Wordmill (format {found}, expected {FORMAT}). "
            "Use a new workspace (--workspace DIR) or the version that wrote this one."
        )
    raw["files"] = tuple(FileEntry(**entry) for entry in raw["files"])
    raw["ledger"] = Ledger(**raw["ledger"])
    raw["receipts"] = tuple(Receipt(**entry) for entry in raw["receipts"])
    return Manifest(**raw)


def fault(folder: Path, manifest: Manifest, thorough: bool = False) -> str | None:
    """What is wrong with a finished artifact's files, or None.

    A file whose size and modification time are as recorded is taken as unaltered unless `thorough`; any other is
    hashed, so a copied workspace costs one reading and an altered byte is found.
    """
    for entry in manifest.files:
        path = folder / entry.path
        try:
            stat = path.stat()
        except FileNotFoundError:
            return f"{path} is missing"
        if stat.st_size != entry.bytes:
            return f"{path} has {stat.st_size} bytes, expected {entry.bytes}"
        if (thorough or stat.st_mtime_ns != entry.modified) and file_digest(path) != entry.sha256:
            return f"{path} was altered after it was written (another SHA-256)"
    return None


def check_workspace(given: str) -> str:
    """A workspace as it was given. UserError for what is no folder of a file system: nothing, or an address."""
    if not given.strip() or "\0" in given:
        raise UserError("workspace: found no name, expected a folder. Fix: choose one with --workspace DIR.")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", given):
        raise UserError(
            f"workspace {given}: found an address, expected a folder: artifacts live on a local or shared file system. "
            "Fix: choose a folder with --workspace DIR; sources may be read from an address."
        )
    return given


class Workspace:
    """The folder that holds every artifact, the journal and the local servers' databases."""

    def __init__(self, root: str | Path) -> None:
        self.root = given_path(check_workspace(str(root))).absolute()

    def open(self) -> "Workspace":
        """Create the workspace if need be, for its owner's eyes alone: it holds people's text.

        UserError when it cannot be used or another version wrote it.
        """
        marker = self.root / "workspace.json"
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not marker.exists():
                temporary = marker.with_name(f"workspace.{os.getpid()}.tmp")
                temporary.write_text(json.dumps({"format": FORMAT}) + "\n")
                temporary.rename(marker)  # whole at once: another run may be opening it
            noted = json.loads(marker.read_text())
            found = noted.get("format") if isinstance(noted, dict) else type(noted).__name__
        except OSError as error:
            raise UserError(f"workspace {self.root}: {error.strerror}. Choose another with --workspace DIR.") from error
        except json.JSONDecodeError as error:
            raise UserError(f"{marker}: not JSON. This is not a Wordmill workspace; choose another.") from error
        if found != FORMAT:
            raise UserError(
                f"{marker}: format {found}, expected {FORMAT}: another version of Wordmill wrote this workspace. "
                "Choose another with --workspace DIR."
            )
        return self

    def folder(self, stage: str, digest: str) -> Path:
        """Where the artifact of `stage` with fingerprint `digest` lies, finished or not."""
        return self.root / stage / digest

    def find(self, kind: type[AnyArtifact], stage: str, digest: str) -> AnyArtifact | None:
        """The finished artifact, or None where there is none."""
        folder = self.folder(stage, digest)
        manifest = read_manifest(folder)
        return None if manifest is None else as_artifact(kind, folder, manifest)

    def discard(self, stage: str, digest: str) -> None:
        """Remove an artifact: its manifest first, so that no reader takes a half-removed folder for a whole one."""
        folder = self.folder(stage, digest)
        (folder / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def begin(self, stage: str, digest: str, keep: bool) -> Path:
        """The folder to build in. `keep` leaves what a killed build left, for stages that can go on from it."""
        partial = self.root / stage / f"{digest}.partial"
        if not keep:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        return partial

    def publish(self, manifest: Manifest) -> Path:
        """Write the manifest into the built folder, flush, and give the folder its final name."""
        partial = self.root / manifest.stage / f"{manifest.fingerprint}.partial"
        _write_synced(partial / "manifest.json", json.dumps(asdict(manifest), ensure_ascii=False, indent=1) + "\n")
        final = self.folder(manifest.stage, manifest.fingerprint)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        return final


def as_artifact(kind: type[AnyArtifact], folder: Path, manifest: Manifest) -> AnyArtifact:
    """The handle that stages pass on, from a manifest."""
    return kind(str(folder), manifest.fingerprint, manifest.ledger, manifest.figures, manifest.notes)


def describe(
    stage: str, digest: str, config: Json, inputs: Mapping[str, str], built: Path, outcome: StageOutcome, seconds: float, subject: str = ""
) -> Manifest:
    """The manifest of what lies in `built`: every file listed with size, rows and digest; the ledger checked."""
    outcome.ledger.check(stage)
    files = tuple(_entry(built, path) for path in sorted(built.rglob("*")) if path.is_file() and path != built / "manifest.json")
    return Manifest(
        format=FORMAT,
        stage=stage,
        fingerprint=digest,
        config=config,
        inputs=inputs,
        files=files,
        ledger=outcome.ledger,
        receipts=outcome.receipts,
        figures=outcome.figures,
        notes=outcome.notes,
        versions=library_versions(),
        seconds=round(seconds, 3),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        subject=subject,
        machine=this_machine().kind,
    )


def library_versions() -> dict[str, str]:
    """Installed versions of what can change an output, and Python's own."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a stage that needs it fails by its own import
    return found


def _entry(root: Path, path: Path) -> FileEntry:
    stat = path.stat()
    return FileEntry(path.relative_to(root).as_posix(), stat.st_size, file_digest(path), _rows(path), stat.st_mtime_ns)


def _rows(path: Path) -> int:
    if path.suffix != ".parquet":
        return -1
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows


def _write_synced(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


@dataclass(frozen=True)
class Inspected:
    """A finished artifact and what is wrong with its files, if anything."""

    stage: str
    fingerprint: str
    problem: str | None


def inspect_all(workspace: Workspace) -> list[Inspected]:
    """Hash every file of every finished artifact in the workspace."""
    folders = sorted(path.parent for path in workspace.root.glob("*/*/manifest.json") if path.parent.suffix != ".partial")
    manifests = [(folder, read_manifest(folder)) for folder in folders]
    return [Inspected(m.stage, m.fingerprint, fault(folder, m, thorough=True)) for folder, m in manifests if m is not None]

"""Run references: from what a user calls a run, or a model, to the pretraining behind it."""

import re
from dataclasses import dataclass
from pathlib import Path

from tasks.artifacts import Manifest, Workspace, read_manifest
from tasks.errors import UserError
from tasks.inference.tracked_runs import MODEL_STAGES, known_run, models_of
from tasks.lineage.step_trace import TRAINING, TracedRun, read_run
from tasks.promotion.champion import ChampionConfig, champion_digest
from tasks.settings import given_path
from tasks.tracking.address import is_absent

FORMS = "an MLflow run id, a fingerprint, an artifact's folder, or models:/NAME@ALIAS"
UPWARD = ("base", "model")  # inputs by which a model, its scores or its registration lead to what it was made from


@dataclass(frozen=True)
class FoundRun:
    """A pretraining, and the artifacts that led to it, from the one that was named."""

    run: TracedRun
    via: tuple[str, ...]  # "finetune 0123456789abcdef"


def own_workspace(reference: str) -> Path | None:
    """The workspace that an artifact's folder lies in; None for anything else."""
    folder = given_path(reference).absolute()
    near = [folder, *list(folder.parents)[:3]] if folder.is_dir() else []
    return next((path for path in near if (path / "workspace.json").is_file()), None)


def find_run(reference: str, workspace: Workspace, tracking_uri: str) -> FoundRun:
    """The pretraining that `reference` means or was tuned from. UserError, listing what was tried, when there is none."""
    tried: list[str] = []
    folder = _folder(reference, workspace, tracking_uri, tried)
    if folder is None:
        raise UserError(f"RUN {reference!r}: {'; '.join(tried)}. Expected {FORMS}. Fix: wordmill run makes one.")
    via: list[str] = []
    while not (folder / TRAINING).exists():
        manifest = read_manifest(folder)
        if manifest is None or manifest.stage == "pretrain":
            return FoundRun(read_run(workspace, folder), tuple(via))  # which says what is missing
        via.append(f"{manifest.stage} {manifest.fingerprint}")
        folder = _upward(reference, manifest, workspace)
    return FoundRun(read_run(workspace, folder), tuple(via))


def _folder(reference: str, workspace: Workspace, tracking_uri: str, tried: list[str]) -> Path | None:
    """The artifact's folder that is named; adds to `tried` where a form does not lead to one."""
    if reference.startswith("models:/"):
        (fingerprint,) = champion_digest(ChampionConfig(uri=reference), tracking_uri).values()
        tried.append(f"it is the model {fingerprint}, which is not in {workspace.root}")
        return _by_fingerprint(reference, fingerprint, workspace)
    path = given_path(reference)
    if path.is_dir():
        artifacts = [folder for folder in (path, path.parent) if any((folder / n).exists() for n in ("manifest.json", TRAINING))]
        if not artifacts:
            raise UserError(f"RUN {path}: a folder without manifest.json and {TRAINING}, expected {FORMS}.")
        return artifacts[0].absolute()
    tried.append(f"no folder {path}")
    if re.fullmatch(r"[0-9a-f]{4,16}", reference):
        tried.append(f"no model with fingerprint {reference}… in {workspace.root}")
        return _by_fingerprint(reference, reference, workspace)
    run_id = reference.removeprefix("runs:/").partition("/")[0]
    if re.fullmatch(r"[0-9a-f]{32}", run_id):
        tried.append(f"no run of that id at {tracking_uri} whose model is in {workspace.root}")
        return _by_run(run_id, workspace, tracking_uri)
    return None


def _by_fingerprint(reference: str, prefix: str, workspace: Workspace) -> Path | None:
    """A model's folder, finished or being trained. UserError where several begin so."""
    found = [
        folder
        for stage in MODEL_STAGES
        for folder in sorted((workspace.root / stage).glob(f"{prefix}*"))
        if (folder / ("manifest.json" if folder.suffix != ".partial" else TRAINING)).is_file()
    ]
    if len(found) > 1:
        names = ", ".join(f"{folder.parent.name}/{folder.name}" for folder in found)
        raise UserError(f"RUN {reference!r}: several models begin so: {names}. Fix: give more digits.")
    return found[0] if found else None


def _by_run(run_id: str, workspace: Workspace, tracking_uri: str) -> Path | None:
    """The first model of a run, or of one of its stages, that lies in the workspace."""
    import mlflow

    if is_absent(tracking_uri):
        return None
    client = mlflow.MlflowClient(tracking_uri, tracking_uri)
    run = known_run(client, run_id)
    found = [_by_fingerprint(run_id, fingerprint, workspace) for fingerprint in ([] if run is None else models_of(client, run))]
    return next((folder for folder in found if folder is not None), None)


def _upward(reference: str, manifest: Manifest, workspace: Workspace) -> Path:
    """The folder of what an artifact was made from. UserError where that took no steps, or is gone."""
    names = [name for name in manifest.inputs if name in UPWARD or name.startswith("models:/")]
    if not names:
        raise UserError(f"RUN {reference!r}: {manifest.stage} {manifest.fingerprint} is no model, so it took no steps. Expected {FORMS}.")
    fingerprint = manifest.inputs[names[0]]
    found = _by_fingerprint(reference, fingerprint, workspace)
    if found is None:
        raise UserError(
            f"RUN {reference!r}: {manifest.stage} {manifest.fingerprint} was made from {fingerprint}, which is not in "
            f"{workspace.root}. Fix: name the workspace that it was trained in with --workspace DIR."
        )
    return found

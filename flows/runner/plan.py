"""Plan: what a run would do, each stage cached or not, and why, as a diff against the nearest artifact."""

from dataclasses import dataclass
from typing import Generic

from flows.runner.summaries import flattened
from flows.stages import Config, Handle, Identity, Stage, identify, label_of
from tasks.artifacts import AnyArtifact, Artifact, Manifest, Workspace, as_artifact, fault, read_manifest
from tasks.corpus.select import DEFAULT_RULES


@dataclass(frozen=True)
class Planned:
    """One row of the plan. `why` is empty for a cached stage; `seconds` is what the same stage last took, if it ever ran."""

    label: str
    stage: str
    fingerprint: str
    cached: bool
    why: tuple[str, ...]
    seconds: float | None
    bytes: int


@dataclass(frozen=True)
class Expected(Generic[AnyArtifact]):
    """An artifact that is there, or whose fingerprint at least is known."""

    found: AnyArtifact

    def artifact(self) -> AnyArtifact:
        """The artifact; its folder is empty where it is still to be made."""
        return self.found


class Plan:
    """A builder that identifies every node and runs none."""

    def __init__(self, workspace: Workspace, address: str) -> None:
        self.workspace, self.address = workspace, address
        self.rows: list[Planned] = []
        self.notes: list[str] = []  # of artifacts that are there

    def stage(
        self,
        stage: Stage[Config, AnyArtifact],
        config: Config,
        subject: str = "",
        /,
        **inputs: Handle[Artifact] | tuple[Handle[Artifact], ...] | None,
    ) -> Expected[AnyArtifact]:
        """Identify a node and note whether its artifact is there and whole."""
        known = {name: _artifacts(value) for name, value in inputs.items()}
        found = identify(stage, config, known, self.address, self.workspace)
        folder = self.workspace.folder(stage.name, found.fingerprint)
        manifest = read_manifest(folder)
        wrong = None if manifest is None else fault(folder, manifest)
        cached = manifest is not None and wrong is None
        nearest = None if cached else self._nearest(stage.name, found)
        why = () if cached else ((wrong,) if wrong else reasons(found, nearest))
        built = manifest or nearest
        self.rows.append(
            Planned(
                label_of(stage.name, subject),
                stage.name,
                found.fingerprint,
                cached,
                why,
                None if built is None else built.seconds,
                0 if built is None else sum(entry.bytes for entry in built.files),
            )
        )
        if cached and manifest is not None:
            self.notes += [manifest.notes[DEFAULT_RULES]] if DEFAULT_RULES in manifest.notes else []
            return Expected(as_artifact(stage.artifact, folder, manifest))
        return Expected(stage.artifact("", found.fingerprint))

    def _nearest(self, stage: str, found: Identity) -> Manifest | None:
        """The finished artifact of the stage that differs in the fewest fields."""
        folders = [folder for folder in sorted((self.workspace.root / stage).glob("*")) if folder.suffix != ".partial"]
        known = [manifest for folder in folders if (manifest := read_manifest(folder)) is not None]
        return min(known, key=lambda manifest: len(differences(found, manifest)), default=None)


def _artifacts(value: Handle[Artifact] | tuple[Handle[Artifact], ...] | None) -> Artifact | tuple[Artifact, ...] | None:
    if isinstance(value, tuple):
        return tuple(handle.artifact() for handle in value)
    return None if value is None else value.artifact()


def differences(found: Identity, manifest: Manifest) -> list[str]:
    """Fields in which an identity differs from an earlier artifact's, each as `field: before → now`."""
    now, before = flattened(found.config), flattened(manifest.config)
    lines = [
        f"{key}: {before.get(key, 'absent')} → {now.get(key, 'absent')}"
        for key in sorted({*now, *before})
        if now.get(key) != before.get(key)
    ]
    inputs = sorted({*found.inputs, *manifest.inputs})
    return lines + [
        f"{name}: {_input_change(manifest.inputs.get(name), found.inputs.get(name))}"
        for name in inputs
        if found.inputs.get(name) != manifest.inputs.get(name)
    ]


def _input_change(before: str | None, now: str | None) -> str:
    if before is None:
        return "new input"
    return "no longer an input" if now is None else "changed"


def reasons(found: Identity, nearest: Manifest | None) -> tuple[str, ...]:
    """Why a stage will run."""
    if nearest is None:
        return ("never built in this workspace",)
    return tuple(differences(found, nearest)) or ("its artifact was removed",)

"""Plan: what a run would do, each stage cached or not, and why, as a diff against the nearest artifact."""

from dataclasses import dataclass
from typing import Generic

from flows.runner.summaries import flattened
from flows.stages import Config, Handle, Identity, Stage, identify, label_of
from tasks.artifacts import AnyArtifact, Artifact, Manifest, Workspace, as_artifact, fault, read_manifest
from tasks.corpus.select import DEFAULT_RULES
from tasks.planning.history import History
from tasks.planning.stage_time import bytes_of

NEVER = "never built in this workspace"


@dataclass(frozen=True)
class Planned:
    """One row of the plan. `why` is empty for a cached stage; what others will take is told by the forecast."""

    label: str
    stage: str
    subject: str
    fingerprint: str
    cached: bool
    why: tuple[str, ...]
    seconds: float | None  # that building it took; None: it is still to be built
    bytes: int  # of its files; of what is still to be built those of the nearest earlier artifact
    depends: tuple[str, ...]  # labels of the stages that it reads
    asked: Identity
    folder: str  # empty where it is still to be built


@dataclass(frozen=True)
class Expected(Generic[AnyArtifact]):
    """An artifact that is there, or whose fingerprint at least is known."""

    found: AnyArtifact
    label: str

    def artifact(self) -> AnyArtifact:
        """The artifact; its folder is empty where it is still to be made."""
        return self.found


class Plan:
    """A builder that identifies every node and runs none."""

    def __init__(self, workspace: Workspace, address: str) -> None:
        self.workspace, self.address, self.history = workspace, address, History(workspace)
        self.rows: list[Planned] = []
        self.nearest: dict[str, Manifest] = {}  # label of what is to be built -> the earlier artifact that is most like it
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
        nearest = None if cached else self._nearest(stage.name, subject, found)
        if nearest is not None:
            self.nearest[label_of(stage.name, subject)] = nearest
        why = () if cached else ((wrong,) if wrong else reasons(found, nearest))
        built = manifest or nearest
        self.rows.append(
            Planned(
                label_of(stage.name, subject),
                stage.name,
                subject,
                found.fingerprint,
                cached,
                why,
                manifest.seconds if cached and manifest is not None else None,
                0 if built is None else bytes_of(built),
                tuple(dict.fromkeys(label for value in inputs.values() for label in _labels(value))),
                found,
                str(folder) if cached else "",
            )
        )
        if cached and manifest is not None:
            self.notes += [manifest.notes[DEFAULT_RULES]] if DEFAULT_RULES in manifest.notes else []
            return Expected(as_artifact(stage.artifact, folder, manifest), label_of(stage.name, subject))
        return Expected(stage.artifact("", found.fingerprint), label_of(stage.name, subject))

    def _nearest(self, stage: str, subject: str, found: Identity) -> Manifest | None:
        """The finished artifact of the stage and subject that differs in the fewest fields; one whose subject is not noted may be it."""
        known = self.history.of_stage(stage)
        chosen = [past for past in known if past.subject == subject] or [past for past in known if not past.subject]
        return min((past.manifest for past in chosen), key=lambda manifest: len(differences(found, manifest)), default=None)


def _labels(value: Handle[Artifact] | tuple[Handle[Artifact], ...] | None) -> list[str]:
    return [one.label for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, Expected)]


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
        return (NEVER,)
    return tuple(differences(found, nearest)) or ("its artifact was removed",)

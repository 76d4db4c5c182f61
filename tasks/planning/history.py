"""History: the finished artifacts of a workspace, by stage and by fingerprint, for what they can tell of runs to come."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tasks.artifacts import Manifest, Workspace, read_manifest


@dataclass(frozen=True)
class Past:
    """A finished artifact."""

    folder: Path
    manifest: Manifest

    @property
    def subject(self) -> str:
        """What it was about; of manifests that do not note it the name in its config: of examples and fine-tunings."""
        config = self.manifest.config
        named = config.get("name") if isinstance(config, dict) else None
        return self.manifest.subject or (named if isinstance(named, str) else "")


class History:
    """Of one workspace; each stage's manifests are read once."""

    def __init__(self, workspace: Workspace) -> None:
        self.root = workspace.root
        self._stages: dict[str, tuple[Past, ...]] = {}

    def of_stage(self, stage: str) -> tuple[Past, ...]:
        """All artifacts of a stage, in the order of their fingerprints."""
        if stage not in self._stages:
            folders = [folder for folder in sorted((self.root / stage).glob("*")) if folder.suffix != ".partial"]
            found = [(folder, read_manifest(folder)) for folder in folders]
            self._stages[stage] = tuple(Past(folder, manifest) for folder, manifest in found if manifest is not None)
        return self._stages[stage]

    @cached_property
    def _by_fingerprint(self) -> Mapping[str, Past]:
        stages = sorted({path.parents[1].name for path in self.root.glob("*/*/manifest.json")})
        return {past.manifest.fingerprint: past for stage in stages for past in self.of_stage(stage)}

    def find(self, fingerprint: str) -> Past | None:
        """The artifact of that fingerprint, of whatever stage."""
        return self._by_fingerprint.get(fingerprint)

"""Stage time: what a stage without a training will take, from what earlier runs of it took in this workspace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.artifacts import Manifest
from tasks.planning.estimate import Estimate, from_runs, runs
from tasks.planning.history import History, Past
from tasks.settings import Json

OTHER_MACHINE = 2.0  # factor by which the bounds go apart
OTHER_SUBJECT = 1.3
OTHER_SETTINGS = 1.15
UNKNOWN_SIZE = 1.3
FIRST_SECONDS = 2.0  # added to the upper bound: which stage of a run imports a library first, and pays for it, is not known
NEAR = 1.25  # sizes within this factor of one another are one size
FIXED_SHARE = 0.15  # power of the ratio of sizes by which the bounds go apart: a part of the seconds does not grow with the input
BY_SIZE = ("ingest", "annotate", "select", "deduplicate", "decontaminate", "tokenizer", "shards", "replay")  # work grows with their input
BY_MODEL = ("evaluate", "change")  # and with the parameters of the model


@dataclass(frozen=True)
class Asked:
    """A stage that is to run, as far as it is known."""

    stage: str
    subject: str
    config: Json
    work: float | None  # bytes that it reads, or parameters of the model that it asks; None: not known, or not what counts


@dataclass(frozen=True)
class _Alike:
    """How an earlier run differs from the one to come; less is nearer."""

    machine: bool
    subject: bool
    config: bool

    @property
    def key(self) -> tuple[bool, bool, bool]:
        return self.machine, self.subject, self.config


def stage_estimate(asked: Asked, history: History, machine: Mapping[str, str]) -> Estimate | None:
    """From the runs that are most alike: the same kind of machine first, then the same subject, then the same settings.

    Seconds are scaled by the work where it is known. None where the stage never ran.
    """
    known = history.of_stage(asked.stage)
    if not known:
        return None
    alike = {past.manifest.fingerprint: _alike(asked, past, machine) for past in known}
    best = min(one.key for one in alike.values())
    chosen = [past for past in known if alike[past.manifest.fingerprint].key == best]
    ratios = [_ratio(asked, past.manifest, history) for past in chosen]
    return _told(asked, chosen, ratios, _Alike(*best))


def _alike(asked: Asked, past: Past, machine: Mapping[str, str]) -> _Alike:
    return _Alike(past.manifest.machine != machine, past.subject != asked.subject, past.manifest.config != asked.config)


def _told(asked: Asked, chosen: Sequence[Past], ratios: Sequence[float | None], alike: _Alike) -> Estimate:
    seconds = [past.manifest.seconds * (ratio or 1.0) for past, ratio in zip(chosen, ratios, strict=True)]
    far = max((max(ratio, 1 / ratio) for ratio in ratios if ratio), default=1.0)
    counts_size = asked.stage in BY_SIZE + BY_MODEL
    is_unknown = counts_size and None in ratios
    differs = [
        (alike.subject, "of another subject", OTHER_SUBJECT),
        (alike.config, "with other settings", OTHER_SETTINGS),
        (is_unknown, "of unknown size", UNKNOWN_SIZE),
        (not is_unknown and far > NEAR, "of another size", far**FIXED_SHARE),
        (alike.machine, "on another machine", OTHER_MACHINE),
    ]
    found = from_runs(seconds, runs(len(chosen), ", ".join(what for holds, what, _ in differs if holds)))
    for holds, _, factor in differs:
        found = found.widened(factor) if holds else found
    return replace(found, high=found.high + FIRST_SECONDS)


def _ratio(asked: Asked, before: Manifest, history: History) -> float | None:
    """How many times the work of an earlier run; None where either is not known."""
    then = work_of(before, history)
    return None if not asked.work or not then else asked.work / then


def work_of(manifest: Manifest, history: History) -> float | None:
    """Of a finished artifact: bytes of what it was made from, or parameters of the model that was asked."""
    if manifest.stage in BY_MODEL:
        model = history.find(manifest.inputs.get("model") or manifest.inputs.get("after", ""))
        return None if model is None else model.manifest.figures.get("parameters")
    if manifest.stage not in BY_SIZE:
        return None
    if manifest.stage == "ingest":
        return manifest.figures.get("source_bytes")
    read = [history.find(digest) for name, digest in manifest.inputs.items() if not name.startswith("file ")]
    return float(sum(bytes_of(past.manifest) for past in read if past is not None)) if read and None not in read else None


def bytes_of(manifest: Manifest) -> int:
    """Of all files of an artifact."""
    return sum(entry.bytes for entry in manifest.files)

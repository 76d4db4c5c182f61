"""Start of a pretraining at a checkpoint of another: which one is meant, whether it can be gone on from, and what is reused."""

import functools
import hashlib
import json
import logging
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from model.config.training_config import TrainingConfig
from model.training.left_out import read_left_out
from model.training.start import Start
from tasks.artifacts import canonical
from tasks.errors import UserError
from tasks.pretrain.job import TRAINING, PretrainJob, read_job
from tasks.pretrain.start_config import StartConfig
from tasks.settings import Json, given_path

KEY = "pretrain.start"
STAGE = "pretrain"
REFERENCE = re.compile(r"(?:pretrain/)?([0-9a-f]{4,16})(\.partial)?")  # as artifacts are told of: pretrain/3f2a…
CHECKPOINTS = "checkpoints"
CHECKPOINT = re.compile(r"step-(\d{8,})")
SHOWN = 6  # steps that are listed

logger = logging.getLogger("wordmill")


@dataclass(frozen=True)
class FoundStart:
    """A whole checkpoint, the pretraining that made it, and what is taken over."""

    start: Start
    digest: str  # of its content, and of what the data leave out
    name: str  # of the pretraining, for people: pretrain/3f2a…
    job: PretrainJob
    kept: tuple[int, ...]  # steps of all its checkpoints; not all need be whole
    passed_over: tuple[str, ...]  # newer ones that are not, in words

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.start.step

    @property
    def fingerprint(self) -> str | None:
        """Of the pretraining, by its folder's name."""
        found = REFERENCE.fullmatch(artifact_of(self.start).name)
        return None if found is None else found[1]

    @property
    def told(self) -> str:
        """For the notes of what is made from it."""
        return f"{self.name} step {self.step}, counts {self.start.counts}"

    def with_fresh_data(self, training: TrainingConfig, identity: str) -> TrainingConfig:
        """`training` of data of this identity: where they are others from here on, what is usual of a step is learned anew."""
        if self.start.counts == "anew" or self.job.identity == identity:
            return training
        logger.info("pretrain: from step %d on the data are not those of %s", self.step, self.name)
        return replace(training, fresh_steps=tuple(sorted({*training.fresh_steps, self.step})))


def artifact_of(start: Start) -> Path:
    """The folder of the pretraining that a checkpoint belongs to."""
    return start.checkpoint.parents[1]


def find_start(config: StartConfig, workspace: Path) -> FoundStart:
    """The checkpoint that a recipe means. UserError where there is none such, or several, or it is damaged."""
    folder, own_step = _checkpoints(config, workspace)
    artifact = folder.parent
    name = f"{STAGE}/{artifact.name.removesuffix('.partial')}" if artifact.parent.name == STAGE else str(artifact)
    steps = tuple(sorted(int(found[1]) for path in folder.iterdir() if (found := CHECKPOINT.fullmatch(path.name))))
    if not steps:
        raise UserError(f"{KEY}.from: {name} has no checkpoint yet, or none was kept. Fix: let it train up to its first one.")
    step, passed_over = _wanted(own_step or config.step, steps, name, folder)
    checkpoint = _checkpoint_path(folder, step)
    start = Start(checkpoint, config.counts, config.keeps_moments)
    return FoundStart(start, _digest(checkpoint), name, _job(artifact, name), steps, passed_over)


def _checkpoints(config: StartConfig, workspace: Path) -> tuple[Path, int | None]:
    """The folder of checkpoints that is meant, and the step where one of them is named."""
    reference = config.from_.strip().rstrip("/")
    if match := REFERENCE.fullmatch(reference):
        artifact = _by_fingerprint(config.from_, match[1], workspace)
        if artifact is not None:
            return artifact / CHECKPOINTS, None
    path = given_path(reference).absolute()
    if match := CHECKPOINT.fullmatch(path.name):
        step = int(match[1])
        if config.step not in (None, step):
            raise UserError(f"{KEY}: from names the checkpoint of step {step}, but step is {config.step}. Fix: leave step out.")
        if path.parent.is_dir():
            return path.parent, step
    if path.is_dir():
        found = path if path.name == CHECKPOINTS else path / CHECKPOINTS
        if found.is_dir():
            return found, None
        raise UserError(f"{KEY}.from: {path} has no folder {CHECKPOINTS}. {_forms(workspace)}")
    what = f"no pretraining in {workspace} begins so, and there is no folder {path}"
    raise UserError(f"{KEY}.from {config.from_!r}: {what}. {_forms(workspace)}")


def _by_fingerprint(reference: str, prefix: str, workspace: Path) -> Path | None:
    """A pretraining's folder, finished or not. UserError where several begin so."""
    folders = [path for path in sorted((workspace / STAGE).glob(f"{prefix}*")) if (path / CHECKPOINTS).is_dir()]
    found = {path.name.removesuffix(".partial"): path for path in reversed(folders)}  # of one in both forms the finished
    if len(found) > 1:
        raise UserError(f"{KEY}.from {reference!r}: several pretrainings begin so: {', '.join(sorted(found))}. Fix: give more digits.")
    return next(iter(found.values()), None)


def _forms(workspace: Path) -> str:
    """What is expected, with what is there."""
    known = sorted({path.parent.name.removesuffix(".partial") for path in (workspace / STAGE).glob(f"*/{CHECKPOINTS}")})
    there = f"; this workspace has {', '.join(known[:SHOWN])}{' and more' if len(known) > SHOWN else ''}" if known else ""
    return f"Fix: give a pretraining's fingerprint, its folder, or that of one of its checkpoints{there}."


def _wanted(asked: int | None, steps: tuple[int, ...], name: str, folder: Path) -> tuple[int, tuple[str, ...]]:
    """The step asked for, or the newest that is whole, and those that were passed over for it.

    UserError for one that was not kept, or is damaged.
    """
    if asked is not None and asked not in steps:
        nearest = min(steps, key=lambda step: (abs(step - asked), step))
        raise UserError(
            f"{KEY}.step: the checkpoint of step {asked} of {name} was not kept; the nearest is {nearest}, of {_listed(steps)}. "
            f"Fix: take step: {nearest}. A pretraining with keep_every keeps more of them."
        )
    damaged: list[str] = []
    for step in (asked,) if asked is not None else reversed(steps):
        damage = damage_of(_checkpoint_path(folder, step))
        if damage is None:
            return step, tuple(damaged)
        damaged.append(f"{_checkpoint_path(folder, step)}: {damage}")
    whole = [step for step in steps if damage_of(_checkpoint_path(folder, step)) is None]
    there = f"take step: {whole[-1]}, the newest that is whole" if whole else "none is whole: train it again"
    raise UserError(f"{KEY}: {damaged[0]}. Fix: {there}.")


def _listed(steps: tuple[int, ...]) -> str:
    listed = ", ".join(map(str, steps[-SHOWN:]))
    return f"{len(steps)} that end in {listed}" if len(steps) > SHOWN else listed


def _checkpoint_path(folder: Path, step: int) -> Path:
    return next(path for path in sorted(folder.glob(f"step-*{step}")) if CHECKPOINT.fullmatch(path.name) and int(path.name[5:]) == step)


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None. Its files are hashed once a process, unless they change."""
    stats = [(path.name, path.stat()) for path in sorted(checkpoint.iterdir())]
    return _damage_of(checkpoint, tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


@functools.lru_cache
def _damage_of(checkpoint: Path, state: tuple[tuple[str, int, int], ...]) -> str | None:
    from model.training.checkpoint import find_damage, read_state

    damage = find_damage(checkpoint)
    if damage is not None:
        return damage
    try:
        found, ranges = read_state(checkpoint), read_left_out(checkpoint.parent)
    except ValueError as error:
        return f"made by another version of Wordmill, or altered ({error})"
    if any(found.step > one.step for one in ranges[found.returns :]):
        return "its run went back to an earlier one since"
    return None


def _digest(checkpoint: Path) -> str:
    """Of the hashes of all files, and of the batches that its run has left out up to it."""
    files: dict[str, dict[str, Json]] = json.loads((checkpoint / "manifest.json").read_text())["files"]
    state = json.loads((checkpoint / "state.json").read_text())
    ranges = read_left_out(checkpoint.parent)[: state["returns"]]
    content: Json = {
        "files": {name: entry["sha256"] for name, entry in files.items()},
        "left_out": [asdict(one) for one in ranges],
    }
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def _job(artifact: Path, name: str) -> PretrainJob:
    try:
        return read_job(artifact)
    except FileNotFoundError as error:
        raise UserError(
            f"{KEY}.from: {artifact} has no {TRAINING}, which tells the model, the tokenizer and the schedule that belong to its "
            "checkpoints. Fix: name the whole folder of a pretraining, or a checkpoint in it."
        ) from error
    except ValueError as error:
        raise UserError(
            f"{KEY}.from: {artifact / TRAINING}: not as this version of Wordmill writes it ({error}). Train {name} again."
        ) from error


def check_tokenizer(found: FoundStart, fingerprint: str, folder: Path) -> None:
    """UserError where the new run's tokenizer, in `folder`, is not the one whose ids the checkpoint learned."""
    if fingerprint == found.job.tokenizer_fingerprint:
        return
    artifact = artifact_of(found.start)
    near = artifact.parents[1] / "tokenizer" / found.job.tokenizer_fingerprint
    for before in (near, found.job.tokenizer, artifact / "model"):
        if (before / "tokenizer.json").is_file():
            if _spells(before) == _spells(folder):
                return
            raise UserError(
                f"{KEY}: {found.name} learned the ids of another tokenizer ({found.job.tokenizer_fingerprint}; this recipe's is "
                f"{fingerprint}). Fix: set tokenizer: {{existing: {before}}}, or leave start out."
            )
    raise UserError(
        f"{KEY}: the tokenizer of {found.name} ({found.job.tokenizer_fingerprint}) is no longer there, and this recipe's is another "
        f"one ({fingerprint}). Fix: give back {near}, or leave start out."
    )


def _spells(folder: Path) -> Json:
    """What decides the ids of a text, of a tokenizer.json; not how a batch of texts is cut or padded."""
    told: dict[str, Json] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return {key: value for key, value in told.items() if key not in ("truncation", "padding", "version")}

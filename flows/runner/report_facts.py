"""Report facts: gathered from the records of a run and the artifacts that they point to."""

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import yaml
from prefect.runtime import flow_run

from flows.recipe import AnyRecipe, CorpusRecipe, Recipe
from flows.runner.execution import Execution, Record
from flows.runner.last_scores import last_scores
from flows.runner.summaries import slug
from model.training.curve import CurveReader, read_curve
from model.training.events import Event, read_events
from model.training.left_out import LeftOut, step_of_data
from tasks.artifacts import Workspace, library_versions, read_manifest
from tasks.corpus.mixture import MixtureRow, read_mixture
from tasks.corpus.samples.collect import STAGES, samples_of
from tasks.corpus.samples.rows import lowest_dropped, read_documents
from tasks.errors import UserError
from tasks.evaluate.change import read_changes
from tasks.evaluate.inspection import read_insides
from tasks.evaluate.samples import read_samples
from tasks.lineage.step_trace import batch_of_skip, documents_of, read_run, step_documents
from tasks.lineage.training_cost import restarts_of, trained_seconds
from tasks.lineage.trainings import read_training
from tasks.pretrain.audit import Audit, read_audit
from tasks.pretrain.job import read_job
from tasks.pretrain.prediction import find_prediction
from tasks.pretrain.spikes import Spike, find_spikes
from tasks.promotion.decision import read_decision
from tasks.report.facts import (
    PREVIOUS,
    DroppedSample,
    InsideStory,
    LadderStory,
    ModelStory,
    RunStory,
    Sample,
    SkipStory,
    SpikeStory,
    StageStory,
    TrainingStory,
)
from tasks.scores import OWN, ScoreRow
from tasks.settings import identity
from tasks.shards.packing_table import PackingRow, read_packing
from tasks.tokenizer.tokenizer_quality import TokenizerQuality, read_quality

EXCERPTS = 3  # of dropped text, per stage and reason
EXCERPT_CHARACTERS = 300
STAGES_THAT_TRAIN = ("pretrain", "finetune")
MOST_SKIPS = 12  # told with their documents
DEFAULT_WORKSPACE = "workspace"  # of a command that names none


def tell(execution: Execution, seconds: float, recipe: AnyRecipe, flow_name: str) -> RunStory:
    """Everything the page shows of the run so far; the report stage itself is not part of it."""
    done = [record for record in execution.records if record.artifact is not None]
    base = next((r for stages in (("pretrain",), ("champion", "base")) for r in done if r.stage in stages), None)
    return RunStory(
        title=f"{recipe.name}: {flow_name}",
        recipe_name=recipe.name,
        flow_run=flow_run.name or "",
        started=(datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds"),
        seconds=seconds,
        stages=tuple(stage_story(record) for record in done),
        mixture=mixture(done),
        model=None if base is None else model_story(base),
        tokenizer=tokenizer_quality(done),
        packing=tuple(row for record in done if record.stage == "shards" for row in packing(record)),
        audit=next((audit(record) for record in done if record.stage == "pretrain"), None),
        curves={r.label: curve for r in done if (curve := tuple(read_curve(path_of(r))))},
        spikes=tuple(spike for record in done if record.stage == "pretrain" for spike in spikes(execution.workspace, record)),
        trainings=tuple(training_story(execution.workspace, r, recipe.workspace) for r in done if r.stage in STAGES_THAT_TRAIN),
        ladder=next((ladder_story(execution.workspace, record) for record in done if record.stage == "pretrain"), None),
        changes=tuple(change for record in done if record.stage == "change" for change in read_changes(path_of(record))),
        scores=score_rows(execution, recipe),
        decisions=tuple(read_decision(path_of(record)) for record in done if record.stage == "gate"),
        samples=tuple(sample for record in done if record.stage == "evaluate" for sample in samples(record)),
        insides=tuple(one for record in done if record.stage == "evaluate" for one in insides(record)),
        dropped=tuple(sample for record in done for sample in dropped_samples(execution.workspace, record)),
        environment=environment(),
        versions=library_versions(),
        processor_seconds=processor_seconds(),
        configuration=yaml.safe_dump(identity(recipe), sort_keys=False, allow_unicode=True),
        cost=recipe.prices.spent(seconds, gpu_seconds(execution, recipe)),
        links={"Prefect": flow_run.ui_url or "", "MLflow": os.environ.get("MLFLOW_TRACKING_URI", "")},
    )


def gpu_seconds(execution: Execution, recipe: AnyRecipe) -> float:
    """Of all GPUs that the trainings of this run held."""
    if isinstance(recipe, CorpusRecipe):
        return 0.0
    placed = {f"finetune: {tuning.name}": tuning.placement for tuning in recipe.finetune}
    placed |= {"pretrain": recipe.pretrain.placement} if isinstance(recipe, Recipe) else {}
    gpus = {label: where.count * where.gpus for label, where in placed.items()}
    return sum(record.seconds * gpus.get(record.label, 0.0) for record in execution.records if record.status == "ran")


def path_of(record: Record) -> Path:
    """The folder of a record's artifact."""
    assert record.artifact is not None
    return record.artifact.path


def stage_story(record: Record) -> StageStory:
    """A node as the page shows it; a cached one with the seconds its building took."""
    artifact = record.artifact
    assert artifact is not None
    manifest = read_manifest(artifact.path)
    built = 0.0 if manifest is None else manifest.seconds
    return StageStory(
        name=slug(record.label),
        label=record.label,
        status="ran" if record.status == "ran" else "cached",
        seconds=record.seconds or built,
        fingerprint=artifact.fingerprint,
        inputs=tuple(slug(name) for name in record.depends),
        ledger=artifact.ledger,
        figures=artifact.figures,
        notes=artifact.notes,
        receipts=() if manifest is None else manifest.receipts,
    )


def model_story(record: Record) -> ModelStory | None:
    """Size and shape of the base model."""
    artifact = record.artifact
    assert artifact is not None
    manifest = read_manifest(artifact.path)
    config = manifest.config if manifest is not None and isinstance(manifest.config, dict) else {}
    shape = config.get("model")
    phrase = ""
    if isinstance(shape, dict):
        phrase = f"{shape['layers']} layers, {shape['width']} channels, {shape['heads']} heads, context {shape['context']}"
    elif record.stage == "pretrain":  # that went on from a base
        told = read_job(artifact.path).model
        phrase = f"{told.layers} layers, {told.width} channels, {told.heads} heads, context {told.context}"
    if "parameters" not in artifact.figures:
        return None
    return ModelStory(int(artifact.figures["parameters"]), int(artifact.figures.get("tokens", 0)), phrase)


def tokenizer_quality(records: list[Record]) -> TokenizerQuality | None:
    """How well the run's tokenizer fits; None where it has none."""
    return next((read_quality(path_of(record)) for record in records if record.stage == "tokenizer"), None)


def packing(record: Record) -> list[PackingRow]:
    """How documents became rows."""
    assert record.artifact is not None
    return read_packing(path_of(record), int(record.artifact.figures["context"]))


def audit(record: Record) -> Audit:
    """What the pretraining read."""
    return read_audit(path_of(record) / "audit.json")


def spikes(workspace: Workspace, record: Record) -> list[SpikeStory]:
    """The steps of a pretraining that stood out, with what they read."""
    return [spike_story(workspace, record, spike) for spike in find_spikes(read_curve(path_of(record)))]


def spike_story(workspace: Workspace, record: Record, spike: Spike) -> SpikeStory:
    """A step that stood out; a report is told even where its documents cannot be."""
    assert record.artifact is not None
    command = f"wordmill trace {record.artifact.fingerprint} --step {spike.step}"
    story = SpikeStory(record.label, spike.step, spike.loss, spike.usual, command)
    try:
        return replace(story, documents=tuple(step_documents(workspace, path_of(record), spike.step)))
    except UserError as error:
        return replace(story, untold=str(error))


def training_story(workspace: Workspace, record: Record, given: str) -> TrainingStory:
    """What befell a training; `given`: the workspace as the recipe names it, for commands."""
    assert record.artifact is not None
    folder = path_of(record)
    found = read_training(folder)
    points, events = CurveReader(folder).new_points(), read_events(folder)
    all_skips = {(event.step if event.data_step is None else event.data_step): event for event in events if event.kind == "skipped"}
    return TrainingStory(
        training=record.label,
        fingerprint=found.fingerprint,
        events=tuple(events),
        restarts=restarts_of(points, events),
        left_out=found.left_out,
        seconds=trained_seconds(points),
        skipped=found.skipped,
        skips=tuple(skip_story(workspace, record, event, found.left_out, given) for event in list(all_skips.values())[:MOST_SKIPS]),
        checkpoints=tuple(one.step for one in found.checkpoints),
        checkpoint_bytes=sum(one.bytes for one in found.checkpoints),
        best=found.best,
        peak_flops=record.artifact.figures.get("peak_flops", 0.0),
        profiles=tuple(f"../../{record.stage}/{found.fingerprint}/profile/{path.name}" for path in sorted((folder / "profile").glob("*"))),
    )


def ladder_story(workspace: Workspace, record: Record) -> LadderStory | None:
    """What was predicted of this very pretraining, if anything was."""
    manifest = read_manifest(path_of(record))
    found = None if manifest is None else find_prediction(workspace, manifest)
    return None if found is None or manifest is None else LadderStory(found, manifest.figures["validation_loss"])


def skip_story(workspace: Workspace, record: Record, event: Event, left_out: Sequence[LeftOut], given: str) -> SkipStory:
    """A step that was skipped; what it read is told of a pretraining."""
    assert record.artifact is not None
    gone = event.data_step is not None and step_of_data(event.data_step, left_out) is None
    story = SkipStory(event.step, event.data_step, gone, event.told)
    if record.stage != "pretrain":
        return story
    where = [] if given == DEFAULT_WORKSPACE else ["--workspace", given]
    asked = ["--data-step", str(event.data_step)] if gone else ["--step", str(event.step)]
    story = replace(story, command=shlex.join(["wordmill", "trace", record.artifact.fingerprint, *asked, *where]))
    try:
        run = read_run(workspace, path_of(record))
        batch = batch_of_skip(run, event)
        documents = documents_of(run, batch)
    except UserError as error:
        return replace(story, untold=str(error))
    why = f"step {event.step} of pretrain {record.artifact.fingerprint} was skipped"
    ids = dict.fromkeys(document.id for document in documents)
    forget = tuple(shlex.join(["wordmill", "forget", id_, "--reason", why, *where]) for id_ in ids)
    if gone and len(batch.data_steps) > 1:
        first, last = batch.data_steps[0], batch.data_steps[-1]
        story = replace(story, told=f"{story.told} (it had data steps {first} to {last}, of which the command shows the first)")
    return replace(story, documents=tuple(documents), forget=forget)


def score_rows(execution: Execution, recipe: AnyRecipe) -> tuple[ScoreRow, ...]:
    """The run's scores, the judged model called by what was evaluated (base, a fine-tuning, champion), and those of the run before."""
    own = [replace(row, model=row.subject) if row.model == OWN else row for row in execution.scores()]
    before = [row for row in last_scores(execution.workspace, recipe.name) if row.model == OWN]
    return (*own, *(replace(row, model=PREVIOUS) for row in before))


def samples(record: Record) -> list[Sample]:
    """Generations of one evaluation."""
    return [Sample(record.subject, sample.prompt, sample.text) for sample in read_samples(path_of(record))]


def insides(record: Record) -> list[InsideStory]:
    """What went on in the model of one evaluation."""
    path = path_of(record) / "inspection.json"
    return [InsideStory(record.subject, one) for one in read_insides(path)] if path.exists() else []


def dropped_samples(workspace: Workspace, record: Record) -> list[DroppedSample]:
    """A few excerpts of dropped text for each reason."""
    manifest = read_manifest(path_of(record))
    if record.stage == "examples":
        lowest = lowest_dropped([path_of(record) / "rejects.parquet"], None, EXCERPTS)
        found = read_documents(row for reason in lowest.reasons() for row in lowest.rows(reason))
        name = slug(record.label)
        return [DroppedSample(name, row.reason, text.text[:EXCERPT_CHARACTERS]) for row, text in found.items()]
    if record.stage not in STAGES or manifest is None:
        return []
    return [
        DroppedSample(slug(record.label), group.reason, pair.sample.text)
        for group in samples_of(workspace, manifest, EXCERPTS, EXCERPT_CHARACTERS, alone=True)
        for pair in group.pairs
    ]


def mixture(records: list[Record]) -> tuple[MixtureRow, ...]:
    """What the run's corpus is made of."""
    return next((read_mixture(path_of(record)) for record in records if record.stage == "decontaminate"), ())


def environment() -> dict[str, str]:
    """The machine, in words."""
    return {
        "machine": platform.node(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "python": platform.python_version(),
    }


def processor_seconds() -> float:
    """User and system time of this process and its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system

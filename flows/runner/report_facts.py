"""Gathers what the report tells from the records of a run and the artifacts they point to."""

import json
import os
import platform
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import yaml
from prefect.runtime import flow_run

from flows.recipe import AnyRecipe
from flows.runner.execution import Execution, Record
from flows.runner.summaries import slug
from tasks.artifacts import Workspace, library_versions, read_manifest
from tasks.cluster import read_curve
from tasks.corpus.samples.collect import STAGES, samples_of
from tasks.corpus.samples.rows import lowest_dropped, read_documents
from tasks.errors import UserError
from tasks.evaluate.inspection import read_insides
from tasks.lineage.step_trace import step_documents
from tasks.pretrain.audit import Audit, read_audit
from tasks.pretrain.audit_documents import Histogram
from tasks.pretrain.spikes import Spike, find_spikes
from tasks.report.facts import (
    PREVIOUS,
    CurvePoint,
    DroppedSample,
    FitRow,
    InsideStory,
    MixtureRow,
    ModelStory,
    PackingRow,
    RunStory,
    Sample,
    ScoreRow,
    SpikeStory,
    StageStory,
    TokenizerStory,
)
from tasks.settings import identity

EXCERPTS = 3  # of dropped text, per stage and reason
EXCERPT_CHARACTERS = 300


def tell(execution: Execution, seconds: float, recipe: AnyRecipe, flow_name: str) -> RunStory:
    """Everything the page shows of the run so far; the report stage itself is not part of it."""
    done = [record for record in execution.records if record.artifact is not None]
    base = next((r for r in done if r.stage in ("pretrain", "champion", "base")), None)
    return RunStory(
        title=f"{recipe.name}: {flow_name}",
        recipe_name=recipe.name,
        flow_run=flow_run.name or "",
        started=(datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds"),
        seconds=seconds,
        stages=tuple(stage_story(record) for record in done),
        mixture=mixture(done),
        model=None if base is None else model_story(base),
        tokenizer=tokenizer_story(done),
        packing=tuple(row for record in done if record.stage == "shards" for row in packing(record)),
        audit=next((audit(record) for record in done if record.stage == "pretrain"), None),
        curves={r.label: curve(r) for r in done if (path_of(r) / "curve.jsonl").exists()},
        spikes=tuple(
            spike for record in done if record.stage == "pretrain" for spike in spikes(execution.workspace, record)
        ),
        scores=tuple(row for record in done if record.stage == "evaluate" for row in score_rows(record))
        + previous_scores(execution, recipe),
        samples=tuple(sample for record in done if record.stage == "evaluate" for sample in samples(record)),
        insides=tuple(one for record in done if record.stage == "evaluate" for one in insides(record)),
        dropped=tuple(sample for record in done for sample in dropped_samples(execution.workspace, record)),
        environment=environment(),
        versions=library_versions(),
        processor_seconds=processor_seconds(),
        configuration=yaml.safe_dump(identity(recipe), sort_keys=False, allow_unicode=True),
        links={"Prefect": flow_run.ui_url or "", "MLflow": os.environ.get("MLFLOW_TRACKING_URI", "")},
    )


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
        name=slug(record.label), label=record.label, status="ran" if record.status == "ran" else "cached",
        seconds=record.seconds or built, fingerprint=artifact.fingerprint,
        inputs=tuple(slug(name) for name in record.depends), ledger=artifact.ledger, figures=artifact.figures,
        notes=artifact.notes, receipts=() if manifest is None else manifest.receipts,
    )  # fmt: skip


def model_story(record: Record) -> ModelStory | None:
    """Size and shape of the base model."""
    artifact = record.artifact
    assert artifact is not None
    manifest = read_manifest(artifact.path)
    config = manifest.config if manifest is not None and isinstance(manifest.config, dict) else {}
    shape = config.get("model")
    phrase = ""
    if isinstance(shape, dict):
        phrase = (
            f"{shape['layers']} layers, {shape['width']} channels, {shape['heads']} heads, context {shape['context']}"
        )
    if "parameters" not in artifact.figures:
        return None
    return ModelStory(int(artifact.figures["parameters"]), int(artifact.figures.get("tokens", 0)), phrase)


def tokenizer_story(records: list[Record]) -> TokenizerStory | None:
    """The tokenizer's quality figures."""
    for record in records:
        if record.stage == "tokenizer":
            quality = json.loads((path_of(record) / "quality.json").read_text())
            return TokenizerStory(
                int(quality["vocab_size"]), int(quality["never_used"]), quality["bytes_per_token"],
                tuple(quality["longest_tokens"]), tuple(FitRow(**row) for row in quality["table"]),
                {name: str(quality[name]) for name in ("algorithm", "trainer", "encoder") if quality[name] is not None},
            )  # fmt: skip
    return None


def packing(record: Record) -> list[PackingRow]:
    """How documents became rows."""
    assert record.artifact is not None
    width = int(record.artifact.figures["context"]) + 1
    found = json.loads((path_of(record) / "packing.json").read_text(encoding="utf-8"))
    return [
        PackingRow(
            row["split"], row["group"], row["documents"], row["pieces"], row["rows"], row["tokens"], row["rows"] * width,
            row["padding"], row["cut_documents"], row["needless_cuts"],
            Histogram(tuple(row["lengths"]["edges"]), tuple(row["lengths"]["counts"])),
        )
        for row in found
    ]  # fmt: skip


def audit(record: Record) -> Audit:
    """What the pretraining read."""
    return read_audit(path_of(record) / "audit.json")


def spikes(workspace: Workspace, record: Record) -> list[SpikeStory]:
    """The steps of a pretraining that stood out, with what they read."""
    return [spike_story(workspace, record, spike) for spike in find_spikes(read_curve(path_of(record) / "curve.jsonl"))]


def spike_story(workspace: Workspace, record: Record, spike: Spike) -> SpikeStory:
    """A step that stood out; a report is told even where its documents cannot be."""
    assert record.artifact is not None
    command = f"wordmill trace {record.artifact.fingerprint} --step {spike.step}"
    story = SpikeStory(record.label, spike.step, spike.loss, spike.usual, command)
    try:
        return replace(story, documents=tuple(step_documents(workspace, path_of(record), spike.step)))
    except UserError as error:
        return replace(story, untold=str(error))


def curve(record: Record) -> tuple[CurvePoint, ...]:
    """The points of a training."""
    return tuple(
        CurvePoint(
            int(point["step"] or 0), point["loss"], float(point["learning_rate"] or 0.0), point["validation_loss"],
            point["tokens_per_second"],
        )
        for point in read_curve(path_of(record) / "curve.jsonl")
    )  # fmt: skip


def score_rows(record: Record) -> list[ScoreRow]:
    """The scores of one evaluation; the judged model is called by what was evaluated: base, a task, champion."""
    subject = subject_of(record)
    rows = [ScoreRow(**row) for row in pq.read_table(path_of(record) / "scores.parquet").to_pylist()]
    return [replace(row, subject=subject, model=subject if row.model == "model" else row.model) for row in rows]


def subject_of(record: Record) -> str:
    """What an evaluation is about, from its label."""
    return record.label.removeprefix("evaluate: ")


def previous_scores(execution: Execution, recipe: AnyRecipe) -> tuple[ScoreRow, ...]:
    """The own scores of the recipe's run before this one."""
    path = execution.workspace.root / "runs" / f"{recipe.name}.json"
    if not path.exists():
        return ()
    rows = [ScoreRow(**row) for row in json.loads(path.read_text())]
    return tuple(replace(row, model=PREVIOUS) for row in rows if row.model == "model")


def samples(record: Record) -> list[Sample]:
    """Generations of one evaluation."""
    path = path_of(record) / "samples.json"
    found = json.loads(path.read_text()) if path.exists() else []
    return [Sample(subject_of(record), entry["prompt"], entry["text"]) for entry in found]


def insides(record: Record) -> list[InsideStory]:
    """What went on in the model of one evaluation."""
    path = path_of(record) / "inspection.json"
    return [InsideStory(subject_of(record), one) for one in read_insides(path)] if path.exists() else []


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
    for record in records:
        path = path_of(record) / "mixture.parquet"
        if record.stage == "decontaminate" and path.exists():
            return tuple(MixtureRow(**row) for row in pq.read_table(path).to_pylist())
    return ()


def environment() -> dict[str, str]:
    """The machine, in words."""
    return {
        "machine": platform.node(), "system": platform.platform(), "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()), "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "python": platform.python_version(),
    }  # fmt: skip


def processor_seconds() -> float:
    """User and system time of this process and its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system

"""Register a model version, and move the champion alias only when the newcomer is better."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.artifacts import FinetunedModel, PretrainedModel, Report, Scores, read_manifest
from tasks.errors import UserError
from tasks.ledger import Ledger, StageOutcome
from tasks.models import example_prompt
from tasks.settings import Section

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
LOWER_IS_BETTER = ("bits_per_byte", "loss", "masked_loss", "restore_loss", "spans_loss", "mse")


class RegisterConfig(Section):
    """Under which name a model is registered, and when it becomes the champion."""

    revision: Literal[1] = 1
    name: str = Field(
        default="wordmill", pattern=r"^[\w.-]+$", description="registry name; fine-tunes get <name>-<task>"
    )
    promote: Literal["better", "always", "never"] = Field(default="better", description="when the champion alias moves")
    min_improvement: float = Field(default=0.0, ge=0, description="by how much the deciding metric must be better")


def deciding_metric(kind: str) -> str:
    """The metric by which models of a kind compete: bits per byte where text is generated, else how well answers fit."""
    of_kind = {"instruction": "bits_per_byte", "multi_label": "macro_f1", "regression": "mse"}
    return of_kind.get(kind, "accuracy")


def challenger_name(name: str, task: str, kind: str) -> str:
    """A fine-tuned language model competes for the base model's name; a labeller has a name of its own."""
    return name if kind == "instruction" else f"{name}-{task}"


@dataclass(frozen=True)
class Registration:
    """One model to register: the name, and the metric that decides."""

    config: RegisterConfig
    name: str
    metric: str  # of the model's own scores: bits_per_byte, accuracy, …


@dataclass(frozen=True)
class Registry:
    """The MLflow registry of a run. `lock`: MLflow's current run is global, so one registration at a time."""

    uri: str
    run: str  # MLflow run id that the model is logged to
    tags: Mapping[str, str]
    lock: Lock


@dataclass(frozen=True)
class Standing:
    """What a score is worth comparing by: its value, its interval, and the digest of what it was measured on."""

    value: float
    low: float
    high: float
    measured_on: str


def is_better(metric: str, newcomer: float, champion: float, margin: float) -> bool:
    """Whether the newcomer beats the champion by more than `margin`; an equal score is not better."""
    gain = champion - newcomer if metric in LOWER_IS_BETTER else newcomer - champion
    return gain > margin


def standing(scores: Scores, metric: str) -> Standing:
    """The model's own figure of `metric`. UserError when the suite did not measure it."""
    import pyarrow.parquet as pq

    rows = [row for row in pq.read_table(scores.path / "scores.parquet").to_pylist() if row["model"] == "model"]
    manifest = read_manifest(scores.path)
    measured = {} if manifest is None else {k: v for k, v in manifest.inputs.items() if k not in ("model", "tokenizer")}
    config = None if manifest is None else manifest.config
    for row in rows:
        if row["metric"] == metric:
            digest = json.dumps([measured, config], sort_keys=True)
            return Standing(row["value"], row["ci_low"], row["ci_high"], digest)
    known = ", ".join(sorted({row["metric"] for row in rows}))
    raise UserError(f"register: the suite measured no {metric}, only: {known}. Add its task to evaluate.tasks.")


def decide(config: RegisterConfig, metric: str, newcomer: Standing, champion: Standing | None) -> tuple[bool, str]:
    """Whether the newcomer becomes champion, and why, in words."""
    if config.promote != "better":
        return config.promote == "always", f"promote: {config.promote}"
    if champion is None:
        return True, "the first of its name"
    if champion.measured_on != newcomer.measured_on:
        return True, "the champion was scored on other text, so the newer model takes over"
    found = f"{metric} {newcomer.value:.4f} against the champion's {champion.value:.4f}"
    if is_better(metric, newcomer.value, champion.value, config.min_improvement):
        return True, f"better: {found}"
    return False, f"not better: {found}"


def register_model(
    config: Registration, model: PretrainedModel | FinetunedModel, scores: Scores, report: Report, out: Path,
    registry: Registry, rival: Scores | None = None,
) -> StageOutcome:  # fmt: skip
    """Log the model to its run, register a version with tags that lead back, move the alias if it is better.

    `rival` holds the champion's scores on the same suite, where the flow measured them; else the champion's tags do.
    A model that was registered before (same fingerprint) keeps its version.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient(registry.uri, registry.uri)
    mine = standing(scores, config.metric)
    with registry.lock:
        try:
            champion = find_champion(client, config.name)
            known = standing(rival, config.metric) if rival is not None else read_standing(champion)
            promoted, why = decide(config.config, config.metric, mine, known)
            version = find_version(client, config.name, model.fingerprint) or log_version(
                client, config, model, registry
            )
            for key, value in version_tags(model, scores, report, config.metric, mine, registry).items():
                client.set_model_version_tag(config.name, version, key, value)
            if promoted:
                client.set_registered_model_alias(config.name, CHAMPION, version)
        except MlflowException as error:
            raise ConnectionError(f"register: MLflow at {registry.uri}: {str(error)[:500]}") from error
    alias = f"models:/{config.name}@{CHAMPION}" if promoted else f"models:/{config.name}/{version}"
    notes = {"name": config.name, "version": version, "uri": alias, "promoted": str(promoted).lower(), "why": why}
    (out / "registered.json").write_text(json.dumps(notes, indent=1, ensure_ascii=False) + "\n")
    return StageOutcome(
        Ledger(rows_out=1), figures={config.metric: mine.value, "promoted": float(promoted)}, notes=notes
    )


def find_champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """The version that holds the champion alias."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def read_standing(champion: "ModelVersion | None") -> Standing | None:
    """What the champion's tags say of its score."""
    if champion is None or "wordmill.score" not in champion.tags:
        return None
    return Standing(**json.loads(champion.tags["wordmill.score"]))


def find_version(client: "MlflowClient", name: str, mark: str) -> str | None:
    """The version that was registered from the artifact with this fingerprint."""
    found = client.search_model_versions(f"name = '{name}' and tags.`wordmill.fingerprint` = '{mark}'")
    return str(found[0].version) if found else None


def log_version(
    client: "MlflowClient", config: Registration, model: PretrainedModel | FinetunedModel, registry: Registry
) -> str:
    """Log the folder as an MLflow model that answers generate requests, and register it; returns the version."""
    import mlflow
    import pandas
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    root = Path(__file__).parents[1]
    signature = ModelSignature(
        Schema([ColSpec(DataType.string, "prompt")]), Schema([ColSpec(DataType.string, "text")]),
        ParamSchema([
            ParamSpec("temperature", DataType.double, 0.7), ParamSpec("max_tokens", DataType.long, 50),
            ParamSpec("count", DataType.long, 1), ParamSpec("top_k", DataType.long, 0), ParamSpec("top_p", DataType.double, 1.0),
            ParamSpec("min_p", DataType.double, 0.0), ParamSpec("repetition_penalty", DataType.double, 1.0),
            ParamSpec("seed", DataType.long, 1),
        ]),
    )  # fmt: skip
    mlflow.set_tracking_uri(registry.uri)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    prompt = example_prompt(model.path / "model")
    example = None if prompt is None else pandas.DataFrame({"prompt": [prompt]})
    with mlflow.start_run(run_id=registry.run):
        info = mlflow.pyfunc.log_model(
            name=config.name, python_model=str(root / "tasks" / "serving.py"), artifacts={"model": str(model.path / "model")},
            code_paths=[str(root / "model"), str(root / "tasks")], signature=signature,
            input_example=example,  # pyright: ignore[reportArgumentType]  (it may be None)
            pip_requirements=["mlflow", "torch", "tokenizers", "safetensors", "pyarrow"],
        )  # fmt: skip
    try:
        client.create_registered_model(config.name)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.create_model_version(config.name, info.model_uri, registry.run, model_id=info.model_id).version)


def version_tags(
    model: PretrainedModel | FinetunedModel,
    scores: Scores,
    report: Report,
    metric: str,
    mine: Standing,
    registry: Registry,
) -> dict[str, str]:
    """Tags that lead back to the artifacts, the run and the score."""
    score = {"value": mine.value, "low": mine.low, "high": mine.high, "measured_on": mine.measured_on}
    return {
        "wordmill.fingerprint": model.fingerprint, "wordmill.artifact": model.folder, "wordmill.scores": scores.folder,
        "wordmill.report": report.folder, "wordmill.metric": metric, "wordmill.score": json.dumps(score),
        **registry.tags,
    }  # fmt: skip


class ChampionConfig(Section):
    """The registered model that a fine-tuning starts from."""

    revision: Literal[1] = 1
    uri: str = Field(
        default="models:/wordmill@champion", pattern=r"^models:/", description="registry name with alias or version"
    )


def fetch_champion(config: ChampionConfig, out: Path, registry: Registry) -> StageOutcome:
    """Copy the registered model's folder into the workspace, so that what starts from it is traceable."""
    import mlflow
    from mlflow.artifacts import download_artifacts

    mlflow.set_tracking_uri(registry.uri)
    with registry.lock:
        local = Path(download_artifacts(artifact_uri=config.uri))
    folder = next(
        path.parent for path in sorted(local.rglob("config.json")) if (path.parent / "model.safetensors").exists()
    )
    shutil.copytree(folder, out / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(folder / name, out / name)
    return StageOutcome(Ledger(rows_out=1), notes={"uri": config.uri})


def champion_digest(config: ChampionConfig, registry_uri: str) -> dict[str, str]:
    """Which version the alias stands for now. UserError when nothing is registered under it."""
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient(registry_uri, registry_uri)
    name, _, alias = config.uri.removeprefix("models:/").partition("@")
    try:
        if alias:
            found = client.get_model_version_by_alias(name, alias)
        else:
            name, _, version = name.partition("/")
            found = client.get_model_version(name, version)
    except MlflowException as error:
        raise UserError(
            f"{config.uri}: nothing is registered under it at {registry_uri} ({str(error)[:200]}). "
            "Run a pretraining recipe first: wordmill run configs/demo.yaml"
        ) from error
    return {config.uri: found.tags.get("wordmill.fingerprint", f"version {found.version}")}

"""Model registration: a version is registered, and the champion alias moves only when the newcomer is better."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.artifacts import FinetunedModel, PretrainedModel, Report, Scores
from tasks.examples.kinds.kind import Kind
from tasks.inference.saved_models import example_prompt
from tasks.ledger import Ledger, StageOutcome
from tasks.promotion.champion import Registry
from tasks.promotion.gate import RegisterConfig, Standing, decide, standing
from tasks.tracking.patience import what_it_told
from tasks.tracking.registered import CHAMPION, find_champion

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient


def challenger_name(name: str, tuning: str, kind: Kind) -> str:
    """A fine-tuned language model competes for the base model's name; a labeller has a name of its own."""
    return name if kind.writes else f"{name}-{tuning}"


@dataclass(frozen=True)
class Registration:
    """One model to register: the name, and the metric that decides."""

    config: RegisterConfig
    name: str
    metric: str  # of the model's own scores: bits_per_byte, accuracy, …


def register_model(
    config: Registration,
    model: PretrainedModel | FinetunedModel,
    scores: Scores,
    report: Report,
    out: Path,
    registry: Registry,
    rival: Scores | None = None,
) -> StageOutcome:
    """Log the model to its run, register a version with tags that lead back, move the alias if it is better.

    `rival` holds the champion's scores on the same suite, where the flow measured them; else the champion's tags do.
    A model that was registered before (same fingerprint) keeps its version. UserError for what MLflow refuses, ConnectionError
    for what may pass.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from requests import HTTPError

    client = mlflow.MlflowClient(registry.uri, registry.uri)
    mine = standing(scores, config.metric)
    with registry.lock:
        try:
            champion = find_champion(client, config.name)
            known = standing(rival, config.metric) if rival is not None else read_standing(champion)
            promoted, why = decide(config.config, config.metric, mine, known)
            version = find_version(client, config.name, model.fingerprint) or log_version(client, config, model, registry)
            for key, value in version_tags(model, scores, report, config.metric, mine, registry).items():
                client.set_model_version_tag(config.name, version, key, value)
            if promoted:
                client.set_registered_model_alias(config.name, CHAMPION, version)
        except (MlflowException, HTTPError) as error:
            raise what_it_told(error, f"register: {config.name}: MLflow at {registry.uri}") from error
    alias = f"models:/{config.name}@{CHAMPION}" if promoted else f"models:/{config.name}/{version}"
    notes = {"name": config.name, "version": version, "uri": alias, "promoted": str(promoted).lower(), "why": why}
    (out / "registered.json").write_text(json.dumps(notes, indent=1, ensure_ascii=False) + "\n")
    return StageOutcome(Ledger(rows_out=1), figures={config.metric: mine.value, "promoted": float(promoted)}, notes=notes)


def read_standing(champion: "ModelVersion | None") -> Standing | None:
    """What the champion's tags say of its score."""
    if champion is None or "wordmill.score" not in champion.tags:
        return None
    return Standing(**json.loads(champion.tags["wordmill.score"]))


def find_version(client: "MlflowClient", name: str, fingerprint: str) -> str | None:
    """The version that was registered from the artifact with this fingerprint."""
    found = client.search_model_versions(f"name = '{name}' and tags.`wordmill.fingerprint` = '{fingerprint}'")
    return str(found[0].version) if found else None


def log_version(client: "MlflowClient", config: Registration, model: PretrainedModel | FinetunedModel, registry: Registry) -> str:
    """Log the folder as an MLflow model that answers generate requests, and register it; returns the version."""
    import mlflow
    import pandas
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    root = Path(__file__).parents[2]
    signature = ModelSignature(
        Schema([ColSpec(DataType.string, "prompt")]),
        Schema([ColSpec(DataType.string, "text")]),
        ParamSchema(
            [
                ParamSpec("temperature", DataType.double, 0.7),
                ParamSpec("max_tokens", DataType.long, 50),
                ParamSpec("count", DataType.long, 1),
                ParamSpec("top_k", DataType.long, 0),
                ParamSpec("top_p", DataType.double, 1.0),
                ParamSpec("min_p", DataType.double, 0.0),
                ParamSpec("repetition_penalty", DataType.double, 1.0),
                ParamSpec("seed", DataType.long, 1),
            ]
        ),
    )
    mlflow.set_tracking_uri(registry.uri)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    prompt = example_prompt(model.path / "model")
    example = None if prompt is None else pandas.DataFrame({"prompt": [prompt]})
    with mlflow.start_run(run_id=registry.run):
        info = mlflow.pyfunc.log_model(
            name=config.name,
            python_model=str(root / "tasks" / "inference" / "serving.py"),
            artifacts={"model": str(model.path / "model")},
            code_paths=[str(root / "model"), str(root / "tasks")],
            signature=signature,
            input_example=example,  # pyright: ignore[reportArgumentType]  (it may be None)
            pip_requirements=["mlflow", "torch", "tokenizers", "safetensors", "pyarrow"],
        )
    try:
        client.create_registered_model(config.name)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.create_model_version(config.name, info.model_uri, registry.run, model_id=info.model_id).version)


def version_tags(
    model: PretrainedModel | FinetunedModel, scores: Scores, report: Report, metric: str, mine: Standing, registry: Registry
) -> dict[str, str]:
    """Tags that lead back to the artifacts, the run and the score."""
    score = {"value": mine.value, "low": mine.low, "high": mine.high, "measured_on": mine.measured_on}
    return {
        "wordmill.fingerprint": model.fingerprint,
        "wordmill.artifact": model.folder,
        "wordmill.scores": scores.folder,
        "wordmill.report": report.folder,
        "wordmill.metric": metric,
        "wordmill.score": json.dumps(score),
        **registry.tags,
    }

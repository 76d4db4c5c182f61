"""Registered versions of ours: a model logged to MLflow with its memory, and the tags that lead back to where it came from."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from tasks.artifacts import FinetunedModel, ModelMemory, PretrainedModel
from tasks.inference.saved_models import example_prompt
from tasks.memory import FOLDER
from tasks.promotion.champion import Registry
from tasks.promotion.decision import Decision
from tasks.settings import Json
from tasks.tracking.patience import Patience

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo

MOST_TAGGED = 5_000  # characters in a tag, of MLflow's older servers; newer ones take 100,000
DECISION = TypeAdapter(Decision)


def find_version(client: "MlflowClient", name: str, fingerprint: str) -> str | None:
    """The version that was registered from the artifact with this fingerprint."""
    found = client.search_model_versions(f"name = '{name}' and tags.`wordmill.fingerprint` = '{fingerprint}'")
    return str(found[0].version) if found else None


def log_version(
    client: "MlflowClient",
    name: str,
    model: PretrainedModel | FinetunedModel,
    memory: ModelMemory | None,
    registry: Registry,
    tags: Mapping[str, str],
    patience: Patience,
) -> str:
    """Log the model to its run, with its memory, as an MLflow model that answers requests; register it and return the version."""
    logged = patience.ask(lambda: upload(name, model, memory, registry))
    patience.ask(lambda: _create_name(client, name))
    made = patience.ask(
        lambda: client.create_model_version(
            name, logged.model_uri, registry.run, dict(tags), model_id=logged.model_id, await_creation_for=0
        )
    )
    return str(made.version)


def set_tags(client: "MlflowClient", name: str, version: str, tags: Mapping[str, str]) -> None:
    """Set those that are not set so yet."""
    before = client.get_model_version(name, version).tags
    for key, value in tags.items():
        if before.get(key) != value:
            client.set_model_version_tag(name, version, key, value)


def decision_tag(decision: Decision) -> str:
    """The decision as JSON that fits into a tag: the whole of it, or without its pairs and parts, or what was decided alone."""
    whole: dict[str, Json] = DECISION.dump_python(decision, mode="json")
    figures = {key: value for key, value in whole.items() if key not in ("better", "worse", "parts")}
    core = {key: value[:1000] if isinstance(value, str) else value for key, value in figures.items() if not isinstance(value, list)}
    texts = [json.dumps(form, ensure_ascii=False) for form in (whole, figures, core)]
    return next((text for text in texts if len(text) <= MOST_TAGGED), texts[-1])


def upload(name: str, model: PretrainedModel | FinetunedModel, memory: ModelMemory | None, registry: Registry) -> "ModelInfo":
    """One at a time: MLflow's address and current run are global."""
    import mlflow
    import pandas

    root = Path(__file__).parents[2]
    prompt = example_prompt(model.path / "model")
    example = None if prompt is None else pandas.DataFrame({"prompt": [prompt]})
    folders = {"model": str(model.path / "model")} | ({} if memory is None else {FOLDER: str(memory.path / FOLDER)})
    with registry.lock:
        mlflow.set_tracking_uri(registry.uri)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        with mlflow.start_run(run_id=registry.run):
            return mlflow.pyfunc.log_model(
                name=name,
                python_model=str(root / "tasks" / "inference" / "serving.py"),
                artifacts=folders,
                code_paths=[str(root / "model"), str(root / "tasks")],
                signature=_signature(),
                input_example=example,  # pyright: ignore[reportArgumentType]  (it may be None)
                pip_requirements=["mlflow", "torch", "tokenizers", "safetensors", "pyarrow"],
            )


def _signature() -> "ModelSignature":
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    return ModelSignature(
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


def _create_name(client: "MlflowClient", name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise

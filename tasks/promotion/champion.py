"""Model registry: the champion of a name, found and fetched."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tasks.ledger import Ledger, StageOutcome
from tasks.settings import Section
from tasks.tracking.registered import registered_version, version_folder

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"


@dataclass(frozen=True)
class Registry:
    """The MLflow registry of a run. `lock`: MLflow's current run is global, so one registration at a time."""

    uri: str
    run: str  # MLflow run id that the model is logged to
    tags: Mapping[str, str]
    lock: Lock


def find_champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """The version that holds the champion alias."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


class ChampionConfig(Section):
    """The registered model that a fine-tuning starts from."""

    revision: Literal[1] = 1
    uri: str = Field(default="models:/wordmill@champion", pattern=r"^models:/", description="registry name with alias or version")


def fetch_champion(config: ChampionConfig, out: Path, registry: Registry) -> StageOutcome:
    """Copy the registered model's folder into the workspace, so that what starts from it is traceable."""
    with registry.lock:
        folder = version_folder(config.uri, registered_version(config.uri, registry.uri), registry.uri)
    shutil.copytree(folder, out / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    return StageOutcome(Ledger(rows_out=1), notes={"uri": config.uri})


def champion_digest(config: ChampionConfig, registry_uri: str) -> dict[str, str]:
    """Which version the alias stands for now. UserError when nothing is registered under it."""
    found = registered_version(config.uri, registry_uri)
    return {config.uri: found.tags.get("wordmill.fingerprint", f"version {found.version}")}

"""Model registry: the champion of a name, found and fetched."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

from pydantic import Field

from tasks.errors import UserError
from tasks.ledger import Ledger, StageOutcome
from tasks.memory import FOLDER, Memory, memory_of
from tasks.promotion.history import settle_history
from tasks.settings import Section
from tasks.tracking.patience import WAIT_SECONDS, Patience
from tasks.tracking.registered import find_champion, registered_version, version_folder


@dataclass(frozen=True)
class Registry:
    """The MLflow registry of a run. `lock`: MLflow's current run is global, so one registration at a time."""

    uri: str
    run: str  # MLflow run id that the model is logged to
    tags: Mapping[str, str]
    lock: Lock


@dataclass(frozen=True)
class Rival:
    """The champion that a challenger is compared with."""

    version: str
    fingerprint: str  # of its artifact; "" where other software registered it
    model: Path | None  # its folder in Hugging Face form
    memory: Memory | None
    problem: str = ""  # why it could not be had


def find_rival(registry: Registry, name: str, into: Path, seconds: float = WAIT_SECONDS) -> Rival | None:
    """The champion of `name`, its `model/` and `memory/` copied below `into`; None where nothing holds the alias.

    RegistryAway where MLflow does not answer within `seconds`.
    """
    import mlflow

    client = mlflow.MlflowClient(registry.uri, registry.uri)
    patience = Patience(registry.uri, seconds, f"champion of {name}")
    patience.ask(lambda: settle_history(client, name))
    held = patience.ask(lambda: find_champion(client, name))
    if held is None:
        return None
    version, fingerprint = str(held.version), held.tags.get("wordmill.fingerprint", "")
    try:
        with registry.lock:
            copy_version(f"models:/{name}/{version}", registry.uri, into)
    except UserError as error:
        return Rival(version, fingerprint, None, None, str(error))
    return Rival(version, fingerprint, into / "model", memory_of(into))


def copy_version(uri: str, address: str, into: Path) -> None:
    """A registered version's `model/`, and the `memory/` that came with it, below `into`. UserError where its files are gone."""
    copied = into / "registered"
    shutil.rmtree(copied, ignore_errors=True)
    copied.mkdir(parents=True)
    folder = version_folder(uri, registered_version(uri, address), address, copied)
    memory = memory_of(folder.parent)
    if memory is not None:
        memory.folder.rename(into / FOLDER)
    folder.rename(into / "model")
    shutil.rmtree(copied, ignore_errors=True)


class ChampionConfig(Section):
    """The registered model that a fine-tuning starts from."""

    revision: Literal[2] = 2
    uri: str = Field(default="models:/wordmill@champion", pattern=r"^models:/", description="registry name with alias or version")


def fetch_champion(config: ChampionConfig, out: Path, registry: Registry) -> StageOutcome:
    """Copy the registered model's folder and its memory into the workspace, so that what starts from it is traceable."""
    with registry.lock:
        copy_version(config.uri, registry.uri, out)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (out / "model" / name).is_file():
            shutil.copyfile(out / "model" / name, out / name)
    return StageOutcome(Ledger(rows_out=1), notes={"uri": config.uri})


def champion_digest(config: ChampionConfig, registry_uri: str) -> dict[str, str]:
    """Which version the alias stands for now. UserError when nothing is registered under it."""
    found = registered_version(config.uri, registry_uri)
    return {config.uri: found.tags.get("wordmill.fingerprint", f"version {found.version}")}

"""Registered versions: what models:/NAME@ALIAS, models:/NAME/VERSION and models:/NAME/latest stand for, and their files."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UserError
from tasks.tracking.address import may_pass, mlflow_problem, require_answer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION or models:/NAME/latest"
REFERENCE = re.compile(r"models:/([^/@']+)(?:@([^/@]+)|/(\d+|latest))", re.IGNORECASE)
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
MOST_NAMED = 10
CHAMPION = "champion"
HISTORY = ".history"  # ends the name under which a name's history is kept (tasks/promotion/history.py)


def find_champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """The version that holds the champion alias."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise


def registered_names(client: "MlflowClient") -> list[str]:
    """Names of models, without those of their histories."""
    found: list[str] = []
    token: str | None = ""
    while token is not None:
        page = client.search_registered_models(max_results=1000, page_token=token or None)
        found += [model.name for model in page]
        token = page.token or None
    return [name for name in found if not name.endswith(HISTORY)]


def registered_version(uri: str, address: str) -> "ModelVersion":
    """The version that `uri` means now. UserError, naming what is there, when it means none, or MLflow does not answer."""
    found = REFERENCE.fullmatch(uri.rstrip("/"))
    if found is None:
        raise UserError(f"{uri}: expected {FORMS}.")
    database = Path(address.removeprefix("sqlite:///"))
    if address.startswith("sqlite:///") and not database.exists():  # MLflow would make one
        raise UserError(f"{uri}: nothing is registered, for {database} does not exist. Fix: wordmill run registers a model.")
    require_answer(address)
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient(address, address)
    name, alias, version = found.groups()
    try:
        if alias is not None:
            return client.get_model_version_by_alias(name, alias)
        if version.isdecimal():
            return client.get_model_version(name, version)
        versions = client.search_model_versions(f"name = '{name}'", max_results=1, order_by=["version_number DESC"])
        if versions:
            return versions[0]
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise UserError(f"{uri}: MLflow at {address} does not tell ({str(error)[:300]}).") from error
    raise UserError(
        f"{uri}: {_what_is_there(client, name, address)}. Expected {FORMS}. Fix: name one of these, or register one: wordmill run."
    )


def _what_is_there(client: "MlflowClient", name: str, address: str) -> str:
    """What is registered, by name or under this one."""
    versions = client.search_model_versions(f"name = '{name}'", max_results=MOST_NAMED, order_by=["version_number DESC"])
    if not versions:
        names = registered_names(client)[:MOST_NAMED]
        return f"nothing is registered as {name!r} at {address}, only {', '.join(names) or 'nothing at all'}"
    aliases = ", ".join(f"@{alias} (version {version})" for alias, version in sorted(client.get_registered_model(name).aliases.items()))
    return f"{name!r} has no such version or alias at {address}, but versions {', '.join(str(one.version) for one in versions)}" + (
        f" and {aliases}" if aliases else ""
    )


def version_folder(uri: str, version: "ModelVersion", address: str, into: Path | None = None) -> Path:
    """The Hugging Face folder among a version's files, copied to the folder `into` where one is given.

    UserError, saying where they were, when they are gone; ConnectionError where MLflow does not answer.
    """
    import mlflow
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(address)
    name, number = version.name, version.version
    try:
        local = Path(download_artifacts(artifact_uri=f"models:/{name}/{number}", dst_path=None if into is None else str(into)))
        reason = f"{local} holds no config.json with weights beside it"
    except (MlflowException, OSError) as error:
        local, reason = None, str(error)[:300]
        problem = mlflow_problem(address) if address.startswith("http") else None
        if problem is not None and may_pass(problem):
            raise ConnectionError(f"{uri}: MLflow at {address} {problem}. Fix: see that it answers, then run again") from error
    folders = [path.parent for path in sorted(local.rglob("config.json"))] if local is not None else []
    whole = [folder for folder in folders if any(folder.glob("*.safetensors")) and (folder / "tokenizer.json").is_file()]
    if whole:
        return whole[0]
    try:
        stored = mlflow.MlflowClient(address, address).get_model_version_download_uri(name, str(number))
    except MlflowException:
        stored = version.source
    raise UserError(
        f"{uri}: version {number} of {name!r} is registered at {address}, but its files, stored at {stored}, cannot be had ({reason}). "
        "Fix: put them back, name another version, or run the recipe that made it again."
    )

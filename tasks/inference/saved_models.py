"""Saved models: from what a user calls one to its folder, from the folder to a model that answers."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.artifacts import Workspace
from tasks.errors import UserError
from tasks.inference.tracked_runs import known_run, models_of
from tasks.settings import given_path
from tasks.tokenizer.encoding import START_TOKENS, load_tokenizer, mask_of, start_of
from tasks.tracking.address import is_absent, require_answer
from tasks.tracking.registered import FORMS as REGISTERED_FORMS
from tasks.tracking.registered import REFERENCE, registered_version, version_folder

if TYPE_CHECKING:
    import tokenizers

    from model.nn.models import LanguageModel, Model

FORMS = "an artifact or Hugging Face folder, a run id, a fingerprint, or models:/NAME@ALIAS"


def resolve_model(reference: str, workspace: Workspace, tracking_uri: str, allow_pickle: bool = False) -> Path:
    """The Hugging Face folder that `reference` means. UserError, listing what was tried, when it means none."""
    is_empty = is_absent(tracking_uri)
    if is_empty and reference.startswith(("models:/", "runs:/")):
        raise UserError(
            f"MODEL {reference}: nothing is registered in {workspace.root} yet. Fix: wordmill run registers a model; "
            "--workspace DIR names another workspace."
        )
    if REFERENCE.fullmatch(reference.rstrip("/")):
        found = registered_version(reference, tracking_uri)
        return check_folder(version_folder(reference, found, tracking_uri))
    if reference.startswith("models:/") and not reference.startswith("models:/m-"):  # the id of a logged model
        raise UserError(
            f"MODEL {reference}: expected {REGISTERED_FORMS}. Fix: add an alias or a version, such as {reference.rstrip('/')}@champion."
        )
    if reference.startswith(("models:/", "runs:/")):
        return _download(reference, tracking_uri)
    folder = given_path(reference)
    if folder.exists():
        inner = folder / "model"
        return check_folder(inner if (inner / "config.json").is_file() else folder, allow_pickle=allow_pickle)
    tried = [f"no folder {folder}"]
    if re.fullmatch(r"[0-9a-f]{4,16}", reference):
        found = _by_fingerprint(reference, workspace)
        if found is not None:
            return found
        tried.append(f"no model with fingerprint {reference}… in {workspace.root}")
    if re.fullmatch(r"[0-9a-f]{32}", reference):
        found = None if is_empty else _by_run(reference, workspace, tracking_uri)
        if found is not None:
            return found
        tried.append(f"no run of that id with a model at {tracking_uri}")
    raise UserError(f"MODEL {reference!r}: {'; '.join(tried)}. Expected {FORMS}. Fix: wordmill run makes one.")


def check_folder(folder: Path, place: str = "MODEL", allow_pickle: bool = False) -> Path:
    """`folder` itself when it holds a whole Hugging Face model. UserError, naming `place`, for what it lacks.

    Pickled weights count only where `allow_pickle` says so.
    """
    if not folder.is_dir():
        raise UserError(f"{place} {folder}: {'a file' if folder.exists() else 'no such folder'}, expected {FORMS}.")
    if not (folder / "config.json").is_file():
        raise UserError(f"{place} {folder}: no config.json, so it is neither a Hugging Face folder nor a model's artifact.")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth", "*.pkl") for path in folder.glob(kind))
        if pickled and not allow_pickle:
            raise UserError(
                f"{place} {folder}: {pickled[0]} is pickled, and a pickle can run code, so it is not read. "
                "Fix: for a file that you trust, wordmill export --allow-pickle writes model.safetensors, and a recipe may say "
                "base.allow_pickle: true."
            )
        if not pickled:
            raise UserError(f"{place} {folder}: no model.safetensors. Fix: copy the folder again, with its weights.")
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"{place} {folder}: no tokenizer.json. Fix: save a fast tokenizer into the folder.")
    return folder


def load(folder: Path, allow_pickle: bool = False) -> "tuple[Model, tokenizers.Tokenizer]":
    """Model (CPU, float32, eval mode) and tokenizer of a model's folder. UserError for what cannot be read."""
    from model.huggingface.huggingface import load_folder
    from model.nn.models import MultiTask

    check_folder(folder, allow_pickle=allow_pickle)
    tokenizer = load_tokenizer(folder)
    try:
        model = load_folder(folder, allow_pickle)
    except ValueError as error:
        raise UserError(f"MODEL {error}") from error
    if isinstance(model, MultiTask):
        raise UserError(
            f"MODEL {folder}: it has several heads, {', '.join(model.specs)}. Fix: give a model of one of them: an artifact of the "
            "stage head, or the name that it is registered under."
        )
    if tokenizer.get_vocab_size() > model.trunk.vocab_size:
        raise UserError(
            f"MODEL {folder}: tokenizer.json has {tokenizer.get_vocab_size()} tokens, but the weights are for "
            f"{model.trunk.vocab_size}. Fix: put the tokenizer there that the model was trained with."
        )
    return model, tokenizer


def example_prompt(folder: Path) -> str | None:
    """A prompt that the model in `folder` answers when it is served; None where it answers none."""
    from model.huggingface.huggingface_config import read_folder

    head = read_folder(folder).head
    if head == "choice":
        return "Which?\nthis\nthat"
    if head == "masked":
        tokenizer = load_tokenizer(folder)
        mask = mask_of(tokenizer)
        return None if mask is None else f"def {tokenizer.id_to_token(mask)}"
    return None if head == "multi_task" else "def "


def start_id(tokenizer: "tokenizers.Tokenizer") -> int:
    """The token that stands in front of a text. UserError when the tokenizer has none that we know."""
    number = start_of(tokenizer, "MODEL")
    if number is not None:
        return number
    raise UserError(f"the tokenizer has none of {', '.join(START_TOKENS)}: nothing to begin a text with.")


def as_language_model(model: "Model", what: str) -> "LanguageModel":
    """`model` itself. UserError for a classifier, which cannot do `what`."""
    from model.nn.models import LanguageModel

    if not isinstance(model, LanguageModel):
        raise UserError(f"MODEL is a {type(model).__name__}: it cannot {what}. Fix: give a language model.")
    return model


def _by_fingerprint(prefix: str, workspace: Workspace) -> Path | None:
    found = sorted(path.parent.parent for path in workspace.root.glob(f"*/{prefix}*/model/config.json"))
    whole = [folder for folder in found if (folder / "manifest.json").is_file()]
    if len(whole) > 1:
        names = ", ".join(f"{folder.parent.name}/{folder.name}" for folder in whole)
        raise UserError(f"MODEL {prefix!r}: several models begin so: {names}. Fix: give more digits.")
    return check_folder(whole[0] / "model") if whole else None


def _by_run(run_id: str, workspace: Workspace, tracking_uri: str) -> Path | None:
    """The model that an MLflow run, or one of its stages, made or took from the workspace; else the one it logged."""
    require_answer(tracking_uri)
    import mlflow

    if is_absent(tracking_uri):
        return None
    client = mlflow.MlflowClient(tracking_uri, tracking_uri)
    run = known_run(client, run_id)
    if run is None:
        return None
    for fingerprint in models_of(client, run):
        found = _by_fingerprint(fingerprint, workspace)
        if found is not None:
            return found
    logged = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    return _download(f"models:/{logged[0].model_id}", tracking_uri) if logged else None


def _download(uri: str, tracking_uri: str) -> Path:
    """The folder below a registered or logged model. UserError when nothing is registered so."""
    require_answer(tracking_uri)
    import mlflow
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(tracking_uri)
    try:
        local = Path(download_artifacts(artifact_uri=uri))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"MODEL {uri}: not found at {tracking_uri} ({str(error)[:200]}). Fix: wordmill run registers a model, or name "
            "another tracking server."
        ) from error
    found = sorted(path.parent for path in local.rglob("config.json") if any(path.parent.glob("*.safetensors")))
    if not found:
        raise UserError(f"MODEL {uri}: holds no Hugging Face folder (config.json and safetensors). Expected {FORMS}.")
    return check_folder(found[0])

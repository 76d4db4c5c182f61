"""Base model from outside: a Hugging Face folder, checked and copied into the workspace, so that all that starts from it is traceable."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tasks.artifacts import file_digest, read_manifest
from tasks.errors import UserError
from tasks.examples.pair_rows import told_start
from tasks.finetune.tuned_model import Base, open_base
from tasks.inference.folder_settings import GENERATION
from tasks.inference.folder_writing import TEMPLATE_FILE, TOKENIZER_CONFIG, TOKENS_MAP
from tasks.inference.objective_file import FILE as OBJECTIVE
from tasks.inference.saved_models import check_folder
from tasks.ledger import Ledger, StageOutcome
from tasks.memory import FOLDER, Memory, memory_of
from tasks.settings import Placement, Section, given_path
from tasks.tokenizer.encoding import load_tokenizer, text_ids, write_without_batches

KEY = "base.folder"
TOKENIZER_FILES = ("tokenizer.json", TOKENIZER_CONFIG, TOKENS_MAP, TEMPLATE_FILE)
FILES = ("config.json", GENERATION, "task.json", OBJECTIVE, *TOKENIZER_FILES)
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
KEPT = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "id2label",
)  # of config.json, in a model with an adapter merged
PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json")  # not the second copies that some bring, as consolidated.safetensors


class BaseConfig(Section):
    """The model that a training starts from, made by whatever tool."""

    revision: Literal[3] = 3
    folder: Annotated[str, Placement()] = Field(
        min_length=1,
        description="Hugging Face folder with weights and tokenizer.json, or a model's artifact in a workspace, whose memory comes along; "
        "the content is the identity",
    )
    allow_pickle: Annotated[bool, Placement()] = Field(
        default=False, description="Read weights that are pickled where there are no others, tensors alone; they go on as safetensors"
    )
    adapter: Annotated[str | None, Placement()] = Field(
        default=None, min_length=1, description="Folder of a LoRA adapter in PEFT's form, merged into the weights"
    )


def base_folder(config: BaseConfig) -> Path:
    """The Hugging Face folder; in an artifact its `model/`. UserError for what holds no whole model."""
    folder = given_path(config.folder)
    inner = folder / "model"
    return check_folder(inner if (inner / "config.json").is_file() else folder, KEY, config.allow_pickle)


def base_memory(config: BaseConfig) -> Memory | None:
    """What travels with a model's artifact: in its folder or, in the workspace that it was made in, beside it."""
    artifact = given_path(config.folder)
    if not (artifact / "model" / "config.json").is_file():
        return None
    manifest, found = read_manifest(artifact), memory_of(artifact)
    if found is not None or manifest is None:
        return found
    for path in sorted(artifact.absolute().parents[1].glob("memory/*/manifest.json")):
        of = read_manifest(path.parent)
        if of is not None and of.inputs.get("model") == manifest.fingerprint:
            return memory_of(path.parent)
    return None


def memory_digests(config: BaseConfig) -> dict[str, str]:
    """Content of the memory's files."""
    memory = base_memory(config)
    if memory is None:
        return {}
    files = sorted(path for path in memory.folder.rglob("*") if path.is_file())
    return {f"{FOLDER}/{path.relative_to(memory.folder).as_posix()}": file_digest(path) for path in files}


def base_files(config: BaseConfig) -> list[Path]:
    """The files that matter. UserError where weights, config or tokenizer are missing."""
    folder = base_folder(config)
    named = [path for name in FILES if (path := folder / name).is_file()]
    return [*named, *(_found(folder, WEIGHTS) or _found(folder, PICKLED))]


def _found(folder: Path, forms: Sequence[str]) -> list[Path]:
    return [path for form in forms for path in sorted(folder.glob(form)) if path.is_file()]


def adapter_files(config: BaseConfig) -> list[Path]:
    """The adapter's weights and settings. UserError where one is missing."""
    if config.adapter is None:
        return []
    folder = given_path(config.adapter)
    for name in ADAPTER_FILES:
        if not (folder / name).is_file():
            raise UserError(f"base.adapter: {folder} has no {name}, expected an adapter that PEFT or Wordmill saved.")
    return [folder / name for name in ADAPTER_FILES]


def base_digests(config: BaseConfig) -> dict[str, str]:
    """Content digests of the folder's files, the adapter's and the memory's, to enter the fingerprint."""
    return {path.name: file_digest(path) for path in (*base_files(config), *adapter_files(config))} | memory_digests(config)


def take_base(config: BaseConfig, out: Path) -> StageOutcome:
    """Write model/ and, beside it, the tokenizer and memory/. UserError for a model that cannot be computed here, or lacks a tokenizer."""
    folder = out / "model"
    folder.mkdir()
    memory = base_memory(config)
    if memory is not None:
        shutil.copytree(memory.folder, out / FOLDER)
    pickled = _found(base_folder(config), PICKLED)
    for path in base_files(config):
        if path not in pickled:
            shutil.copyfile(path, folder / path.name)
    if not _found(folder, WEIGHTS):
        _unpickle(config, folder)
    if not (folder / "tokenizer_config.json").is_file():
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")
    tokenizer = load_tokenizer(folder)
    write_without_batches(tokenizer, folder / "tokenizer.json")
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    base = open_base(folder, tokenizer, KEY)
    text_ids(tokenizer, KEY, told_start(folder) if base.trunk.config.family == "seq2seq" else None)
    if adapter_files(config):
        _merge_adapter(config, base, folder)
    parameters = sum(parameter.numel() for parameter in (base.model or base.trunk).parameters())
    notes = {"folder": config.folder, "family": base.trunk.config.family, "model": base.kind}
    if config.adapter is not None:
        notes["adapter"] = config.adapter
    return StageOutcome(Ledger(rows_out=1), (), {"parameters": float(parameters)}, notes)


def _unpickle(config: BaseConfig, folder: Path) -> None:
    """The same tensors in model.safetensors. UserError for a file that holds anything else, or may not be read."""
    from model.huggingface.weight_files import save_unpickled

    try:
        save_unpickled(base_folder(config), folder, config.allow_pickle)
    except ValueError as error:
        raise UserError(f"{KEY}: {error}") from error


def _merge_adapter(config: BaseConfig, base: Base, folder: Path) -> None:
    """The folder's weights become those with the adapter."""
    from model.huggingface.huggingface import save_folder
    from model.huggingface.lora_files import load_adapter
    from model.nn.lora import merge

    assert config.adapter is not None
    if base.model is None:
        raise UserError(f"base.adapter: the base is {base.kind}, and an adapter needs the model that it was made for.")
    try:
        load_adapter(given_path(config.adapter), base.model)
    except ValueError as error:
        raise UserError(f"base.adapter: {error}") from error
    merge(base.model)
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    generation = folder / GENERATION
    before = generation.read_bytes() if generation.is_file() else None
    for path in _found(folder, WEIGHTS):
        path.unlink()
    save_folder(folder, base.model, {key: told[key] for key in KEPT if key in told})
    if before is not None:  # a merged adapter changes neither temperature nor ends
        generation.write_bytes(before)

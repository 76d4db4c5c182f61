"""A base model from outside: a Hugging Face folder, checked and copied into the workspace, so that what starts from it is traceable."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from tasks.artifacts import file_digest
from tasks.encoding import load_tokenizer, text_ids
from tasks.ledger import Ledger, StageOutcome
from tasks.models import check_folder
from tasks.settings import Placement, Section
from tasks.tuning import open_base

KEY = "base.folder"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
FILES = ("config.json", "generation_config.json", "task.json", *TOKENIZER_FILES)
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")


class BaseConfig(Section):
    """The model that a fine-tuning starts from, made by whatever tool."""

    revision: Literal[1] = 1
    folder: Annotated[str, Placement()] = Field(
        min_length=1, description="Hugging Face folder with weights and tokenizer.json; its content is the identity"
    )


def base_files(config: BaseConfig) -> list[Path]:
    """The files that matter. UserError where weights, config or tokenizer are missing."""
    folder = check_folder(Path(config.folder).expanduser(), KEY)
    named = [folder / name for name in FILES]
    return [
        path for path in (*named, *(path for form in WEIGHTS for path in sorted(folder.glob(form)))) if path.is_file()
    ]


def base_digests(config: BaseConfig) -> dict[str, str]:
    """Content digests of the folder's files, to enter the fingerprint."""
    return {path.name: file_digest(path) for path in base_files(config)}


def take_base(config: BaseConfig, out: Path) -> StageOutcome:
    """Write model/ and, beside it, the tokenizer. UserError for a model that cannot be computed here, or lacks a tokenizer."""
    folder = out / "model"
    folder.mkdir()
    for path in base_files(config):
        shutil.copyfile(path, folder / path.name)
    if not (folder / "tokenizer_config.json").is_file():
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        shutil.copyfile(folder / name, out / name)
    tokenizer = load_tokenizer(folder)
    text_ids(tokenizer, KEY)
    base = open_base(folder, tokenizer, KEY)
    parameters = sum(parameter.numel() for parameter in (base.model or base.trunk).parameters())
    notes = {"folder": config.folder, "family": base.trunk.config.family, "model": base.kind}
    return StageOutcome(Ledger(rows_out=1), (), {"parameters": float(parameters)}, notes)

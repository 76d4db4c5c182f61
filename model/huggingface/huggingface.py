"""Hugging Face folders: a saved model is config.json and model.safetensors, under the names that Hugging Face's tools read.

A model that none of Hugging Face's classes computes is saved in the same files under our own names (huggingface_config.py).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.config.heads import Head, HeadSpec
from model.config.model_config import ModelConfig
from model.huggingface.folder_config import CLASSIFIERS, CONFIG, OWN_TYPE, FolderDescription, label_names
from model.huggingface.huggingface_config import (
    OWN_TASKS,
    PROBLEM_TYPES,
    architecture_of,
    describe,
    foreign_type,
    obstacle,
    read_folder,
    read_trunk_config,
)
from model.huggingface.stored_weights import take_tensors
from model.huggingface.tensor_names import stored_tensors, stored_trunk
from model.huggingface.trunk_tensors import Shape, StoredTensor
from model.huggingface.weight_files import WEIGHTS, read_weights
from model.nn.heads import LanguageHead, MaskedHead
from model.nn.lora import LoraLinear
from model.nn.models import Model, MultiTask, Trunk, build_trunk, model_with
from model.nn.transformer import EncoderDecoder

TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


def save_folder(
    folder: Path,
    model: Model,
    extra: Mapping[str, object],
    vocab_size: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Writes config.json, generation_config.json (of a model that writes texts) and model.safetensors.

    `extra` goes into config.json: `id2label` (class number -> name) for classifiers, `bos_token_id`, `eos_token_id`,
    `pad_token_id` and the like for any. A Hugging Face sequence classifier finds a row's last token by `pad_token_id`; a
    seq2seq model's target begins with `decoder_start_token_id`, or else with `bos_token_id`.
    `vocab_size`: rows of the vocabulary to keep, where the rest is padding. Raises ValueError for labels or a vocabulary
    that do not fit, and for a model whose adapters are not merged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = model.trunk.vocab_size if vocab_size is None else vocab_size
    if not 1 <= rows <= model.trunk.vocab_size:
        raise ValueError(f"vocab_size {rows}: the model has {model.trunk.vocab_size} tokens, keep 1 or more of them")
    if any(isinstance(layer, LoraLinear) for layer in model.modules()):
        raise ValueError("the model has adapters: merge them before saving it")
    described = _describe_model(model, extra, rows)
    ours = _state(model, rows)
    theirs: dict[str, Tensor] = {}
    for stored in stored_tensors(described, _shapes(ours)):
        for name, part in zip(stored.names, ours[stored.ours].split(stored.sizes), strict=True):
            theirs[name] = (part.T if stored.transposed else part).to(_DTYPES[dtype]).contiguous().clone()
    save_file(theirs, folder / WEIGHTS, metadata={"format": "pt"})
    values = {
        **_config_values(described, extra),
        "dtype": dtype,
        "torch_dtype": dtype,
        **extra,
        **_label_values(described),
    }
    (folder / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if described.head in ("language", "seq2seq"):
        tokens = {key: values[key] for key in TOKENS if values.get(key) is not None}
        generation = {"_from_model_config": True, **tokens}
        (folder / "generation_config.json").write_text(json.dumps(generation, indent=2, sort_keys=True) + "\n")


def load_folder(folder: Path, allow_pickle: bool = False) -> Model:
    """The model in a folder, ours or Hugging Face's, on the CPU in float32 and in eval mode.

    Raises ValueError for an architecture or a setting that this code cannot compute, for pickled weights unless
    `allow_pickle`, and, in one message, for all tensors that are missing, unknown, of the wrong shape or not finite.
    """
    described = read_folder(folder)
    with torch.device("meta"):  # the names and shapes alone: memory is taken only for a model that the weights fit
        own = _shapes(_new_model(folder, described).state_dict()) if described.model_type == OWN_TYPE else []
    found = read_weights(folder, allow_pickle)
    tensors = take_tensors(folder, described, stored_tensors(described, own), found, has_head=True)
    model = _new_model(folder, described)
    model.load_state_dict(tensors)
    return model.eval()


def load_trunk(folder: Path, allow_pickle: bool = False) -> Trunk | EncoderDecoder:
    """The trunk of the model in a folder, whatever its head, to go under a new one: on the CPU, in float32.

    It carries `config` and `vocab_size`. Raises ValueError as `load_folder` does.
    """
    described = read_trunk_config(folder)
    with torch.device("meta"):
        own = [(f"trunk.{name}", shape) for name, shape in _shapes(_new_trunk(described).state_dict())]
    found = read_weights(folder, allow_pickle)
    tensors = take_tensors(folder, described, stored_trunk(described, own), found, has_head=False)
    trunk = _new_trunk(described)
    trunk.load_state_dict({name.removeprefix("trunk."): tensor for name, tensor in tensors.items()})
    return trunk.eval()


def load_pooler(folder: Path) -> dict[str, Tensor]:
    """BERT's pooler in a folder, whatever its head, named as in a classifier of ours; empty where the folder has none.

    Raises ValueError for values that are NaN or infinite.
    """
    found = read_weights(folder, allow_pickle=False)
    pooler: dict[str, Tensor] = {}
    for part in ("weight", "bias"):
        name = f"pooler.dense.{part}"
        tensor = found.get(f"bert.{name}", found.get(name))
        if tensor is not None:
            if not tensor.isfinite().all():
                raise ValueError(f"{folder}: {name} has values that are NaN or infinite")
            pooler[f"head.pooler.{part}"] = tensor.float()
    return pooler


def model_tensors(model: Model) -> list[StoredTensor]:
    """Which tensor of the model is which of its folder's, and how it lies there."""
    return stored_tensors(_describe_model(model, {}, model.trunk.vocab_size), _shapes(model.state_dict()))


def read_model_config(folder: Path) -> ModelConfig:
    """The shape of the model in `folder`; see `read_folder`."""
    return read_folder(folder).model


def foreign_architecture(model: Model) -> str | None:
    """The class of transformers that reads the model's folder; None when it has none: see `foreign_obstacle`."""
    return architecture_of(model.trunk.config, head_of(model))


def foreign_obstacle(model: Model) -> str | None:
    """Why no class of transformers reads the model's folder, in words; None when one does."""
    return obstacle(model.trunk.config, head_of(model))


def head_of(model: Model) -> Head:
    """What the model predicts."""
    return "multi_task" if isinstance(model, MultiTask) else model.spec.kind


_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def _describe_model(model: Model, extra: Mapping[str, object], vocab_size: int) -> FolderDescription:
    head, config = head_of(model), model.trunk.config
    spec = None if isinstance(model, MultiTask) else model.spec
    labels = label_names(extra.get("id2label"), spec.classes) if spec is not None and spec.kind in CLASSIFIERS else ()
    specs = model.specs if isinstance(model, MultiTask) else {}
    return FolderDescription(
        foreign_type(config, head) or OWN_TYPE,
        config,
        vocab_size,
        head,
        labels,
        "single" if spec is None else spec.problem,
        {name: dataclasses.asdict(one) for name, one in specs.items()},
    )


def _config_values(described: FolderDescription, extra: Mapping[str, object]) -> dict[str, object]:
    values = describe(described.model, described.vocab_size, described.head)
    if described.head == "seq2seq":
        values["decoder_start_token_id"] = extra.get("bos_token_id", 0)
    if described.head == "sequence":
        values["problem_type"] = PROBLEM_TYPES[described.problem]
    if described.tasks:
        values[OWN_TASKS] = described.tasks
    return values


def _label_values(described: FolderDescription) -> dict[str, object]:
    if described.head not in CLASSIFIERS:
        return {}
    return {
        "id2label": {str(number): label for number, label in enumerate(described.labels)},
        "label2id": {label: number for number, label in enumerate(described.labels)},
    }


def _state(model: Model, vocab_size: int) -> dict[str, Tensor]:
    """All tensors of the model on the CPU, those of the vocabulary cut to its first rows."""
    cut = {"trunk.embedding.weight"}
    for name, module in model.named_modules():
        if isinstance(module, LanguageHead | MaskedHead):
            cut.add(f"{name}.{'weight' if isinstance(module, LanguageHead) else 'bias'}")
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return {name: tensor[:vocab_size] if name in cut else tensor for name, tensor in tensors.items()}


def _shapes(state: Mapping[str, Tensor]) -> list[tuple[str, Shape]]:
    return [(name, tuple(tensor.shape)) for name, tensor in state.items()]


def _new_trunk(described: FolderDescription) -> Trunk | EncoderDecoder:
    config, vocab_size = described.model, described.vocab_size
    return EncoderDecoder(config, vocab_size) if config.family == "seq2seq" else build_trunk(config, vocab_size)


def _new_model(folder: Path, described: FolderDescription) -> Model:
    config, vocab_size = described.model, described.vocab_size
    try:
        if described.head == "multi_task":
            return MultiTask(config, vocab_size, _head_specs(described))
        return model_with(config, vocab_size, HeadSpec(described.head, len(described.labels), described.problem))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:  # the others for heads that torch cannot build
        raise ValueError(f"{folder / CONFIG}: {error}") from error


def _head_specs(described: FolderDescription) -> dict[str, HeadSpec]:
    """The heads of a multi-task model. Raises ValueError for what is no head."""
    specs: dict[str, HeadSpec] = {}
    for name, values in described.tasks.items():
        if not isinstance(values, dict) or set(values) != {"kind", "classes", "problem"}:
            raise ValueError(f"{OWN_TASKS}: {name} is {values!r}, expected kind, classes and problem")
        specs[name] = HeadSpec(values["kind"], values["classes"], values["problem"])
    return specs

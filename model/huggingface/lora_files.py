"""LoRA files in the form of PEFT: adapter_config.json and adapter_model.safetensors, under Hugging Face's names.

Some matrices that lie apart there are one here (queries, keys and values; gate and up). One adapter of ours is written as
several that share A, with the rows of B shared out. Several of theirs are read as one: where their A differ, the A are
stacked and B is block-diagonal, so that the ranks add up. Both are exact.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.config.lora_config import LoraConfig
from model.huggingface.huggingface import model_tensors
from model.huggingface.trunk_tensors import StoredTensor
from model.nn.lora import adapt, adapters
from model.nn.models import LanguageModel, Model, Seq2SeqModel, SequenceClassifier, TokenClassifier
from model.nn.name_patterns import last_match

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
UNSUPPORTED = {"use_dora": (False, None), "bias": ("none",), "trainable_token_indices": (None,), "peft_type": ("LORA",)}


@dataclass(frozen=True)
class _Part:
    """The adapter of one of their matrices, number `number` of those that are one here."""

    number: int
    a: Tensor  # [R, in]
    b: Tensor  # [out, R]
    scale: float


def save_adapter(folder: Path, model: Model, config: LoraConfig, base: str) -> None:
    """Writes the adapters of `model`, and whatever else of it learns whole: a new head, a grown embedding.

    `base` is the folder or name of the base model, for those who load the adapter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = {tensor.ours: tensor for tensor in model_tensors(model)}
    tensors, targets, ranks, alphas = dict[str, Tensor](), list[str](), dict[str, int](), dict[str, float]()
    for name, layer in adapters(model):
        tensor = stored[f"{name}.weight"]
        for theirs, rows in zip(tensor.names, layer.lora_b.detach().split(tensor.sizes), strict=True):
            module = theirs.removesuffix(".weight")
            targets.append(module)
            tensors[f"{PREFIX}{module}.lora_A.weight"] = layer.lora_a.detach().cpu().clone()
            tensors[f"{PREFIX}{module}.lora_B.weight"] = rows.cpu().clone()
            if layer.rank != config.rank or layer.scale != config.scale:
                ranks[module], alphas[module] = layer.rank, layer.scale * layer.rank
    heads = list[str]()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.endswith((".lora_a", ".lora_b")):
            tensor = stored[name]
            for theirs, part in zip(tensor.names, parameter.detach().cpu().split(tensor.sizes), strict=True):
                tensors[f"{PREFIX}{theirs}"] = (part.T if tensor.transposed else part).contiguous().clone()
                if not name.startswith("trunk."):
                    heads.append(theirs.rpartition(".")[0])
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    values: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": _task_type(model),
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": targets,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "modules_to_save": list(dict.fromkeys(heads)) or None,
        "fan_in_fan_out": model.trunk.config.family == "gpt2",
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def load_adapter(folder: Path, model: Model) -> None:
    """Puts the adapters of `folder` into `model`, copies the tensors that were saved whole, and freezes all else.

    Raises ValueError, naming the file, for settings that this code does not compute, and for tensors that are unknown,
    incomplete or of the wrong shape.
    """
    settings, found = _read(folder)
    path = folder / ADAPTER_WEIGHTS
    model.requires_grad_(False)
    with torch.no_grad():
        for tensor in model_tensors(model):
            parts = [part for number in range(len(tensor.names)) if (part := _take(path, settings, tensor, number, found))]
            if parts:
                _adapt(model, tensor, parts, float(_number(settings, "lora_dropout", 0.0)))
            elif all(name in found for name in tensor.names):
                whole = [found.pop(name) for name in tensor.names]
                _copy(path, model, tensor, torch.cat([part.T if tensor.transposed else part for part in whole]))
    if found:
        raise ValueError(f"{path}: the model has nothing that these belong to: {', '.join(sorted(found)[:8])}")


def _adapt(model: nn.Module, tensor: StoredTensor, parts: list[_Part], dropout: float) -> None:
    """One adapter for the parts of one matrix of ours."""
    first = parts[0]
    shares = len(parts) == len(tensor.names) and all(torch.equal(part.a, first.a) for part in parts)
    layer = adapt(model, tensor.ours.removesuffix(".weight"), 1, first.scale, dropout)
    if shares and all(part.scale == first.scale for part in parts):
        layer.lora_a, layer.lora_b = nn.Parameter(first.a), nn.Parameter(torch.cat([part.b for part in parts]))
        return
    b = torch.zeros(sum(tensor.sizes), sum(part.a.shape[0] for part in parts))
    column = 0
    for part in parts:
        row, rank = sum(tensor.sizes[: part.number]), part.a.shape[0]
        b[row : row + tensor.sizes[part.number], column : column + rank] = part.b * (part.scale / first.scale)
        column += rank
    layer.lora_a, layer.lora_b = nn.Parameter(torch.cat([part.a for part in parts])), nn.Parameter(b)


def _take(path: Path, settings: Mapping[str, object], tensor: StoredTensor, number: int, found: dict[str, Tensor]) -> _Part | None:
    """The adapter of one of their matrices, taken out of `found`; None where it has none."""
    module = tensor.names[number].removesuffix(".weight")
    names = (f"{module}.lora_A.weight", f"{module}.lora_B.weight")
    present = [name for name in names if name in found]
    if not present:
        return None
    if len(present) == 1:
        raise ValueError(f"{path}: {present[0]} stands alone, expected {' and '.join(names)}")
    a, b = found.pop(names[0]).float(), found.pop(names[1]).float()
    width, rank = tensor.rest[0], a.shape[0]
    if tuple(a.shape) != (rank, width) or tuple(b.shape) != (tensor.sizes[number], rank):
        raise ValueError(
            f"{path}: {module} has A {list(a.shape)} and B {list(b.shape)}, expected [{rank}, {width}] and "
            f"[{tensor.sizes[number]}, {rank}]; is it the adapter of another model?"
        )
    alpha = _number(settings, "lora_alpha", 8.0)
    patterns = settings.get("alpha_pattern")
    if isinstance(patterns, dict):
        keys = [str(key) for key in patterns]
        match = last_match(module, [f"*{key}" for key in keys])
        alpha = alpha if match is None else _number(patterns, keys[match], alpha)
    return _Part(number, a, b, alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank))


def _copy(path: Path, model: nn.Module, tensor: StoredTensor, whole: Tensor) -> None:
    target = model.get_parameter(tensor.ours)
    if target.shape != whole.shape:
        raise ValueError(
            f"{path}: {tensor.names[0]} has shape {list(whole.shape)}, expected {list(target.shape)}; a vocabulary that grew "
            "must grow in the base model first"
        )
    target.copy_(whole).requires_grad_(True)


def _read(folder: Path) -> tuple[Mapping[str, object], dict[str, Tensor]]:
    """adapter_config.json, and the tensors without their common prefix."""
    config, weights = folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        tensors = load_file(weights)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{folder}: not an adapter's folder, expected {config.name} and {weights.name} ({error})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{config}: found {type(settings).__name__}, expected an object")
    for name, allowed in UNSUPPORTED.items():
        if settings.get(name, allowed[0]) not in allowed:
            raise ValueError(f"{config}: {name} is {settings[name]!r}, this code computes only {allowed[0]!r}")
    return settings, {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _number(values: Mapping[str, object], name: str, default: float) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{ADAPTER_CONFIG}: {name} is {value!r}, expected a number")
    return float(value)


def _task_type(model: Model) -> str | None:
    """PEFT's name of what the model predicts."""
    if isinstance(model, LanguageModel):
        return "CAUSAL_LM"
    if isinstance(model, Seq2SeqModel):
        return "SEQ_2_SEQ_LM"
    if isinstance(model, SequenceClassifier):
        return "SEQ_CLS"
    return "TOKEN_CLS" if isinstance(model, TokenClassifier) else None

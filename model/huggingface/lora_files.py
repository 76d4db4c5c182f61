"""LoRA files in the form of PEFT: adapter_config.json and adapter_model.safetensors, under Hugging Face's names.

Some matrices that lie apart there are one here (queries, keys and values; gate and up). One adapter of ours is written as
several that share A, with the rows of B shared out. Several of theirs are read as one: where their A differ, the A are
stacked and B is block-diagonal, so that the ranks add up. Both are exact.
"""

import json
import math
import re
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

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal")  # of init_lora_weights: those that leave the base's weights alone
COMPUTED: dict[str, tuple[object, ...]] = {"peft_type": ("LORA",), "bias": ("none",), "init_lora_weights": PLAIN_STARTS}
READ = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_dropout", "modules_to_save")
TOLD_BY_TENSORS = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
WITHOUT_EFFECT = (  # on what an adapter computes once it is saved; fan_in_fan_out tells how the base's matrices lie
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "fan_in_fan_out"),
    *("megatron_core", "loftq_config", "eva_config", "runtime_config", "qalora_group_size"),
)
NEUTRAL: tuple[object, ...] = (None, False, [], {}, "")  # what a setting says that is not used


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
                _check_tied(folder / ADAPTER_CONFIG, settings, model, tensor)
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
    told = _by_pattern(settings, "rank_pattern", module, _number(settings, "r", 8.0))
    if told != rank:
        raise ValueError(f"{path}: {module} has rank {rank}, expected {told:g} by r and rank_pattern of {ADAPTER_CONFIG}")
    alpha = _by_pattern(settings, "alpha_pattern", module, _number(settings, "lora_alpha", 8.0))
    return _Part(number, a, b, alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank))


def _by_pattern(settings: Mapping[str, object], name: str, module: str, default: float) -> float:
    """The value of the first pattern that is the end of `module`'s name, as PEFT matches; the default where none is."""
    patterns = settings.get(name) or {}
    if not isinstance(patterns, dict):
        raise ValueError(f"{ADAPTER_CONFIG}: {name} is {patterns!r}, expected an object")
    for pattern in patterns:
        try:
            matches = re.match(rf"(.*\.)?({pattern})$", module)
        except re.error as error:
            raise ValueError(f"{ADAPTER_CONFIG}: {name} has {pattern!r}, expected a regular expression ({error})") from error
        if matches:
            return _number(patterns, str(pattern), default)
    return default


def _check_tied(path: Path, settings: Mapping[str, object], model: Model, tensor: StoredTensor) -> None:
    """Raises ValueError where PEFT gave the embedding a copy of its own, from which a tied head stays apart."""
    saved = settings.get("modules_to_save") or ()
    if tensor.ours != "trunk.embedding.weight" or not model.trunk.config.tie_embeddings or not isinstance(saved, list):
        return
    module = tensor.names[0].removesuffix(".weight")
    if any(module == name or module.endswith(f".{name}") for name in map(str, saved)):
        raise ValueError(
            f"{path}: modules_to_save is {saved!r}, and the base's head is tied to {module}: PEFT unties the two, which this model "
            "cannot. Fix: merge the adapter with PEFT and save the model"
        )


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
    _check_settings(config, settings)
    return settings, {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _check_settings(path: Path, settings: Mapping[str, object]) -> None:
    """Raises ValueError for a setting that is not known to be computed here as PEFT does; an unknown one may stand unused."""
    for name, value in settings.items():
        if name in COMPUTED:
            if value is not None and value not in COMPUTED[name]:
                known = " or ".join(repr(one) for one in COMPUTED[name])
                raise ValueError(f"{path}: {name} is {value!r}, this code computes only {known}. {_fix(name)}")
        elif name not in (*READ, *TOLD_BY_TENSORS, *WITHOUT_EFFECT) and value not in NEUTRAL:
            raise ValueError(f"{path}: {name} is {value!r}, expected it unset: this code does not compute it. {_fix(name)}")


def _fix(name: str) -> str:
    if name == "init_lora_weights":
        return (
            "This start changes the base's weights. Fix: save it with path_initial_model_for_weight_conversion, which makes a plain "
            "adapter, or merge it with PEFT and save the model"
        )
    if name == "alora_invocation_tokens":
        return (
            "Such an adapter acts behind these tokens alone, so that no merged weights equal it. Fix: train one without them, "
            "or use it with PEFT"
        )
    return "Fix: merge the adapter with PEFT and save the model"


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

"""A saved model is a Hugging Face folder: config.json and model.safetensors, under the names that other tools read."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.heads import LanguageModel, Model, SequenceClassifier, TokenClassifier
from model.huggingface_config import CONFIG, FolderDescription, Head, describe, label_names, read_folder
from model.model_config import ModelConfig
from model.tensor_names import is_derived, stored_tensors

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"


def save_folder(folder: Path, model: Model, extra: Mapping[str, object]) -> None:
    """Writes config.json, generation_config.json (language models) and model.safetensors, in the weights' own dtype.

    `extra` goes into config.json: `id2label` (class number -> name) for classifiers, `bos_token_id`, `eos_token_id` and
    `pad_token_id` for any. A Hugging Face sequence classifier finds a row's last token by `pad_token_id`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trunk, head = model.trunk, head_of(model)
    ours = model.state_dict()
    theirs: dict[str, Tensor] = {}
    for stored in stored_tensors(trunk.config, head, trunk.vocab_size, _classes(model)):
        for name, part in zip(stored.names, ours[stored.ours].detach().cpu().split(stored.sizes), strict=True):
            theirs[name] = (part.T if stored.transposed else part).contiguous().clone()
    save_file(theirs, folder / WEIGHTS, metadata={"format": "pt"})
    dtype = str(trunk.embedding.weight.dtype).removeprefix("torch.")
    values = {
        **describe(model.trunk.config, model.trunk.vocab_size, head),
        "dtype": dtype,
        "torch_dtype": dtype,
        **extra,
    }
    if head != "language_model":
        id2label = label_names(extra.get("id2label"), _classes(model))
        values["id2label"] = {str(number): label for number, label in enumerate(id2label)}
        values["label2id"] = {label: number for number, label in enumerate(id2label)}
    (folder / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if head == "language_model":
        tokens = {key: values[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in values}
        generation = {"_from_model_config": True, **tokens}
        (folder / "generation_config.json").write_text(json.dumps(generation, indent=2, sort_keys=True) + "\n")


def load_folder(folder: Path) -> Model:
    """The model in a Hugging Face folder, ours or another's, on the CPU in float32 and in eval mode.

    Raises ValueError for an architecture or a setting that this code cannot compute, for pickled weights, and, in one
    message, for all tensors that are missing, unknown or of the wrong shape.
    """
    description = read_folder(folder)
    model = _new_model(description)
    found = _read_weights(folder)
    prefix = "transformer." if description.model.family == "gpt2" else "model."
    if f"{prefix}norm.weight" not in found and f"{prefix}wte.weight" not in found:  # a bare trunk, as OpenAI's GPT-2
        found = {f"{prefix}{name}": tensor for name, tensor in found.items()}
    config = description.model
    stored = stored_tensors(config, description.head, description.vocab_size, len(description.labels))
    shapes = {name: shape for tensor in stored for name, shape in tensor.shapes()}
    problems = [f"missing {name}" for name in shapes if name not in found]
    for name, tensor in found.items():
        if name in shapes and tuple(tensor.shape) != shapes[name]:
            problems.append(f"{name} has shape {list(tensor.shape)}, expected {list(shapes[name])}")
        elif name not in shapes and not is_derived(name, config):
            problems.append(f"unknown {name}")
    if problems:
        raise ValueError(f"{folder}: the weights do not fit {CONFIG}: {'; '.join(sorted(problems))}")
    ours = {
        tensor.ours: torch.cat([found[name].T if tensor.transposed else found[name] for name in tensor.names]).float()
        for tensor in stored
    }
    model.load_state_dict(ours)
    return model.eval()


def read_model_config(folder: Path) -> ModelConfig:
    """The shape of the model in `folder`; see `read_folder`."""
    return read_folder(folder).model


def head_of(model: Model) -> Head:
    """What the model predicts."""
    if isinstance(model, LanguageModel):
        return "language_model"
    return "sequence_classifier" if isinstance(model, SequenceClassifier) else "token_classifier"


def _classes(model: Model) -> int:
    return 0 if isinstance(model, LanguageModel) else model.score.out_features


def _new_model(description: FolderDescription) -> Model:
    if description.head == "language_model":
        return LanguageModel(description.model, description.vocab_size)
    kind = SequenceClassifier if description.head == "sequence_classifier" else TokenClassifier
    return kind(description.model, description.vocab_size, len(description.labels))


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder, from one file or, by the index, several."""
    index = folder / WEIGHTS_INDEX
    if (folder / WEIGHTS).exists():
        names = [WEIGHTS]
    elif index.exists():
        names = _indexed_files(index)
    else:
        pickled = sorted(path.name for path in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")))
        if pickled:
            raise ValueError(
                f"{folder / pickled[0]}: pickled weights are not read, because a pickle can run code; "
                f"convert them to {WEIGHTS}"
            )
        raise ValueError(f"{folder}: no {WEIGHTS}")
    tensors: dict[str, Tensor] = {}
    for name in names:
        try:
            tensors.update(load_file(folder / name))
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{folder / name}: not a whole safetensors file ({error})") from error
    return tensors


def _indexed_files(index: Path) -> list[str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index}: not a weight index ({error})") from error
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise ValueError(f"{index}: names {outside[0]}, which is not a file of its folder")
    return names

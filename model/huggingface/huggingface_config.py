"""Hugging Face config.json, written from a ModelConfig and read into one. Imports no torch.

Where Hugging Face has a class that computes the model, the folder is in its words. Else it is in our own: the model_type is
"wordmill", the ModelConfig lies under that name, and tensors have the names that they have here.
"""

import dataclasses
import json
from pathlib import Path

from model.config.heads import Head, Problem
from model.config.model_config import ModelConfig, model_config_from_json
from model.huggingface.decoder_config import LLAMA_TYPES, decoder_obstacle, decoder_type, describe_decoder, read_gpt2, read_llama
from model.huggingface.encoder_config import (
    describe_bert,
    describe_marian,
    describe_modernbert,
    encoder_obstacle,
    read_bert,
    read_marian,
    read_modernbert,
)
from model.huggingface.folder_config import CLASSIFIERS, CONFIG, OWN_TYPE, FolderDescription, Settings
from model.huggingface.known_keys import check_known

OWN_TASKS = "wordmill_tasks"  # of a multi-task model: name -> kind, classes and problem of each head
OWN_ARCHITECTURES: dict[str, Head] = {
    "WordmillLanguageModel": "language",
    "WordmillMaskedLanguageModel": "masked",
    "WordmillSeq2SeqModel": "seq2seq",
    "WordmillSequenceClassifier": "sequence",
    "WordmillTokenClassifier": "tokens",
    "WordmillMultipleChoice": "choice",
    "WordmillMultiTask": "multi_task",
}
LLAMA_STEMS = {"llama": "Llama", "mistral": "Mistral", "ministral": "Ministral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
DECODER_HEADS: dict[str, Head] = {
    "ForSequenceClassification": "sequence",
    "ForTokenClassification": "tokens",
}
ENCODER_HEADS: dict[str, Head] = {
    **DECODER_HEADS,
    "ForMaskedLM": "masked",
    "ForMultipleChoice": "choice",
}
ARCHITECTURES: dict[str, tuple[str, Head]] = {  # Hugging Face's class: its model_type, and the head
    "GPT2LMHeadModel": ("gpt2", "language"),
    **{f"GPT2{head}": ("gpt2", kind) for head, kind in DECODER_HEADS.items()},
    **{f"{stem}ForCausalLM": (name, "language") for name, stem in LLAMA_STEMS.items()},
    **{f"{stem}{head}": (name, kind) for name, stem in LLAMA_STEMS.items() for head, kind in DECODER_HEADS.items()},
    **{f"Bert{head}": ("bert", kind) for head, kind in ENCODER_HEADS.items()},
    **{f"ModernBert{head}": ("modernbert", kind) for head, kind in ENCODER_HEADS.items()},
    "MarianMTModel": ("marian", "seq2seq"),
}
READ_ARCHITECTURES: dict[str, tuple[str, Head]] = {  # and those that are read, though never written
    **ARCHITECTURES,
    "GPT2Model": ("gpt2", "language"),
    **{f"{stem}Model": (name, "language") for name, stem in LLAMA_STEMS.items()},
    "BertModel": ("bert", "masked"),
    "BertForPreTraining": ("bert", "masked"),
    "ModernBertModel": ("modernbert", "masked"),
}
PROBLEM_TYPES: dict[Problem, str] = {
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}


def read_folder(folder: Path) -> FolderDescription:
    """What config.json describes. Raises ValueError naming the file and the key that this code cannot follow."""
    settings = Settings.read(folder / CONFIG)
    try:
        return _describe(settings)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error


def read_trunk_config(folder: Path) -> FolderDescription:
    """What config.json says of the trunk, whatever the head above it. Raises ValueError as `read_folder` does."""
    settings = Settings.read(folder / CONFIG)
    heads: dict[str, Head] = {kind: head for kind, head in READ_ARCHITECTURES.values() if head not in CLASSIFIERS}
    heads[OWN_TYPE] = "language"
    kind = str(settings.values.get("model_type"))
    try:
        if kind not in heads:
            raise ValueError(f"model_type is {kind}; known ones: {', '.join(heads)}")
        config = _read_model(settings, kind, has_head=False)
        return FolderDescription(kind, config, settings.integer("vocab_size"), heads[kind])
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error


def foreign_type(config: ModelConfig, head: Head) -> str | None:
    """Hugging Face's model_type for the model; None when it has none."""
    if obstacle(config, head) is not None:
        return None
    if config.family in ("gpt2", "llama"):
        return decoder_type(config)
    return "marian" if config.family == "seq2seq" else config.family


def architecture_of(config: ModelConfig, head: Head) -> str | None:
    """The class of Hugging Face that computes the model; None when it has none: see `obstacle`."""
    kind = (foreign_type(config, head), head)
    return next((name for name, described in ARCHITECTURES.items() if described == kind), None)


def obstacle(config: ModelConfig, head: Head) -> str | None:
    """Why no class of Hugging Face computes the model, in words; None when one does."""
    if config.is_recurrent:
        return f"transformers has no {config.family} language model"
    reason = decoder_obstacle(config) if config.family in ("gpt2", "llama") else encoder_obstacle(config)
    if reason is not None:
        return reason
    heads = (*DECODER_HEADS.values(), "language") if config.family in ("gpt2", "llama") else tuple(ENCODER_HEADS.values())
    if head not in (("seq2seq",) if config.family == "seq2seq" else heads):
        return f"transformers has no {head.replace('_', ' ')} head on a {config.family} trunk"
    return None


def describe(config: ModelConfig, vocab_size: int, head: Head) -> dict[str, object]:
    """The part of config.json that follows from the model, in Hugging Face's words or, where it has none, our own."""
    shared: dict[str, object] = {
        "architectures": [architecture_of(config, head) or _own_architecture(head)],
        "model_type": foreign_type(config, head) or OWN_TYPE,
        "vocab_size": vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": None,  # unless the caller knows better than Hugging Face's defaults, which are other vocabularies'
        "eos_token_id": None,
        "pad_token_id": None,
    }
    model_type = shared["model_type"]
    if model_type == OWN_TYPE:
        return shared | {OWN_TYPE: dataclasses.asdict(config)}
    if model_type == "marian":
        return shared | describe_marian(config) | {"forced_eos_token_id": None}
    shared["initializer_range"] = config.weight_std
    if model_type == "bert":
        return shared | describe_bert(config)
    if model_type == "modernbert":
        return shared | describe_modernbert(config) | {"cls_token_id": None, "sep_token_id": None}
    return shared | describe_decoder(config) | {"use_cache": True}


def _own_architecture(head: Head) -> str:
    return next(name for name, kind in OWN_ARCHITECTURES.items() if kind == head)


def _architecture(settings: Settings) -> tuple[str, Head]:
    """The family and the head, by the first of `architectures`."""
    names = settings.strings("architectures") or ["none"]
    if names[0] in OWN_ARCHITECTURES:
        return OWN_TYPE, OWN_ARCHITECTURES[names[0]]
    if names[0] not in READ_ARCHITECTURES:
        known = ", ".join((*READ_ARCHITECTURES, *OWN_ARCHITECTURES))
        raise ValueError(f"architectures names {names[0]}; known architectures: {known}")
    return READ_ARCHITECTURES[names[0]]


def _describe(settings: Settings) -> FolderDescription:
    model_type, head = _architecture(settings)
    config = _read_model(settings, model_type, has_head=True)
    labels = settings.labels() if head in CLASSIFIERS else ()
    problem = _problem(settings, len(labels)) if head == "sequence" else "single"
    tasks = settings.nested(OWN_TASKS) if head == "multi_task" else None
    values = {} if tasks is None else tasks.values
    return FolderDescription(model_type, config, settings.integer("vocab_size"), head, labels, problem, values)


def _read_model(settings: Settings, model_type: str, has_head: bool) -> ModelConfig:
    if model_type == OWN_TYPE:
        try:
            return model_config_from_json(json.dumps(settings.values.get(OWN_TYPE)))
        except (ValueError, TypeError) as error:  # a text instead of a number fails where it is compared
            raise ValueError(f"{OWN_TYPE}: {error}") from error
    check_known(model_type, settings.values)
    settings.require("is_encoder_decoder", (model_type == "marian",))
    if model_type in LLAMA_TYPES:
        return read_llama(settings, model_type)
    if model_type == "gpt2":
        return read_gpt2(settings)
    if model_type == "bert":
        return read_bert(settings)
    return read_marian(settings) if model_type == "marian" else read_modernbert(settings, has_head)


def _problem(settings: Settings, classes: int) -> Problem:
    """What the classes are; Hugging Face leaves it out where it follows from their number."""
    name = settings.values.get("problem_type") or PROBLEM_TYPES["regression" if classes == 1 else "single"]
    for ours, theirs in PROBLEM_TYPES.items():
        if name == theirs:
            return ours
    raise ValueError(f"problem_type is {name!r}, expected one of {', '.join(PROBLEM_TYPES.values())}")
